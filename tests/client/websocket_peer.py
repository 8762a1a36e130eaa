"""A Responses API over WebSocket that remembers, tells what it was sent, and goes wrong when it is told to."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Any

from scripted_peer import RUN_ID
from websockets.asyncio.server import ServerConnection, serve
from websockets.http11 import Request, Response

from latprof.client.endpoint import resolve_endpoint
from latprof.client.stamps import Attempt, ChunkLog
from latprof.client.trace_ids import trace_ids
from latprof.client.websocket import WebSocketTransport
from latprof.config import Target
from latprof.workload.sessions import Session, turn_of

Message = dict[str, Any]
Events = list[Message | str | float]
"""Events to send, texts to send as they are, seconds to wait; "CLOSE" and "RESET" end the connection."""


@dataclass
class Heard:
    """One `response.create`: on which connection it came, what it said, and how many bytes it had."""

    connection: int
    message: Message
    size: int

    @property
    def previous(self) -> str | None:
        return self.message.get("previous_response_id")

    @property
    def texts(self) -> list[str]:
        return [item["content"] for item in self.message["input"]]


@dataclass
class SocketPeer:
    port: int = 0
    heard: list[Heard] = field(default_factory=list)
    handshakes: list[Mapping[str, str]] = field(default_factory=list)
    open_now: int = 0

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def from_session(self, session: int) -> list[Heard]:
        return [heard for heard in self.heard if heard.texts[-1].startswith(f"s{session} ")]


def answer(number: int, lane: Mapping[str, str], words: tuple[str, ...] = ("Hi", " there")) -> Events:
    """The events of a whole response."""
    response = {"id": f"resp_{number}", "object": "response", "status": "in_progress"}
    usage = {"input_tokens": 9, "input_tokens_details": {"cached_tokens": 4}, "output_tokens": len(words)}
    deltas: list[Message] = [
        {"type": "response.output_text.delta", "delta": word, "sequence_number": 1 + index} for index, word in enumerate(words)
    ]
    told: list[Message] = [{"type": "response.created", "response": response}, *deltas]
    return [
        {**event, **lane}
        for event in (*told, {"type": "response.completed", "response": response | {"status": "completed", "usage": usage}})
    ]


def error(code: str, status: int | None = 400, **more: Any) -> Message:
    told: Message = {"type": "error", "error": {"type": "invalid_request_error", "code": code, "message": f"it is {code}"}, **more}
    return told if status is None else told | {"status": status}


Script = Callable[[int, Heard], Events | None]
"""What the nth message, from 0, is answered with; None: as it should be."""


@contextlib.asynccontextmanager
async def socket_peer(script: Script = lambda _number, _heard: None, refuse: tuple[int, bytes] | None = None) -> AsyncIterator[SocketPeer]:
    """The peer; it remembers the last response of each lane of a connection, and refuses to go on from others."""
    peer = SocketPeer()

    def on_request(connection: ServerConnection, request: Request) -> Response | None:
        peer.handshakes.append({name.lower(): value for name, value in request.headers.raw_items()} | {":path": request.path})
        if refuse is None:
            return None
        status, body = refuse
        return connection.respond(HTTPStatus(status), body.decode())

    async def on_connection(connection: ServerConnection) -> None:
        number = len(peer.handshakes) - 1
        remembered: dict[str | None, str] = {}
        tasks = set()
        peer.open_now += 1
        try:
            async for text in connection:
                heard = Heard(number, json.loads(text), len(text.encode() if isinstance(text, str) else text))
                peer.heard.append(heard)
                turn = asyncio.create_task(_turn(connection, heard, len(peer.heard) - 1, remembered, script))
                tasks.add(turn)
        finally:
            peer.open_now -= 1
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async with serve(on_connection, "127.0.0.1", 0, process_request=on_request, max_size=None, compression=None) as server:
        peer.port = next(iter(server.sockets)).getsockname()[1]
        yield peer


async def _turn(connection: ServerConnection, heard: Heard, number: int, remembered: dict[str | None, str], script: Script) -> None:
    lane = {key: heard.message[key] for key in ("stream_id",) if key in heard.message}
    events = script(number, heard)
    if events is None:
        known = heard.previous is None or heard.previous in remembered.values()
        events = answer(number, lane) if known else [error("previous_response_not_found", **lane)]
        if known:
            remembered[lane.get("stream_id")] = f"resp_{number}"
    for event in events:
        if isinstance(event, float):
            await asyncio.sleep(event)
        elif event == "CLOSE":
            await connection.close()
        elif event == "RESET":
            connection.transport.abort()
        else:
            await connection.send(event if isinstance(event, str) else json.dumps(event))


@contextlib.asynccontextmanager
async def socket_client(url: str, environment: Mapping[str, str] | None = None, **target: object) -> AsyncIterator[WebSocketTransport]:
    asked = Target.model_validate({"model": "m", "dialect": "openai-responses-ws", "url": url, **target})
    transport = WebSocketTransport(resolve_endpoint(asked, url, environment or {}))
    try:
        yield transport
    finally:
        await transport.close()


async def take_turn(
    transport: WebSocketTransport, session: Session, step: int, chunks: ChunkLog | None = None, answers: Mapping[int, str] | None = None
) -> tuple[Attempt, str]:
    """One turn as the driver sends it: its stamps, and the text of its answer."""
    trace_id, span_id = trace_ids(RUN_ID, 1, session.session, step, 0)
    turn = turn_of(session, step)
    attempt = Attempt(step, session.session, step, 0, "measured", trace_id, span_id, turn.prompt_tokens, turn.output_tokens)
    ask = transport.encoder()(session, step, answers or {})
    text = await transport.send(ask, attempt, chunks if chunks is not None else ChunkLog())
    return attempt, text
