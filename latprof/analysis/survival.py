"""How many requests take longer than x: the distribution's tail as one sees it, with a band that knows requests are not independent."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from latprof.analysis.quantiles import SHOWN, FloatArray, Numbers, inflation

_POINTS = 160
_Z = 1.959964


@dataclass(frozen=True, slots=True, eq=False)
class Survival:
    """Shape (k,) each: the share of requests above ``value_ns``, falling, and a pointwise 95 % band around it. ``n`` requests."""

    n: int
    value_ns: FloatArray
    share: FloatArray
    low: FloatArray
    high: FloatArray


def survival(values: Numbers, points: int = _POINTS) -> Survival:
    """The share of ``values`` (ns, in order of intended start) above each of at most ``points`` of them, close together in the tail.

    The band is Wilson's (1927) interval of a share, for as many requests as are independent there (`latprof.analysis.quantiles.inflation`).
    """
    n = len(values)
    if not n:
        nothing = np.zeros(0)
        return Survival(0, nothing, nothing, nothing, nothing)
    ordered = np.sort(np.asarray(values, np.float64))
    # Even steps of the logit of the rank: as many points in either tail as in the middle.
    steps = np.linspace(-np.log(2.0 * n), np.log(2.0 * n), min(points, n))
    ranks = np.unique(np.clip(np.round(n / (1.0 + np.exp(-steps))).astype(np.int64), 1, n))
    share = (n - ranks) / n
    low, high = _wilson(share, n / _inflation(values, 1.0 - share))
    return Survival(n, ordered[ranks - 1], share, low, high)


def _inflation(values: Numbers, p: FloatArray) -> FloatArray:
    """At the percentiles that are told, and between them in a straight line: it costs a Fourier transform each."""
    known = np.array([inflation(values, one) for one in SHOWN])
    return np.asarray(np.interp(p, SHOWN, known))


def _wilson(share: FloatArray, n: FloatArray) -> tuple[FloatArray, FloatArray]:
    centre = (share + _Z**2 / (2 * n)) / (1 + _Z**2 / n)
    half = _Z / (1 + _Z**2 / n) * np.sqrt(share * (1 - share) / n + _Z**2 / (4 * n**2))
    return np.clip(centre - half, 0.0, 1.0), np.clip(centre + half, 0.0, 1.0)
