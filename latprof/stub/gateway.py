"""The API gateway: OpenAI chat completions in front, the router behind, its layers one after the other between them."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path

import aiohttp
import orjson
from aiohttp import web

from latprof.config import Fault
from latprof.stub.answers import Sender, hang_up
from latprof.stub.chat import Answer, Asked, read_body
from latprof.stub.live import Hop, LiveStation, Visit, nothing
from latprof.stub.models.faults import answer_fault
from latprof.stub.models.stages import GATEWAY_LAYERS, HOLD, layer_of
from latprof.stub.relay import Relay, client_of, relay
from latprof.stub.serving import JSON, RefusedError, Routes, error_body, respond
from latprof.stub.tokenizing import Tokenization, Tokenized

MODEL = "stub"
_GONE_POLL_S = 0.25


class Gateway:
    """Its layers' stations, its way back, and its connection to the router."""

    def __init__(self, hop: Hop, tokenizer_file: Path) -> None:
        self._hop = hop
        stations = [LiveStation(hop, layer_of(hop.stub, "gateway", name)) for name in GATEWAY_LAYERS]
        self._validate, *self._middle, tokenize = stations
        self._tokenize = Tokenization(hop, tokenize, tokenizer_file)
        self._back: Relay = relay(hop, layer_of(hop.stub, "gateway", HOLD))
        self._client = client_of(hop)

    def routes(self) -> Routes:
        """What clients may ask."""
        return {("POST", "/v1/chat/completions"): self.chat, ("GET", "/v1/models"): self.models}

    async def models(self, request: web.BaseRequest) -> web.StreamResponse:
        """The one model there is; requests may name any."""
        model = {"id": MODEL, "object": "model", "created": 0, "owned_by": "latprof"}
        return await respond(request, 200, orjson.dumps({"object": "list", "data": [model]}), JSON)

    async def chat(self, request: web.BaseRequest) -> web.StreamResponse:
        """POST /v1/chat/completions."""
        visit = self._hop.visit(request.headers, "POST /v1/chat/completions")
        fault = answer_fault(self._hop.stub, visit.key)
        try:
            if fault is not None:
                await request.read()  # a close with unread bytes would reset the connection instead
                await _strike(request, fault)
            ended_ns, asked, prompt = await self._layers(visit, request)
            return await self._call(request, visit, asked, prompt, ended_ns, fault)
        except RefusedError as refused:
            end_ns = time.monotonic_ns()
            response = await respond(request, refused.status, refused.body(), JSON)
            visit.end(refused.status, end_ns)
            return response
        except ConnectionResetError:
            visit.end(499, time.monotonic_ns())
            raise

    async def _layers(self, visit: Visit, request: web.BaseRequest) -> tuple[int, Asked, Tokenized]:
        async def read() -> Asked:
            return read_body(await request.read())

        ended_ns, asked = await self._validate.serve(visit, visit.start_ns, read)
        for station in self._middle:
            ended_ns, _ = await station.serve(visit, ended_ns, nothing)
        ended_ns, prompt = await self._tokenize.serve(visit, ended_ns, asked.texts)
        return ended_ns, asked, prompt

    async def _call(
        self, request: web.BaseRequest, visit: Visit, asked: Asked, prompt: Tokenized, now_ns: int, fault: Fault | None
    ) -> web.StreamResponse:
        leg, headers = visit.leg("router", now_ns)
        wanted = orjson.dumps({"prompt_tokens": prompt.tokens, "blocks": prompt.blocks, "tokens": asked.tokens})
        try:
            routing = await self._client.post(f"{self._hop.upstream['router']}/route", data=wanted, headers=headers)
        except aiohttp.ClientError as error:
            raise RefusedError(502, f"the router failed: {error!r}") from None
        async with routing:
            sender = Sender(request, asked, Answer(asked, visit.span_id, prompt.tokens), fault)
            await sender.begin({"Server-Timing": f"{visit.timings()}, {routing.headers['Server-Timing']}"})
            try:
                closing = await self._back.tokens(visit, leg, routing.content, sender.write)
            except aiohttp.ClientPayloadError as error:
                closing = error_body(502, f"the router failed in mid-stream: {error!r}")
        leg.end_ns = time.monotonic_ns()
        response = await sender.finish(closing)
        visit.end(200, leg.end_ns)
        return response


async def _strike(request: web.BaseRequest, fault: Fault) -> None:
    """The faults that leave no answer, or none but an error. The others are the sender's."""
    if fault.kind == "status":
        raise RefusedError(fault.status, f"planted: {fault.status} on {fault.share:.0%} of the requests")
    if fault.kind == "silent":
        while request.transport is not None and not request.transport.is_closing():  # noqa: ASYNC110 - aiohttp tells nobody
            await asyncio.sleep(_GONE_POLL_S)
        raise ConnectionResetError("its client has given up")
    if fault.kind == "drop":
        hang_up(request)
