"""Responses over one WebSocket: turn after turn on a connection that remembers, so that a turn brings only what is new.

Each lane (``stream_id``; the nameless one is a lane too) works its requests off in order and remembers its last response: the tokens of its
conversation, which are not made again. https://developers.openai.com/api/docs/guides/websocket-mode
"""

from __future__ import annotations

import asyncio
import contextlib
import re
import time
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import orjson
from aiohttp import WSMsgType, web

from latprof.stub.answers import Sender, SocketOut, strike
from latprof.stub.asked import Asked
from latprof.stub.models.faults import answer_fault
from latprof.stub.responses import Answer, framed_for, not_found, read_create
from latprof.stub.serving import MAX_BODY_BYTES, RefusedError, error_body
from latprof.stub.tokenizing import Tokenized

if TYPE_CHECKING:
    from latprof.stub.gateway import Gateway

_MOST_LANES = 32
_LANE = re.compile(r"[A-Za-z0-9._\-]{1,256}")
_LIMIT_REACHED = "websocket_connection_limit_reached"


@dataclass(frozen=True, slots=True)
class _Kept:
    """A response that can be gone on from: its prompt, and what it said."""

    response_id: str
    prompt: Tokenized
    text: str


@dataclass(slots=True)
class _Lane:
    """What one lane is doing, in order of arrival, and the last response it gave."""

    turn: asyncio.Lock = field(default_factory=asyncio.Lock)
    kept: _Kept | None = None


class Connection:
    """One WebSocket from its handshake to its end."""

    def __init__(self, gateway: Gateway, request: web.BaseRequest) -> None:
        self._gateway, self._request = gateway, request
        self._socket = web.WebSocketResponse(compress=False, max_msg_size=MAX_BODY_BYTES)
        self._out = SocketOut(request, self._socket)
        self._opened_ns = time.monotonic_ns()
        self._lanes: dict[str | None, _Lane] = {}
        self._turns: set[asyncio.Task[None]] = set()

    async def serve(self) -> web.StreamResponse:
        """Take messages until the peer leaves or the connection's time is over."""
        if not self._socket.can_prepare(self._request):
            raise RefusedError(426, f"GET {self._request.path} is a WebSocket's handshake: send Upgrade: websocket, or POST")
        await self._socket.prepare(self._request)
        try:
            async for message in self._socket:
                if message.type is WSMsgType.TEXT and not await self._take(message.data):
                    break
        finally:
            for turn in self._turns:
                turn.cancel()
            await asyncio.gather(*self._turns, return_exceptions=True)
        await self._socket.close()
        return self._socket

    async def _take(self, text: str) -> bool:
        """Begin a turn; False once the connection's time is over."""
        limit_ns = self._gateway.hop.stub.gateway.ws_limit_ns
        message, lane_name = _open(text)
        if time.monotonic_ns() - self._opened_ns > limit_ns:
            limit = f"Responses websocket connection limit reached ({limit_ns / 60e9:g} minutes). Create a new websocket connection to continue."
            await self._refuse(lane_name, RefusedError(400, limit, None, _LIMIT_REACHED))
            await asyncio.gather(*self._turns, return_exceptions=True)
            return False
        turn = asyncio.create_task(self._turn(message, lane_name))
        self._turns.add(turn)
        turn.add_done_callback(self._turns.discard)
        return True

    async def _turn(self, message: Mapping[str, Any], lane_name: str | None) -> None:
        gateway = self._gateway
        visit = gateway.hop.visit(_context(message), "response.create")
        fault = answer_fault(gateway.hop.stub, visit.key)
        try:
            lane = self._lane(message, lane_name)
            async with lane.turn:
                if fault is not None:
                    await strike(self._request, fault)

                async def read() -> tuple[Asked, Tokenized | None]:
                    return self._read(message)

                async with gateway.places.taken(visit) as begun_ns:
                    ended_ns, asked, prompt = await gateway.layers(visit, begun_ns, read)
                    answer = Answer(asked, visit.span_id, prompt.tokens, framed_for(lane_name))
                    visit.answer_id = answer.id
                    sender = Sender(self._out, asked, answer, fault)
                    closing, end_ns = await gateway.call(visit, asked, prompt, ended_ns, sender.begin, sender.write)
                    if "error" not in closing:
                        lane.kept = _Kept(answer.id, prompt, answer.text)  # before its end is told: the next turn may come at once
                    await sender.finish(closing)
            visit.end(200, end_ns)
        except RefusedError as refused:
            visit.end(refused.status, time.monotonic_ns())
            await self._refuse(lane_name, refused)
        except ConnectionError:
            visit.end(499, time.monotonic_ns())

    def _lane(self, message: Mapping[str, Any], name: str | None) -> _Lane:
        if "stream_id" in message and name is None:
            raise RefusedError(
                400, "stream_id must be 1 to 256 letters, digits, dots, dashes or underscores", "stream_id", "invalid_stream_id"
            )
        if name not in self._lanes and len(self._lanes) >= _MOST_LANES:
            raise RefusedError(400, f"a connection has at most {_MOST_LANES} streams", "stream_id", "websocket_stream_limit_reached")
        return self._lanes.setdefault(name, _Lane())

    def _read(self, message: Mapping[str, Any]) -> tuple[Asked, Tokenized | None]:
        """What is asked; of a conversation gone on with, the last answer is the first text that is still to be tokenized."""
        create = read_create(message)
        if not create.previous_id:
            return create.asked, None
        for lane in self._lanes.values():
            if lane.kept is not None and lane.kept.response_id == create.previous_id:
                return replace(create.asked, texts=(lane.kept.text, *create.asked.texts)), lane.kept.prompt
        raise not_found(create.previous_id)

    async def _refuse(self, lane_name: str | None, refused: RefusedError) -> None:
        error = error_body(refused.status, str(refused), refused.param, refused.code)["error"]
        event = framed_for(lane_name)({"type": "error", "status": refused.status, "error": error})
        with contextlib.suppress(ConnectionError):
            await self._out.write(event)


def _open(text: str) -> tuple[Mapping[str, Any], str | None]:
    """A message and the lane it names; what cannot be read is refused when its turn comes."""
    try:
        message = orjson.loads(text)
    except orjson.JSONDecodeError:
        return {}, None
    if not isinstance(message, dict):
        return {}, None
    name = message.get("stream_id")
    return message, name if isinstance(name, str) and _LANE.fullmatch(name) else None


def _context(message: Mapping[str, Any]) -> dict[str, str]:
    """The trace context that rides in the metadata: a turn has no headers."""
    metadata = message.get("metadata")
    return {name: value for name, value in metadata.items() if isinstance(value, str)} if isinstance(metadata, dict) else {}
