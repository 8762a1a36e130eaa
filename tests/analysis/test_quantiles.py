from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from made_requests import m_m_1
from scipy.special import betainc
from scipy.stats.mstats import hdquantiles

from latprof.analysis import quantiles
from latprof.analysis.beta import beta_masses, regularised_beta
from latprof.analysis.quantiles import (
    Distribution,
    distribution,
    hd_quantile,
    hd_weights,
    inflation,
    n_eff,
    percentile,
    rests_on_enough,
    tail_mean,
    tail_weights,
)


@pytest.mark.parametrize("n", [1, 2, 3, 10, 99, 1_000, 1_999, 5_003, 100_000, 1_000_000])
@pytest.mark.parametrize("p", [0.01, 0.5, 0.9, 0.95, 0.99, 0.999])
def test_weights_are_the_masses_of_the_beta_law(n: int, p: float) -> None:
    a, b = (n + 1) * p, (n + 1) * (1 - p)
    oracle = betainc(a, b, np.arange(1, n + 1) / n)
    assert np.abs(np.cumsum(hd_weights(n, p)) - oracle).max() < 1e-12
    assert hd_weights(n, p).sum() == pytest.approx(1, abs=1e-14)
    assert (hd_weights(n, p) >= 0).all()


@settings(max_examples=400)
@given(a=st.floats(0.01, 5_000), b=st.floats(0.01, 5_000), x=st.integers(0, 10**6).map(lambda part: part / 10**6))
def test_the_incomplete_beta_function_agrees_with_an_independent_one(a: float, b: float, x: float) -> None:
    assert regularised_beta(np.array([x]), a, b)[0] == pytest.approx(betainc(a, b, x), abs=1e-12)


def test_quadrature_and_the_continued_fraction_agree_where_one_takes_over_from_the_other() -> None:
    for b in (19.99, 20.01):
        x = np.arange(3001) / 3000
        assert np.cumsum(beta_masses(3000, 2000.0, b)) == pytest.approx(regularised_beta(x, 2000.0, b)[1:], abs=1e-12)


def test_weights_are_shared_and_nobody_may_write_to_them() -> None:
    with pytest.raises(ValueError, match="read-only"):
        hd_weights(10, 0.5)[0] = 1


@pytest.mark.parametrize("p", [0.5, 0.9, 0.99])
def test_the_harrell_davis_quantile_agrees_with_scipy(p: float) -> None:
    values = np.random.default_rng(1).lognormal(6, 0.4, 777)
    assert hd_quantile(values, p) == pytest.approx(float(hdquantiles(values, [p])[0]), rel=1e-10)


def test_percentiles_are_numpys() -> None:
    values = np.array([5, 1, 3, 2])
    assert percentile(values, 0.5) == 2.5
    assert percentile(values, 0.9) == pytest.approx(4.4)


def test_the_tail_mean_is_that_of_the_slowest_twentieth() -> None:
    assert tail_mean(np.arange(1, 101)) == 98.0
    assert tail_mean(np.arange(1, 102)) == 98.5  # six of 101: at least a twentieth
    assert tail_mean(np.array([7])) == 7
    assert np.count_nonzero(tail_weights(100)) == 5  # 0.05 * 100 is a little above 5 in binary


def test_empty_samples_have_no_figures() -> None:
    empty = distribution(np.array([], np.int64))
    assert empty.n == 0
    assert np.isnan([empty.mean, empty.tail_mean, *empty.percentiles, *empty.hd]).all()


def test_independent_requests_count_in_full() -> None:
    draws = np.random.default_rng(2)
    inflations = [inflation(draws.exponential(size=2_000), 0.99) for _ in range(200)]
    assert np.mean(np.array(inflations) == 1.0) > 0.97
    assert n_eff(draws.exponential(size=2_000), 0.99) == 2_000


def test_an_autoregressive_series_counts_for_as_much_as_theory_says() -> None:
    # The sign of a Gaussian series with lag-k correlation r^k has lag-k correlation (2/pi) asin(r^k).
    draws = np.random.default_rng(3)
    for r in (0.5, 0.9):
        shocks = draws.normal(size=200_000)
        series = np.zeros_like(shocks)
        for index in range(1, len(shocks)):
            series[index] = r * series[index - 1] + shocks[index]
        theory = 1 + 2 * sum(2 / np.pi * np.arcsin(r**lag) for lag in range(1, 400))
        assert inflation(series, 0.5) == pytest.approx(theory, rel=0.1)


def test_a_queue_makes_tail_requests_far_from_independent() -> None:
    # 3, 8 and 37 at utilisation 0.3, 0.5 and 0.7 in the literature's table of M/M/1 inflations.
    draws = np.random.default_rng(4)
    for utilisation, expected in ((0.3, 3), (0.5, 8), (0.7, 37)):
        found = np.mean([inflation(m_m_1(utilisation, 100_000, draws), 0.99) for _ in range(5)])
        assert expected / 1.5 < found < expected * 1.5


def test_percentiles_are_refused_without_ten_beyond() -> None:
    assert rests_on_enough(1_000, 1_000, 0.99)
    assert not rests_on_enough(999, 999, 0.99)
    assert not rests_on_enough(10_000, 500, 0.99)
    assert rests_on_enough(10_000, 12, 0.5)  # a wave over the run does not take the median away
    assert not rests_on_enough(19, 19, 0.5)


def test_no_percentile_is_given_beyond_one_that_is_refused() -> None:
    found = Distribution(2_100, 14.0, (14.0, 18.0, 27.0), (math.nan,) * 3, n_eff=(2_100.0, 60.0, 2_100.0), tail_mean=24.0)
    assert found.given[0] == 14.0
    assert all(math.isnan(value) for value in found.given[1:])


def test_a_distribution_refuses_per_percentile() -> None:
    found = distribution(np.random.default_rng(5).exponential(size=400))
    assert not np.isnan(found.hd[:2]).any()
    assert np.isnan(found.hd[2])
    assert not np.isnan(found.percentiles).any()


@settings(max_examples=50)
@given(st.lists(st.integers(0, 10**12), min_size=1, max_size=200), st.sampled_from([0.5, 0.9, 0.99]))
def test_quantiles_lie_within_the_sample(values: list[int], p: float) -> None:
    array = np.array(values)
    assert min(values) * (1 - 1e-9) <= hd_quantile(array, p) <= max(values) * (1 + 1e-9)


@pytest.mark.parametrize(("n", "lags"), [(1000, 256), (1024, 256), (300, 256), (200, 256), (5000, 64)])
def test_the_first_lags_block_by_block_are_those_of_the_whole(n: int, lags: int) -> None:
    rng = np.random.default_rng(n)
    above = np.convolve(rng.normal(size=n), np.ones(9), "same") > 1.0
    whole = quantiles._autocorrelation(above.astype(np.float64))
    first = quantiles._first_autocorrelations(above, lags)
    assert first[: min(n, lags)] == pytest.approx(whole[: min(n, lags)], abs=1e-12)


def test_a_large_sample_is_summarised_as_a_small_one(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(4)
    values = np.exp(np.convolve(rng.normal(size=60_000), np.ones(20) / 4, "same")) * 1e6
    small = distribution(values)
    monkeypatch.setattr(quantiles, "LARGE", 1000)
    monkeypatch.setattr(quantiles, "_MOST_LAGS", 1 << 12)
    large = distribution(values)
    assert (large.n, large.mean, large.percentiles, large.tail_mean) == (small.n, small.mean, small.percentiles, small.tail_mean)
    assert large.hd == pytest.approx(small.hd, rel=1e-12)
    assert large.n_eff == pytest.approx(small.n_eff, rel=1e-9)
    assert max(large.n_eff) < 60_000 / 5
    assert quantiles.distribution(np.full(5000, 7)).n_eff == (5000.0,) * 3
