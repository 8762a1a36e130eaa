"""From rows and spans to the table: sums, skewed clocks, duplicates, shuffled traces, and the sources on real captures."""

from __future__ import annotations

import json
import random
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from latprof.client.stamps import Attempt
from latprof.clock import WallAnchor
from latprof.layers.build import build_layers
from latprof.layers.evidence import Evidence, Hop, Leg, Traces
from latprof.layers.hops import Order
from latprof.layers.skew import constraints
from latprof.layers.sources import SOURCES, haproxy, litellm, llamacpp
from latprof.layers.table import Layers
from latprof.observations.columns import Requests
from latprof.spans.clocks import estimate
from latprof.spans.span import Scalar, Span, SpanEvent, SpanKind
from latprof.spans.store import Spans
from latprof.units import MISSING_NS, NS_PER_MS

MS = NS_PER_MS
CAPTURE = Path(__file__).parent / "captures" / "real_chain.json"
# The client's monotonic clock and Unix time differ by a constant, as they do.
ANCHOR = WallAnchor(monotonic_ns=1_000_000, unix_ns=1_700_000_000_000_000_000, bracket_ns=100)
LAYERS_MS = {"gateway.auth": 3, "gateway.safety": 7, "router": 2, "prefill": 25, "decode.first": 9}


def attempt(index: int, start_ns: int, first_ns: int) -> Attempt:
    row = Attempt(index, index, 0, 0, "measured", f"{index:032x}", f"{index:016x}", 10, 10)
    row.intended_ns, row.ready_ns, row.start_ns = start_ns, start_ns + 50_000, start_ns + 60_000
    row.send_ns, row.written_ns, row.first_token_ns = start_ns + 80_000, start_ns + 100_000, first_ns
    row.last_token_ns = row.end_ns = first_ns + 40 * MS
    return row


def span(
    trace: str, stage: str, kind: SpanKind, name: str, bounds: tuple[int, int], parent: str, first: int | None = None, layer: str = ""
) -> Span:
    events = (SpanEvent("first_chunk", ANCHOR.to_unix(first)),) if first is not None else ()
    attributes: dict[str, Scalar] = {"latprof.layer": layer, "latprof.wait_ns": MS} if layer else {}
    resource = {"service.name": f"latprof-stub-{stage}", "host.name": stage}
    start, end = (ANCHOR.to_unix(stamp) for stamp in bounds)
    return Span(trace, f"{kind}{name}", parent, name, kind, start, end, attributes, events, resource, "latprof.stub")


def exchange(index: int, rng: random.Random) -> tuple[Attempt, list[Span]]:
    """One request through gateway, router and decode, 0.2-2 ms of network before and after every hop."""
    trace = f"{index:032x}"
    begun = 10 * MS * (index + 1)
    cursor = begun + 100_000
    spans: list[Span] = []
    opened: list[tuple[str, int]] = []
    for stage, layers in (("gateway", ["gateway.auth", "gateway.safety"]), ("router", ["router"]), ("decode", ["prefill", "decode.first"])):
        cursor += rng.randint(200_000, 2 * MS)
        opened.append((stage, cursor))
        for layer in layers:
            length = LAYERS_MS[layer] * MS
            spans.append(span(trace, stage, SpanKind.INTERNAL, layer, (cursor, cursor + length), stage, layer=layer))
            cursor += length
        opened.append((f"{stage}>", cursor))
    end = cursor + 30 * MS
    parent = {"gateway": trace[16:], "router": f"{SpanKind.CLIENT}gateway>", "decode": f"{SpanKind.CLIENT}router>"}
    for name, start in reversed(opened):
        stage = name.rstrip(">")
        if name == "decode>":
            continue
        if name.endswith(">"):
            cursor += rng.randint(200_000, 2 * MS)
            end += 3 * MS
            spans.append(span(trace, stage, SpanKind.CLIENT, name, (start, end), stage, cursor))
        else:
            spans.append(span(trace, stage, SpanKind.SERVER, name, (start, end), parent[stage], cursor))
    cursor += rng.randint(200_000, 2 * MS)
    row = attempt(index, begun, cursor)
    row.last_token_ns = row.end_ns = max(row.end_ns, end + 3 * MS)
    return row, spans


def made(count: int = 40) -> tuple[list[Attempt], list[Span]]:
    rng = random.Random(7)
    rows, spans = [], []
    for index in range(count):
        row, of_row = exchange(index, rng)
        rows.append(row)
        spans += of_row
    return rows, spans


def build(rows: Sequence[Attempt], spans: Sequence[Span]) -> Layers:
    layers = build_layers(Requests.from_attempts(rows), Spans.of(spans), ANCHOR).ttft
    ttft = np.array([row.first_token_ns - row.intended_ns for row in rows])
    assert (layers.total_ns.sum(axis=1) == ttft).all()
    assert (layers.total_ns >= 0).all()
    assert (layers.wait_ns + layers.service_ns <= layers.total_ns).all()
    return layers


def column(layers: Layers, name: str) -> np.ndarray:
    return layers.total_ns[:, layers.names.index(name)]


def skewed(spans: Sequence[Span], stage: str, by_ns: int) -> list[Span]:
    return [
        replace(
            s,
            start_unix_ns=s.start_unix_ns + by_ns,
            end_unix_ns=s.end_unix_ns + by_ns,
            events=tuple(replace(e, unix_ns=e.unix_ns + by_ns) for e in s.events),
        )
        if s.resource["host.name"] == stage
        else s
        for s in spans
    ]


def test_layers_come_out_as_they_went_in() -> None:
    layers = build(*made())
    for name, length_ms in LAYERS_MS.items():
        assert (column(layers, name) == length_ms * MS).all()
        index = layers.names.index(name)
        assert (layers.wait_ns[:, index] == MS).all()
        assert (layers.service_ns[:, index] == (length_ms - 1) * MS).all()
    assert layers.hops == ("gateway", "router", "decode")
    assert not any(name.startswith("unattributed") for name in layers.names)
    assert layers.coverage()[layers.names.index("prefill")] == 1


@pytest.mark.parametrize("by_ms", [250, -250])
@pytest.mark.parametrize("stage", ["gateway", "decode"])
def test_a_skewed_clock_moves_no_layer_and_its_offset_is_found_within_its_bound(by_ms: int, stage: str) -> None:
    rows, spans = made()
    straight, skew = build(rows, spans), build(rows, skewed(spans, stage, by_ms * MS))
    for name in LAYERS_MS:
        assert (column(skew, name) == column(straight, name)).all()
    offset = next(clock for clock in skew.clocks if clock.clock.endswith(stage))
    assert offset.corrected
    assert offset.consistent
    assert offset.low_ns <= -by_ms * MS <= offset.high_ns
    assert abs(offset.offset_ns + by_ms * MS) <= (offset.high_ns - offset.low_ns) / 2 + 1
    # The two network legs trade time between them; their sum is exact.
    legs = [column(run, "net.request") + column(run, "net.response") for run in (straight, skew)]
    assert (legs[0] == legs[1]).all()


def test_opposite_skews_of_two_processes_at_once() -> None:
    rows, spans = made()
    skew = build(rows, skewed(skewed(spans, "gateway", 250 * MS), "decode", -250 * MS))
    for name, length_ms in LAYERS_MS.items():
        assert (column(skew, name) == length_ms * MS).all()


def test_duplicated_and_missing_spans_still_sum() -> None:
    rows, spans = made()
    build(rows, [*spans, *spans])
    rng = random.Random(3)
    for _ in range(30):
        build(rows, [s for s in spans if rng.random() < 0.6])


def test_spans_shuffled_between_traces_do_not_pass_for_the_truth() -> None:
    rows, spans = made()
    others = random.Random(5).sample(range(len(rows)), len(rows))
    moved = {f"{index:032x}": f"{other:032x}" for index, other in enumerate(others)}
    layers = build(rows, [replace(s, trace_id=moved[s.trace_id]) for s in spans])
    found = {name: column(layers, name) for name in LAYERS_MS if name in layers.names}
    assert any((lengths != LAYERS_MS[name] * MS).mean() > 0.5 for name, lengths in found.items())


def test_stamps_that_lie_in_one_request_move_no_other() -> None:
    rows, spans = made(50)
    lying = f"{7:032x}"
    layers = build(rows, [s if s.trace_id != lying else skewed([s], "gateway", 500 * MS)[0] for s in spans])
    assert (column(layers, "gateway.auth") == 3 * MS).mean() == pytest.approx(49 / 50)
    assert not any(clock.corrected for clock in layers.clocks)
    assert not all(clock.consistent for clock in layers.clocks)
    assert layers.coverage()[layers.names.index("gateway.auth")] == pytest.approx(49 / 50)


def test_work_after_the_answer_proves_nothing_about_a_clock() -> None:
    rows, spans = made()
    untold = [replace(s, events=()) if s.resource["host.name"] == "gateway" and s.kind == SpanKind.SERVER else s for s in spans]
    logging = [
        span(
            row.trace_id,
            "gateway",
            SpanKind.INTERNAL,
            "log",
            (row.first_token_ns + 21 * MS, row.first_token_ns + 22 * MS),
            "gateway",
            layer="gateway.ratelimit",
        )
        for row in rows
    ]
    layers = build(rows, [*untold, *logging])
    assert not any(clock.corrected for clock in layers.clocks)
    assert (column(layers, "gateway.safety") == 7 * MS).all()


def test_a_gateway_that_tells_no_cut_does_not_own_what_lies_behind_it() -> None:
    row, spans, _ = captured()[0]
    without_legs = [s for s in spans if s.kind != SpanKind.CLIENT and s.resource["service.name"] == "envoy"]
    layers = build([row], without_legs)
    assert "lb+net+server" in {"+".join(sorted(name.split("+"))) for name in layers.names}
    assert "lb" not in {name for name in layers.names if column(layers, name)[0] > 0}


def test_of_two_proxies_the_one_without_a_cut_does_not_own_what_lies_behind_it() -> None:
    row, spans, _ = captured()[0]
    envoy = [s for s in spans if s.resource["service.name"] == "envoy"]
    egress = next(s for s in envoy if s.kind == SpanKind.CLIENT)
    begun_ns = egress.start_unix_ns + MS // 10
    inner = replace(egress, span_id="e" * 16, parent_id=egress.span_id, kind=SpanKind.SERVER, name="ingress", start_unix_ns=begun_ns)
    row.timing_headers = []
    layers = build([row], [*envoy, inner])
    assert 0 < column(layers, "lb")[0] < MS
    assert column(layers, "net+lb+server")[0] > 10 * MS


def test_a_partial_hop_order_leaves_the_others_where_they_are() -> None:
    order = Order(("router",))
    assert order.sorted(["decode", "router", "gateway", "envoy"]) == ("envoy", "gateway", "router", "decode")
    assert Order(("decode", "prefill")).sorted(["prefill", "decode"]) == ("decode", "prefill")
    assert Order(("mine", "envoy")).sorted(["envoy", "mine", "vllm"]) == ("mine", "envoy", "vllm")


def test_what_writing_a_body_spills_past_the_intended_start_is_build() -> None:
    rows = [attempt(index, (index + 1) * 1_000 * MS, (index * 1_000 + 1_100) * MS) for index in range(3)]
    for row, spilled_ms in zip(rows, (MISSING_NS, -5, 3), strict=True):
        row.built_ns = row.intended_ns + spilled_ms * MS if spilled_ms != MISSING_NS else MISSING_NS
        row.ready_ns = max(row.intended_ns, row.built_ns) + MS
        row.start_ns = row.send_ns = row.written_ns = row.ready_ns
    layers = build(rows, [])
    assert column(layers, "client.build").tolist() == [0, 0, 3 * MS]
    assert column(layers, "client.lateness").tolist() == [MS] * 3


def test_a_request_without_spans_keeps_its_row() -> None:
    rows, spans = made()
    silent = f"{3:032x}"
    layers = build(rows, [s for s in spans if s.trace_id != silent])
    assert layers.coverage()[layers.names.index("prefill")] == pytest.approx(39 / 40)
    row = int(np.flatnonzero(layers.rows == 3)[0])
    assert column(layers, "net+server")[row] > 0
    assert column(layers, "prefill")[row] == 0


def captured() -> list[tuple[Attempt, list[Span], list[tuple[str, str]]]]:
    capture = json.loads(CAPTURE.read_text())
    found = []
    for index, request in enumerate(capture["requests"]):
        row = Attempt(index, index, 0, 0, "measured", request["trace_id"], request["span_id"], 20, 8)
        sent = ANCHOR.to_monotonic(request["sent_unix_ns"])
        token = next(piece["unix_ns"] for piece in request["pieces"] if '"content":"' in piece["text"])
        row.intended_ns = row.ready_ns = row.start_ns = row.send_ns = row.written_ns = sent
        row.first_token_ns = ANCHOR.to_monotonic(token)
        row.last_token_ns = row.end_ns = ANCHOR.to_monotonic(request["end_unix_ns"])
        row.timing_headers = [(name, value) for name, value in request["headers"] if name.startswith(("x-haproxy", "x-litellm"))]
        spans = [
            Span(
                s["trace_id"],
                s["span_id"],
                s["parent_id"],
                s["name"],
                s["kind"],
                s["start_unix_ns"],
                s["end_unix_ns"],
                s["attributes"],
                tuple(SpanEvent(e["name"], e["unix_ns"]) for e in s["events"]),
                s["resource"],
                s["scope"],
            )
            for s in capture["spans"]
            if s["trace_id"] == row.trace_id
        ]
        found.append((row, spans, row.timing_headers))
    return found


def test_a_real_chain_is_split_hop_by_hop() -> None:
    rows = [row for row, _, _ in captured()]
    layers = build(rows, [s for _, spans, _ in captured() for s in spans])
    assert layers.hops == ("haproxy", "envoy", "litellm", "llamacpp")
    prompt_ms = [s.attributes["llamacpp.prompt_ms"] for _, spans, _ in captured() for s in spans if "llamacpp.prompt_ms" in s.attributes]
    assert column(layers, "prefill") / MS == pytest.approx(prompt_ms, abs=1e-6)
    for name in ("lb", "gateway.auth", "gateway.proxy", "router", "net.request+lb", "prefill"):
        assert (column(layers, name) > 0).all(), name
    assert not layers.conflicts  # the proxy's own overhead header agrees with its spans
    assert all(not clock.corrected and clock.consistent for clock in layers.clocks)


@pytest.mark.parametrize("ahead_ms", [-30, 400])
def test_a_proxy_that_tells_no_first_token_is_put_where_it_was_asked(ahead_ms: int) -> None:
    rows = [row for row, _, _ in captured()]
    spans = [s for _, of_row, _ in captured() for s in of_row]
    moved = [
        replace(s, start_unix_ns=s.start_unix_ns + ahead_ms * MS, end_unix_ns=s.end_unix_ns + ahead_ms * MS)
        if s.resource["service.name"] == "envoy"
        else s
        for s in spans
    ]
    straight, skew = build(rows, spans), build(rows, moved)
    (offset,) = (clock for clock in skew.clocks if clock.clock.startswith("envoy"))
    # Not the middle of the bounds, of which one is the time of the whole answer.
    assert offset.offset_ns == pytest.approx(-ahead_ms * MS, abs=2 * MS)
    for name in ("lb", "prefill", "net.request"):
        assert column(skew, name).mean() == pytest.approx(column(straight, name).mean(), abs=2 * MS), name


def test_a_proxy_that_is_passed_again_on_another_host_bounds_its_own_clock() -> None:
    ahead = 200 * MS  # the clock of the first one
    evidence = Evidence(
        hops=(
            Hop("envoy", "a", MS + ahead, 150 * MS + ahead, span_id="e1", parent_id="c"),
            Hop("envoy", "b", 20 * MS, 145 * MS, span_id="e2", parent_id="e1l"),
        ),
        legs=(
            Leg("envoy", "a", 2 * MS + ahead, 149 * MS + ahead, span_id="e1l"),
            Leg("envoy", "b", 21 * MS, 144 * MS, span_id="e2l"),
        ),
    )
    request = Leg("client", "client", 0, 160 * MS, 100 * MS)
    found = estimate(constraints(evidence, request, Order()), "client")
    assert found["a"].offset_ns == pytest.approx(-ahead, abs=2 * MS)
    assert found["b"].offset_ns == 0
    assert all(clock.consistent for clock in found.values())


def test_a_proxy_that_its_balancer_asked_twice_has_two_views() -> None:
    row, spans, _ = captured()[0]
    straight = build([row], spans)
    egress = next(s for s in spans if s.kind == SpanKind.CLIENT)

    def before(one: Span) -> Span:
        """The same in a first try that ended after 30 ms, 70 ms before the second one began."""
        start_ns = one.start_unix_ns - 100 * MS
        end_ns = min(one.end_unix_ns - 100 * MS, egress.start_unix_ns - 70 * MS)
        parent = one.parent_id if one is egress else f"{one.parent_id[:-1]}x"
        return replace(one, start_unix_ns=start_ns, end_unix_ns=max(start_ns, end_ns), span_id=f"{one.span_id[:-1]}x", parent_id=parent)

    first = [before(s) for s in spans if s is egress or s.resource["service.name"] == "litellm"]
    ingress = [replace(s, start_unix_ns=s.start_unix_ns - 100 * MS) if s.name == "ingress" else s for s in spans]
    tried = replace(row, intended_ns=row.intended_ns - 100 * MS, ready_ns=row.ready_ns - 100 * MS, start_ns=row.start_ns - 100 * MS)
    tried.send_ns, tried.written_ns = row.send_ns - 100 * MS, row.written_ns - 100 * MS
    layers = build([tried], [*ingress, *first])
    for name in ("prefill", "gateway.proxy", "net.request"):
        assert column(layers, name)[0] >= column(straight, name)[0] > 0, name
    lost = build([tried], [*ingress, *(s for s in first if s.name != "Received Proxy Server Request")])
    assert column(lost, "prefill")[0] == column(layers, "prefill")[0]
    # What the balancer waited before it asked again, and what the first try waited for.
    assert column(layers, "lb")[0] - column(straight, "lb")[0] == pytest.approx(70 * MS, abs=MS)
    assert column(layers, "net+server")[0] > 10 * MS
    assert column(layers, "net.request")[0] < column(straight, "net.request")[0] + 5 * MS


def test_headers_alone_still_say_something() -> None:
    row, _, headers = captured()[0]
    layers = build([row], [])
    assert dict(headers)["x-litellm-overhead-duration-ms"] == "13.082"
    assert column(layers, "gateway")[0] == 13_082_000
    assert layers.sources[layers.names.index("gateway")] == ("header",)


@pytest.mark.parametrize("value", ["", "Tw=;Tc=x", "Tw=-1;Tc=-1", "nonsense", "Tw=²"])
def test_timers_that_say_nothing_are_nothing(value: str) -> None:
    assert haproxy.evidence(Traces((), [("x-haproxy-timers", value)])).held == ()


@pytest.mark.parametrize("text", ["", "[]", "{", '{"prompt_ms": "5"}', '{"prompt_ms": -1}', '{"prompt_ms": true}', '{"prompt_ms": 1e300}'])
def test_timings_that_say_nothing_are_nothing(text: str) -> None:
    assert llamacpp.evidence(Traces((), (), text)).held == ()


def test_body_timings_become_prefill() -> None:
    (held,) = llamacpp.evidence(Traces((), (), '{"prompt_ms": 12.5}')).held
    assert (held.layer, held.length_ns, held.provenance) == ("prefill", 12_500_000, "body")


@pytest.mark.parametrize("value", ["", "nan", "inf", "-3", "x"])
def test_an_overhead_header_that_says_nothing_is_nothing(value: str) -> None:
    assert litellm.evidence(Traces((), [("x-litellm-overhead-duration-ms", value)])).held == ()


def test_every_source_survives_every_capture_in_pieces() -> None:
    rng = random.Random(1)
    _, spans, headers = captured()[0]
    for source in SOURCES.values():
        for _ in range(50):
            source(Traces([s for s in spans if rng.random() < 0.5], headers, '{"prompt_ms": 3}'))
