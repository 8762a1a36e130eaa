"""An endpoint that answers each request as a script says, over a real socket on loopback."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass, field

Steps = Sequence[bytes | float]
"""What an answer is made of: bytes to write, seconds to wait; the connection stays open unless the last step is `CLOSE`."""

CLOSE = b""
NEVER = [3600.0]

HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
# Long enough for a busy machine's own lateness to stay a small share of it.
FIRST_TOKEN_S = 0.2


@dataclass(frozen=True)
class Asked:
    """One request as it came; ``number`` counts from 0, which is the request that tries the endpoint out."""

    number: int
    head: str
    body: bytes


Script = Callable[[Asked], Steps]


@dataclass
class Endpoint:
    port: int = 0
    asked: list[Asked] = field(default_factory=list)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"


def chunk(data: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(data), data)


def event(text: str) -> bytes:
    return chunk(f"data: {text}\n\n".encode())


def token(text: str, response_id: str = "r1") -> bytes:
    choice = {"index": 0, "delta": {"content": text}, "finish_reason": None}
    return event(json.dumps({"id": response_id, "choices": [choice]}))


FINISH = event('{"id":"r1","choices":[{"index":0,"delta":{},"finish_reason":"stop"}]}')
USAGE = event('{"id":"r1","choices":[],"usage":{"prompt_tokens":8,"completion_tokens":3}}')
DONE = event("[DONE]") + b"0\r\n\r\n"
ANSWER: Steps = [HEAD, FIRST_TOKEN_S, token("one"), 0.01, token("two"), 0.01, token("three"), FINISH, USAGE, DONE]
NO_USAGE: Steps = [step for step in ANSWER if step is not USAGE]
CUT: Steps = [HEAD, token("one"), chunk(b'data: {"id":"r1","choices":[{"index":0,"delta":{"con'), CLOSE]
ERROR_EVENT: Steps = [HEAD, token("one"), event('{"error":{"message":"engine lost its worker","code":500}}'), DONE]


def plain(status: str, body: bytes, headers: str = "content-type: application/json\r\n") -> Steps:
    return [f"HTTP/1.1 {status}\r\n{headers}content-length: {len(body)}\r\n\r\n".encode() + body]


def always(steps: Steps) -> Script:
    return lambda _: steps


def in_turn(*answers: Steps) -> Script:
    """The first request gets the first answer; the last one repeats."""
    return lambda asked: answers[min(asked.number, len(answers) - 1)]


@contextlib.asynccontextmanager
async def serving(script: Script) -> AsyncIterator[Endpoint]:
    endpoint = Endpoint()
    tasks: set[asyncio.Task[None] | None] = set()

    async def on_connection(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        tasks.add(asyncio.current_task())
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError, asyncio.CancelledError):
            while True:
                head, body = await _read(reader)
                asked = Asked(len(endpoint.asked), head, body)
                endpoint.asked.append(asked)
                if not await _play(script(asked), writer):
                    break
        writer.close()

    server = await asyncio.start_server(on_connection, "127.0.0.1", 0)
    endpoint.port = server.sockets[0].getsockname()[1]
    try:
        yield endpoint
    finally:
        server.close()
        for task in tasks:
            if task is not None:
                task.cancel()
        await asyncio.gather(*(task for task in tasks if task is not None), return_exceptions=True)


async def _read(reader: asyncio.StreamReader) -> tuple[str, bytes]:
    head = await reader.readuntil(b"\r\n\r\n")
    length = next(int(line.split(b":")[1]) for line in head.lower().split(b"\r\n") if line.startswith(b"content-length"))
    return head.decode(), await reader.readexactly(length)


async def _play(steps: Steps, writer: asyncio.StreamWriter) -> bool:
    for step in steps:
        if isinstance(step, float):
            await asyncio.sleep(step)
        elif step == CLOSE:
            return False
        else:
            writer.write(step)
            await writer.drain()
    return True
