"""A hop between a scripted server and a client that reads raw bytes, all on real sockets."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import replace
from pathlib import Path

from latprof.inject.order import HopOrder, Upstream
from latprof.inject.running import RunningHop, start
from latprof.units import NS_PER_MS, NS_PER_S

RUN_ID = "00112233aabbccdd"
Handle = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]
OK = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok"


def order(folder: Path, port: int, *delays_ms: float, per: str = "request", seed: int = 1) -> HopOrder:
    delays_ns = tuple(round(delay * NS_PER_MS) for delay in delays_ms)
    made = HopOrder(str(folder), RUN_ID, Upstream("127.0.0.1", port), delays_ns, 60 * NS_PER_S, "request", seed)
    return replace(made, per=per)  # type: ignore[arg-type]


def ask(number: int = 0, body: bytes = b"{}", *, run_id: str = RUN_ID, path: str = "/v1/chat/completions") -> bytes:
    return b"POST %b HTTP/1.1\r\nhost: somewhere\r\ntraceparent: 00-%b%016x-%016x-01\r\ncontent-length: %d\r\n\r\n%b" % (
        path.encode(),
        run_id.encode(),
        number,
        number + 1,
        len(body),
        body,
    )


async def read_request(reader: asyncio.StreamReader) -> tuple[bytes, bytes]:
    """Head and body; two empty ones at the end."""
    try:
        head = await reader.readuntil(b"\r\n\r\n")
    except asyncio.IncompleteReadError:
        return b"", b""
    length = int(head.lower().split(b"content-length: ")[1].split(b"\r\n")[0]) if b"content-length" in head.lower() else 0
    return head, await reader.readexactly(length)


@contextlib.asynccontextmanager
async def serving(handle: Handle) -> AsyncIterator[int]:
    """A server on a free port."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError, asyncio.CancelledError):
            await handle(reader, writer)
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()


@contextlib.asynccontextmanager
async def hop_before(handle: Handle, folder: Path, *delays_ms: float, per: str = "request") -> AsyncIterator[RunningHop]:
    """The hop in front of ``handle``; when it has ended its record is in ``folder``."""
    async with serving(handle) as port, await start(order(folder, port, *delays_ms, per=per)) as hop:
        yield hop


async def answers_ok(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Answers every request of a connection."""
    while (await read_request(reader))[0]:
        writer.write(OK)
        await writer.drain()
