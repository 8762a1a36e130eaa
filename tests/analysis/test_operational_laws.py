from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from made_requests import attempt, requests

from latprof.analysis.gaps import Gaps, distribution_of, gaps_of
from latprof.analysis.laws import Law
from latprof.analysis.quantiles import distribution
from latprof.analysis.validity.doubts import Facts, doubts
from latprof.observations.segments import PoolLog, Segments

HOLDS = Law(layer="prefill", servers=4, rate_per_s=10.0, mean_present=3.0, mean_time_ns=300e6, mean_busy=2.0, mean_service_ns=200e6)


def test_both_laws_are_asked_for() -> None:
    assert HOLDS.holds
    assert HOLDS.utilisation == 0.5
    assert dataclasses.replace(HOLDS, mean_present=3.02).holds
    assert not dataclasses.replace(HOLDS, mean_present=3.04).holds
    assert not dataclasses.replace(HOLDS, mean_busy=2.03).holds
    assert not dataclasses.replace(HOLDS, mean_time_ns=290e6).holds


def test_a_station_that_nobody_came_to_breaks_no_law() -> None:
    assert Law(layer="x", servers=1, rate_per_s=0.0, mean_present=0.0, mean_time_ns=0.0, mean_busy=0.0, mean_service_ns=0.0).holds


def test_doubts_of_a_generator_do_not_touch_a_simulation() -> None:
    facts = Facts(is_simulated=True, ok=1000, sent=1000, lateness_p99_ns=1e12, cpu_share=1.0, spans=0, ttft_p50_ns=1.0, laws=(HOLDS,))
    assert not doubts(facts)
    assert {doubt.id for doubt in doubts(dataclasses.replace(facts, is_simulated=False))} >= {"lateness", "generator_cpu", "no_spans"}
    broken = dataclasses.replace(facts, laws=(HOLDS, dataclasses.replace(HOLDS, layer="decode", mean_busy=9.0)))
    (doubt,) = doubts(broken)
    assert (doubt.id, doubt.level) == ("laws", "fatal")
    assert "decode" in doubt.text
    assert "prefill" not in doubt.text


def empty(*columns: str) -> dict[str, np.ndarray[tuple[int], np.dtype[np.int64]]]:
    return {name: np.empty(0, np.int64) for name in columns}


OWN = ("own_request", "own_start_ns", "own_step_ns", "own_count")


def test_gaps_are_counted_by_who_was_in_an_iteration() -> None:
    """Iterations 0-3 of 10 ns, 4-5 of 30: A gaps in 1..4, B in 3..5, and C, which is not asked for, in all."""
    log = PoolLog(np.array([0, 4]), np.array([10, 30]), np.array([4, 2]))
    streamed = {"request": [7, 8, 9], "pool": [0, 0, 0], "joined": [1, 3, 0], "ended": [5, 6, 6]}
    segments = Segments({0: log}, **{name: np.array(column) for name, column in streamed.items()}, **empty(*OWN))
    gaps = gaps_of(requests(attempt(7), attempt(8)), segments)
    assert (gaps.length_ns.tolist(), gaps.number.tolist()) == ([10, 30], [4, 3])


def test_gaps_of_own_runs_and_between_them() -> None:
    own = {"own_request": [1, 1, 2], "own_start_ns": [100, 190, 5], "own_step_ns": [10, 7, 0], "own_count": [5, 3, 1]}
    segments = Segments({}, **empty("request", "pool", "joined", "ended"), **{name: np.array(column) for name, column in own.items()})
    gaps = gaps_of(requests(attempt(1), attempt(2)), segments)
    assert (gaps.length_ns.tolist(), gaps.number.tolist()) == ([7, 10, 50], [2, 4, 1])


@pytest.mark.parametrize("seed", range(5))
def test_counted_gaps_have_the_distribution_of_single_ones(seed: int) -> None:
    rng = np.random.default_rng(seed)
    length_ns = np.unique(rng.integers(1, 1000, 40))
    number = rng.integers(1, 50, len(length_ns))
    one_by_one, counted = distribution(np.repeat(length_ns, number)), distribution_of(Gaps(length_ns, number))
    assert counted.n == one_by_one.n
    assert (counted.mean, counted.tail_mean) == pytest.approx((one_by_one.mean, one_by_one.tail_mean))
    assert counted.percentiles == pytest.approx(one_by_one.percentiles)


@pytest.mark.parametrize(("gaps", "is_given"), [(2_000_000, (True, True, True)), (999, (True, True, False)), (19, (False, False, False))])
def test_percentiles_of_counted_gaps_need_ten_beyond_them(gaps: int, is_given: tuple[bool, ...]) -> None:
    found = distribution_of(Gaps(np.array([7, 9]), np.array([gaps // 2, gaps - gaps // 2])))
    assert found.given == pytest.approx(np.where(is_given, found.percentiles, np.nan), nan_ok=True)


def test_no_gaps_are_no_figures() -> None:
    none = distribution_of(Gaps(np.empty(0, np.int64), np.empty(0, np.int64)))
    assert none.n == 0
    assert np.isnan([none.mean, *none.percentiles]).all()
