"""The spans of a live run: the receiver, the wait for late ones, what is kept of them."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING

from latprof.clock import WallAnchor
from latprof.config import Spans
from latprof.pipeline.going import Going

if TYPE_CHECKING:
    from latprof.spans.receiver import Receiver, Transport
    from latprof.stub.stack import RunningStub


async def receive_spans(going: Going, stack: contextlib.AsyncExitStack) -> Receiver:
    """The OTLP receiver. A taken default port costs the spans, not the run; a port that was asked for must be had."""
    from latprof.spans.receiver import Receiver

    spans, stub = going.config.spans, going.config.uses_stub
    receiver = await asyncio.to_thread(
        Receiver.start,
        going.folder,
        going.run_id,
        host=spans.otlp_host,
        grpc_port=spans.grpc_port if spans.grpc_port is not None else (0 if stub else 4317),
        http_port=spans.http_port if spans.http_port is not None else (0 if stub else 4318),
        tolerate_taken=_not_asked(spans),
    )
    stack.push_async_callback(asyncio.to_thread, receiver.stop)
    going.meta["receiver"] = {
        "host": spans.otlp_host,
        "grpc_port": receiver.grpc_port,
        "http_port": receiver.http_port,
        "ports_taken": [str(taken) for taken in receiver.taken],
    }
    if going.watch is not None:
        going.watch.ports_taken = tuple(going.meta["receiver"]["ports_taken"])
    return receiver


def _not_asked(spans: Spans) -> list[Transport]:
    """Ports nobody asked for by name: when they are taken the run goes on without them."""
    asked: dict[Transport, int | None] = {"grpc": spans.grpc_port, "http": spans.http_port}
    return [transport for transport, port in asked.items() if port is None]


async def collect(going: Going, receiver: Receiver, stub: RunningStub | None) -> None:
    """Wait for late spans: less than the grace once every hop known to serve has told of every request."""
    services = [f"latprof-stub-{stage}" for stage in stub.ports] if stub is not None else []
    spans = going.config.spans
    traces, answers = going.answered or ((), ())
    waited = await receiver.wait_complete(
        traces, spans.grace_ns, expect_spans=stub is not None or bool(spans.hops), services=services, answers=answers
    )
    going.meta["receiver"] |= dataclasses.asdict(waited.stats) | {"complete": waited.complete, "waited_ns": waited.waited_ns}


def compact_spans(folder: Path) -> None:
    """The run's own, and of others those that tell of its answers."""
    from latprof.layers.joining import traces_told
    from latprof.observations.folder import load
    from latprof.spans import store

    store.compact(folder)
    others, told = store.load_others(folder), set[str]()
    if others.num_rows:
        observed = load(folder)
        told = traces_told(observed.requests, store.load(folder), others, WallAnchor(**observed.meta["anchor"]))
    store.compact_others(folder, told)
