from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from latprof.schedule.arrivals import ARRIVALS, IntArray, arrival_rng
from latprof.units import NS_PER_S

RANDOM = ["poisson", "gamma"]


def arrive(
    arrival: str, rate_per_s: float = 50, *, seed: int = 1, phase: str = "measured", burstiness: float = 1.0, **amount: int
) -> IntArray:
    return ARRIVALS[arrival](rate_per_s, arrival_rng(seed, phase), burstiness=burstiness, **amount)


def gaps_s(offsets_ns: IntArray) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
    return np.diff(offsets_ns, prepend=0) / NS_PER_S


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_poisson_gaps_are_exponential(seed: int) -> None:
    gaps = gaps_s(arrive("poisson", 50, seed=seed, count=10_000))
    assert stats.kstest(gaps, stats.expon(scale=1 / 50).cdf).pvalue > 0.01
    assert np.std(gaps) / np.mean(gaps) == pytest.approx(1, abs=0.05)
    assert 1 / np.mean(gaps) == pytest.approx(50, rel=0.03)  # three standard errors
    assert abs(stats.pearsonr(gaps[:-1], gaps[1:]).statistic) < 0.04


@pytest.mark.parametrize("burstiness", [0.25, 1.0, 4.0])
def test_gamma_gaps_have_the_burstiness_asked_for(burstiness: float) -> None:
    gaps = gaps_s(arrive("gamma", 20, burstiness=burstiness, count=20_000))
    assert stats.kstest(gaps, stats.gamma(burstiness, scale=1 / (20 * burstiness)).cdf).pvalue > 0.01
    assert np.std(gaps) / np.mean(gaps) == pytest.approx(burstiness**-0.5, rel=0.05)
    assert 1 / np.mean(gaps) == pytest.approx(20, rel=0.05)


def test_poisson_counts_per_second_are_poisson() -> None:
    offsets_ns = arrive("poisson", 5, duration_ns=4000 * NS_PER_S)
    per_s = np.bincount(offsets_ns // NS_PER_S, minlength=4000)
    assert np.var(per_s) / np.mean(per_s) == pytest.approx(1, abs=0.07)
    expected = stats.poisson(5).pmf(np.arange(12)) * 4000
    seen = np.array([np.sum(per_s == value) for value in range(12)])
    assert stats.chisquare(seen, expected * seen.sum() / expected.sum()).pvalue > 0.01


def test_constant_gaps_never_drift() -> None:
    offsets_ns = arrive("constant", 3, count=300_001)
    assert offsets_ns[0] == 0
    assert offsets_ns[-1] == 100_000 * NS_PER_S
    assert set(np.diff(offsets_ns).tolist()) <= {333_333_333, 333_333_334}


@pytest.mark.parametrize(("rate_per_s", "seconds", "number"), [(100, 1, 100), (3, 1, 3), (0.5, 1, 1), (2.5, 2, 5), (7, 10, 70)])
def test_a_constant_rate_fills_a_duration_exactly(rate_per_s: float, seconds: int, number: int) -> None:
    assert len(arrive("constant", rate_per_s, duration_ns=seconds * NS_PER_S)) == number


@pytest.mark.parametrize("arrival", ARRIVALS)
def test_whichever_ends_first(arrival: str) -> None:
    assert len(arrive(arrival, 50, count=7)) == 7
    assert len(arrive(arrival, 50, count=7, duration_ns=1000 * NS_PER_S)) == 7
    timed = arrive(arrival, 50, duration_ns=2 * NS_PER_S)
    assert timed[-1] < 2 * NS_PER_S
    assert arrive(arrival, 50, count=10_000, duration_ns=2 * NS_PER_S).tolist() == timed.tolist()


@given(st.sampled_from(sorted(ARRIVALS)), st.integers(0, 2**32), st.floats(0.1, 1e5), st.integers(1, 9000), st.integers(1, 10 * NS_PER_S))
def test_any_schedule_ascends_and_keeps_its_bounds(arrival: str, seed: int, rate_per_s: float, count: int, duration_ns: int) -> None:
    offsets_ns = arrive(arrival, rate_per_s, seed=seed, burstiness=0.5, count=count, duration_ns=duration_ns)
    assert offsets_ns.dtype == np.int64
    assert len(offsets_ns) <= count
    assert (np.diff(offsets_ns) >= 0).all()
    assert ((offsets_ns >= 0) & (offsets_ns < duration_ns)).all()
    # The same starts as without the duration: nothing that fits is left out.
    unbounded = arrive(arrival, rate_per_s, seed=seed, burstiness=0.5, count=count)
    assert offsets_ns.tolist() == unbounded[unbounded < duration_ns].tolist()


@pytest.mark.parametrize("arrival", RANDOM)
def test_a_longer_schedule_begins_with_the_shorter_one(arrival: str) -> None:
    longer = arrive(arrival, 50, burstiness=0.5, count=20_000)
    assert arrive(arrival, 50, burstiness=0.5, count=100).tolist() == longer[:100].tolist()


@pytest.mark.parametrize("arrival", RANDOM)
def test_twice_the_rate_is_the_same_pattern_in_half_the_time(arrival: str) -> None:
    slow, fast = (arrive(arrival, rate_per_s, burstiness=0.5, count=1000) for rate_per_s in (50, 100))
    assert np.abs(slow - 2 * fast).max() <= 2


@pytest.mark.parametrize("arrival", RANDOM)
def test_seed_and_phase_make_the_draws(arrival: str) -> None:
    first = arrive(arrival, count=50).tolist()
    assert first == arrive(arrival, count=50).tolist()
    assert first != arrive(arrival, seed=2, count=50).tolist()
    assert first != arrive(arrival, phase="warmup", count=50).tolist()
    assert arrive(arrival, seed=-3, count=50)[0] > 0


@pytest.mark.parametrize("arrival", ARRIVALS)
def test_an_endless_schedule_is_refused(arrival: str) -> None:
    with pytest.raises(ValueError, match="needs a count or a duration"):
        arrive(arrival)
