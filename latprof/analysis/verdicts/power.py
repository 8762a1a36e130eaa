"""How large an effect must be for a t test to find it: the noncentral t law, without scipy at run time."""

from __future__ import annotations

import math
from functools import lru_cache
from statistics import NormalDist

import numpy as np

from latprof.analysis.student import quantile

_NODES, _WEIGHTS = np.polynomial.legendre.leggauss(400)


@lru_cache(maxsize=1024)
def reach(freedom: float, level: float, power: float) -> float:
    """The effect, in estimated standard errors, that a t test at a two-sided ``level`` finds on its side with probability ``power``.

    The standard error is an estimate too, and of few replications mostly too small: it is found from the noncentral t law, P(Z + d > t s) = power with
    s^2 a chi-square over its degrees of freedom, and divided by E[s], so that the printed effect is right on average.
    """
    critical = quantile(freedom, level)
    low, high = 0.0, 1.0
    while _found(high, critical, freedom) < power:
        high *= 2
    for _ in range(50):
        middle = (low + high) / 2
        low, high = (middle, high) if _found(middle, critical, freedom) < power else (low, middle)
    mean_of_s = math.sqrt(2 / freedom) * math.exp(math.lgamma((freedom + 1) / 2) - math.lgamma(freedom / 2))
    return high / mean_of_s


def _found(effect: float, critical: float, freedom: float) -> float:
    """P(T > ``critical``) for noncentral T: the normal tail, averaged over the law of s by quadrature."""
    top = 1 + 12 / math.sqrt(2 * freedom)
    s = top * (_NODES + 1) / 2
    log_density = (freedom - 1) * np.log(s) - freedom * s * s / 2
    weights = _WEIGHTS * np.exp(log_density - log_density.max())
    tails = np.array([_CDF(effect - critical * one) for one in s])
    return float(weights @ tails / weights.sum())


_CDF = NormalDist().cdf
