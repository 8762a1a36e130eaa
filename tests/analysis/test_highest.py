"""The search for the highest load, on stacks whose truth is known."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from latprof.analysis.sweeps.highest import Probe, Share, highest, wilson


def cliff(at: float, requests: int = 1_000) -> Probe:
    """All requests meet the objectives up to a load, and half of them above it."""
    return lambda load, _: Share(requests if load <= at else requests // 2, requests)


@settings(max_examples=60)
@given(st.floats(5.5, 199.0))
def test_the_cliff_is_found(at: float) -> None:
    found = highest(cliff(at), 5, 200, 0.99)
    assert found.met is not None
    assert found.missed is not None
    assert found.met.load <= at < found.missed.load
    assert found.missed.load <= 1.04 * found.met.load
    assert len(found.tried) <= 10


def test_never_and_always() -> None:
    never = highest(cliff(1), 5, 200, 0.99)
    assert (never.met, len(never.tried)) == (None, 1)
    always = highest(cliff(500), 5, 200, 0.99)
    assert always.missed is None
    assert always.met is not None
    assert always.met.load == 200


def test_without_an_upper_end_the_load_is_doubled() -> None:
    found = highest(cliff(300), 5, None, 0.99)
    assert found.met is not None
    assert 290 < found.met.load <= 300


@given(st.integers(1, 63))
def test_whole_numbers_are_found_exactly(at: int) -> None:
    found = highest(cliff(at), 1, 64, 0.99, is_whole=True)
    assert found.met is not None
    assert found.missed is not None
    assert (found.met.load, found.missed.load) == (at, at + 1)


def test_noise_moves_the_answer_by_no_more_than_its_own_width() -> None:
    """Shares that fall slowly, drawn request by request: 20 searches end where the true share is within three standard errors of the goal."""

    def true_share(load: float) -> float:
        return 1 / (1 + (load / 120) ** 6)

    for seed in range(20):
        rng = np.random.default_rng(seed)
        found = highest(lambda load, _, rng=rng: Share(int(rng.binomial(2_000, true_share(load))), 2_000), 5, 500, 0.95)  # type: ignore[misc]
        assert found.met is not None
        assert found.missed is not None
        error = 3 * math.sqrt(0.95 * 0.05 / 2_000)
        assert true_share(found.met.load) > 0.95 - error - 0.01
        assert true_share(found.missed.load) < 0.95 + error + 0.01


def test_a_load_that_chance_decides_is_tried_again_with_other_seeds() -> None:
    asked: list[tuple[float, int]] = []

    def probe(load: float, nth: int) -> Share:
        asked.append((load, nth))
        return Share(990, 1_000) if load == 10 else Share(1_000, 1_000)

    found = highest(probe, 10, 20, 0.99)
    assert [nth for load, nth in asked if load == 10] == [0, 1, 2]
    assert [nth for load, nth in asked if load == 20] == [0]
    assert found.tried[0].recorded == 3_000
    assert not found.tried[0].is_sure
    assert found.tried[-1].is_sure


def test_a_run_that_is_not_to_be_trusted_ends_the_way_up_and_says_so() -> None:
    found = highest(lambda load, _: Share(1_000, 1_000, trusted=load < 50), 5, 200, 0.99)
    assert found.met is not None
    assert found.missed is not None
    assert found.met.load < 50 <= found.missed.load
    assert not found.missed.trusted


def test_a_run_without_requests_is_a_miss() -> None:
    assert highest(lambda _load, _nth: Share(0, 0), 5, 200, 0.99).met is None


@pytest.mark.parametrize(("low", "high", "goal"), [(0, 5, 0.9), (5, 5, 0.9), (5, 10, 0), (5, 10, 1.1)])
def test_what_cannot_be_searched(low: float, high: float, goal: float) -> None:
    with pytest.raises(ValueError, match="0 < low < high"):
        highest(cliff(5), low, high, goal)


def test_wilson() -> None:
    assert wilson(0, 0) == (0.0, 1.0)
    low, high = wilson(990, 1_000)
    assert (low, high) == pytest.approx((0.98169, 0.99457), abs=2e-4)
