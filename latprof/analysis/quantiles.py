"""Percentiles, how many independent requests they rest on, and the weights that make layers add up to them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import numpy.typing as npt

from latprof.analysis.beta import beta_masses, beta_masses_inside

FloatArray = npt.NDArray[np.float64]
Numbers = npt.NDArray[np.int64] | npt.NDArray[np.float64]

SHOWN = (0.50, 0.90, 0.99)
"""The percentiles of every table."""

TAIL_SHARE = 0.05
"""The tail mean is the mean of the slowest 5 %."""

MIN_BEYOND = 10.0
"""A percentile is given only if so many requests lie beyond it; see `rests_on_enough`."""

MIN_BEYOND_EACH = 1.0
MIN_BEYOND_POOL = 5.0
"""What an interval from replications rests on: beyond the percentile so many independent requests in each of them, and in all together.

By experiment with M/M/1 at utilisations of 0.6 and 0.8; a replication with fewer does not know where the percentile lies.
"""

LARGE = 1 << 20
"""Gaps between chunks come by the million: of more values than these the lags of an autocorrelation are cut at what some hundred answers span, and
weights that are next to nothing are left out."""
_MOST_LAGS = 1 << 17
# Independent requests estimate anything up to this by chance.
_NO_INFLATION_BELOW = 1.3


@lru_cache(maxsize=32)
def hd_weights(n: int, p: float) -> FloatArray:
    """Harrell-Davis weights of the sorted sample, shape (n,), sum 1, read-only: what Beta((n+1)p, (n+1)(1-p)) puts into [(i-1)/n, i/n]."""
    weights = beta_masses(n, (n + 1) * p, (n + 1) * (1 - p))
    weights.setflags(write=False)
    return weights


def hd_quantile(values: Numbers, p: float) -> float:
    """The Harrell-Davis estimate of the ``p``-quantile (Harrell and Davis 1982); NaN for an empty sample."""
    ordered: Numbers = np.sort(values)  # type: ignore[assignment]
    return _hd_of_sorted(ordered, p) if len(values) else np.nan


def _hd_of_sorted(ordered: Numbers, p: float) -> float:
    n = len(ordered)
    if n <= LARGE:
        return float(ordered @ hd_weights(n, p))
    low, weights = beta_masses_inside(n, (n + 1) * p, (n + 1) * (1 - p))
    return float(ordered[low : low + len(weights)] @ weights)


def percentile(values: Numbers, p: float) -> float:
    """The ``p``-quantile by linear interpolation between order statistics, as numpy and the peers print it; NaN for an empty sample."""
    return float(np.quantile(values, p)) if len(values) else np.nan


def tail_weights(n: int, share: float = TAIL_SHARE) -> FloatArray:
    """Weights of the sorted sample that give the mean of its largest ``share`` (at least one value), shape (n,), sum 1."""
    slowest = max(1, int(np.ceil(share * n - 1e-9)))
    weights = np.zeros(n)
    weights[n - slowest :] = 1.0 / slowest
    return weights


def tail_mean(values: Numbers, share: float = TAIL_SHARE) -> float:
    """Mean of the largest ``share`` of ``values``; NaN for an empty sample."""
    return float(np.sort(values) @ tail_weights(len(values), share)) if len(values) else np.nan


def inflation(values: Numbers, p: float) -> float:
    """How much more the share above the ``p``-quantile varies than for independent requests; ``values`` in order of intended start.

    The integrated autocorrelation of the indicator, summed over Geyer's initial positive sequence (Geyer 1992, §3.3): pairs of lags as long
    as they stay positive. 1 where the estimate is below 1.3, which independent requests reach by chance.
    """
    return _inflation_above(values, percentile(values, p))


def _inflation_above(values: Numbers, limit: float) -> float:
    if len(values) < 4:
        return 1.0
    above = values > limit
    pairs = _autocorrelation(above.astype(np.float64)) if len(above) <= LARGE else _first_autocorrelations(above, _MOST_LAGS)
    pairs = pairs[: len(pairs) // 2 * 2].reshape(-1, 2).sum(axis=1)
    ended = np.flatnonzero(pairs <= 0)
    total = 2.0 * pairs[: ended[0] if len(ended) else len(pairs)].sum() - 1.0
    return float(total) if total >= _NO_INFLATION_BELOW else 1.0


def _autocorrelation(values: FloatArray) -> FloatArray:
    """Autocorrelation at lags 0, 1, ... n-1; at lag 0 only (and nothing beyond) for a constant series."""
    n = len(values)
    centred = values - values.mean()
    if not centred.any():
        return np.array([1.0, 0.0, 0.0, 0.0])
    size = 1 << (2 * n - 1).bit_length()
    spectrum = np.fft.rfft(centred, size)
    covariance = np.fft.irfft(spectrum * np.conj(spectrum), size)[:n]
    return np.asarray(covariance / covariance[0])


def _first_autocorrelations(above: npt.NDArray[np.bool_], lags: int) -> FloatArray:
    """The first ``lags`` of `_autocorrelation`, in memory that does not grow with the sample: block by block, each against itself and the next."""
    mean = above.mean()
    if mean in (0.0, 1.0):
        return np.array([1.0, 0.0, 0.0, 0.0])
    later = np.where(np.arange(lags + 1) % 2, -1.0, 1.0)  # what being half a period later does to a spectrum
    total, block = np.zeros(lags + 1, np.complex128), np.fft.rfft(above[:lags] - mean, 2 * lags)
    for begin in range(lags, len(above) + lags, lags):
        following = np.fft.rfft(above[begin : begin + lags] - mean, 2 * lags) if begin < len(above) else np.zeros_like(block)
        total += np.conj(block) * (block + later * following)
        block = following
    covariance = np.fft.irfft(total, 2 * lags)[:lags]
    return np.asarray(covariance / covariance[0])


def n_eff(values: Numbers, p: float) -> float:
    """How many independent requests the ``p``-quantile of ``values`` (in order of intended start) rests on."""
    return len(values) / inflation(values, p)


def rests_on_enough(n: int, n_independent: float, p: float) -> bool:
    """Whether a percentile is given, or refused for want of requests beyond it.

    Above the median independent requests count. The median itself has half of the sample on either side: there requests count, or a slow wave
    over the run (inflation 15 and more) would take away the middle of the table, where `drift` is the thing to look at.
    """
    return (n_independent if p > 0.5 else n) * min(p, 1 - p) >= MIN_BEYOND - 1e-9


@dataclass(frozen=True, slots=True)
class Distribution:
    """One metric over the requests that have it, in ns (or the metric's own unit); NaN where there are none.

    ``percentiles`` are linearly interpolated; ``hd`` are Harrell-Davis quantiles, NaN where `rests_on_enough` refuses. Both in the order
    of `SHOWN`, as is ``n_eff``, which is NaN (and ``hd`` with it) where nothing says how independent the values are.
    """

    n: int
    mean: float
    percentiles: tuple[float, ...]
    hd: tuple[float, ...]
    n_eff: tuple[float, ...]
    tail_mean: float

    @property
    def given(self) -> tuple[float, ...]:
        """``percentiles``, NaN where the sample is too small for them; without ``n_eff`` every value counts."""
        worth = [self.n if np.isnan(independent) else independent for independent in self.n_eff]
        return tuple(value if rests else np.nan for value, rests in zip(self.percentiles, _rest_on_enough(self.n, worth), strict=True))


def _rest_on_enough(n: int, independent: Sequence[float]) -> list[bool]:
    """`rests_on_enough` for each of `SHOWN`; no percentile above the median is given beyond one that is refused.

    The few requests beyond a p99 can look independent of each other where those beyond the p90 are one burst: the p99 lies in it, too.
    """
    rest = [rests_on_enough(n, worth, p) for worth, p in zip(independent, SHOWN, strict=True)]
    return [own and all(rest[i] for i in range(at) if SHOWN[i] > 0.5) for at, own in enumerate(rest)]


def distribution(values: Numbers) -> Distribution:
    """Summarise ``values``, which are in order of intended start."""
    ordered: Numbers = np.sort(values)  # type: ignore[assignment]
    percentiles = tuple(percentile(ordered, p) for p in SHOWN)
    independent = tuple(len(values) / _inflation_above(values, limit) for limit in percentiles)
    return Distribution(
        n=len(values),
        mean=float(values.mean()) if len(values) else np.nan,
        percentiles=percentiles,
        hd=tuple(
            _hd_of_sorted(ordered, p) if rests else np.nan
            for rests, p in zip(_rest_on_enough(len(values), independent), SHOWN, strict=True)
        ),
        n_eff=independent,
        tail_mean=float(ordered @ tail_weights(len(ordered))) if len(ordered) else np.nan,
    )
