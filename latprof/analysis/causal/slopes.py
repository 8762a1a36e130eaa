"""Slopes with intervals from requests that came in blocks, and were delayed by what a draw said: inside blocks, across them, and of quantiles.

A busy machine makes delays longer than drawn, and requests slow for other reasons at the same moments. So slopes are on the delay as it became,
with the draw, which no machine has a hand in, as its instrument: slope = cov(y, drawn) / cov(x, drawn).

Intervals are Student's t at 95 %: inside blocks from errors that are robust to anything common to a block (Liang and Zeger 1986, the small-sample
factor G / (G - 1)), across blocks from HC3 errors (MacKinnon and White 1985), of quantiles by drawing blocks anew.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final

import numpy as np

from latprof.analysis.quantiles import FloatArray, percentile
from latprof.analysis.student import quantile
from latprof.observations.columns import IntArray

LEVEL: Final = 0.95
MIN_CLUSTERS: Final = 10
"""Fewer blocks are cut into stretches of `_STRETCH` rows: errors that follow from fewer clusters are too small."""
_STRETCH = 25
_MIN_BLOCKS = 4
_MIN_IN_BLOCK = 5
_RESAMPLES = 200


@dataclass(frozen=True, slots=True)
class Slope:
    """ms of metric per ms of delay, with its 95 % interval; ``error`` is the standard error. ``clusters``: independent stretches it rests on."""

    value: float
    low: float
    high: float
    error: float
    clusters: int
    n: int

    def holds(self, value: float) -> bool:
        """Whether ``value`` is inside the interval."""
        return self.low <= value <= self.high


def difference(a: Slope, b: Slope) -> Slope:
    """``a - b``, of estimates from (nearly) separate rows; with Welch's degrees of freedom."""
    error = math.hypot(a.error, b.error)
    freedom = error**4 / (a.error**4 / (a.clusters - 1) + b.error**4 / (b.clusters - 1)) if error else a.clusters - 1
    reach = quantile(max(freedom, 1.0), LEVEL) * error
    value = a.value - b.value
    return Slope(value, value - reach, value + reach, error, min(a.clusters, b.clusters), a.n + b.n)


# --- inside blocks ------------------------------------------------------------------------------------------------------------------------


def slope_within(y: FloatArray, x: FloatArray, block: IntArray, drawn: FloatArray | None = None) -> Slope | None:
    """The slope of ``y`` on ``x`` inside blocks, ``drawn`` its instrument; None without enough of either. All (n,), in order of arrival."""
    slopes = slopes_within(y, x[:, None], block, None if drawn is None else drawn[:, None])
    return None if slopes is None else slopes[0]


def slopes_within(y: FloatArray, x: FloatArray, block: IntArray, drawn: FloatArray | None = None) -> tuple[Slope, ...] | None:
    """The slopes of ``y`` (n,) on every column of ``x`` (n, k) at once, inside blocks: of deviations from the blocks' means.

    ``drawn`` (n, k) are the instruments, column by column; without them it is least squares.
    """
    clusters = _clusters(block)
    n, k = x.shape
    groups = len(np.unique(clusters))
    if n <= k + 2 or groups < _MIN_BLOCKS:
        return None
    y, x, z = _less_mean(y[:, None], block)[:, 0], _less_mean(x, block), _less_mean(x if drawn is None else drawn, block)
    moments = z.T @ x
    if np.linalg.matrix_rank(moments) < k:
        return None
    inverse = np.linalg.inv(moments)
    values = inverse @ z.T @ y
    scores = z * (y - x @ values)[:, None]
    summed = np.zeros((groups, k))
    np.add.at(summed, np.unique(clusters, return_inverse=True)[1], scores)
    errors = np.sqrt(np.diag(inverse @ summed.T @ summed @ inverse.T) * groups / (groups - 1))
    reach = quantile(groups - 1, LEVEL)
    return tuple(
        Slope(float(value), float(value - reach * error), float(value + reach * error), float(error), groups, n)
        for value, error in zip(values, errors, strict=True)
    )


def _clusters(block: IntArray) -> IntArray:
    """What errors may have in common: the block, or a stretch of it where there are few blocks."""
    if len(np.unique(block)) >= MIN_CLUSTERS:
        return block
    return np.asarray(block * (len(block) + 1) + _place_in(block) // _STRETCH, np.int64)


def _place_in(block: IntArray) -> IntArray:
    """0, 1, 2, ... inside each block."""
    order = np.argsort(block, kind="stable")
    _, begins, counts = np.unique(block[order], return_index=True, return_counts=True)
    places = np.empty(len(block), np.int64)
    places[order] = np.arange(len(block)) - np.repeat(begins, counts)
    return places


def _less_mean(values: FloatArray, block: IntArray) -> FloatArray:
    """``values`` (n, k) less the mean of their block."""
    _, which, counts = np.unique(block, return_inverse=True, return_counts=True)
    sums = np.zeros((len(counts), values.shape[1]))
    np.add.at(sums, which, values)
    return np.asarray(values - (sums / counts[:, None])[which])


# --- across blocks ------------------------------------------------------------------------------------------------------------------------


def slope_between(y: FloatArray, x: FloatArray, block: IntArray, drawn: FloatArray | None = None) -> Slope | None:
    """The slope of the blocks' means of ``y`` on those of ``x``, with those of ``drawn`` as instrument.

    None with fewer than four blocks, or without a difference between them.
    """
    _, which, counts = np.unique(block, return_inverse=True, return_counts=True)
    # The last block was cut by the end of the run: a mean of a handful would count as much as one of hundreds.
    kept = counts >= max(_MIN_IN_BLOCK, 0.25 * float(np.median(counts))) if len(counts) else np.zeros(0, np.bool_)
    if kept.sum() < _MIN_BLOCKS:
        return None
    means = [np.bincount(which, weights=values)[kept] / counts[kept] for values in (y, x, x if drawn is None else drawn)]
    return _hc3(means[0], means[1], means[2], len(y))


def _hc3(y: FloatArray, x: FloatArray, drawn: FloatArray, n: int) -> Slope | None:
    """A line through points of unequal, unknown error: each residual counts as it would if its point had not been fitted."""
    centred = drawn - drawn.mean()
    spread, shared = float(centred @ centred), float(centred @ x)
    if spread <= 1e-9 * max(1.0, float(drawn @ drawn)):
        return None
    value = float(centred @ y) / shared
    residual = y - y.mean() - value * (x - x.mean())
    leverage = 1 / len(x) + centred**2 / spread
    left_out = residual / np.maximum(1 - leverage, 1e-6)
    error = math.sqrt(float(centred**2 @ left_out**2)) / abs(shared)
    reach = quantile(len(x) - 2, LEVEL) * error
    return Slope(value, value - reach, value + reach, error, len(x), n)


# --- quantiles ----------------------------------------------------------------------------------------------------------------------------


def slope_at(y: FloatArray, x: FloatArray, block: IntArray, drawn: FloatArray, p: float) -> Slope | None:
    """The slope of the ``p``-quantile of ``y`` on ``x``: one quantile per delay, a line through them, intervals by drawing blocks anew.

    None where a delay has fewer than ten requests beyond the quantile.
    """
    levels, counts = np.unique(drawn, return_counts=True)
    clusters = _clusters(block)
    groups = np.unique(clusters)
    if len(levels) < 2 or counts.min() * min(p, 1 - p) < 10 or len(groups) < MIN_CLUSTERS:
        return None
    rows_by_group = [np.flatnonzero(clusters == group) for group in groups]
    rng = np.random.default_rng(0)
    resampled = []
    for _ in range(_RESAMPLES):
        rows = np.concatenate([rows_by_group[index] for index in rng.integers(0, len(groups), len(groups))])
        found = _through_quantiles(y[rows], x[rows], drawn[rows], levels, p)
        resampled += [] if math.isnan(found) else [found]
    error = float(np.std(resampled, ddof=1))
    value = _through_quantiles(y, x, drawn, levels, p)
    reach = quantile(len(groups) - 1, LEVEL) * error
    return Slope(value, value - reach, value + reach, error, len(groups), len(y))


def _through_quantiles(y: FloatArray, x: FloatArray, drawn: FloatArray, levels: FloatArray, p: float) -> float:
    """The line through one quantile per delay drawn, each weighted by its requests; NaN where a delay has none."""
    members = [drawn == level for level in levels]
    weights = np.array([float(member.sum()) for member in members])
    if not weights.all():
        return math.nan
    heights = np.array([percentile(y[member], p) for member in members])
    means = np.array([x[member].mean() for member in members])
    centred = weights * (means - np.average(means, weights=weights))
    return float(centred @ heights / (centred @ means))
