"""Where a hop stands, told by what its delays move: clocks far apart, names that mislead, and nothing told at all."""

from __future__ import annotations

import numpy as np
import pytest

from latprof.client.stamps import Attempt
from latprof.clock import WallAnchor
from latprof.layers.build import build_layers
from latprof.layers.evidence import Evidence, Held, Hop, Traces
from latprof.layers.placing import CALLER, Place, place_of
from latprof.layers.sources.injected import evidence as of_injected
from latprof.layers.sources.injected import name_at_address, with_injected
from latprof.observations.columns import Requests
from latprof.observations.injected import Injected
from latprof.spans.span import Span, SpanKind
from latprof.spans.store import Spans
from latprof.units import NS_PER_MS

MS = NS_PER_MS
ANCHOR = WallAnchor(0, 0, 0)
SKEW_NS = {"outer": 700 * MS, "inner": -900 * MS}
"""Clocks that say the inner hop began before the outer one."""


def run_of(count: int, delays_ms: tuple[int, ...], names: tuple[str, ...]) -> tuple[Requests, Spans]:
    """An outer hop that works for about 5 ms before it calls, the injecting hop, an inner one; ``names`` tell spans of their own."""
    attempts, spans, rows = [], [], []
    rng = np.random.default_rng(5)
    for number in range(count):
        trace, client = f"{number + 1:032x}", f"{number + 1:016x}"
        delay_ns, begun_ns = delays_ms[number % len(delays_ms)] * MS, number * 1_000 * MS
        called_ns = begun_ns + int(rng.integers(2, 9)) * MS
        onward_ns = called_ns + delay_ns
        attempt = Attempt(number, number, 0, 0, "measured", trace, client, 8, 2)
        for name in ("intended_ns", "ready_ns", "start_ns", "send_ns", "written_ns"):
            setattr(attempt, name, begun_ns)
        attempt.first_token_ns, attempt.last_token_ns, attempt.end_ns = onward_ns + 50 * MS, onward_ns + 70 * MS, onward_ns + 71 * MS
        attempts.append(attempt)
        views = {"outer": (begun_ns + MS, onward_ns + 70 * MS), "inner": (onward_ns + MS, onward_ns + 69 * MS)}
        for name in names:
            start_ns, end_ns = (at_ns + SKEW_NS[name] for at_ns in views[name])
            spans.append(
                Span(trace, f"{number:08x}{name.encode().hex()[:8]}", client, name, SpanKind.SERVER, start_ns, end_ns, scope="test")
            )
        rows.append((trace, client, delay_ns, called_ns, onward_ns, onward_ns + 70 * MS))
    requests = Requests.from_attempts(attempts)
    trace_id, parent_id = (np.array([row[k] for row in rows], object) for k in (0, 1))
    drawn_ns, received_ns, forwarded_ns, ended_ns = (np.array([row[k] for row in rows], np.int64) for k in (2, 3, 4, 5))
    block = np.zeros(count, np.int64)
    injected = Injected(trace_id, parent_id, block, drawn_ns, received_ns, forwarded_ns, forwarded_ns, ended_ns)
    return requests, with_injected(Spans.of(spans), injected, requests, ANCHOR, name_at_address("engine"))


def hops_told(traces: Traces) -> Evidence:
    spans = [span for span in traces.spans if span.scope == "test"]
    return Evidence(hops=tuple(Hop(span.name, span.name, span.start_unix_ns, span.end_unix_ns, owner="gateway") for span in spans))


def front_told(traces: Traces) -> Evidence:
    return Evidence(held=(Held("haproxy", "lb", MS, side="request"),)) if traces.spans else Evidence()


SOURCES = {"injected": of_injected, "test": hops_told}


def place(
    count: int = 40, delays_ms: tuple[int, ...] = (0, 20), names: tuple[str, ...] = ("outer", "inner"), before: str = "engine"
) -> Place:
    return place_of("inject.engine", before, *run_of(count, delays_ms, names), sources=SOURCES)


@pytest.mark.parametrize("delays_ms", [(0, 20), (0, 5, 20, 50), (30, 31)])
def test_what_starts_later_by_the_delay_lies_behind(delays_ms: tuple[int, ...]) -> None:
    found = place(delays_ms=delays_ms)
    assert found == Place(("outer", "inject.engine", "inner"), ("outer",), ("inner",))


def test_a_name_does_not_stand_against_what_was_measured() -> None:
    assert place(before="outer").order == ("outer", "inject.engine", "inner")
    requests, spans = run_of(40, (0, 20), ("outer", "inner"))
    found = place_of("inject.engine", "engine", requests, spans, ("inner", "outer"), SOURCES)
    assert found.order == ("outer", "inject.engine", "inner")


def test_too_few_requests_leave_it_to_names_and_say_so() -> None:
    found = place(count=4)
    assert (found.in_front, found.behind) == ((), ())
    assert set(found.untold) == {"outer", "inner"}


def test_a_hop_that_tells_lengths_alone_is_placed_by_its_name() -> None:
    requests, spans = run_of(40, (0, 20), ("inner",))
    found = place_of("inject.engine", "engine", requests, spans, sources={**SOURCES, "front": front_told})
    assert found == Place((CALLER, "haproxy", "inject.engine", "inner"), (), ("inner",), ("haproxy",))


def test_layers_around_the_hop_add_up_and_own_what_is_theirs() -> None:
    requests, spans = run_of(40, (0, 20), ("outer", "inner"))
    found = place_of("inject.engine", "engine", requests, spans, sources=SOURCES)
    table = build_layers(requests, spans, ANCHOR, found.order, SOURCES).ttft
    assert (table.total_ns.sum(axis=1) == requests.first_token_ns - requests.intended_ns).all()
    assert table.hops == ("outer", "inject.engine", "inner")
    injected = table.total_ns[:, table.names.index("injected")]
    assert (np.abs(injected - np.tile([0, 20 * MS], 20)) <= 0).all()


def test_where_nobody_in_front_tells_the_way_to_the_hop_is_not_called_network() -> None:
    requests, spans = run_of(40, (0, 20), ())
    found = place_of("inject.engine", "engine", requests, spans, sources=SOURCES)
    assert found == Place((CALLER, "inject.engine"))
    table = build_layers(requests, spans, ANCHOR, found.order, SOURCES).ttft
    assert (table.total_ns.sum(axis=1) == requests.first_token_ns - requests.intended_ns).all()
    assert "net.request+server" in table.names
    assert "net.request" not in table.names
    assert (table.total_ns[:, table.names.index("injected")] == np.tile([0, 20 * MS], 20)).all()
