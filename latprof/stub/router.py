"""The router: has the prompt computed by the prefill pool, then streams from the decode pool; or streams from the colocated engine."""

from __future__ import annotations

import time

import aiohttp
import orjson
from aiohttp import web

from latprof.stub.live import Hop, LiveStation, Visit
from latprof.stub.models.stages import HOLD, layer_of
from latprof.stub.relay import client_of, relay
from latprof.stub.serving import Routes, error_body


def routes(hop: Hop) -> Routes:
    """The router's one call."""
    station = LiveStation(hop, layer_of(hop.stub, "router", "router"))
    back = relay(hop, layer_of(hop.stub, "router", HOLD))
    client = client_of(hop)
    colocated = hop.stub.engine.mode == "colocated"

    async def route(request: web.BaseRequest) -> web.StreamResponse:
        visit = hop.visit(request.headers, "POST /route")
        _, body = await station.serve(visit, visit.start_ns, request.read)
        response = web.StreamResponse(headers={"Server-Timing": visit.timings(), "Content-Type": "application/jsonlines"})
        # Accepted: the headers go now, long before the first token, as an engine's streaming response sends them.
        await response.prepare(request)
        try:
            closing = await (stream(visit, "generate", body, response) if colocated else generate(visit, body, response))
        except aiohttp.ClientError as error:
            closing = error_body(502, f"an engine pool failed: {error!r}")
        end_ns = time.monotonic_ns()
        await response.write_eof(orjson.dumps(closing, option=orjson.OPT_APPEND_NEWLINE))
        visit.end(200, end_ns)
        return response

    async def generate(visit: Visit, body: bytes, response: web.StreamResponse) -> dict[str, object]:
        asked = orjson.loads(body)
        leg, headers = visit.leg("prefill", time.monotonic_ns())
        async with client.post(f"{hop.upstream['prefill']}/prefill", data=body, headers=headers) as prefilled:
            computed = orjson.loads(await prefilled.read())
        leg.end_ns = time.monotonic_ns()
        wanted = {"tokens": asked["tokens"], "prompt_tokens": asked["prompt_tokens"], "prefill_ns": computed["service_ns"]}
        closing = await stream(visit, "decode", orjson.dumps(wanted), response)
        return closing if "error" in closing else {"cached_tokens": computed["cached_tokens"]}

    async def stream(visit: Visit, call: str, body: bytes, response: web.StreamResponse) -> dict[str, object]:
        leg, headers = visit.leg("decode", time.monotonic_ns())
        async with client.post(f"{hop.upstream['decode']}/{call}", data=body, headers=headers) as decoding:
            closing = await back.tokens(visit, leg, decoding.content, lambda lines: response.write(b"\n".join(lines) + b"\n"))
        leg.end_ns = time.monotonic_ns()
        return closing

    return {("POST", "/route"): route}
