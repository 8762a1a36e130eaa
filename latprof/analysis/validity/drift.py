"""Whether a run was in a steady state: its first half against its second."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from latprof.analysis.quantiles import FloatArray, Numbers

# Ten batches a half: enough for a variance, and batches of 50 requests in the quickstart swallow most of the autocorrelation.
_BATCHES = 20
_MIN_REQUESTS = 10 * _BATCHES


@dataclass(frozen=True, slots=True)
class Drift:
    """Medians of the two halves in ns, and how many standard errors they lie apart; NaN for fewer than 200 requests."""

    first_ns: float
    second_ns: float
    standard_errors: float

    @property
    def share(self) -> float:
        """The change over the first half's median."""
        return (self.second_ns - self.first_ns) / self.first_ns if self.first_ns else math.nan


def drift(values_ns: Numbers) -> Drift:
    """Compare the halves of ``values_ns``, which are in order of intended start.

    Batch medians, so that single outliers do not count. Their variance is taken about a straight line (a steady climb must not pass for
    noise) and raised by (1 + r) / (1 - r) for the lag-1 autocorrelation r left between batches, corrected for its small-sample bias of about
    -(2 + 4r) / n about a line (Kendall 1954, Orcutt and Winokur 1969). Requests under load are far from independent: a plain rank test cries wolf.
    """
    if len(values_ns) < _MIN_REQUESTS:
        return Drift(math.nan, math.nan, math.nan)
    half = len(values_ns) // 2
    first, second = values_ns[:half], values_ns[half:]
    medians = np.array([np.median(batch) for part in (first, second) for batch in np.array_split(part, _BATCHES // 2)])
    standard_error = _noise(medians) * math.sqrt(4 / _BATCHES)
    difference = float(medians[_BATCHES // 2 :].mean() - medians[: _BATCHES // 2].mean())
    apart = difference / standard_error if standard_error > 0 else math.copysign(math.inf, difference) if difference else 0.0
    return Drift(float(np.median(first)), float(np.median(second)), apart)


def _noise(medians: FloatArray) -> float:
    """Standard deviation of one batch median, as large as its neighbours' company makes it."""
    at = np.arange(len(medians))
    rest = medians - np.polyval(np.polyfit(at, medians, 1), at)
    squares = float(rest @ rest)
    if squares <= 0:
        return 0.0
    lag_one = float(rest[1:] @ rest[:-1]) / squares
    lag_one = min(0.9, max(0.0, lag_one + (2 + 4 * lag_one) / len(medians)))
    return math.sqrt(squares / (len(medians) - 2) * (1 + lag_one) / (1 - lag_one))
