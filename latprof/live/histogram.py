"""Percentiles of a run of any length in constant memory."""

from __future__ import annotations

import math

import numpy as np

from latprof.observations.columns import IntArray

_PER_OCTAVE = 64
_BUCKETS = 48 * _PER_OCTAVE  # up to 78 hours in ns


class Histogram:
    """Counts in buckets that widen by a 64th of an octave: every percentile to half a percent, whatever came."""

    def __init__(self) -> None:
        self._counts = np.zeros(_BUCKETS, np.int64)
        self.n = 0

    def add(self, values_ns: IntArray) -> None:
        """Count ``values_ns``; what is below 1 ns counts as that."""
        if len(values_ns):
            buckets = (np.log2(np.maximum(values_ns, 1)) * _PER_OCTAVE).astype(np.int64)
            self._counts += np.bincount(np.minimum(buckets, _BUCKETS - 1), minlength=_BUCKETS)
            self.n += len(values_ns)

    def percentile(self, p: float) -> float:
        """The ``p``-quantile in ns, by nearest rank; NaN of nothing."""
        if not self.n:
            return math.nan
        rank = min(self.n, int(p * self.n) + 1)
        bucket = int(np.searchsorted(np.cumsum(self._counts), rank))
        return float(2.0 ** ((bucket + 0.5) / _PER_OCTAVE))
