"""One live stage: its clock, its timer, its records; a request's visit to it; and the driver that gives a station real time."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar

from latprof.clock import Timer, WallAnchor
from latprof.config import Stage, Stub
from latprof.queues.station import Begun, Station
from latprof.stub.context import Context, draw_key, new_span_id, read_context
from latprof.stub.figures import Figures
from latprof.stub.models.draws import Key
from latprof.stub.models.faults import Freezes, is_warmup
from latprof.stub.models.stages import Layer
from latprof.stub.records import SpanPipe, TruthFile
from latprof.units import MISSING_NS, NS_PER_S

T = TypeVar("T")


@dataclass(slots=True)
class Hop:
    """A stage as its process sees it. ``upstream`` maps the stages it calls to their base URLs."""

    stage: Stage
    stub: Stub
    timer: Timer
    anchor: WallAnchor
    figures: Figures
    upstream: Mapping[Stage, str]
    truth: TruthFile | None = None
    spans: SpanPipe | None = None
    freezes: Freezes = field(init=False)
    on_stop: list[Callable[[], Awaitable[None]]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.freezes = Freezes.of(self.stub, self.stage)

    def visit(self, headers: Mapping[str, str], name: str) -> Visit:
        """A request has come; this instant is its start here."""
        now_ns = time.monotonic_ns()
        context = read_context(headers)
        key = draw_key(self.stub.seed, context)
        loop = asyncio.get_running_loop()
        for at_ns, for_ns in self.freezes.on_request(now_ns, key):
            loop.call_later((at_ns - now_ns) / NS_PER_S, time.sleep, for_ns / NS_PER_S)
        return Visit(self, name, context, key, now_ns)

    async def sleep_until(self, at_ns: int, key: Key | None = None) -> int:
        """Wait for a planned instant; returns when it really was. The error is remembered, but for warm-up requests' ``key``."""
        now_ns = time.monotonic_ns()
        if at_ns > now_ns:
            await self.timer.sleep_until(at_ns)
            now_ns = time.monotonic_ns()
        if key is None or not is_warmup(key):
            self.figures.timer_error(now_ns - at_ns)
        return now_ns


@dataclass(slots=True)
class Leg:
    """A call to the next stage: becomes a CLIENT span."""

    target: Stage
    span_id: str
    start_ns: int
    end_ns: int = MISSING_NS
    first_chunk_ns: int = MISSING_NS


@dataclass(slots=True)
class _Part:
    """A layer's interval: becomes an INTERNAL span."""

    name: str
    start_ns: int
    wait_ns: int
    service_ns: int


class Visit:
    """One request's passage through one stage. Everything is stamped with this process's monotonic clock."""

    __slots__ = ("_hop", "_legs", "_name", "_parts", "answer_id", "context", "first_chunk_ns", "key", "span_id", "start_ns")

    def __init__(self, hop: Hop, name: str, context: Context, key: Key, start_ns: int) -> None:
        self._hop, self._name = hop, name
        self.context, self.key, self.start_ns = context, key, start_ns
        self.span_id = new_span_id()
        self.first_chunk_ns = MISSING_NS
        self.answer_id = ""
        self._parts: list[_Part] = []
        self._legs: list[Leg] = []

    def layer(self, name: str, start_ns: int, wait_ns: int, service_ns: int, planned_ns: int, first_chunk_ns: int = MISSING_NS) -> None:
        """A layer had the request from ``start_ns``: it waited, then was served; ``planned_ns`` is what the model said of the service."""
        hop = self._hop
        self._parts.append(_Part(name, start_ns, wait_ns, service_ns))
        hop.figures.layer(name, wait_ns, service_ns)
        if hop.truth is not None:
            line = {
                "trace_id": self.context.trace_id,
                "session": self.key.session,
                "turn": self.key.turn,
                "stage": hop.stage,
                "layer": name,
                "start_monotonic_ns": start_ns,
                "wait_ns": wait_ns,
                "service_ns": service_ns,
                "planned_service_ns": planned_ns,
            }
            if first_chunk_ns != MISSING_NS:
                line["first_chunk_monotonic_ns"] = first_chunk_ns
            hop.truth.write(line)

    def leg(self, target: Stage, start_ns: int) -> tuple[Leg, dict[str, str]]:
        """A call to ``target`` begins. Returns it with the trace headers it must carry."""
        leg = Leg(target, new_span_id(), start_ns)
        self._legs.append(leg)
        return leg, self.context.onward(leg.span_id)

    def timings(self) -> str:
        """What is known by now, as a Server-Timing value in ms."""
        return ", ".join(f"{part.name};dur={(part.wait_ns + part.service_ns) / 1e6:.3f}" for part in self._parts)

    def end(self, status: int, end_ns: int) -> None:
        """The last byte was handed over, or would have been; the spans go out."""
        hop = self._hop
        hop.figures.request(status)
        if hop.spans is not None and self.context.sampled:
            hop.spans.write(
                [self._server(status, end_ns), *map(self._internal, self._parts), *(self._client(leg, end_ns) for leg in self._legs)]
            )

    def _server(self, status: int, end_ns: int) -> dict[str, Any]:
        attributes: dict[str, Any] = {"http.response.status_code": status}
        if self.answer_id:
            attributes["gen_ai.response.id"] = self.answer_id
        return self._span(
            "SERVER", self._name, self.span_id, self.context.parent_id, (self.start_ns, end_ns), attributes, self.first_chunk_ns
        )

    def _internal(self, part: _Part) -> dict[str, Any]:
        attributes = {"latprof.layer": part.name, "latprof.wait_ns": part.wait_ns}
        interval = (part.start_ns, part.start_ns + part.wait_ns + part.service_ns)
        return self._span("INTERNAL", part.name, new_span_id(), self.span_id, interval, attributes, MISSING_NS)

    def _client(self, leg: Leg, visit_end_ns: int) -> dict[str, Any]:
        end_ns = visit_end_ns if leg.end_ns == MISSING_NS else leg.end_ns
        name = f"call {leg.target}"
        return self._span(
            "CLIENT", name, leg.span_id, self.span_id, (leg.start_ns, end_ns), {"latprof.leg": leg.target}, leg.first_chunk_ns
        )

    def _span(
        self,
        kind: str,
        name: str,
        span_id: str,
        parent_id: str,
        interval_ns: tuple[int, int],
        attributes: dict[str, Any],
        first_chunk_ns: int,
    ) -> dict[str, Any]:
        to_unix = self._hop.anchor.to_unix
        return {
            "trace_id": self.context.trace_id,
            "span_id": span_id,
            "parent_id": parent_id,
            "flags": self.context.flags,
            "tracestate": self.context.tracestate,
            "kind": kind,
            "name": name,
            "start": to_unix(interval_ns[0]),
            "end": to_unix(interval_ns[1]),
            "attributes": attributes,
            "first_chunk": None if first_chunk_ns == MISSING_NS else to_unix(first_chunk_ns),
        }


class LiveStation:
    """A layer's station in real time: whoever waits is woken when a server is really free."""

    def __init__(self, hop: Hop, layer: Layer) -> None:
        self.layer = layer
        self._hop = hop
        self._station: Station[asyncio.Future[Begun[Any]]] = Station(layer.workers)
        label = f'layer="{layer.name}"'
        hop.figures.gauge("running", label, lambda: self._station.running)
        hop.figures.gauge("waiting", label, lambda: self._station.waiting)

    async def serve(self, visit: Visit, arrived_ns: int, work: Callable[[], Awaitable[T]], added_ns: int = 0) -> tuple[int, T]:
        """Go through the layer; ``work`` is real work done inside its planned time. Returns when it was over, and what the work gave.

        ``added_ns`` is the layer's own, beyond what its law says of every request.
        """
        planned_ns = self.layer.service_ns(visit.key, added_ns)
        begun = await self.enter(arrived_ns, planned_ns)
        try:
            outcome = await work()
            ended_ns = await self._hop.sleep_until(begun.ends_ns, visit.key)
        finally:
            self.leave(time.monotonic_ns())
        visit.layer(self.layer.name, arrived_ns, begun.started_ns - arrived_ns, ended_ns - begun.started_ns, planned_ns)
        return ended_ns, outcome

    async def enter(self, arrived_ns: int, service_ns: int) -> Begun[Any]:
        """Wait for a server."""
        seat: asyncio.Future[Begun[Any]] = asyncio.get_running_loop().create_future()
        begun = self._station.arrive(arrived_ns, seat, service_ns)
        try:
            return await seat if begun is None else begun
        except asyncio.CancelledError:
            if seat.done() and not seat.cancelled():  # it was given a server in the very moment
                self.leave(time.monotonic_ns())
            raise

    def leave(self, now_ns: int) -> None:
        """Give the server to the one who has waited longest."""
        following = self._station.finish(now_ns)
        while following is not None and following.job.done():  # it was cancelled while it waited
            following = self._station.finish(now_ns)
        if following is not None:
            following.job.set_result(following)


async def nothing() -> None:
    """The work of a layer that only takes time."""
