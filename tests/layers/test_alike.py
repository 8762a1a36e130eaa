"""Requests that are alike told once, against every request told by itself: equal tables, whatever spans do."""

from __future__ import annotations

import random
from collections.abc import Mapping
from dataclasses import fields, replace
from hashlib import blake2b

import numpy as np
import pytest

from latprof.client.stamps import Attempt
from latprof.clock import WallAnchor
from latprof.layers import alike as module
from latprof.layers.build import build_layers
from latprof.layers.evidence import Evidence, Hop, Piece, Source, Traces
from latprof.layers.sources import SOURCES
from latprof.layers.table import Layers, Tables
from latprof.observations.columns import Requests
from latprof.spans.span import Scalar, Span, SpanEvent, SpanKind
from latprof.spans.store import Spans
from latprof.units import NS_PER_MS

MS = NS_PER_MS
ANCHOR = WallAnchor(monotonic_ns=1_000_000, unix_ns=1_700_000_000_000_000_000, bracket_ns=100)
# One request in so many: what makes it unlike most.
ODDITIES = {
    "cut": 9,
    "twice": 11,
    "orphan": 13,
    "retry": 7,
    "no connection": 5,
    "late close": 3,
    "two tries": 17,
    "no spans": 19,
    "timers": 15,
}


def span(
    trace: str, name: str, stage: str, kind: SpanKind, bounds: tuple[float, float], parent: str = "", first: float | None = None
) -> Span:
    start_ns, end_ns = (ANCHOR.to_unix(round(at)) for at in bounds)
    layer: dict[str, Scalar] = {"latprof.layer": name, "latprof.wait_ns": (end_ns - start_ns) // 3} if kind == SpanKind.INTERNAL else {}
    layer["answer"] = f"id-{trace}"
    events = () if first is None else (SpanEvent("first_chunk", ANCHOR.to_unix(round(first)), {"n": 1}),)
    resource: dict[str, Scalar] = {"service.name": f"latprof-stub-{stage}", "host.name": stage, "process.pid": 7}
    span_id = blake2b(f"{trace}{stage}{name}{kind}".encode(), digest_size=8).hexdigest()
    return Span(trace, span_id, parent, name, kind, start_ns, end_ns, layer, events, resource, "latprof.stub")


def exchange(number: int, rng: random.Random, skew_ns: Mapping[str, int]) -> tuple[Attempt, list[Span]]:
    """A request through gateway and engine, its layers side by side now and then, with every oddity in turn."""

    def odd(what: str) -> bool:
        return rng.randrange(ODDITIES[what]) == 0

    trace = f"{number:032x}"
    at = 50.0 * MS * (number + 1)
    row = Attempt(number, number, 0, int(odd("retry")), "measured", trace, f"{number:016x}", 10, 10)
    row.intended_ns, row.ready_ns, row.start_ns = round(at), round(at + rng.uniform(0, MS)), round(at + 1.1 * MS)
    if not odd("no connection"):
        row.connect_start_ns, row.connect_end_ns = row.start_ns + 1000, row.start_ns + round(rng.uniform(0, 2) * MS)
    row.send_ns = row.start_ns + 2 * MS
    row.written_ns = row.send_ns + 20_000
    row.timing_headers = [("Server-Timing", f"gateway;dur={number}.5")]
    if odd("timers"):
        row.timing_headers.append(("x-haproxy-timers", f"Tw={rng.randrange(3)};Tc=1"))
    marks = np.cumsum([float(row.written_ns)] + [rng.uniform(0.05, 3) * MS for _ in range(9)])
    row.first_token_ns = round(marks[-1])
    row.last_token_ns = row.end_ns = row.first_token_ns + 30 * MS
    late = 5 * MS if odd("late close") else -rng.uniform(0, 2) * MS

    def moved(stage: str, *marks: float) -> tuple[float, ...]:
        return tuple(mark + skew_ns.get(stage, 0) for mark in marks)

    def made(name: str, stage: str, kind: SpanKind, begun: float, ended: float, parent: str = "", first: float | None = None) -> Span:
        bounds = moved(stage, begun, max(begun, ended))
        return span(trace, name, stage, kind, (bounds[0], bounds[1]), parent, None if first is None else moved(stage, first)[0])

    gateway = made("POST", "gateway", SpanKind.SERVER, marks[1], row.end_ns + late, "f" * 16 if odd("orphan") else row.span_id, marks[8])
    leg = made("call", "gateway", SpanKind.CLIENT, marks[4], row.end_ns + late - 1000, gateway.span_id, marks[7])
    engine = made("POST", "decode", SpanKind.SERVER, marks[5], row.end_ns - MS, leg.span_id, None if odd("cut") else marks[6])
    spans = [
        gateway,
        leg,
        engine,
        made("gateway.auth", "gateway", SpanKind.INTERNAL, marks[1], marks[2] + rng.uniform(-1, 1) * MS, gateway.span_id),
        made("gateway.safety", "gateway", SpanKind.INTERNAL, marks[2], marks[3] + rng.uniform(-1, 1) * MS, gateway.span_id),
        made("prefill", "decode", SpanKind.INTERNAL, marks[5], marks[6] + rng.uniform(-0.5, 0.5) * MS, engine.span_id),
    ]
    if odd("two tries"):
        spans.append(made("POST again", "decode", SpanKind.SERVER, marks[6], row.end_ns - MS, leg.span_id))
    if odd("twice"):
        spans.append(replace(spans[-1], end_unix_ns=spans[-1].end_unix_ns + 5))
    return row, [] if odd("no spans") else spans


def run_of(seed: int, count: int = 300, skew_ns: Mapping[str, int] | None = None) -> tuple[Requests, Spans]:
    rng = random.Random(seed)
    made = [exchange(number, rng, skew_ns or {}) for number in range(count)]
    spans = [one for _, of_row in made for one in of_row]
    rng.shuffle(spans)
    return Requests.from_attempts([row for row, _ in made]), Spans.of(spans)


def assert_same(one: Tables, other: Tables) -> None:
    for mine, theirs in ((one.ttft, other.ttft), (one.e2el, other.e2el)):
        for field in fields(Layers):
            left, right = getattr(mine, field.name), getattr(theirs, field.name)
            assert np.array_equal(left, right) if isinstance(left, np.ndarray) else left == right, field.name


def one_by_one(requests: Requests, spans: Spans, monkeypatch: pytest.MonkeyPatch, sources: Mapping[str, Source] = SOURCES) -> Tables:
    with monkeypatch.context() as patched:
        patched.setattr(module, "FEWEST", 1 << 40)
        return build_layers(requests, spans, ANCHOR, sources=sources)


class Counted(Spans):
    """Counts the traces that were looked at one by one."""

    looked = 0

    def for_trace(self, trace_id: str) -> tuple[Span, ...]:
        type(self).looked += 1
        return super().for_trace(trace_id)


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("skew_ns", [{}, {"decode": 700 * MS, "gateway": -3 * MS}])
def test_the_tables_are_those_of_every_request_by_itself(seed: int, skew_ns: Mapping[str, int], monkeypatch: pytest.MonkeyPatch) -> None:
    requests, spans = run_of(seed, skew_ns=skew_ns)
    together = build_layers(requests, spans, ANCHOR)
    assert any(clock.corrected for clock in together.ttft.clocks) == bool(skew_ns)
    assert together.ttft.off_path
    assert_same(together, one_by_one(requests, spans, monkeypatch))


def test_most_are_not_looked_at(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("test_alike.ODDITIES", dict.fromkeys(ODDITIES, 1 << 40))
    requests, spans = run_of(1, 2000)
    counted = Counted(spans.table)
    build_layers(requests, counted, ANCHOR)
    assert 0 < Counted.looked < 400


def by_fractions(traces: Traces) -> Evidence:
    """A source that computes in floats, which cannot be followed."""
    return Evidence(
        pieces=tuple(
            Piece(
                "gateway",
                "host.name=gateway",
                "router",
                one.start_unix_ns,
                one.start_unix_ns + int(0.5 * (one.end_unix_ns - one.start_unix_ns)),
            )
            for one in traces.spans
            if one.kind == SpanKind.CLIENT
        )
    )


def past_the_tracing(traces: Traces) -> Evidence:
    """A source that has Python itself read a number, which tracing does not see: only the check on another request does."""
    return Evidence(
        hops=tuple(
            Hop("inject", "client", one.start_unix_ns - len(range(one.end_unix_ns - one.start_unix_ns)) % 1000, one.end_unix_ns)
            for one in traces.spans
            if one.kind == SpanKind.CLIENT
        )
    )


@pytest.mark.parametrize("source", [by_fractions, past_the_tracing])
def test_a_source_that_cannot_be_followed_is_asked_about_every_request(source: Source, monkeypatch: pytest.MonkeyPatch) -> None:
    requests, spans = run_of(3)
    sources = {**SOURCES, "odd": source}
    assert_same(build_layers(requests, spans, ANCHOR, sources=sources), one_by_one(requests, spans, monkeypatch, sources))


def test_a_header_that_is_read_is_read_of_every_request(monkeypatch: pytest.MonkeyPatch) -> None:
    requests, spans = run_of(5)
    for row in range(len(requests)):
        requests.timing_headers[row] = (("x-haproxy-timers", f"Tw={row % 90};Tc={row % 7}"),)
    assert_same(build_layers(requests, spans, ANCHOR), one_by_one(requests, spans, monkeypatch))
