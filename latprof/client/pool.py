"""Connections kept between requests, never more in use than a limit."""

from __future__ import annotations

import asyncio
import time
from collections import defaultdict, deque
from collections.abc import Iterator
from dataclasses import dataclass, field

from latprof.client.dial import Dialer
from latprof.client.endpoint import Reuse
from latprof.client.exchange import Connection
from latprof.client.heads import Heads
from latprof.client.stamps import Attempt

_SHARED = -1
"""What every request's connections are kept under, unless each session has its own."""


@dataclass(slots=True)
class Pool:
    """Keep-alive connections to one endpoint.

    The one used last is taken first: it is the least likely to have been closed meanwhile. ``reuse`` says who may have it: anybody, nobody,
    or the session that used it before.
    """

    dialer: Dialer
    max_connections: int
    reuse: Reuse = "reuse"
    in_use: set[Connection] = field(default_factory=set)
    _idle: defaultdict[int, list[Connection]] = field(default_factory=lambda: defaultdict(list))
    _heads: Heads = field(default_factory=Heads)
    _places: int = 0
    _waiting: deque[asyncio.Future[None]] = field(default_factory=deque)

    def take_idle(self, session: int) -> Connection | None:
        """An idle connection that ``session`` may use and a place for it, at once, or None."""
        if self._places >= self.max_connections:
            return None
        idle = self._idle.get(session if self.reuse == "session" else _SHARED)
        while idle:
            connection = idle.pop()
            if connection.is_open:
                self._places += 1
                self.in_use.add(connection)
                return connection
        return None

    async def take(self, attempt: Attempt, deadline_ns: int) -> Connection:
        """An idle connection, else a new one with its phases stamped on ``attempt``; waits while all places are taken.

        Raises:
            UnreachableError: with the phase that failed. The place is free again.
            TimeoutError: no place became free before ``deadline_ns``.
        """
        while self._places >= self.max_connections:
            async with asyncio.timeout_at(_loop_time(deadline_ns)):
                await self._a_place()
        connection = self.take_idle(attempt.session)
        if connection is not None:
            return connection
        self._places += 1
        try:
            return await self.open(attempt, deadline_ns)
        except BaseException:
            self._free()
            raise

    async def open(self, attempt: Attempt, deadline_ns: int) -> Connection:
        """A new connection whatever is idle; the caller holds a place."""
        connection = Connection(await self.dialer.open(attempt, max(1, deadline_ns - time.monotonic_ns())), self._heads)
        self.in_use.add(connection)
        return connection

    async def replace(self, connection: Connection, attempt: Attempt, deadline_ns: int) -> Connection:
        """A new connection in the place of one that turned out dead."""
        self.in_use.discard(connection)
        connection.settle()
        return await self.open(attempt, deadline_ns)

    def give_back(self, connection: Connection, session: int, *, is_last: bool = False) -> None:
        """The exchange is over: keep the connection if it is still good and somebody may use it, and free the place."""
        self.in_use.discard(connection)
        connection.settle()
        if self.reuse == "fresh" or (self.reuse == "session" and is_last):
            connection.close()
        elif connection.is_open:
            self._idle[session if self.reuse == "session" else _SHARED].append(connection)
        self._free()

    def idle(self) -> Iterator[Connection]:
        """What waits to be used again."""
        for connections in self._idle.values():
            yield from connections

    def close(self) -> None:
        """Close what is idle."""
        for connection in self.idle():
            connection.close()
        self._idle.clear()

    async def _a_place(self) -> None:
        place: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append(place)
        try:
            await place
        except asyncio.CancelledError:
            if place.done() and not place.cancelled():
                self._wake()
            raise

    def _free(self) -> None:
        self._places -= 1
        if self._waiting:
            self._wake()

    def _wake(self) -> None:
        while self._waiting:
            place = self._waiting.popleft()
            if not place.done():
                place.set_result(None)
                return


def _loop_time(at_ns: int) -> float:
    return asyncio.get_running_loop().time() + max(0, at_ns - time.monotonic_ns()) / 1e9
