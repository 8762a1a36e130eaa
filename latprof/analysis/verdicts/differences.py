"""How far two samples of replication figures lie apart, how sure that is, and what would have been seen: plain numbers, no runs.

    value   B's pooled figure less A's              interval   by Student's t over the replications' own figures
    margin  a difference nobody minds               effect     the smallest that the whole rule would find four times in five

Replications are independent of each other, requests are not: nothing here ever sees a request.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from latprof.analysis.quantiles import FloatArray
from latprof.analysis.student import quantile, two_sided
from latprof.analysis.verdicts.power import reach

ALPHA = 0.05
"""The chance that a comparison of equals calls anything at all better or worse."""

POWER = 0.80
"""The chance that a true change of the minimal detectable effect is found."""

# Of sums of floats in ns: a thousand times what double precision leaves, a thousandth of a ns in a second.
_ROUNDING = 1e-12

Verdict = Literal["better", "worse", "same", "unknown"]


@dataclass(frozen=True, slots=True)
class Shift:
    """B less A, in the unit of the figures: the value, its standard error, and the degrees of freedom that this rests on.

    A standard error of 0 is that of figures which do not vary (a simulation with the same seeds): then the value is the truth.
    """

    value: float
    error: float
    freedom: float

    def interval(self, level: float = 1 - ALPHA) -> tuple[float, float]:
        """The two-sided interval of that ``level``."""
        half = quantile(self.freedom, level) * self.error
        return self.value - half, self.value + half

    def p_beyond(self, margin: float) -> float:
        """The chance of a value so far beyond ``margin``, on either side, were the truth at the margin; 1 inside it."""
        beyond = abs(self.value) - margin
        if beyond <= _ROUNDING * margin:
            return 1.0
        return two_sided(beyond / self.error, self.freedom) if self.error > 0 else 0.0

    def detectable(self, margin: float, family: int = 1) -> float:
        """The smallest true change that is called better or worse with `POWER`: tolerance and all.

        The rule asks for the whole interval beyond ``margin``, and takes the first of ``family`` steps of Holm's procedure.
        """
        # Degrees of freedom to a tenth: Welch's are all different, and each costs 10 ms.
        return margin + reach(max(1.0, round(self.freedom, 1)), 1 - ALPHA / family, POWER) * self.error


def unpaired(a: FloatArray, b: FloatArray, value: float) -> Shift:
    """Two independent sets of replications (Welch 1947); ``value`` is the difference of the pooled figures.

    Raises:
        ValueError: an arm has fewer than two.
    """
    if min(len(a), len(b)) < 2:
        raise ValueError(f"an interval needs two replications of each arm, got {len(a)} and {len(b)}")
    parts = np.array([a.var(ddof=1) / len(a), b.var(ddof=1) / len(b)])
    if not parts.any():
        return Shift(value, 0.0, float(len(a) + len(b) - 2))
    freedom = parts.sum() ** 2 / (parts**2 / np.array([len(a) - 1, len(b) - 1])).sum()
    return Shift(value, float(np.sqrt(parts.sum())), float(freedom))


def paired(a: FloatArray, b: FloatArray, value: float) -> Shift:
    """Pairs that share what disturbed them: neighbouring blocks of an interleaved run, or simulations with the same seed.

    Raises:
        ValueError: not as many of one arm as of the other, or fewer than two.
    """
    if len(a) != len(b) or len(a) < 2:
        raise ValueError(f"pairs need as many replications of each arm, two at least, got {len(a)} and {len(b)}")
    apart = b - a
    # What floating point leaves of equal differences is no spread, and what it leaves of equal figures no difference.
    noise = _ROUNDING * float(np.abs(np.concatenate([a, b])).max(initial=0.0))
    spread = float(apart.std(ddof=1))
    error = spread / math.sqrt(len(apart)) if spread > noise else 0.0
    return Shift(value if abs(value) > noise else 0.0, error, float(len(apart) - 1))


def holm(p_values: Sequence[float], alpha: float = ALPHA) -> tuple[bool, ...]:
    """Which of a family are rejected so that the chance of even one false rejection is at most ``alpha`` (Holm 1979).

    Valid however the members depend on each other, as percentiles and layers of one run do.
    """
    order = sorted(range(len(p_values)), key=lambda index: p_values[index])
    rejected = [False] * len(p_values)
    for step, index in enumerate(order):
        if p_values[index] > alpha / (len(order) - step):
            break
        rejected[index] = True
    return tuple(rejected)


def verdict(shift: Shift, margin: float, *, rejected: bool) -> Verdict:
    """What may be said of one figure. ``rejected`` is Holm's word on it in its family.

    better, worse   its interval lies beyond the margin, and still does when all figures of the family are allowed for
    same            its 95 % interval reaches the margin: a change of the minimal detectable effect would mostly have been seen
    unknown         its own interval lies beyond the margin, but among so many figures one does so by chance
    """
    if rejected:
        return "worse" if shift.value > 0 else "better"
    return "unknown" if shift.p_beyond(margin) <= ALPHA else "same"


# --- by rank ------------------------------------------------------------------------------------------------------------------------------


def hodges_lehmann(a: FloatArray, b: FloatArray, *, pairs: bool = False) -> float:
    """The shift by ranks: median of all b - a, or of the Walsh averages of the pairs' differences (Hodges and Lehmann 1963)."""
    if not pairs:
        return float(np.median(b[:, None] - a[None, :]))
    apart = b - a
    first, second = np.triu_indices(len(apart))
    return float(np.median((apart[first] + apart[second]) / 2))


def mann_whitney(a: FloatArray, b: FloatArray) -> float:
    """Two-sided p that one arm tends to be larger, exact over all ways to deal the ranks (ties share theirs); 1 for an empty arm."""
    if not len(a) or not len(b):
        return 1.0
    ranks = _doubled_ranks(np.concatenate([a, b]))
    return _as_far(_subset_sums(ranks, len(a)), int(ranks[: len(a)].sum()))


def signed_ranks(a: FloatArray, b: FloatArray) -> float:
    """Wilcoxon's two-sided p for pairs, exact over all signs; equal pairs are left out, and 1 if there are only those."""
    apart = b - a
    apart = apart[apart != 0]
    if not len(apart):
        return 1.0
    ranks = _doubled_ranks(np.abs(apart))
    return _as_far(_subset_sums(ranks), int(ranks[apart > 0].sum()))


def _doubled_ranks(values: FloatArray) -> FloatArray:
    """Twice the mid-ranks: whole numbers."""
    ordered = np.sort(values)
    below, upto = np.searchsorted(ordered, values, "left"), np.searchsorted(ordered, values, "right")
    return np.asarray(below + upto + 1)


def _subset_sums(ranks: FloatArray, size: int | None = None) -> FloatArray:
    """How many subsets (of that ``size``) have each sum, shape (total + 1,)."""
    top = int(ranks.sum()) + 1
    ways = np.zeros((len(ranks) + 1, top))
    ways[0, 0] = 1.0
    for count, rank in enumerate(ranks.astype(int), start=1):
        ways[1 : count + 1, rank:] += ways[:count, : top - rank].copy()
    return np.asarray(ways.sum(axis=0) if size is None else ways[size])


def _as_far(ways: FloatArray, seen: int) -> float:
    """The share of ways at least as far from their mean as the one that was seen."""
    sums = np.arange(len(ways))
    mean = (ways @ sums) / ways.sum()
    return float(ways[np.abs(sums - mean) >= abs(seen - mean) - 1e-9].sum() / ways.sum())
