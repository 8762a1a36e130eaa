"""Intervals of replayed percentiles by a bootstrap over blocks of time: requests next to each other share their queue, so they are drawn together.

They say how much the figures hang on which requests happened to come. Whether the model is right they do not say: the replay without change does.
"""

from __future__ import annotations

import numpy as np

from latprof.layers.table import IntArray

BLOCKS = 20
_DRAWS = 200
_LEVEL = 0.95
_SEED = 1
# Of shorter blocks a percentile says nothing.
_FEWEST_ROWS = 100


def block_of(rank: IntArray, number: int) -> IntArray:
    """The block of each row: ``rank`` is its place among the ``number`` recorded requests by intended start."""
    return np.asarray(rank * BLOCKS // max(number, 1), np.int64)


def interval(values_ns: IntArray, blocks: IntArray, p: float) -> tuple[float, float] | None:
    """The 95 % interval of the ``p``-quantile over redrawn blocks (percentile method); None for a sample too small to be cut into blocks."""
    if len(values_ns) < _FEWEST_ROWS:
        return None
    inside = [values_ns[blocks == block] for block in range(BLOCKS)]
    inside = [values for values in inside if len(values)]
    generator = np.random.default_rng(_SEED)
    drawn = [np.quantile(np.concatenate([inside[i] for i in generator.integers(0, len(inside), len(inside))]), p) for _ in range(_DRAWS)]
    low, high = np.quantile(np.array(drawn), [(1 - _LEVEL) / 2, (1 + _LEVEL) / 2])
    return float(low), float(high)
