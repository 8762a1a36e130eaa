"""Replications put together: points as of one sample, intervals from how the replications differ."""

from __future__ import annotations

import math

import numpy as np
import pytest
from made_requests import layers
from made_stack import stack
from scipy import stats

from latprof.analysis.contributions import contributions_as
from latprof.analysis.sweeps.pooled import draws, estimate, half_width, interval, kind_of_pool, pooled, resampler
from latprof.units import NS_PER_MS

MS = NS_PER_MS


def test_a_pool_is_the_table_of_all_requests() -> None:
    one = layers(np.array([[1, 2], [3, 4]]) * MS, ("prefill", "decode"))
    other = layers(np.array([[5, 6]]) * MS, ("decode", "stream"))
    pool = pooled([one, other])
    assert pool.layers.names == ("prefill", "decode", "stream")
    assert pool.layers.total_ns.tolist() == (np.array([[1, 2, 0], [3, 4, 0], [0, 5, 6]]) * MS).tolist()
    assert pool.replication.tolist() == [0, 0, 1]
    with pytest.raises(ValueError, match="at least one"):
        pooled([])


@pytest.mark.parametrize(("p", "kind"), [(0.5, "percentile"), (0.99, "percentile"), (0.99, "tail mean"), (0.5, "mean")])
def test_resampled_contributions_add_up_and_begin_where_the_point_is(p: float, kind: str) -> None:
    pool = pooled([stack({}, n=500, seed=seed) for seed in range(5)])
    drawn = resampler(pool, p, kind)  # type: ignore[arg-type]
    as_they_were = drawn(np.ones(5, np.int64))
    point = contributions_as(pool.layers, p, kind)  # type: ignore[arg-type]
    assert as_they_were == pytest.approx(point.total_ns, rel=1e-9)
    # One replication five times is that replication.
    alone = drawn(np.array([0, 5, 0, 0, 0]))
    if kind != "percentile":
        assert alone == pytest.approx(contributions_as(stack({}, n=500, seed=1), p, kind).total_ns, rel=1e-9)  # type: ignore[arg-type]
    assert math.isnan(drawn(np.zeros(5, np.int64))[0])


def test_replications_of_different_length_weigh_by_their_requests() -> None:
    pool = pooled([layers(np.full((100, 1), 10), ("a",)), layers(np.full((300, 1), 30), ("a",))])
    drawn = resampler(pool, 0.5, "mean")
    assert drawn(np.array([1, 1])) == pytest.approx([25.0])
    assert drawn(np.array([2, 0])) == pytest.approx([10.0])


def test_draws_hold_as_many_replications_as_there_are() -> None:
    drawn = draws(6, 200)
    assert drawn.shape == (200, 6)
    assert (drawn.sum(axis=1) == 6).all()
    assert (draws(6, 200) == drawn).all()


def test_an_interval_needs_replications() -> None:
    assert math.isnan(half_width([1.0]))
    assert half_width([1.0, 3.0]) == pytest.approx(stats.t.ppf(0.975, 1) * math.sqrt(2) / math.sqrt(2))
    assert all(math.isnan(end) for end in interval(np.arange(400.0), 4))
    assert all(math.isnan(end) for end in interval(np.array([]), 8))


def test_what_is_never_reached_is_the_end_of_an_interval() -> None:
    low, high = interval(np.r_[np.linspace(5, 6, 380), np.full(20, np.inf)], 5)
    assert (low, high) == (5.0, math.inf)


def test_percentiles_of_few_resamples_are_expanded() -> None:
    """Of five replications the plain 2.5 and 97.5 % points are too narrow; of many they are what is used."""
    values = np.sort(np.random.default_rng(1).normal(size=4_000))
    few, many = interval(values, 5), interval(values, 400)
    assert few[0] < many[0] < many[1] < few[1]
    assert many == pytest.approx((-1.96, 1.96), abs=0.12)


def test_the_t_interval_covers() -> None:
    """R=5 of M/M/c at moderate load, 120 times: p50 is inside 90 to 99 % of the time."""
    truth = float(np.median(np.concatenate([stack({}, n=4_000, seed=seed).total_ns.sum(axis=1) for seed in range(10_000, 10_040)])))
    tables = [stack({}, n=400, seed=seed).total_ns.sum(axis=1) for seed in range(600)]
    inside = 0
    for trial in range(120):
        found = estimate(tables[5 * trial : 5 * trial + 5], 0.5, "percentile")
        inside += abs(found.value - truth) <= found.half
    assert 0.88 <= inside / 120 <= 1.0


def test_a_percentile_that_no_replication_can_place_has_no_interval() -> None:
    tables = [stack({}, n=60, seed=seed).total_ns.sum(axis=1) for seed in range(30)]
    assert math.isnan(estimate(tables, 0.99, "percentile").half)
    assert not math.isnan(estimate(tables, 0.5, "percentile").half)
    assert kind_of_pool(tables, 0.5) == "percentile"
    assert kind_of_pool(tables[:3], 0.99) == "tail mean"
