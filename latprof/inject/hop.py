"""The hop as a process: ``python -m latprof.inject.hop``, started by `latprof.inject.running`.

client ──head, body──> hop ──(head held back for its delay)──> upstream
       <─────────────── every byte as it comes ───────────────

One upstream connection per client connection, opened with it and closed with it: who may use a connection again stays the client's choice.
Its order comes as one line of JSON on stdin, which then stays open; its end, or SIGTERM, ends the hop. It says its port on stdout, and after every
line more on stdin how many requests it has had.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import os
import signal
import socket
import ssl
import sys
import time
from pathlib import Path

import orjson
import uvloop

from latprof.client.tls import tls_context
from latprof.clock import Timer, precise_timer
from latprof.errors import LatprofError
from latprof.inject.framing import Framer, FramingError, addressed_to, trace_of
from latprof.inject.order import Counts, HopOrder, Upstream
from latprof.observations.injected import InjectLog, Passage
from latprof.schedule.delays import Delays
from latprof.units import MISSING_NS

_READ_BYTES = 256 * 1024
_FLUSH_S = 0.5
_CONNECT_S = 30.0
_LINGER_S = 1.0
_BACKLOG = 1024


def main() -> None:
    """Relay until stdin ends or SIGTERM comes."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # a Ctrl-C in the terminal is the parent's to interpret
    order = HopOrder.of(orjson.loads(sys.stdin.buffer.readline()))
    try:
        uvloop.run(_serve(order))
    except LatprofError as error:
        sys.exit(str(error))


async def _serve(order: HopOrder) -> None:
    loop = asyncio.get_running_loop()
    stopped = asyncio.Event()
    loop.add_signal_handler(signal.SIGTERM, stopped.set)
    timer = precise_timer()
    log = InjectLog(Path(order.folder))
    listening = socket.create_server(("127.0.0.1", 0)) if order.listen_fd is None else socket.socket(fileno=order.listen_fd)
    port = listening.getsockname()[1]
    hop = Hop(order, timer, known_as=None if order.listen_fd is None else port)
    loop.add_reader(sys.stdin.fileno(), _listen_to_parent, hop, stopped)
    server = await asyncio.start_server(hop.serve, sock=listening, limit=_READ_BYTES, backlog=_BACKLOG)
    gc.collect()
    gc.freeze()
    _say(str(port))
    while not stopped.is_set():
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(stopped.wait(), _FLUSH_S)
        await asyncio.to_thread(log.write, hop.take_over())
    server.close()
    await hop.close()
    log.write(hop.take_over())
    log.close()
    timer.close()


def _listen_to_parent(hop: Hop, stopped: asyncio.Event) -> None:
    """A line asks for the counts; the end of stdin is the end."""
    if os.read(sys.stdin.fileno(), 4096):
        _say(orjson.dumps(hop.counts._asdict()).decode())
    else:
        stopped.set()


def _say(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


class _Going:
    """A passage that is not over."""

    __slots__ = ("block", "delay_ns", "ended_ns", "first_byte_ns", "forwarded_ns", "parent_id", "received_ns", "trace_id")

    def __init__(self, trace: tuple[str, str], block: int, delay_ns: int, received_ns: int) -> None:
        self.trace_id, self.parent_id = trace
        self.block, self.delay_ns, self.received_ns = block, delay_ns, received_ns
        self.forwarded_ns = self.first_byte_ns = self.ended_ns = MISSING_NS

    def passage(self) -> Passage:
        """As it came to be."""
        return Passage(
            self.trace_id,
            self.parent_id,
            self.block,
            self.delay_ns,
            self.received_ns,
            self.forwarded_ns,
            self.first_byte_ns,
            self.ended_ns,
        )


class Hop:
    """Every connection through the hop. Block 0 begins with it. ``known_as``: its port, where others than latprof are pointed at it."""

    def __init__(self, order: HopOrder, timer: Timer, known_as: int | None = None) -> None:
        self._order = order
        self._known_as = known_as
        self._delays = Delays(order.delays_ns, order.block_ns, order.per, order.seed)
        self._timer = timer
        self._begun_ns = time.monotonic_ns()
        self._tls = None if order.upstream.tls is None else tls_context(order.upstream.tls)
        self._over: list[Passage] = []
        self._tasks: set[asyncio.Task[None]] = set()
        self.counts = Counts(0, 0)

    def take_over(self) -> list[Passage]:
        """The passages that have ended since last asked."""
        over, self._over = self._over, []
        return over

    async def close(self) -> None:
        """End every connection; what was going is over with it."""
        for task in self._tasks:
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One connection of a client, to its end."""
        task = asyncio.current_task()
        if task is not None:
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
        try:
            with contextlib.suppress(OSError, asyncio.CancelledError):  # either side may go at any time: the other is told by the close
                await self._serve(reader, writer)
        finally:
            writer.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        # At once, as the client's own would have been; the first request is read meanwhile.
        connecting = asyncio.create_task(connect(self._order.upstream, self._tls))
        connection = _Connection(self, (reader, writer), connecting)
        try:
            await connection.relay()
        except (OSError, TimeoutError) as error:
            if connecting.done() and not connecting.cancelled() and connecting.exception() is error:
                await connection.refuse(f"has no connection to {self._order.upstream.shown}: {error or 'no answer'}")
        finally:
            connection.finish()
            await _closed(connecting)

    def begin(self, head: bytes) -> _Going | None:
        """A head came; None for a request that is none of this run's."""
        received_ns = time.monotonic_ns()
        trace = trace_of(head)
        own, others = self.counts
        if not trace[0].startswith(self._order.run_id):
            self.counts = Counts(own, others + 1)
            return None
        self.counts = Counts(own + 1, others)
        block = (received_ns - self._begun_ns) // self._order.block_ns
        return _Going(trace, block, self._delays.of(trace[0], block), received_ns)

    def onward(self, head: bytes) -> bytes:
        """A head as it would come without the hop: with the upstream's address where it has the hop's."""
        return head if self._known_as is None else addressed_to(head, self._known_as, self._order.upstream.authority)

    async def hold(self, going: _Going) -> None:
        """Wait for its delay; no delay is no wait at all."""
        if going.delay_ns:
            await self._timer.sleep_until(going.received_ns + going.delay_ns)

    def over(self, going: _Going) -> None:
        """Nothing more of it will come."""
        self._over.append(going.passage())


_Stream = tuple[asyncio.StreamReader, asyncio.StreamWriter]


class _Connection:
    """A pair of connections, relayed both ways."""

    def __init__(self, hop: Hop, client: _Stream, connecting: asyncio.Task[_Stream]) -> None:
        self._hop = hop
        self._client = client
        self._connecting = connecting
        self._framer = Framer()
        self._going: _Going | None = None

    async def relay(self) -> None:
        """Until either side closes: the other is then closed too, as it would be without the hop.

        Raises:
            OSError: a side has gone.
            TimeoutError: the upstream does not answer.
        """
        both = {asyncio.create_task(self._requests()), asyncio.create_task(self._answers())}
        try:
            done, _ = await asyncio.wait(both, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                task.result()
        finally:
            for task in both:
                task.cancel()
            await asyncio.gather(*both, return_exceptions=True)

    def finish(self) -> None:
        """The request in hand, if any, is over."""
        if self._going is not None:
            self._hop.over(self._going)
            self._going = None

    async def refuse(self, why: str) -> None:
        """Answer in the upstream's place: without the hop the client would have had no connection, but by now it has one."""
        body = orjson.dumps({"error": {"message": f"the injecting hop {why}", "type": "server_error", "param": None, "code": None}})
        head = b"HTTP/1.1 502 Bad Gateway\r\ncontent-type: application/json\r\nconnection: close\r\ncontent-length: %d\r\n\r\n" % len(body)
        self._client[1].write(head + body)
        await self._client[1].drain()
        # To close with unread bytes would reset the connection, and the answer with it.
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_LINGER_S):
                while await self._client[0].read(_READ_BYTES):
                    pass

    async def _requests(self) -> None:
        reader = self._client[0]
        while data := await reader.read(_READ_BYTES):
            try:
                for part in self._framer.feed(data):
                    onward = part.data
                    if part.is_head:
                        await self._begin(part.data)
                        if reader.at_eof():
                            return  # its client has gone meanwhile: nobody waits for an answer
                        onward = self._hop.onward(part.data)
                    (await self._connecting)[1].write(onward)
            except FramingError as error:
                await self.refuse(f"cannot read the request: {error}")
                return
            await (await self._connecting)[1].drain()

    async def _begin(self, head: bytes) -> None:
        self.finish()
        self._going = self._hop.begin(head)
        if self._going is not None:
            await self._hop.hold(self._going)
            await self._connecting
            self._going.forwarded_ns = time.monotonic_ns()

    async def _answers(self) -> None:
        reader, writer = (await self._connecting)[0], self._client[1]
        while data := await reader.read(_READ_BYTES):
            writer.write(data)
            if self._going is not None:
                now_ns = self._going.ended_ns = time.monotonic_ns()
                if self._going.first_byte_ns == MISSING_NS:
                    self._going.first_byte_ns = now_ns
            await writer.drain()


async def _closed(connecting: asyncio.Task[_Stream]) -> None:
    """Close the upstream connection, or stop asking for it."""
    connecting.cancel()
    with contextlib.suppress(OSError, TimeoutError, asyncio.CancelledError):
        (await connecting)[1].close()


async def connect(upstream: Upstream, tls: ssl.SSLContext | None) -> _Stream:
    """A connection to what lies behind the hop.

    Raises:
        OSError: there is none to be had.
        TimeoutError: nobody answers.
    """
    async with asyncio.timeout(_CONNECT_S):
        if upstream.unix_socket:
            return await asyncio.open_unix_connection(
                upstream.unix_socket, limit=_READ_BYTES, ssl=tls, server_hostname=upstream.host if tls else None
            )
        return await asyncio.open_connection(
            upstream.host, upstream.port, limit=_READ_BYTES, ssl=tls, server_hostname=upstream.host if tls else None
        )


if __name__ == "__main__":
    main()
