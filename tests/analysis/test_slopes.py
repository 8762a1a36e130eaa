"""Slopes against truths that are known: the value, and how often the interval holds it."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest

from latprof.analysis.causal.slopes import Slope, difference, slope_at, slope_between, slope_within, slopes_within
from latprof.analysis.quantiles import FloatArray

DELAYS = np.array([0.0, 5.0, 20.0, 50.0])


def blocks(number: int, each: int) -> npt.NDArray[np.int64]:
    return np.repeat(np.arange(number), each)


def exact(slope: Slope | None) -> Slope:
    assert slope is not None
    return slope


def test_a_slope_inside_blocks_is_blind_to_what_a_block_has_in_common() -> None:
    rng = np.random.default_rng(1)
    block = blocks(30, 40)
    x = rng.choice(DELAYS, len(block))
    drift = np.linspace(0, 500, len(block)).round(-1) + rng.normal(0, 80, 30)[block]
    found = exact(slope_within(100 + 1.0 * x + drift + rng.normal(0, 2, len(block)), x, block))
    assert found.value == pytest.approx(1.0, abs=0.2)
    assert found.holds(1.0)
    straight = exact(slope_within(7 + 1.5 * x, x, block))
    assert (straight.value, straight.low, straight.high) == pytest.approx((1.5, 1.5, 1.5))
    assert straight.clusters == 30


def test_a_busy_machine_does_not_bend_a_slope() -> None:
    """When the machine is busy delays become longer and requests slower: least squares takes the one for the cause of the other."""
    rng = np.random.default_rng(2)
    block = blocks(40, 50)
    drawn = rng.choice(DELAYS, len(block))
    busy = rng.exponential(10, len(block)) * (rng.random(len(block)) < 0.3)
    became = drawn + busy * (drawn > 0)
    y = 100 + became + 8 * busy + rng.normal(0, 3, len(block))
    told, naive = exact(slope_within(y, became, block, drawn)), exact(slope_within(y, became, block))
    assert told.holds(1.0)
    assert not naive.holds(1.0)
    assert exact(slope_between(y, became, blocks(200, 10), drawn)).holds(1.0)


def test_several_slopes_at_once_keep_their_columns_apart() -> None:
    rng = np.random.default_rng(3)
    block = blocks(25, 20)
    x = rng.choice(DELAYS, (len(block), 3))
    y = 1.0 * x[:, 0] + 0.0 * x[:, 1] + 0.5 * x[:, 2] + rng.normal(0, 4, len(block))
    found = slopes_within(y, x, block)
    assert found is not None
    assert [slope.value for slope in found] == pytest.approx([1.0, 0.0, 0.5], abs=0.05)
    assert slopes_within(y, x[:, [0, 0]], block) is None  # two columns that are one


def _covered(trial: FloatArray, truth: float = 1.0) -> float:
    return float(((trial[:, 0] <= truth) & (truth <= trial[:, 1])).mean())


def test_intervals_inside_blocks_hold_the_truth_as_often_as_they_say() -> None:
    """Errors that go together in stretches, and vary with the delay, as queues make them."""
    rng = np.random.default_rng(4)
    block, trials = blocks(20, 30), []
    for _ in range(300):
        x = rng.choice(DELAYS, len(block))
        noise = rng.normal(0, 10, 20)[block] * (1 + x / 25) + rng.normal(0, 5, len(block))
        found = exact(slope_within(50 + x + noise, x, block))
        trials.append((found.low, found.high))
    assert 0.90 <= _covered(np.array(trials)) <= 0.99


def test_intervals_across_blocks_hold_the_truth_as_often_as_they_say() -> None:
    rng = np.random.default_rng(5)
    block, trials = blocks(16, 20), []
    for _ in range(300):
        level = np.concatenate([rng.permutation(DELAYS) for _ in range(4)])
        y = 50 + level[block] + (rng.normal(0, 1, 16) * (2 + level / 5))[block] + rng.normal(0, 10, len(block))
        found = exact(slope_between(y, level[block], block))
        trials.append((found.low, found.high))
    assert 0.90 <= _covered(np.array(trials)) <= 0.99


def test_slopes_across_blocks_see_what_everybody_gets() -> None:
    rng = np.random.default_rng(6)
    block = blocks(40, 30)
    level = np.concatenate([rng.permutation(DELAYS) for _ in range(10)])
    y = 100 + 1.8 * level[block] + rng.normal(0, 20, len(block))
    assert exact(slope_between(y, level[block], block)).value == pytest.approx(1.8, abs=0.15)
    assert slope_within(y, level[block], block) is None  # no block tells two delays apart
    assert slope_between(y, np.full(len(block), 5.0), block) is None
    assert slope_between(y[:60], level[block][:60], block[:60]) is None  # two blocks


def test_a_last_block_of_a_handful_does_not_count_as_a_block() -> None:
    rng = np.random.default_rng(7)
    block = np.concatenate([blocks(12, 40), np.full(5, 12)])
    level = np.concatenate([rng.permutation(DELAYS) for _ in range(4)])[:13]
    y = 100 + level[block] + rng.normal(0, 1, len(block))
    y[block == 12] += 10_000
    assert exact(slope_between(y, level[block], block)).clusters == 12


def test_quantiles_follow_their_own_slope() -> None:
    """The median follows the delay, the slow tenth is hidden behind something that takes 300 whatever the delay."""
    rng = np.random.default_rng(8)
    block = blocks(20, 200)
    x = rng.choice(DELAYS, len(block))
    slow = rng.random(len(block)) < 0.2
    y = np.where(slow, 300.0, 100 + x) + rng.normal(0, 3, len(block))
    middle, tail = (exact(slope_at(y, x, block, x, p)) for p in (0.5, 0.9))
    assert middle.holds(1.0) or abs(middle.value - 1.0) < 0.1
    assert abs(tail.value) < 0.1
    assert slope_at(y[:60], x[:60], block[:60], x[:60], 0.9) is None  # too few beyond it


def test_few_blocks_are_cut_into_stretches() -> None:
    rng = np.random.default_rng(9)
    x = rng.choice(DELAYS, 400)
    y = 10 + x + rng.normal(0, 5, 400)
    assert exact(slope_within(y, x, np.zeros(400, np.int64))).clusters == 16
    assert slope_within(y[:40], x[:40], np.zeros(40, np.int64)) is None


def test_the_difference_of_two_slopes_is_as_unsure_as_both() -> None:
    one = Slope(1.8, 1.4, 2.2, 0.2, 20, 400)
    two = Slope(1.0, 0.8, 1.2, 0.1, 30, 900)
    found = difference(one, two)
    assert found.value == pytest.approx(0.8)
    assert found.error == pytest.approx(np.hypot(0.2, 0.1))
    assert found.low < 0.8 - 1.96 * found.error
