"""Figures of the last seconds and of all of it, from made attempts at made times."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from latprof.client.stamps import Attempt, ErrorClass
from latprof.live.histogram import Histogram
from latprof.live.recent import IN_FLIGHT_COLUMNS, Counted, Recent, planned_per_s
from latprof.observations.columns import batch_of
from latprof.units import MISSING_NS, NS_PER_MS, NS_PER_S


def attempt(request: int, intended_s: float, ttft_s: float | None, **changes: Any) -> Attempt:
    intended_ns = round(intended_s * NS_PER_S)
    first_ns = MISSING_NS if ttft_s is None else intended_ns + round(ttft_s * NS_PER_S)
    made = Attempt(request, request, 0, 0, "measured", f"{request:032x}", f"{request:016x}", 8, 4, intended_ns=intended_ns)
    made.ready_ns = made.start_ns = intended_ns
    made.first_token_ns, made.end_ns = first_ns, intended_ns + 2 * NS_PER_S
    for name, value in changes.items():
        setattr(made, name, value)
    return made


def table(*attempts: Attempt) -> pa.Table:
    return pa.Table.from_batches([batch_of(attempts)])


def in_flight(*attempts: Attempt) -> pa.Table:
    return table(*attempts).select(IN_FLIGHT_COLUMNS)


def s(seconds: float) -> int:
    return round(seconds * NS_PER_S)


def test_now_is_the_last_five_seconds_by_first_token_and_so_far_is_everything() -> None:
    recent = Recent(0)
    recent.end(table(*(attempt(number, number * 0.1, 0.1 + 0.001 * number) for number in range(100))), s(10.2))
    now = recent.now(s(10.2))
    of_now = [0.1 + 0.001 * number for number in range(100) if number * 0.101 + 0.1 > 5.2]
    assert now.n == len(of_now)
    assert now.p50_ns == pytest.approx(np.median(of_now) * NS_PER_S)
    assert recent.so_far.n == 100
    assert recent.so_far.p50_ns == pytest.approx(0.1495 * NS_PER_S, rel=0.01)
    assert recent.now(s(30)).n == 0
    assert math.isnan(recent.now(s(30)).p50_ns)


@pytest.mark.parametrize("n", [1, 30, 99, 100, 400])
def test_a_p99_is_given_from_a_hundred_requests_on_and_before_that_the_largest(n: int) -> None:
    recent = Recent(0)
    recent.end(table(*(attempt(number, 1.0, 0.1 + 0.001 * (number % n)) for number in range(n))), s(2))
    found = recent.now(s(2))
    assert found.n == n
    largest_ns = (0.1 + 0.001 * (n - 1)) * NS_PER_S
    wanted_ns = largest_ns if n < 100 else (0.1 + 0.001 * 0.99 * (n - 1)) * NS_PER_S
    assert found.p99_ns == pytest.approx(wanted_ns, rel=1e-6)
    assert recent.so_far.p99_ns == pytest.approx(wanted_ns, rel=0.01)


def test_answers_that_go_on_count_now_and_are_counted_once() -> None:
    recent = Recent(0)
    recent.fly(in_flight(attempt(1, 1.0, 0.2), attempt(2, 1.1, None)), s(1.5))
    assert recent.now(s(1.5)).n == 1
    assert recent.so_far.n == 0, "an answer that is not over may fail yet"
    recent.end(table(attempt(1, 1.0, 0.2)), s(2.0))
    recent.fly(in_flight(attempt(1, 1.0, 0.2), attempt(2, 1.1, None)), s(2.0))
    assert recent.now(s(2.0)).n == 1
    assert recent.so_far.n == 1


def test_a_stall_is_seen_while_it_lasts() -> None:
    recent = Recent(0)
    recent.fly(in_flight(attempt(1, 1.0, None), attempt(2, 3.0, None), attempt(3, 3.5, 0.1), attempt(4, 9.0, None)), s(4.0))
    assert recent.waiting() == (2, 3.0 * NS_PER_S), "one has its token, and one is due later"
    recent.fly(in_flight(), s(4.5))
    waiting, longest_ns = recent.waiting()
    assert waiting == 0
    assert math.isnan(longest_ns)


def test_failures_are_counted_by_class_and_the_commonest_is_quoted() -> None:
    recent = Recent(0)
    refused = {"error_class": ErrorClass.CONNECT, "error_text": "refused\nby  port 80", "first_token_ns": MISSING_NS}
    late = {"error_class": ErrorClass.TIMEOUT, "error_text": "no answer", "first_token_ns": MISSING_NS}
    recent.end(table(attempt(1, 0, 0.1), attempt(2, 0, 0.1, **refused)), s(1))
    assert (dict(recent.errors), recent.error_text) == ({"connect": 1}, "refused by port 80")
    recent.end(table(attempt(3, 0, 0.1, **late), attempt(4, 0, 0.1, **late)), s(2))
    assert (dict(recent.errors), recent.error_text) == ({"connect": 1, "timeout": 2}, "no answer")
    assert recent.so_far.n == 1, "percentiles are over successes"


def test_lateness_is_the_generators_own() -> None:
    recent = Recent(0)
    recent.end(
        table(
            attempt(1, 1.0, 0.1, ready_ns=s(1.004)),
            attempt(2, 1.0, 0.1, built_ns=s(1.5), ready_ns=s(1.502)),  # its body continues an answer that came late
            attempt(3, 1.0, 0.1, attempt=1, ready_ns=s(3.0)),  # a retry waits on purpose
        ),
        s(4),
    )
    assert recent.lateness.n == 2
    assert recent.lateness.percentile(0.99) == pytest.approx(4 * NS_PER_MS, rel=0.01)


def test_a_cap_that_holds_back_is_seen() -> None:
    recent = Recent(0)
    recent.end(table(attempt(1, 1.0, 0.1, start_ns=s(1.2)), attempt(2, 1.0, 0.1), attempt(3, 1.0, 0.1), attempt(4, 1.0, 0.1)), s(2))
    assert recent.cap_wait_share() == 0.25


def test_rates_are_those_of_the_last_seconds() -> None:
    recent = Recent(0)
    assert math.isnan(recent.achieved_per_s())
    for quarter in range(1, 81):  # 10/s for ten seconds, then nothing
        at_s = quarter / 4
        recent.count(Counted(s(at_s), min(100, round(at_s * 10)), 3, min(400, round(at_s * 40))))
        if at_s == 10.0:
            assert recent.achieved_per_s() == pytest.approx(10.0)
            assert recent.tokens_per_s() == pytest.approx(40.0)
    assert recent.achieved_per_s() == 0.0


def test_intended_starts_are_counted_where_there_is_no_schedule() -> None:
    recent = Recent(0)
    recent.end(table(*(attempt(number, number / 20, 0.01) for number in range(180))), s(9))
    recent.fly(in_flight(*(attempt(number, number / 20, None) for number in range(180, 200))), s(10))
    assert recent.intended_per_s(s(10)) == pytest.approx(20.0, rel=0.02)
    assert math.isnan(Recent(0).intended_per_s(s(1.5)))


def test_the_past_is_told_second_by_second() -> None:
    recent = Recent(0)
    for quarter in range(1, 29):
        recent.count(Counted(s(quarter / 4), quarter * 5, quarter, quarter * 10))
    recent.end(table(*(attempt(number, number / 10, 0.3 if number < 40 else 0.6) for number in range(60))), s(7))
    past = recent.history(s(7))
    assert len(past) == 6, "the last second is not written yet"
    assert past[-1].rate_per_s == pytest.approx(20.0)
    assert past[-1].in_flight == 24
    assert past[2].p50_ns == pytest.approx(0.3 * NS_PER_S)
    assert past[5].p50_ns == pytest.approx(0.6 * NS_PER_S)
    assert recent.history(s(7)) == past


def test_the_next_phase_begins_anew_and_the_whole_goes_on() -> None:
    recent = Recent(0)
    recent.end(table(attempt(1, 1.0, 0.1)), s(2))
    recent.count(Counted(s(2), 50, 0, 0))
    recent.begin(s(3))
    recent.count(Counted(s(4), 10, 0, 0))
    assert recent.achieved_per_s() == pytest.approx(10.0)
    assert recent.now(s(3)).n == 0
    assert recent.so_far.n == 1


def test_a_schedule_says_what_should_go_now() -> None:
    offsets_ns = np.arange(1_000, dtype=np.int64) * s(0.02)
    assert planned_per_s(offsets_ns, s(10)) == pytest.approx(50.0)
    assert planned_per_s(offsets_ns, s(1)) == pytest.approx(50.0)
    assert planned_per_s(offsets_ns, s(40)) == 0.0
    assert math.isnan(planned_per_s(offsets_ns, s(0.1)))


@given(st.lists(st.integers(1, 10**13), min_size=1, max_size=300), st.sampled_from([0.0, 0.5, 0.9, 0.99]))
def test_percentiles_of_a_histogram_are_those_of_the_values(values: list[int], p: float) -> None:
    histogram = Histogram()
    for half in (values[::2], values[1::2]):
        histogram.add(np.array(half, np.int64))
    exact = sorted(values)[min(len(values) - 1, int(p * len(values)))]
    assert histogram.n == len(values)
    assert histogram.percentile(p) == pytest.approx(exact, rel=0.011)


def test_a_histogram_of_nothing_knows_nothing() -> None:
    histogram = Histogram()
    histogram.add(np.empty(0, np.int64))
    assert math.isnan(histogram.percentile(0.5))
    histogram.add(np.array([0, -5, 2**62], np.int64))
    assert histogram.n == 3
