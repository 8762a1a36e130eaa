"""Spans of other traces: whose they are by the id of an answer, and that they are never two requests'."""

from __future__ import annotations

import random
import sys
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from latprof.client.stamps import Attempt
from latprof.clock import WallAnchor
from latprof.layers import joining
from latprof.layers.build import build_layers
from latprof.layers.joining import SEVERAL_TRACES, TIMES, WITH_OTHERS, joined, traces_told
from latprof.layers.table import Layers
from latprof.observations.columns import Requests
from latprof.spans.span import Scalar, Span, SpanEvent, SpanKind
from latprof.spans.store import SCHEMA, Spans, _batch
from latprof.units import MISSING_NS, NS_PER_MS

MS = NS_PER_MS
ANCHOR = WallAnchor(monotonic_ns=1_000_000, unix_ns=1_700_000_000_000_000_000, bracket_ns=100)
CONNECTION = "c" * 32
RESPONSE, VLLM = "gen_ai.response.id", "gen_ai.request.id"


def request(row: int, sent_ms: float, ended_ms: float, answer: str | None = None) -> Attempt:
    made = Attempt(row, row, 0, 0, "measured", f"{row:032x}", f"{row:016x}", 10, 10)
    made.intended_ns = made.ready_ns = made.start_ns = made.send_ns = made.written_ns = round(sent_ms * MS)
    made.first_token_ns = round((sent_ms + 0.8 * (ended_ms - sent_ms)) * MS)
    made.last_token_ns = made.end_ns = round(ended_ms * MS)
    made.response_id = f"resp_{row:06d}" if answer is None else answer
    return made


def span(trace: str, name: str, parent: str, start_ms: float, end_ms: float, clock: str = "server", **told: Scalar) -> Span:
    start, end = (ANCHOR.to_unix(round(at * MS)) for at in (start_ms, end_ms))
    attributes = {key.replace("__", "."): value for key, value in told.items()}
    return Span(trace, name, parent, name, SpanKind.INTERNAL, start, end, attributes, (), {"host.name": clock}, "made")


def table(spans: Sequence[Span]) -> pa.Table:
    return pa.Table.from_batches([_batch(spans, [MISSING_NS] * len(spans))], SCHEMA)


def join(rows: Sequence[Attempt], others: Sequence[Span], own: Sequence[Span] = ()) -> Spans:
    return joined(Requests.from_attempts(rows), Spans.of(own), table(others), ANCHOR)


def whose(found: Spans, rows: Sequence[Attempt]) -> dict[int, set[str]]:
    return {row.request: {one.span_id for one in found.for_trace(row.trace_id)} for row in rows}


# --- a trace for each answer ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("key", "told"),
    [(RESPONSE, "resp_000001"), (VLLM, "resp_000001"), (VLLM, "resp_000001-0"), ("llm.response.id", "resp_000001"), ("rid", "resp_000001")],
)
def test_a_trace_that_tells_of_one_answer_is_its_requests_whole(key: str, told: str) -> None:
    rows = [request(0, 0, 100), request(1, 200, 300)]
    others = [
        span("a" * 32, "root", "elsewhere", 205, 330),  # closed late, and its own parent was never sent
        span("a" * 32, "auth", "root", 206, 210),
        span("a" * 32, "model", "root", 210, 290, **{key: told}),
        span("a" * 32, "prefill", "model", 220, 240),
        span("b" * 32, "root", "", 205, 290),  # at the same time, told of by nobody
    ]
    found = join(rows, others)
    assert whose(found, rows) == {0: set(), 1: {"root", "auth", "model", "prefill"}}
    assert found.joined.traces == {rows[1].trace_id}
    assert (found.joined.spans, found.joined.refused) == (4, {})


def test_a_request_with_spans_of_its_own_keeps_to_them() -> None:
    rows = [request(0, 0, 100)]
    own = [span(rows[0].trace_id, "gateway", "", 5, 90)]
    others = [span("a" * 32, "model", "", 10, 80, **{RESPONSE: "resp_000000"})]
    found = join(rows, others, own)
    assert whose(found, rows) == {0: {"gateway"}}
    assert not found.joined.traces
    assert traces_told(Requests.from_attempts(rows), Spans.of(own), table(others), ANCHOR) == set()


def test_without_others_nothing_is_looked_at(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(joining, "_asked", lambda *_: pytest.fail("the requests were read"))
    received = Spans.of([span("a" * 32, "x", "", 0, 1)])
    assert joined(Requests.from_attempts([request(0, 0, 1)]), received, SCHEMA.empty_table(), ANCHOR) is received


def test_attributes_that_cannot_matter_are_not_read() -> None:
    rows = [request(0, 0, 100)]
    others = table([span("a" * 32, "model", "", 10, 80, **{RESPONSE: "resp_000000"}), span("a" * 32, "x", "model", 10, 20)])
    at = SCHEMA.get_field_index("attributes")
    broken = others.set_column(at, SCHEMA.field(at), pa.array([others["attributes"][0].as_py(), "no JSON"], pa.large_string()))
    found = joining._told(broken)
    assert found == {0: {RESPONSE: "resp_000000"}}
    assert len(joined(Requests.from_attempts(rows), Spans.of([]), others, ANCHOR)) == 2


def test_an_answer_told_of_in_two_traces_is_nobodys() -> None:
    rows = [request(0, 0, 100), request(1, 0, 100)]
    others = [span(trace * 32, "model", "", 10, 80, **{RESPONSE: "resp_000000"}) for trace in "ab"]
    others.append(span("d" * 32, "model", "", 10, 80, **{RESPONSE: "resp_000001"}))
    found = join(rows, others)
    assert whose(found, rows) == {0: set(), 1: {"model"}}
    assert found.joined.refused == {SEVERAL_TRACES: 1}


def test_an_answer_of_two_requests_is_neithers() -> None:
    rows = [request(0, 0, 100, "cached-answer"), request(1, 200, 300, "cached-answer")]
    found = join(rows, [span("a" * 32, "model", "", 10, 80, **{RESPONSE: "cached-answer"})])
    assert whose(found, rows) == {0: set(), 1: set()}


def test_what_an_engine_calls_the_answer_is_another_name_for_the_same_work() -> None:
    rows = [request(0, 0, 100)]
    below = [
        span("a" * 32, "gateway", "", 5, 95),
        span("a" * 32, "call", "gateway", 10, 90, **{RESPONSE: "resp_000000"}),
        span("a" * 32, "engine", "call", 12, 40, **{VLLM: "chatcmpl-engine-1"}),
        span("a" * 32, "retried", "call", 45, 85, **{VLLM: "chatcmpl-engine-2"}),
    ]
    assert whose(join(rows, below), rows)[0] == {"gateway", "call", "engine", "retried"}
    # A gateway that hands its caller's context on: the engine's span is a sibling.
    beside = [*below[:2], replace(below[2], parent_id="gateway")]
    assert whose(join(rows, beside), rows)[0] == {"gateway", "call", "engine"}
    # By the same key it may be somebody else's answer: what lies above both is neither's.
    strangers = [*below[:2], span("a" * 32, "engine", "gateway", 12, 40, **{RESPONSE: "resp_of_a_stranger"})]
    assert whose(join(rows, strangers), rows)[0] == {"call"}


# --- a connection for many -----------------------------------------------------------------------------------------------------------------


def connection() -> list[Span]:
    return [
        span(CONNECTION, "socket", "", 0, 900),
        span(CONNECTION, "turn 0", "socket", 101, 200, **{RESPONSE: "resp_000000"}),
        span(CONNECTION, "auth 0", "turn 0", 102, 110),
        span(CONNECTION, "turn 1", "socket", 501, 600),
        span(CONNECTION, "model 1", "turn 1", 510, 590, **{RESPONSE: "resp_000001"}),
        span(CONNECTION, "billing 0", "socket", 150, 160),
        span(CONNECTION, "between", "socket", 300, 320),
        span(CONNECTION, "across", "socket", 190, 510),
    ]


ROWS = [request(0, 100, 205), request(1, 500, 605)]


def test_turns_of_one_connection_share_no_span() -> None:
    found = join(ROWS, connection())
    assert whose(found, ROWS) == {0: {"turn 0", "auth 0", "billing 0"}, 1: {"turn 1", "model 1"}}
    assert found.joined.refused == {}


def test_time_alone_decides_nothing_where_another_request_may_have_been_under_way() -> None:
    # One that nobody told of, over another connection or over this one: who can know?
    rows = [*ROWS, request(2, 140, 400, "")]
    assert whose(join(rows, connection()), rows) == {0: {"turn 0", "auth 0"}, 1: {"turn 1", "model 1"}, 2: set()}
    # Turns side by side on one connection.
    beside = [request(0, 100, 205), request(1, 95, 205)]
    spans = [*connection()[:3], span(CONNECTION, "turn 1", "socket", 101, 200, **{RESPONSE: "resp_000001"}), connection()[5]]
    assert whose(join(beside, spans), beside) == {0: {"turn 0", "auth 0"}, 1: {"turn 1"}}


def test_nor_where_strangers_are_on_the_connection() -> None:
    spans = [*connection(), span(CONNECTION, "theirs", "socket", 140, 170, **{RESPONSE: "resp_of_a_stranger"})]
    spans.append(span(CONNECTION, "auth of theirs", "theirs", 141, 142))
    assert whose(join(ROWS, spans), ROWS) == {0: {"turn 0", "auth 0"}, 1: {"turn 1", "model 1"}}


def test_nor_on_a_clock_that_no_id_ties_to_the_requests() -> None:
    spans = [*connection()[:5], replace(connection()[5], resource={"host.name": "another"})]
    assert whose(join(ROWS, spans), ROWS)[0] == {"turn 0", "auth 0"}


def test_nor_where_the_clock_may_be_off_by_more_than_the_gap() -> None:
    # Turns with 3 ms between them, and spans that leave 40 ms of their requests free: the clock may be off by that much.
    rows = [request(0, 100, 205), request(1, 208, 310)]
    spans = [
        span(CONNECTION, "turn 0", "socket", 140, 150, **{RESPONSE: "resp_000000"}),
        span(CONNECTION, "turn 1", "socket", 250, 260, **{RESPONSE: "resp_000001"}),
        span(CONNECTION, "late", "socket", 195, 200),
    ]
    assert whose(join(rows, spans), rows) == {0: {"turn 0"}, 1: {"turn 1"}}


def test_of_a_turn_that_nobody_told_of_nothing_is_kept_by_its_neighbour() -> None:
    rows = [request(0, 100, 205), request(1, 300, 400, "")]
    spans = [
        span(CONNECTION, "socket", "", 100, 450),
        span(CONNECTION, "turn 0", "socket", 101, 204, **{RESPONSE: "resp_000000"}),
        span(CONNECTION, "turn 1", "socket", 301, 399),  # it failed, and has no id to tell
    ]
    assert whose(join(rows, spans), rows) == {0: {"socket", "turn 0"}, 1: set()}


def test_a_span_that_is_longer_than_its_request_is_a_connections() -> None:
    rows = [request(0, 100, 205)]
    spans = [
        span(CONNECTION, "socket", "", 0, 5_000, **{RESPONSE: "resp_000000"}),  # where the last answer was written to
        span(CONNECTION, "auth", "socket", 102, 110),
    ]
    found = join(rows, spans)
    assert whose(found, rows) == {0: set()}
    assert found.joined.refused == {WITH_OTHERS: 1}


def test_spans_that_are_their_own_parents_and_spans_sent_twice() -> None:
    rows = [request(0, 100, 205)]
    spans = [
        span(CONNECTION, "a", "b", 101, 110),
        span(CONNECTION, "b", "a", 101, 110, **{RESPONSE: "resp_000000"}),
        span(CONNECTION, "alone", "alone", 101, 110),
    ]
    assert whose(join(rows, spans), rows) == {0: set()}
    turn = span(CONNECTION, "turn", "", 101, 150)
    twice = [turn, replace(turn, end_unix_ns=turn.end_unix_ns + 40 * MS, attributes={RESPONSE: "resp_000000"})]
    for spans in (twice, twice[::-1]):
        found = join(rows, spans)
        assert whose(found, rows) == {0: {"turn"}}
        assert found.for_trace(rows[0].trace_id)[0].end_unix_ns == twice[1].end_unix_ns


# --- layers --------------------------------------------------------------------------------------------------------------------------------


def stack(row: Attempt, trace: str, skew_ms: float = 0.0) -> list[Span]:
    """What the stub would tell of a request: its gateway on a clock of its own, 5 ms of safety and 20 of prefill."""
    at_ms = row.send_ns / MS + 1 + skew_ms
    resource = {"service.name": "latprof-stub-gateway", "host.name": "server"}
    first = (SpanEvent("first_chunk", ANCHOR.to_unix(row.first_token_ns + round((skew_ms - 1) * MS))),)
    end_ms = row.end_ns / MS - 1 + skew_ms
    spans = [
        replace(span(trace, "serve", "", at_ms, end_ms, **{RESPONSE: row.response_id}), kind=SpanKind.SERVER, events=first),
        span(trace, "safety", "serve", at_ms, at_ms + 5, latprof__layer="gateway.safety", latprof__wait_ns=0),
        span(trace, "prefill", "serve", at_ms + 5, at_ms + 25, latprof__layer="prefill", latprof__wait_ns=0),
    ]
    return [replace(one, span_id=f"{trace[:8]}{one.name:>8}", resource=resource, scope="latprof.stub") for one in spans]


def layers_of(rows: Sequence[Attempt], spans: Spans) -> Layers:
    requests = Requests.from_attempts(rows)
    layers = build_layers(requests, spans, ANCHOR).ttft
    assert (layers.total_ns.sum(axis=1) == requests.first_token_ns - requests.intended_ns).all()
    return layers


def many(count: int = 40) -> list[Attempt]:
    return [request(row, 150 * row, 150 * row + 120) for row in range(count)]


@pytest.mark.parametrize("skew_ms", [0.0, 250.0, -4_000.0])
def test_layers_are_those_of_a_run_whose_trace_was_gone_on_with(skew_ms: float) -> None:
    rows = many()
    own = layers_of(rows, Spans.of([one for row in rows for one in stack(row, row.trace_id, skew_ms)]))
    found = join(rows, [one for row in rows for one in stack(row, f"{row.request:08x}{'f' * 24}", skew_ms)])
    layers = layers_of(rows, found)
    assert found.joined.refused == {}
    assert layers.names == own.names
    assert (layers.total_ns == own.total_ns).all()
    assert [clock.offset_ns for clock in layers.clocks] == [clock.offset_ns for clock in own.clocks]
    sources = dict(zip(layers.names, layers.sources, strict=True))
    assert sources["prefill"] == ("span~id",)
    assert sources["client.build"] == ("client",)
    assert ("span",) not in layers.sources
    assert {"span~id"} <= {name for names in build_layers(Requests.from_attempts(rows), found, ANCHOR).e2el.sources for name in names}


def test_a_run_with_both_kinds_says_so_in_each_layer() -> None:
    rows = many()
    own = [one for row in rows[10:] for one in stack(row, row.trace_id)]
    layers = layers_of(rows, join(rows, [one for row in rows[:10] for one in stack(row, f"{row.request:08x}{'f' * 24}")], own))
    assert dict(zip(layers.names, layers.sources, strict=True))["prefill"] == ("span", "span~id")
    assert layers.coverage()[layers.names.index("prefill")] == 1


def test_ids_that_were_mixed_up_are_noticed() -> None:
    rows = many()
    answers = [row.response_id for row in rows]
    random.Random(3).shuffle(answers)
    spans = [one for row, answer in zip(rows, answers, strict=True) for one in stack(row, f"{row.request:08x}{'f' * 24}")]
    mixed = [
        replace(one, attributes=dict(one.attributes) | {RESPONSE: answers[int(one.trace_id[:8], 16)]})
        if RESPONSE in one.attributes
        else one
        for one in spans
    ]
    found = join(rows, mixed)
    # By chance some are off by the same time, as one clock might be.
    assert found.joined.refused[TIMES] > 0.8 * len(rows)
    assert len(found.joined.traces) + found.joined.refused[TIMES] == len(rows)
    layers = layers_of(rows, found)
    assert "prefill" not in layers.names or layers.coverage()[layers.names.index("prefill")] < 0.2


def test_a_few_that_were_mixed_up_cost_the_others_nothing() -> None:
    rows = many()
    told = [replace(row) for row in rows]
    told[3].response_id, told[30].response_id = rows[30].response_id, rows[3].response_id
    found = join(rows, [one for row in told for one in stack(row, f"{row.request:08x}{'f' * 24}")])
    assert found.joined.refused == {TIMES: 2}
    assert found.joined.traces == {row.trace_id for row in rows if row.request not in {3, 30}}
    assert all(clock.consistent for clock in layers_of(rows, found).clocks)


# --- whatever comes ------------------------------------------------------------------------------------------------------------------------

ANSWERS = [f"answer-{letter}" for letter in "abcdef"]


@st.composite
def made_runs(draw: st.DrawFn) -> tuple[list[Attempt], list[Span]]:
    """A few requests and traces with any parents, times, ids and clocks."""
    starts = draw(st.lists(st.integers(0, 400), min_size=1, max_size=5))
    rows = [request(row, at, at + draw(st.integers(1, 300)), draw(st.sampled_from([*ANSWERS, ""]))) for row, at in enumerate(starts)]
    spans = []
    for number in range(draw(st.integers(1, 14))):
        at = draw(st.integers(-50, 600))
        told: dict[str, Any] = {draw(st.sampled_from([RESPONSE, VLLM])): draw(st.sampled_from(ANSWERS))} if draw(st.booleans()) else {}
        trace = draw(st.sampled_from(["a" * 32, "b" * 32]))
        parent = draw(st.sampled_from(["", *(f"{other:02d}" for other in range(14))]))
        clock = draw(st.sampled_from(["x", "y"]))
        spans.append(span(trace, f"{number:02d}", parent, at, at + draw(st.integers(0, 400)), clock, **told))
    return rows, spans


@given(made_runs(), st.randoms(use_true_random=False))
@settings(max_examples=150, deadline=None)
def test_no_span_is_ever_two_requests_and_none_that_tells_of_another_answer(
    run: tuple[list[Attempt], list[Span]], rng: random.Random
) -> None:
    rows, spans = run
    found = join(rows, spans)
    shares = whose(found, rows)
    given_away = [span_id for share in shares.values() for span_id in share]
    assert len(given_away) == len(set(given_away)) == len(found) == found.joined.spans
    answers = {row.request: row.response_id for row in rows}
    known = {answer for answer in answers.values() if answer and list(answers.values()).count(answer) == 1}
    by_id = {one.span_id: one for one in spans}
    for row, share in shares.items():
        told = {str(by_id[span_id].attributes[key]) for span_id in share for key in (RESPONSE, VLLM) if key in by_id[span_id].attributes}
        assert not share or answers[row] in told, "no request gets spans by time alone"
        traces_with = {one.trace_id for one in spans if answers[row] in one.attributes.values()}
        assert not share or len(traces_with) == 1
        singly_told = {a for a in known if len({one.trace_id for one in spans if a in one.attributes.values()}) == 1}
        assert not (told & singly_told) - {answers[row]}
    # The order in which spans came says nothing.
    mixed = list(spans)
    rng.shuffle(mixed)
    assert whose(join(rows, mixed), rows) == shares
    wanted = traces_told(Requests.from_attempts(rows), Spans.of([]), table(spans), ANCHOR)
    assert whose(join(rows, [one for one in spans if one.trace_id in wanted]), rows) == shares


def test_time_grows_with_the_spans_and_no_faster() -> None:
    """A connection of ten thousand turns: steps, not seconds, are counted."""

    def steps(turns: int) -> int:
        rows = [request(row, 30 * row, 30 * row + 8) for row in range(turns)]
        spans = [span(CONNECTION, "socket", "", 0, 30 * turns)]
        for row in rows:
            at = row.send_ns / MS
            spans.append(span(CONNECTION, f"t{row.request}", "socket", at + 1, at + 6, **{RESPONSE: row.response_id}))
            spans.append(span(CONNECTION, f"a{row.request}", "socket", at + 2, at + 3))
        others = table(spans)
        calls = 0

        def count(*_: object) -> None:
            nonlocal calls
            calls += 1

        requests, none = Requests.from_attempts(rows), Spans.of([])
        sys.setprofile(count)
        try:
            found = joined(requests, none, others, ANCHOR)
        finally:
            sys.setprofile(None)
        assert found.joined.spans == 2 * turns
        return calls

    assert steps(400) < 4.6 * steps(100)
