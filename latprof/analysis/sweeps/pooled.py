"""Several replications of one point put together: the point estimate from all their requests, its interval from how the replications differ.

Requests of one run are not independent under load, replications with seeds of their own are: only they tell how far a figure may be off.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from latprof.analysis.contributions import Kind, kind_at, weights_of
from latprof.analysis.quantiles import MIN_BEYOND_EACH, FloatArray, n_eff
from latprof.analysis.student import quantile
from latprof.layers.table import IntArray, Layers
from latprof.layers.vocabulary import path_order

LEVEL = 0.95
"""Of every interval."""

MIN_REPLICATIONS = 5
"""Resampling fewer replications gives intervals that are too short, whatever the level."""


@dataclass(frozen=True, slots=True, eq=False)
class Pool:
    """The requests of all replications in one table; ``replication`` (n,) says which of ``replications`` each is of."""

    layers: Layers
    replication: IntArray
    replications: int


@dataclass(frozen=True, slots=True)
class PooledValue:
    """A figure and the half-width of its 95 % interval, NaN where there is none."""

    value: float
    half: float = math.nan


def pooled(tables: Sequence[Layers]) -> Pool:
    """Stack the tables of replications; a layer that a replication lacks contributes 0 to it.

    Raises:
        ValueError: there is no table.
    """
    if not tables:
        raise ValueError("a pool needs at least one replication, got none")
    hops = tuple(dict.fromkeys(hop for table in tables for hop in table.hops))
    names = tuple(sorted({name for table in tables for name in table.names}, key=lambda name: path_order(name, hops)))
    sources = {name: source for table in tables for name, source in zip(table.names, table.sources, strict=True)}
    begins = np.cumsum([0, *(len(table.rows) for table in tables)])
    layers = replace(
        tables[0],
        names=names,
        rows=np.arange(begins[-1]),
        total_ns=np.concatenate([_widened(table, table.total_ns, names) for table in tables]),
        wait_ns=np.concatenate([_widened(table, table.wait_ns, names) for table in tables]),
        service_ns=np.concatenate([_widened(table, table.service_ns, names) for table in tables]),
        present=np.concatenate([_widened(table, table.present.astype(np.int64), names) for table in tables]).astype(np.bool_),
        sources=tuple(sources[name] for name in names),
        hops=hops,
        conflicts=(),
        off_path=(),
        clocks=(),
        told=None,
    )
    number = np.repeat(np.arange(len(tables)), np.diff(begins))
    return Pool(layers, number, len(tables))


def _widened(table: Layers, columns: IntArray, names: Sequence[str]) -> IntArray:
    wide = np.zeros((len(table.rows), len(names)), np.int64)
    wide[:, [names.index(name) for name in table.names]] = columns
    return wide


def kind_of_pool(values: Sequence[IntArray], p: float) -> Kind:
    """What a column can be over replications, ``values`` being the metric of each in order of intended start."""
    return kind_at(sum(map(len, values)), sum(n_eff(one, p) for one in values), p)


def estimate(values: Sequence[IntArray], p: float, kind: Kind) -> PooledValue:
    """A column's value over all replications, and half the width of its 95 % interval by Student's t over their own values.

    ``values`` are the metric of each replication in order of intended start. No interval for a single replication, nor where one has less than
    one independent request beyond a percentile: by experiment such intervals hold the truth too rarely.
    """
    everything = np.sort(np.concatenate(list(values)))
    value = float(everything @ weights_of(len(everything), p, kind))
    knows = kind != "percentile" or all(n_eff(one, p) * min(p, 1 - p) >= MIN_BEYOND_EACH for one in values)
    if not knows:
        return PooledValue(value)
    return PooledValue(value, half_width([float(np.sort(one) @ weights_of(len(one), p, kind)) for one in values]))


def mean_of(figures: Sequence[float]) -> PooledValue:
    """The mean of one figure of each replication."""
    return PooledValue(float(np.mean(figures)), half_width(figures))


def half_width(figures: Sequence[float]) -> float:
    """Half of the 95 % interval of the mean of independent ``figures``, by Student's t; NaN for fewer than two."""
    n = len(figures)
    return quantile(n - 1, LEVEL) * float(np.std(figures, ddof=1)) / math.sqrt(n) if n > 1 else math.nan


# --- resampling ---------------------------------------------------------------------------------------------------------------------------


def resampler(pool: Pool, p: float, kind: Kind) -> Callable[[IntArray], FloatArray]:
    """A function from how often each replication was drawn, shape (R,), to the layers' contributions, shape (L,).

    The requests are sorted once: a replication drawn twice stands there with two requests for one.
    """
    metric_ns = pool.layers.total_ns.sum(axis=1)
    order = np.argsort(metric_ns, kind="stable")
    columns, replication = pool.layers.total_ns[order].astype(np.float64), pool.replication[order]
    cumulated = np.r_[0.0, np.cumsum(weights_of(len(order), p, kind))]

    def drawn(times: IntArray) -> FloatArray:
        rank = np.r_[0, np.cumsum(times[replication])]
        if not rank[-1]:
            return np.full(columns.shape[1], np.nan)
        # As many requests as there were, unless the replications are not equally long.
        at = cumulated[rank] if rank[-1] == len(order) else np.interp(rank / rank[-1], np.arange(len(order) + 1) / len(order), cumulated)
        weights = np.diff(at)
        heavy = np.flatnonzero(weights > 0)
        return np.asarray(weights[heavy] @ columns[heavy])

    return drawn


def draws(replications: int, number: int, seed: int = 1) -> IntArray:
    """How often each replication comes in each of ``number`` resamples, shape (number, replications)."""
    rng = np.random.default_rng(seed)
    return np.asarray(rng.multinomial(replications, np.full(replications, 1 / replications), number), np.int64)


def interval(resampled: FloatArray, replications: int) -> tuple[float, float]:
    """The 95 % interval of a figure from its resamples; (NaN, NaN) for fewer than five replications.

    Expanded percentiles (Hesterberg 2015, section 5.3): of so few replications plain percentiles are too narrow by Student's t over the normal and
    by sqrt(R / (R - 1)). An infinite resample (never reached) counts as larger than all others.
    """
    values = np.sort(resampled[~np.isnan(resampled)])
    if replications < MIN_REPLICATIONS or not len(values):
        return math.nan, math.nan
    reach = quantile(replications - 1, LEVEL) * math.sqrt(replications / (replications - 1))
    beyond = 0.5 * math.erfc(reach / math.sqrt(2))
    # Order statistics, not interpolation: half-way to infinity is infinity.
    low = math.floor(beyond * (len(values) - 1))
    return float(values[low]), float(values[len(values) - 1 - low])
