"""The API gateway: every API in front, the router behind, its layers one after the other between them."""

from __future__ import annotations

import contextlib
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any, Final

import aiohttp
import orjson
from aiohttp import web

from latprof.config import Fault, ServiceTime
from latprof.stub.answers import HttpOut, Sender, send_whole, strike
from latprof.stub.asked import Api, Asked
from latprof.stub.chat import CHAT
from latprof.stub.completions import COMPLETIONS
from latprof.stub.live import Hop, LiveStation, Visit, nothing
from latprof.stub.messages import MESSAGES
from latprof.stub.models.faults import answer_fault
from latprof.stub.models.stages import GATEWAY_LAYERS, HOLD, Layer, layer_of
from latprof.stub.relay import Relay, Write, client_of, relay
from latprof.stub.responses import RESPONSES
from latprof.stub.serving import JSON, RefusedError, Routes, error_body, respond
from latprof.stub.tokenizing import Tokenization, Tokenized
from latprof.stub.websocket import Connection

APIS: Final = (CHAT, COMPLETIONS, RESPONSES, MESSAGES)
MODEL = "stub"
QUEUE: Final = "gateway.queue"

Read = Callable[[], Awaitable[tuple[Asked, Tokenized | None]]]
"""Reads what is asked, and what of the prompt is tokenized already."""
Begin = Callable[[Mapping[str, str]], Awaitable[None]]
"""Told of the headers once the engine has accepted."""


class Places:
    """How many requests the gateway works on at once. A place is held until the answer is over: while the request waits upstream, too."""

    def __init__(self, hop: Hop) -> None:
        limit = hop.stub.gateway.max_in_flight
        self._station = None if limit is None else LiveStation(hop, Layer(QUEUE, ServiceTime(), limit))

    @contextlib.asynccontextmanager
    async def taken(self, visit: Visit) -> AsyncIterator[int]:
        """A place for the length of a ``with``; since when it is taken."""
        if self._station is None:
            yield visit.start_ns
            return
        begun = await self._station.enter(visit.start_ns, 0)
        visit.layer(QUEUE, visit.start_ns, begun.started_ns - visit.start_ns, 0, 0)
        try:
            yield begun.started_ns
        finally:
            self._station.leave(time.monotonic_ns())


class Gateway:
    """Its layers' stations, its way back, and its connection to the router."""

    def __init__(self, hop: Hop, tokenizer_file: Path) -> None:
        self.hop = hop
        stations = [LiveStation(hop, layer_of(hop.stub, "gateway", name)) for name in GATEWAY_LAYERS]
        self._validate, *self._middle, tokenize = stations
        self.places = Places(hop)
        self._tokenize = Tokenization(hop, tokenize, tokenizer_file)
        self._back: Relay = relay(hop, layer_of(hop.stub, "gateway", HOLD))
        self._client = client_of(hop)

    def routes(self) -> Routes:
        """What clients may ask."""
        asked: Routes = {("POST", api.path): partial(self.ask, api) for api in APIS}
        return {**asked, ("GET", RESPONSES.path): self.connect, ("GET", "/v1/models"): self.models}

    async def models(self, request: web.BaseRequest) -> web.StreamResponse:
        """The one model there is; requests may name any."""
        model = {"id": MODEL, "object": "model", "created": 0, "owned_by": "latprof"}
        return await respond(request, 200, orjson.dumps({"object": "list", "data": [model]}), JSON)

    async def connect(self, request: web.BaseRequest) -> web.StreamResponse:
        """GET /v1/responses: a WebSocket, over which responses are asked for."""
        return await Connection(self, request).serve()

    async def ask(self, api: Api, request: web.BaseRequest) -> web.StreamResponse:
        """POST: one request, one answer."""
        visit = self.hop.visit(request.headers, f"POST {api.path}")
        fault = answer_fault(self.hop.stub, visit.key)
        try:
            if fault is not None:
                await request.read()  # a close with unread bytes would reset the connection instead
                await strike(request, fault)
            async with self.places.taken(visit) as begun_ns:
                ended_ns, asked, prompt = await self.layers(visit, begun_ns, partial(_read, api, request))
                response, end_ns = await self._answer(api, request, visit, asked, prompt, ended_ns, fault)
            visit.end(200, end_ns)
            return response
        except RefusedError as refused:
            end_ns = time.monotonic_ns()
            response = await respond(request, refused.status, api.refusal(refused), JSON)
            visit.end(refused.status, end_ns)
            return response
        except ConnectionResetError:
            visit.end(499, time.monotonic_ns())
            raise

    async def layers(self, visit: Visit, begun_ns: int, read: Read) -> tuple[int, Asked, Tokenized]:
        """Through all layers in turn; the body is read in the first. Returns when it was over, what was asked, and the prompt."""
        ended_ns, (asked, before) = await self._validate.serve(visit, begun_ns, read)
        for station in self._middle:
            ended_ns, _ = await station.serve(visit, ended_ns, nothing)
        ended_ns, prompt = await self._tokenize.serve(visit, ended_ns, asked.texts, before)
        return ended_ns, asked, prompt

    async def call(
        self, visit: Visit, asked: Asked, prompt: Tokenized, now_ns: int, begin: Begin, write: Write
    ) -> tuple[dict[str, Any], int]:
        """Have the router answer. Returns the closing object, and when it came.

        Raises:
            RefusedError: the router cannot be asked.
        """
        leg, headers = visit.leg("router", now_ns)
        wanted = orjson.dumps({"prompt_tokens": prompt.tokens, "blocks": prompt.blocks, "tokens": asked.tokens})
        try:
            routing = await self._client.post(f"{self.hop.upstream['router']}/route", data=wanted, headers=headers)
        except aiohttp.ClientError as error:
            raise RefusedError(502, f"the router failed: {error!r}") from None
        async with routing:
            await begin({"Server-Timing": f"{visit.timings()}, {routing.headers['Server-Timing']}"})
            try:
                closing = await self._back.tokens(visit, leg, routing.content, write)
            except aiohttp.ClientPayloadError as error:
                closing = error_body(502, f"the router failed in mid-stream: {error!r}")
        leg.end_ns = time.monotonic_ns()
        return closing, leg.end_ns

    async def _answer(
        self, api: Api, request: web.BaseRequest, visit: Visit, asked: Asked, prompt: Tokenized, now_ns: int, fault: Fault | None
    ) -> tuple[web.StreamResponse, int]:
        answer = api.answer(asked, visit.span_id, prompt.tokens)
        visit.answer_id = answer.id
        if asked.stream:
            out = HttpOut(request)
            sender = Sender(out, asked, answer, fault)
            closing, end_ns = await self.call(visit, asked, prompt, now_ns, sender.begin, sender.write)
            await sender.finish(closing)
            return out.response, end_ns
        told: dict[str, str] = {}

        async def begin(headers: Mapping[str, str]) -> None:
            told.update(headers)

        async def write(texts: list[bytes]) -> None:
            answer.add(texts)

        closing, end_ns = await self.call(visit, asked, prompt, now_ns, begin, write)
        return await send_whole(request, answer, fault, told, closing), end_ns


async def _read(api: Api, request: web.BaseRequest) -> tuple[Asked, None]:
    api.check_headers(request.headers)
    return api.read_body(await request.read()), None
