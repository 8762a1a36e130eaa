from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from made_requests import MS, attempt, layers, requests

from latprof.analysis.validity.buffering import UNKNOWN_HOP, ClientView, HopView, comes_in_a_lump, find_buffering
from latprof.analysis.validity.passage import client_view, passage
from latprof.clock import WallAnchor
from latprof.observations.columns import Chunks, IntArray
from latprof.spans.span import Span, SpanEvent, SpanKind
from latprof.spans.store import Spans
from latprof.units import MISSING_NS

N = 20
NEVER = np.full(N, MISSING_NS)
NO_CHUNKS = Chunks(*(np.array([], np.int64) for _ in range(4)))


def at(value_ms: float) -> IntArray:
    return np.full(N, round(value_ms * MS))


def client(headers: float, first: float, last: float, chunks: int = 30, first_read: int | None = None) -> ClientView:
    """What comes within 5 ms comes in one read, unless told otherwise."""
    together = (chunks if last - first < 5 else 1) if first_read is None else first_read
    return ClientView(at(headers), at(first), at(last), np.full(N, chunks), np.full(N, together))


def hop(
    name: str, passed: float | None = None, received: float | None = None, headers: float | None = None, end: float | None = None
) -> HopView:
    columns = [NEVER if value is None else at(value) for value in (passed, received, headers, end)]
    return HopView(name, *columns)


ENGINE = hop("engine", passed=50, end=550)
"""First token at 50 ms, half a second of generation."""


def test_a_stream_that_flows_raises_nothing() -> None:
    assert find_buffering(client(40, 52, 552), [hop("gateway", 51, 51, end=551), ENGINE]) is None


def test_the_hop_that_received_early_and_passed_on_late_is_named() -> None:
    found = find_buffering(client(541, 551, 553), [hop("gateway", 550, 51, end=552), hop("router", 51, 50, end=551), ENGINE])
    assert found is not None
    assert (found.hop, found.share, found.requests) == ("gateway", 1.0, N)
    assert found.held_ns == 499 * MS


def test_a_hop_between_two_that_tell_is_named_although_it_tells_nothing() -> None:
    found = find_buffering(client(540, 550, 552), [hop("haproxy"), hop("gateway", 51, 50, end=551), ENGINE])
    assert found is not None
    assert found.hop == "haproxy"


def test_hops_that_nothing_tells_apart_are_named_together() -> None:
    found = find_buffering(client(550, 550, 552), [hop("haproxy"), hop("envoy", end=552), hop("litellm", end=551), ENGINE])
    assert found is not None
    assert found.hop == "haproxy or envoy or litellm"


def test_a_timer_up_to_the_headers_tells_them_apart() -> None:
    found = find_buffering(client(548, 550, 552), [hop("haproxy", headers=51), hop("envoy"), hop("litellm"), ENGINE])
    assert found is not None
    assert found.hop == "haproxy"


def test_a_hop_that_says_it_passed_the_token_on_is_not_taken_at_its_word() -> None:
    found = find_buffering(client(40, 550, 552), [hop("gateway", 51, 50, end=551), ENGINE])
    assert found is not None
    assert found.hop == "gateway or an unknown hop before it"
    assert found.held_ns == 499 * MS


def test_the_engines_word_is_enough_to_know_and_not_to_name() -> None:
    found = find_buffering(client(40, 550, 552), [], generation_ns=at(500))
    assert found is not None
    assert found.hop == UNKNOWN_HOP
    assert np.isnan(found.held_ns)


def test_without_any_word_only_the_impossible_is_held() -> None:
    assert find_buffering(client(40, 800, 800.5, chunks=64), []) is not None
    assert find_buffering(client(40, 800, 816, chunks=64), []) is None  # 4 000 tokens/s: there is hardware that fast
    assert find_buffering(client(790, 800, 800.5, chunks=64), []) is None  # no long wait between headers and token


@pytest.mark.parametrize("change", [{"chunks": 7}, {"first": 352.0}])
def test_short_answers_and_streams_that_take_their_time_are_left_alone(change: dict[str, float]) -> None:
    seen = client(**({"headers": 540, "first": 550, "last": 552} | change))  # type: ignore[arg-type]
    assert find_buffering(seen, [hop("gateway", 549, 51, end=551), ENGINE]) is None


def test_a_quick_answer_may_come_at_once() -> None:
    assert find_buffering(client(40, 250, 252), [hop("gateway", 250, 51, end=252), hop("engine", passed=50, end=251)]) is None


def test_the_share_is_of_the_answers_long_enough_to_tell() -> None:
    seen = client(541, 551, 553)
    mixed = dataclasses.replace(seen, first_read_chunks=np.where(np.arange(N) < 15, 1, 30))
    found = find_buffering(mixed, [hop("gateway"), ENGINE])
    assert found is not None
    assert (found.share, found.requests) == (0.25, 5)


def test_the_client_alone_can_rule_it_out() -> None:
    assert comes_in_a_lump(client(541, 551, 553)) == 1
    assert comes_in_a_lump(client(40, 52, 552)) == 0
    assert comes_in_a_lump(client(541, 551, 553, chunks=7)) == 0


def test_a_cork_that_lets_go_every_200_ms_is_seen_though_the_answer_goes_on() -> None:
    # As measured behind HAProxy 2.6 without http-no-delay: twelve tokens with the headers at 220 ms, twelve more at 390 ms.
    stack = [hop("haproxy"), hop("gateway", passed=45, received=44, end=400)]
    found = find_buffering(client(220, 220, 390, chunks=24, first_read=12), stack)
    assert found is not None
    assert found.hop == "haproxy"
    assert found.held_ns == 175 * MS
    assert find_buffering(client(45, 46, 395, chunks=24, first_read=3), stack) is None


# --- from spans and headers to the line of stamps -----------------------------------------------------------------------------------------

ANCHOR = WallAnchor(monotonic_ns=0, unix_ns=1_700_000_000_000_000_000, bracket_ns=0)


def stub_span(trace: str, stage: str, kind: SpanKind, start_ms: int, end_ms: int, first_ms: int) -> Span:
    def unix(value_ms: int) -> int:
        return ANCHOR.to_unix(value_ms * MS)

    return Span(
        trace_id=trace,
        span_id=f"{hash((trace, stage, kind)) % 2**64:016x}",
        parent_id="",
        name=stage,
        kind=kind,
        start_unix_ns=unix(start_ms),
        end_unix_ns=unix(end_ms),
        events=(SpanEvent("first_chunk", unix(first_ms)),),
        resource={"service.name": f"latprof-stub-{stage}", "host.name": "here"},
        scope="latprof.stub",
    )


def test_spans_timers_and_timings_become_one_line_of_stamps() -> None:
    rows = requests(
        attempt(
            0,
            send_ns=1 * MS,
            headers_ns=540 * MS,
            first_token_ns=550 * MS,
            last_token_ns=552 * MS,
            token_chunks=30,
            timing_headers=[("X-HAProxy-Timers", "Th=0;Ti=900;TR=1;Tw=0;Tc=2;Tr=47")],
            body_timings='{"predicted_ms": 499.5}',
        )
    )
    trace = str(rows.trace_id[0])
    spans = Spans.of(
        [
            stub_span(trace, "gateway", SpanKind.SERVER, 3, 551, 52),
            stub_span(trace, "gateway", SpanKind.CLIENT, 20, 550, 51),
        ]
    )
    together = Chunks(*(np.full(30, value, np.int64) for value in (0, 550 * MS, 50, 1)))
    found = passage(rows, together, layers(np.array([[550 * MS]]), hops=("haproxy", "gateway")), spans, ANCHOR)
    haproxy, gateway = found.hops
    assert (haproxy.headers_ns[0], haproxy.passed_ns[0]) == (51 * MS, MISSING_NS)
    assert (gateway.passed_ns[0], gateway.received_ns[0], gateway.end_ns[0]) == (52 * MS, 51 * MS, 551 * MS)
    assert found.generation_ns[0] == 499_500_000
    held = find_buffering(found.client, found.hops, found.generation_ns)
    assert held is not None
    assert held.hop == "haproxy"


def test_chunks_that_came_with_the_first_token_are_counted() -> None:
    rows = requests(attempt(3, first_token_ns=10 * MS), attempt(5, first_token_ns=20 * MS))
    told = [(3, 10, 1), (3, 10, 1), (3, 10, 0), (3, 11, 1), (4, 10, 1), (5, 19, 0), (5, 20, 1), (9, 20, 1)]
    columns = [np.array(column, np.int64) for column in zip(*((q, ms * MS, 50, channel) for q, ms, channel in told), strict=True)]
    assert client_view(rows, Chunks(*columns)).first_read_chunks.tolist() == [2, 1]


def test_a_long_run_is_sampled_evenly() -> None:
    rows = requests(*(attempt(index) for index in range(50)))
    found = passage(rows, NO_CHUNKS, layers(np.full((50, 1), MS)), Spans.of([]), ANCHOR, limit=20)
    assert len(found.generation_ns) == 17  # every third


@pytest.mark.parametrize("text", ["", "no json", "[1]", '{"predicted_ms": "x"}', '{"predicted_ms": true}', '{"predicted_ms": -1}'])
def test_timings_that_say_nothing_are_missing(text: str) -> None:
    found = passage(requests(attempt(0, body_timings=text)), NO_CHUNKS, layers(np.array([[MS]])), Spans.of([]), ANCHOR)
    assert found.generation_ns[0] == MISSING_NS
