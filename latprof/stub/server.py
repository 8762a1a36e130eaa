"""One stage of the stack in a box as a process: ``python -m latprof.stub.server gateway``, started by ``latprof.stub.stack``.

Its order comes as one line of JSON on stdin; stdin then stays open, and its end (the parent is gone, however it went) ends the stage. The
listening socket is the parent's, so ports are known and connections accepted before any stage is up.
"""

from __future__ import annotations

import asyncio
import gc
import signal
import socket
import sys
from pathlib import Path

import orjson
import uvloop
from aiohttp import web

from latprof.clock import precise_timer, wall_anchor
from latprof.config import Stub
from latprof.errors import LatprofError
from latprof.stub.figures import Figures
from latprof.stub.live import Hop
from latprof.stub.orders import READY, StageOrder
from latprof.stub.records import SpanPipe, TruthFile
from latprof.stub.serving import JSON, Routes, respond, server

# Threads that tokenize hand the interpreter back within this; the default of 5 ms is as long as the times that are planted.
_SWITCH_S = 0.000_2


def main() -> None:
    """Serve until stdin ends or SIGTERM comes."""
    # A Ctrl-C in the terminal is the parent's to interpret.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    order = StageOrder(**orjson.loads(sys.stdin.buffer.readline()))
    try:
        uvloop.run(serve(order))
    except LatprofError as error:
        sys.exit(str(error))


async def serve(order: StageOrder) -> None:
    """Bring the stage up, say so on stdout, and serve."""
    loop = asyncio.get_running_loop()
    stopped = asyncio.Event()
    loop.add_signal_handler(signal.SIGTERM, stopped.set)
    loop.add_reader(sys.stdin.fileno(), stopped.set)  # nothing more is ever written to it: readable means closed
    hop = await _hop(order, loop)
    runner = web.ServerRunner(server({**_common_routes(hop), **_stage_routes(order, hop)}), shutdown_timeout=0.2)
    await runner.setup()
    await web.SockSite(runner, socket.socket(fileno=order.socket_fd), backlog=1024).start()
    sys.setswitchinterval(_SWITCH_S)
    gc.collect()
    gc.freeze()  # a full collection over what was imported takes tens of ms
    sys.stdout.buffer.write(READY)
    sys.stdout.buffer.flush()
    await stopped.wait()
    await runner.cleanup()
    for stop in hop.on_stop:
        await stop()
    if hop.truth is not None:
        hop.truth.close()
    if hop.spans is not None:
        await hop.spans.close()


async def _hop(order: StageOrder, loop: asyncio.AbstractEventLoop) -> Hop:
    return Hop(
        stage=order.stage,
        stub=Stub.model_validate(order.stub),
        timer=precise_timer(),
        anchor=wall_anchor(),
        figures=Figures(order.stage),
        upstream=order.upstream,
        truth=None if order.truth is None else TruthFile(Path(order.truth), loop),
        spans=None if order.spans_fd is None else await SpanPipe.over(order.spans_fd),
    )


def _common_routes(hop: Hop) -> Routes:
    async def health(request: web.BaseRequest) -> web.StreamResponse:
        return await respond(request, 200, b'{"status":"ok"}', JSON)

    async def metrics(request: web.BaseRequest) -> web.StreamResponse:
        return await respond(request, 200, hop.figures.text().encode(), {"Content-Type": "text/plain; version=0.0.4; charset=utf-8"})

    return {("GET", "/health"): health, ("GET", "/metrics"): metrics}


def _stage_routes(order: StageOrder, hop: Hop) -> Routes:
    """The stage's own calls; a stage imports only what it needs, for four start at once."""
    if order.stage == "gateway":
        from latprof.stub.gateway import Gateway

        return Gateway(hop, Path(order.tokenizer)).routes()
    if order.stage == "router":
        from latprof.stub.router import routes

        return routes(hop)
    if hop.stub.engine.mode == "colocated":
        if order.stage == "prefill":
            return {}  # the replicas in the stage decode compute prompts too
        from latprof.stub.colocated import generate_routes

        return generate_routes(hop)
    from latprof.stub.pools import decode_routes, prefill_routes

    return prefill_routes(hop) if order.stage == "prefill" else decode_routes(hop)


if __name__ == "__main__":
    main()
