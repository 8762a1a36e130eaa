"""Where layers cross: exact where nothing waits, as a brute-force grid finds it where something does."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from made_stack import MEAN_MS, stack

from latprof.analysis.contributions import contributions_as
from latprof.analysis.sweeps.crossings import NEVER, attained, bracket, crossing, diminishing, holds, naive_ns
from latprof.units import NS_PER_MS

MS = NS_PER_MS
GRID = (1.0, 2.0, 4.0, 8.0, 16.0)


@given(st.floats(1e-3, 1e3), st.floats(1.01, 15.9))
def test_without_a_queue_layers_cross_at_the_ratio_of_their_means(layer_ms: float, ratio: float) -> None:
    fast = np.array([ratio * layer_ms / k for k in GRID])
    assert crossing(GRID, np.full(5, layer_ms), fast) == pytest.approx(ratio, rel=1e-9)


def test_ends_of_the_grid() -> None:
    fast = 100 / np.array(GRID)
    assert crossing(GRID, np.full(5, 5.0), fast) == NEVER  # 100 / 16 is still more
    assert crossing(GRID, np.full(5, 200.0), fast) == 1.0  # from the start
    assert crossing(GRID, np.full(5, 100.0 / 8), fast) == pytest.approx(8.0)  # on a point of the grid
    assert crossing(GRID, np.zeros(5), fast) == NEVER


def test_a_layer_of_nothing_that_grows_crosses_too() -> None:
    """Where a contribution is zero there is no power law through it: the difference is taken as straight in log k."""
    assert crossing((1.0, 4.0), np.array([0.0, 3.0]), np.array([4.0, 2.0])) == pytest.approx(math.exp(0.8 * math.log(4)))


def test_points_that_do_not_count_are_passed_over() -> None:
    fast = np.array([100.0, 50.0, np.nan, 12.5, 6.25])
    assert crossing(GRID, np.full(5, 25.0), fast) == pytest.approx(4.0)


def test_a_crossing_that_does_not_hold_is_told() -> None:
    layer, fast = np.array([1.0, 9.0, 2.0, 2.0, 2.0]), np.full(5, 5.0)
    assert 1 < crossing(GRID, layer, fast) < 2
    assert not holds(GRID, layer, fast)
    assert holds(GRID, np.array([1.0, 9.0, 9.0, 9.0, 9.0]), fast)


def test_the_bracket_of_a_crossing() -> None:
    assert bracket(GRID, 5.0) == (4.0, 8.0)
    assert bracket(GRID, 4.0) == (2.0, 4.0)
    assert bracket(GRID, 1.0) is None
    assert bracket(GRID, NEVER) is None


@pytest.mark.parametrize("p", [0.5, 0.99])
@pytest.mark.parametrize("slow", ["prefill", "gateway.safety"])
def test_with_queues_a_coarse_grid_finds_what_brute_force_finds(slow: str, p: float) -> None:
    """Prefill at 60 % and the gateway at 30 % utilisation; decode's own queue shrinks as it gets faster."""

    def at(ks: tuple[float, ...]) -> float:
        columns = [contributions_as(stack({"decode": k}), p, "percentile").total_ns for k in ks]
        names = list(MEAN_MS)
        return crossing(ks, np.array([c[names.index(slow)] for c in columns]), np.array([c[names.index("decode")] for c in columns]))

    coarse = at(GRID)
    assert 1 < coarse < 16 or coarse == NEVER
    if coarse == NEVER:
        return
    step = 1.02
    low, high = bracket(GRID, coarse) or (1.0, 16.0)
    fine = tuple(low * step**i for i in range(math.ceil(math.log(high / low) / math.log(step)) + 1))
    by_force = at(fine)
    # One round of bisection, as a simulated sweep does it.
    middle = math.sqrt(low * high)
    refined = at((low, middle, high))
    assert refined == pytest.approx(by_force, rel=0.06)
    assert coarse == pytest.approx(by_force, rel=0.12)


def test_at_least_one_of_the_layers_with_a_queue_does_cross() -> None:
    columns = [contributions_as(stack({"decode": k}), 0.5, "percentile").total_ns for k in GRID]
    assert 4 < crossing(GRID, np.array([c[1] for c in columns]), np.array([c[2] for c in columns])) < 16


# --- what a doubling saves ----------------------------------------------------------------------------------------------------------------


@given(st.floats(61.0, 400.0), st.floats(0.0, 500.0))
def test_without_a_queue_a_doubling_saves_half_of_what_is_left(decode_ms: float, rest_ms: float) -> None:
    """D/(2k) falls under 30 ms at k = D/60."""
    values = np.array([rest_ms + decode_ms / k for k in GRID]) * MS
    found = diminishing(GRID, values)
    assert found == pytest.approx(decode_ms / 60, rel=1e-6)


def test_a_doubling_that_always_pays_or_never_does() -> None:
    assert diminishing(GRID, np.array([1000.0 / k for k in GRID]) * MS) == NEVER  # the last doubling still saves 62 ms
    assert diminishing(GRID, np.array([10.0 / k for k in GRID]) * MS) == 1.0
    assert math.isnan(diminishing((1.0, 1.5), np.array([10.0, 8.0]) * MS))  # no doubling on the grid


def test_a_saving_that_comes_back_counts_to_its_last() -> None:
    """From the answer on no doubling saves as much, whatever was before."""
    values = np.array([100.0, 99.0, 98.0, 40.0, 39.0]) * MS
    found = diminishing(GRID, values)
    assert 4 < found < 8
    assert diminishing(GRID, values, least_ns=70 * MS) == 1.0


def test_amdahl() -> None:
    assert [attained(k) for k in (1, 2, 4)] == [0, 0.5, 0.75]


# --- the naive line -----------------------------------------------------------------------------------------------------------------------


def test_naive_is_right_where_nothing_waits_and_wrong_where_something_does() -> None:
    calm, faster = (stack(speedups, rate_per_s=0.5, constant=True) for speedups in ({}, {"decode": 4.0}))
    assert naive_ns(calm, {2: 4.0}) == pytest.approx(faster.total_ns.sum(axis=1), abs=2)
    busy = stack({}, rate_per_s=38.0)  # decode 95 % busy: most of what a faster one saves is wait
    naive = naive_ns(busy, {2: 4.0})
    true = stack({"decode": 4.0}, rate_per_s=38.0).total_ns.sum(axis=1)
    assert naive.mean() > 1.3 * true.mean()
