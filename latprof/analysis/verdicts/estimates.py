"""A figure with its interval, and how surely it lies above or below a bound.

Student's t over independent figures (replications, or time batches of one run); for shares never narrower than what counting alone gives.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from latprof.analysis.beta import regularised_beta
from latprof.analysis.quantiles import rests_on_enough
from latprof.analysis.student import quantile

LEVEL = 0.95
"""Of the interval that is shown."""

# The mean of what runs say by themselves is a hair off what their requests say together (a per cent at the p99 of 1 000 requests); more is a difference.
_UNEVEN = 0.05


@dataclass(frozen=True, slots=True)
class Estimate:
    """A figure in ns (or a share), what it rests on, and its 95 % interval: NaN where there is none, and ``why`` says why not.

    ``error`` is the standard error, with ``freedom`` degrees of freedom. ``n`` counts requests, ``n_eff`` what they are worth. ``counted`` is
    there for a share: (hits, of how many independent rows). ``figures`` are the independent ones that the interval is made of: of the replications
    in their order, or of the time batches. ``pooled`` is the figure of all requests together, None where ``value`` is that.
    """

    value: float
    low: float
    high: float
    replications: int
    n: int
    why: str = ""
    n_eff: float = math.nan
    error: float = math.nan
    freedom: float = 0
    counted: tuple[float, float] | None = None
    figures: tuple[float, ...] = ()
    pooled: float | None = None

    @property
    def together(self) -> float:
        """The figure of all requests together: layers add up to that of their metric."""
        return self.value if self.pooled is None else self.pooled

    @property
    def mean_of_figures(self) -> float:
        """What the independent figures say by themselves; NaN without them."""
        return math.fsum(self.figures) / len(self.figures) if self.figures else math.nan

    @property
    def is_uneven(self) -> bool:
        """Whether the independent figures differ so much that their mean is another than the figure of all requests together."""
        return abs(self.mean_of_figures - self.together) > _UNEVEN * abs(self.together)

    @property
    def made_of(self) -> str:
        """What the independent figures are of, in words."""
        return "runs" if len(self.figures) == self.replications else "stretches of time"

    @property
    def has_interval(self) -> bool:
        """Whether the figure can be held against a bound at all."""
        return not math.isnan(self.low)

    def is_given(self, p: float | None) -> bool:
        """Whether a percentile rests on requests enough to be shown: for an interval by its own rule, else as everywhere; a mean needs none beyond it."""
        return p is None or self.has_interval or rests_on_enough(self.n, self.n_eff, p)

    def interval(self, level: float) -> tuple[float, float]:
        """The two-sided interval at ``level``; (NaN, NaN) where there is none."""
        if not self.has_interval:
            return math.nan, math.nan
        reach = quantile(self.freedom, level) * self.error
        low, high = self.value - reach, self.value + reach
        if self.counted is not None:
            least, most = clopper_pearson(*self.counted, level)
            low, high = max(0.0, min(low, least)), min(1.0, max(high, most))
        return low, high

    def p_above(self, bound: float) -> float:
        """One-sided p-value of "the truth is at or below ``bound``": small when the figure is surely above. NaN without an interval."""
        return self._p(self.value - bound, bound, is_above=True)

    def p_below(self, bound: float) -> float:
        """One-sided p-value of "the truth is at or above ``bound``": small when the figure is surely below. NaN without an interval."""
        return self._p(bound - self.value, bound, is_above=False)

    def _p(self, distance: float, bound: float, *, is_above: bool) -> float:
        if not self.has_interval:
            return math.nan
        p = t_beyond(distance, self.error, self.freedom)
        return p if self.counted is None else max(p, _counting_beyond(*self.counted, bound, is_above=is_above))


def without_interval(value: float, replications: int, n: int, why: str, n_eff: float = math.nan) -> Estimate:
    """A figure that can be shown but not be held against a bound."""
    return Estimate(value, math.nan, math.nan, replications, n, why, n_eff)


def from_figures(
    value: float,
    figures: Sequence[float],
    replications: int,
    n: int,
    *,
    n_eff: float = math.nan,
    counted: tuple[float, float] | None = None,
    note: str = "",
    pooled: float | None = None,
) -> Estimate:
    """``value`` with the t interval that at least two independent ``figures`` of the same thing give it. ``note`` says what they are of."""
    error = float(np.std(figures, ddof=1)) / math.sqrt(len(figures))
    found = Estimate(value, 0.0, 0.0, replications, n, note, n_eff, error, len(figures) - 1, counted, tuple(figures), pooled)
    low, high = found.interval(LEVEL)
    return replace(found, low=low, high=high)


def t_beyond(distance: float, error: float, freedom: float) -> float:
    """P(T >= distance / error) of Student's t; without any spread it is certain (0), impossible (1), or neither (0.5)."""
    if error <= 0:
        return 0.0 if distance > 0 else 1.0 if distance < 0 else 0.5
    t = distance / error
    tail = 0.5 * float(regularised_beta(np.array([freedom / (freedom + t * t)]), freedom / 2, 0.5)[0])
    return tail if t >= 0 else 1.0 - tail


def clopper_pearson(hits: float, of: float, level: float) -> tuple[float, float]:
    """The exact binomial interval of a share (Clopper and Pearson 1934); ``of`` need not be whole: it may be an effective number."""
    beyond = (1 - level) / 2
    low = 0.0 if hits <= 0 else _solve(lambda share: _counting_beyond(hits, of, share, is_above=True) < beyond)
    high = 1.0 if hits >= of else _solve(lambda share: _counting_beyond(hits, of, share, is_above=False) >= beyond)
    return low, high


def _solve(is_below: Callable[[float], bool]) -> float:
    """Where ``is_below`` turns from true to false on [0, 1], by bisection."""
    low, high = 0.0, 1.0
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if is_below(middle) else (low, middle)
    return high


def _counting_beyond(hits: float, of: float, share: float, *, is_above: bool) -> float:
    """P(at least so many hits | ``share``) if ``is_above``, else P(at most so many)."""
    if is_above:
        return 1.0 if hits <= 0 else _beta_at(share, hits, of - hits + 1)
    return 1.0 if hits >= of else 1.0 - _beta_at(share, hits + 1, of - hits)


def _beta_at(share: float, a: float, b: float) -> float:
    return float(regularised_beta(np.array([min(1.0, max(0.0, share))]), a, b)[0])
