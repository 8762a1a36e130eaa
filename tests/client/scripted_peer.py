"""A peer that says what it is told to: a script of bytes per request, over real sockets."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
import struct
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field
from enum import Enum, auto
from pathlib import Path

from latprof.client.endpoint import resolve_endpoint
from latprof.client.stamps import Attempt, ChunkLog
from latprof.client.trace_ids import trace_ids
from latprof.client.transport import HttpTransport
from latprof.config import Target
from latprof.workload.sessions import Session, Turn

RUN_ID = "00112233aabbccdd"
TURN = Turn("How much is 2 + 2?", 8, 4)


class Do(Enum):
    PAUSE = auto()  # long enough for the client to read what came before on its own
    CLOSE = auto()
    RESET = auto()
    HANG = auto()
    THINK = auto()  # longer than a dead connection takes to be found out


Script = Sequence[bytes | Do]

HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n"
CHUNKED = HEAD + b"transfer-encoding: chunked\r\n\r\n"
TAIL = b"0\r\n\r\n"


def event(text: str) -> bytes:
    return b"data: " + text.encode() + b"\n\n"


def delta(fields: str, finish: str = "null") -> bytes:
    return event('{"id":"chatcmpl-1","choices":[{"index":0,"delta":{' + fields + '},"finish_reason":' + finish + "}]}")


def chunk(data: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(data), data)


ROLE = delta('"role":"assistant","content":""')
TWO = delta('"content":"two"')
FOUR = delta('"content":"four"')
STOP = delta("", '"stop"')
USAGE = event(
    '{"id":"chatcmpl-1","choices":[],"usage":{"prompt_tokens":8,"completion_tokens":7,"prompt_tokens_details":{"cached_tokens":3},'
    '"completion_tokens_details":{"reasoning_tokens":2}}}'
)
DONE = event("[DONE]")
ANSWER: Script = [CHUNKED, *(chunk(part) for part in (ROLE, TWO, FOUR, STOP, USAGE, DONE)), TAIL]


def plain(status: str, body: bytes, headers: str = "content-type: application/json\r\n") -> Script:
    return [f"HTTP/1.1 {status}\r\n{headers}content-length: {len(body)}\r\n\r\n".encode() + body]


@dataclass
class Peer:
    port: int = 0
    requests: list[bytes] = field(default_factory=list)
    connections: int = 0
    most_in_flight: int = 0
    in_flight: int = 0

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"


@contextlib.asynccontextmanager
async def scripted(
    *scripts: Script, tls: ssl.SSLContext | None = None, host: str = "127.0.0.1", unix: Path | None = None
) -> AsyncIterator[Peer]:
    """Answer the n-th request with the n-th script; the last one repeats."""
    peer = Peer()
    tasks: set[asyncio.Task[None] | None] = set()

    async def on_connection(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        peer.connections += 1
        tasks.add(asyncio.current_task())
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError, asyncio.CancelledError):
            while True:
                request = await _read_request(reader)
                script = scripts[min(len(peer.requests), len(scripts) - 1)]
                peer.requests.append(request)
                peer.in_flight += 1
                peer.most_in_flight = max(peer.most_in_flight, peer.in_flight)
                try:
                    if not await _play(script, writer):
                        break
                finally:
                    peer.in_flight -= 1
        writer.close()

    if unix is not None:
        server = await asyncio.start_unix_server(on_connection, unix)
    else:
        server = await asyncio.start_server(on_connection, host, 0, ssl=tls)
        peer.port = server.sockets[0].getsockname()[1]
    try:
        yield peer
    finally:
        server.close()
        for task in tasks:
            if task is not None:
                task.cancel()
        await asyncio.gather(*(task for task in tasks if task is not None), return_exceptions=True)
        await server.wait_closed()


async def _read_request(reader: asyncio.StreamReader) -> bytes:
    head = await reader.readuntil(b"\r\n\r\n")
    length = next(int(line.split(b":")[1]) for line in head.lower().split(b"\r\n") if line.startswith(b"content-length"))
    return head + await reader.readexactly(length)


async def _play(script: Script, writer: asyncio.StreamWriter) -> bool:
    for step in script:
        if isinstance(step, bytes):
            writer.write(step)
            await writer.drain()
        elif step is Do.PAUSE:
            await asyncio.sleep(0.005)
        elif step is Do.HANG:
            await asyncio.sleep(3600)
        elif step is Do.THINK:
            await asyncio.sleep(0.25)
        else:
            if step is Do.RESET:
                sock: socket.socket = writer.get_extra_info("socket")
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            return False
    return True


def new_attempt(request: int = 0) -> Attempt:
    trace_id, span_id = trace_ids(RUN_ID, 1, 5, 0, request)
    return Attempt(request, 5, 0, 0, "measured", trace_id, span_id, TURN.prompt_tokens, TURN.output_tokens)


async def send_one(transport: HttpTransport, chunks: ChunkLog | None = None, turn: Turn = TURN) -> Attempt:
    attempt = new_attempt()
    ask = transport.encoder()(Session(attempt.session, (turn,)), attempt.turn)
    await transport.send(ask, attempt, chunks if chunks is not None else ChunkLog())
    return attempt


@contextlib.asynccontextmanager
async def client(url: str, environment: dict[str, str] | None = None, **target: object) -> AsyncIterator[HttpTransport]:
    transport = HttpTransport(resolve_endpoint(Target.model_validate({"model": "m", **target}), url, environment or {}))
    try:
        yield transport
    finally:
        await transport.close()
