"""Connections: opened with every phase stamped, kept alive between requests, never more than a limit."""

from __future__ import annotations

import asyncio
import errno
import os
import socket
import ssl
import time
from dataclasses import dataclass

from latprof.client.address import Address
from latprof.client.stamps import Attempt, ErrorClass
from latprof.client.wire import Connection
from latprof.units import MISSING_NS, NS_PER_S

_Where = tuple[str, int] | tuple[str, int, int, int] | tuple[int, bytes]  # what connect() takes, as getaddrinfo gives it


class UnreachableError(Exception):
    """No connection could be opened; ``error_class`` says at which phase."""

    def __init__(self, error_class: ErrorClass, text: str) -> None:
        super().__init__(text)
        self.error_class = error_class


@dataclass(frozen=True, slots=True)
class PoolLimits:
    """``connect_timeout_ns`` covers name, TCP and TLS together."""

    max_connections: int
    connect_timeout_ns: int


class Pool:
    """Keep-alive connections to one address. The one used last is taken first: it is the least likely to have been closed meanwhile."""

    def __init__(self, address: Address, limits: PoolLimits, tls: ssl.SSLContext | None) -> None:
        self._address = address
        self._limits = limits
        self._tls = tls
        self._idle: list[Connection] = []
        self._places = asyncio.Semaphore(limits.max_connections)

    async def take(self, attempt: Attempt) -> Connection:
        """An idle connection, else a new one with its phases stamped on ``attempt``; waits while all places are taken.

        Raises:
            UnreachableError: with the phase that failed. The place is free again.
        """
        await self._places.acquire()
        while self._idle:
            connection = self._idle.pop()
            if connection.is_open:
                return connection
        try:
            return await self.open(attempt)
        except BaseException:
            self._places.release()
            raise

    def give_back(self, connection: Connection) -> None:
        """The exchange is over: keep the connection if it is still good, and free the place."""
        if connection.is_open:
            self._idle.append(connection)
        self._places.release()

    def close(self) -> None:
        """Close what is idle."""
        while self._idle:
            self._idle.pop().close()

    async def open(self, attempt: Attempt) -> Connection:
        """A new connection whatever is idle; the caller holds a place."""
        deadline_ns = time.monotonic_ns() + self._limits.connect_timeout_ns
        try:
            async with asyncio.timeout(self._limits.connect_timeout_ns / NS_PER_S):
                addresses = await self._resolve(attempt)
                sock = await self._connect(addresses, attempt, deadline_ns)
                return await self._start(sock, attempt)
        except TimeoutError:
            limit_s = self._limits.connect_timeout_ns / NS_PER_S
            reached = "name not resolved" if attempt.connect_start_ns == MISSING_NS else "no TCP connection"
            if attempt.connect_end_ns != MISSING_NS:
                reached = "no TLS handshake"
            text = f"{reached} with {self._address.authority} within {limit_s:g} s (target.connect_timeout)"
            raise UnreachableError(ErrorClass.TIMEOUT, text) from None

    async def _resolve(self, attempt: Attempt) -> list[tuple[int, _Where]]:
        """The host's addresses; a literal one needs no resolver, and gets no stamps."""
        host, port = self._address.host, self._address.port
        try:
            found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_NUMERICHOST)
        except socket.gaierror:
            attempt.dns_start_ns = time.monotonic_ns()
            try:
                found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
            except (OSError, UnicodeError) as error:
                raise UnreachableError(ErrorClass.DNS, f"the name {host} cannot be resolved: {_reason(error)}") from None
            attempt.dns_end_ns = time.monotonic_ns()
        return [(family, where) for family, _, _, _, where in found]

    async def _connect(self, addresses: list[tuple[int, _Where]], attempt: Attempt, deadline_ns: int) -> socket.socket:
        """The first address that answers. Each gets an even share of what is left, so that a silent first one does not use it all up."""
        attempt.connect_start_ns = time.monotonic_ns()
        failures: list[str] = []
        for index, (family, where) in enumerate(addresses):
            share_ns = (deadline_ns - time.monotonic_ns()) // (len(addresses) - index)
            try:
                async with asyncio.timeout(share_ns / NS_PER_S):
                    sock, attempt.connect_end_ns = await _connect_one(family, where)
            except TimeoutError:
                if index == len(addresses) - 1:
                    raise
                failures.append(f"{where[0]}: no answer")
            except OSError as error:
                failures.append(f"{where[0]}: {_reason(error)}")
            else:
                return sock
        raise UnreachableError(ErrorClass.CONNECT, f"no connection to {self._address.authority}: {'; '.join(failures)}")

    async def _start(self, sock: socket.socket, attempt: Attempt) -> Connection:
        """Give the socket to the event loop, through a TLS handshake where the address asks for one."""
        loop = asyncio.get_running_loop()
        name = self._address.host if self._tls is not None else None
        try:
            _, connection = await loop.create_connection(Connection, sock=sock, ssl=self._tls, server_hostname=name)
        except OSError as error:  # ssl.SSLError is one
            kind, what = (ErrorClass.CONNECT, "connection") if self._tls is None else (ErrorClass.TLS, "TLS handshake")
            raise UnreachableError(kind, f"no {what} with {self._address.authority}: {_reason(error)}") from None
        if self._tls is not None:
            attempt.tls_end_ns = connection.made_ns
        return connection


async def _connect_one(family: int, where: _Where) -> tuple[socket.socket, int]:
    """A connected socket, and the stamp taken in the callback that found it so, before any task is resumed."""
    loop = asyncio.get_running_loop()
    connected: asyncio.Future[int] = loop.create_future()
    sock = socket.socket(family, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
    try:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        code = sock.connect_ex(where)
        if code == 0:
            return sock, time.monotonic_ns()
        if code != errno.EINPROGRESS:
            raise OSError(code, os.strerror(code))
        loop.add_writer(sock, _on_writable, sock, connected)
        try:
            return sock, await connected
        finally:
            loop.remove_writer(sock)
    except BaseException:
        sock.close()
        raise


def _on_writable(sock: socket.socket, connected: asyncio.Future[int]) -> None:
    at_ns = time.monotonic_ns()
    code = sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
    if connected.done():
        return
    if code:
        connected.set_exception(OSError(code, os.strerror(code)))
    else:
        connected.set_result(at_ns)


def _reason(error: OSError | UnicodeError) -> str:
    """What the operating system or OpenSSL said, with what to do about it where latprof's own side is short of something."""
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"{error.verify_message}; name its authority with target.ca_file, or set target.tls_verify: false"
    code = getattr(error, "errno", None)
    said = getattr(error, "strerror", None) or str(error) or type(error).__name__
    if code in {errno.EMFILE, errno.ENFILE}:
        return f"{said}; raise the limit (ulimit -n) or lower target.max_connections"
    if code == errno.EADDRNOTAVAIL:
        return f"{said}; this host has no local port left for that address"
    return said
