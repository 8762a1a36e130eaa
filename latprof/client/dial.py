"""New connections, every phase stamped: name, TCP (or a Unix socket, or a tunnel through a proxy), TLS."""

from __future__ import annotations

import asyncio
import errno
import os
import socket
import ssl
import time

from latprof.client.endpoint import Endpoint, Proxy
from latprof.client.stamps import Attempt, ErrorClass
from latprof.client.tls import tls_context
from latprof.client.wire import StampClock, Wire, ask_for_stamps
from latprof.units import MISSING_NS, NS_PER_S

_Where = tuple[str, int] | tuple[str, int, int, int] | tuple[int, bytes] | str  # what connect() takes
_MOST_TUNNEL_BYTES = 16_384


class UnreachableError(Exception):
    """No connection could be opened; ``error_class`` says at which phase."""

    def __init__(self, error_class: ErrorClass, text: str) -> None:
        super().__init__(text)
        self.error_class = error_class


class Dialer:
    """Opens connections to one endpoint, inside a running event loop."""

    def __init__(self, endpoint: Endpoint, clock: StampClock) -> None:
        self._endpoint = endpoint
        self._clock = clock
        self._tls = None if endpoint.tls is None or endpoint.via else tls_context(endpoint.tls)
        self._peer = endpoint.unix_socket or endpoint.address.authority

    async def open(self, attempt: Attempt, within_ns: int | None = None) -> Wire:
        """A new connection, its phases stamped on ``attempt``; within the connect timeout, or ``within_ns`` if that is less.

        Raises:
            UnreachableError: with the phase that failed.
        """
        limit_ns = self._endpoint.connect_timeout_ns if within_ns is None else min(within_ns, self._endpoint.connect_timeout_ns)
        deadline_ns = time.monotonic_ns() + limit_ns
        wire: Wire | None = None
        try:
            async with asyncio.timeout(limit_ns / NS_PER_S):
                sock = await self._connect(await self._resolve(attempt), attempt, deadline_ns)
                wire = Wire(sock, self._clock)
                if self._endpoint.proxy is not None:
                    attempt.connect_end_ns = await self._tunnel(wire, self._endpoint.proxy)
                if self._tls is not None:
                    attempt.tls_end_ns = await self._shake_hands(wire, self._tls)
                return wire
        except TimeoutError:
            _close(wire)
            raise UnreachableError(ErrorClass.TIMEOUT, self._late(attempt, limit_ns)) from None
        except BaseException:
            _close(wire)
            raise

    def _late(self, attempt: Attempt, limit_ns: int) -> str:
        reached = "name not resolved" if attempt.connect_start_ns == MISSING_NS else "no TCP connection"
        if attempt.connect_end_ns != MISSING_NS:
            reached = "no TLS handshake"
        option = "target.connect_timeout" if limit_ns == self._endpoint.connect_timeout_ns else "target.timeout"
        return f"{reached} with {self._peer} within {limit_ns / NS_PER_S:g} s ({option})"

    async def _resolve(self, attempt: Attempt) -> list[tuple[int, _Where]]:
        """The host's addresses (the proxy's, where there is one); a literal one needs no resolver, and gets no stamps."""
        endpoint = self._endpoint
        if endpoint.via is not None:
            return [(socket.AF_INET, endpoint.via)]
        if endpoint.unix_socket:
            return [(socket.AF_UNIX, endpoint.unix_socket)]
        target = endpoint.proxy if endpoint.proxy is not None else endpoint.address
        try:
            found = socket.getaddrinfo(target.host, target.port, type=socket.SOCK_STREAM, flags=socket.AI_NUMERICHOST)
        except socket.gaierror:
            attempt.dns_start_ns = time.monotonic_ns()
            try:
                found = await asyncio.get_running_loop().getaddrinfo(target.host, target.port, type=socket.SOCK_STREAM)
            except (OSError, UnicodeError) as error:
                raise UnreachableError(ErrorClass.DNS, f"the name {target.host} cannot be resolved: {_reason(error)}") from None
            attempt.dns_end_ns = time.monotonic_ns()
        return [(family, where) for family, _, _, _, where in found]

    async def _connect(self, addresses: list[tuple[int, _Where]], attempt: Attempt, deadline_ns: int) -> socket.socket:
        """The first address that answers. Each gets an even share of what is left, so that a silent first one does not use it all up."""
        attempt.connect_start_ns = time.monotonic_ns()
        failures: list[str] = []
        for index, (family, where) in enumerate(addresses):
            share_ns = (deadline_ns - time.monotonic_ns()) // (len(addresses) - index)
            shown = where if isinstance(where, str) else where[0]
            try:
                async with asyncio.timeout(share_ns / NS_PER_S):
                    sock, attempt.connect_end_ns = await _connect_one(family, where, stamped=self._endpoint.kernel_stamps)
            except TimeoutError:
                if index == len(addresses) - 1:
                    raise
                failures.append(f"{shown}: no answer")
            except OSError as error:
                failures.append(f"{shown}: {_reason(error)}")
            else:
                return sock
        raise UnreachableError(ErrorClass.CONNECT, f"no connection to {self._peer}: {'; '.join(failures)}")

    async def _tunnel(self, wire: Wire, proxy: Proxy) -> int:
        """Ask the proxy for a tunnel to the endpoint; the stamp of its answer."""
        authority = self._endpoint.address.authority
        lines = [f"CONNECT {authority} HTTP/1.1", f"Host: {authority}"]
        lines += [f"Proxy-Authorization: {proxy.authorization}"] if proxy.authorization else []
        status, at_ns = await _ask(wire, "\r\n".join([*lines, "", ""]).encode("latin-1"))
        if not status.startswith(b"HTTP/1.") or status[9:10] != b"2":
            said = status.decode("latin-1", "replace") or "nothing"
            raise UnreachableError(
                ErrorClass.CONNECT, f"the proxy {proxy.host}:{proxy.port} opened no tunnel to {authority}, it said: {said}"
            )
        return at_ns

    async def _shake_hands(self, wire: Wire, context: ssl.SSLContext) -> int:
        try:
            return await wire.start_tls(context, self._endpoint.address.host)
        except OSError as error:  # ssl.SSLError is one
            raise UnreachableError(ErrorClass.TLS, f"no TLS handshake with {self._peer}: {_reason(error)}") from None


async def _connect_one(family: int, where: _Where, *, stamped: bool) -> tuple[socket.socket, int]:
    """A connected socket, and the stamp taken in the callback that found it so, before any task is resumed."""
    loop = asyncio.get_running_loop()
    connected: asyncio.Future[int] = loop.create_future()
    sock = socket.socket(family, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
    try:
        if stamped:
            ask_for_stamps(sock)
        if family != socket.AF_UNIX:
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


async def _ask(wire: Wire, request: bytes) -> tuple[bytes, int]:
    """Send ``request`` and read up to the end of the answer's headers: its first line, and the stamp of the read that completed them."""
    heard = bytearray()
    done: asyncio.Future[int] = asyncio.get_running_loop().create_future()

    def take(data: bytes, at_ns: int) -> None:
        heard.extend(data)
        if not done.done() and (b"\r\n\r\n" in heard or len(heard) > _MOST_TUNNEL_BYTES):
            done.set_result(at_ns)

    def gone(at_ns: int, _: str) -> None:
        if not done.done():
            done.set_result(at_ns)

    wire.on_read, wire.on_closed = take, gone
    wire.send([request])
    at_ns = await done
    return bytes(heard.split(b"\r\n", 1)[0]), at_ns


def _close(wire: Wire | None) -> None:
    if wire is not None:
        wire.close()


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
