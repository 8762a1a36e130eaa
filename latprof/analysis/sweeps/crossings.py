r"""Where one layer overtakes another as it gets faster: crossings, what one more doubling still saves, and the naive line.

time   \  the layer that gets k times faster
        \____
   ------*--------- another layer              * k*: from here on the other one is the larger
           \________
       1   2   4   8   k
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np

from latprof.analysis.quantiles import FloatArray
from latprof.layers.table import IntArray, Layers
from latprof.units import NS_PER_MS

WORTHWHILE_NS = 30.0 * NS_PER_MS
"""What a doubling must save to be worth a team's while, unless told otherwise."""

NEVER = math.inf
"""Not within the range that was swept."""


def crossing(ks: Sequence[float], layer_ns: FloatArray, fast_ns: FloatArray) -> float:
    """The smallest k at which ``layer_ns`` (K,) is at least ``fast_ns`` (K,), k ascending; `NEVER` if it never is.

    Between two points of the grid both are taken to be powers of k, which is exact where nothing waits (a constant, and D/k); where one of them
    is zero the difference is taken to be straight in log k. ``ks[0]`` if it is so from the start. NaN points are passed over.
    """
    known = [i for i in range(len(ks)) if not (math.isnan(layer_ns[i]) or math.isnan(fast_ns[i]))]
    before: int | None = None
    for i in known:
        if layer_ns[i] >= fast_ns[i]:
            return ks[i] if before is None else _between(ks, layer_ns, fast_ns, before, i)
        before = i
    return NEVER


def _between(ks: Sequence[float], layer_ns: FloatArray, fast_ns: FloatArray, i: int, j: int) -> float:
    four = (layer_ns[i], layer_ns[j], fast_ns[i], fast_ns[j])
    if min(four) > 0:
        behind, ahead = math.log(fast_ns[i] / layer_ns[i]), math.log(layer_ns[j] / fast_ns[j])
    else:
        behind, ahead = fast_ns[i] - layer_ns[i], layer_ns[j] - fast_ns[j]
    share = behind / (behind + ahead)
    return float(math.exp(math.log(ks[i]) + share * math.log(ks[j] / ks[i])))


def holds(ks: Sequence[float], layer_ns: FloatArray, fast_ns: FloatArray) -> bool:
    """Whether the layer, once it has crossed, is the larger one at every later point of the grid."""
    k = crossing(ks, layer_ns, fast_ns)
    return all(layer_ns[i] >= fast_ns[i] for i in range(len(ks)) if ks[i] >= k and not math.isnan(layer_ns[i] + fast_ns[i]))


def bracket(ks: Sequence[float], k: float) -> tuple[float, float] | None:
    """The neighbours on the grid that a crossing lies between; None where it is not reached, or is so from the start."""
    if math.isinf(k) or math.isnan(k) or k <= ks[0]:
        return None
    above = next(i for i, at in enumerate(ks) if at >= k)
    return ks[above - 1], ks[above]


def diminishing(ks: Sequence[float], values_ns: FloatArray, least_ns: float = WORTHWHILE_NS) -> float:
    """The k from which on one more doubling saves less than ``least_ns``: `NEVER` if even the last doubling on the grid saves as much.

    ``values_ns`` (K,) is the metric, taken to be straight in 1/k between two points of the grid: exact where nothing waits, when the saving
    is D/(2k) and the answer D/(2 least). Judged from the grid's first k to half its last. NaN where there is no doubling on the grid.
    """
    known = [i for i in range(len(ks)) if not math.isnan(values_ns[i])]
    if len(known) < 2 or ks[known[-1]] < 2 * ks[known[0]]:
        return math.nan
    at = np.array([ks[i] for i in known])
    values = np.array([values_ns[i] for i in known])
    last = at[-1] / 2

    def saving_ns(k: float) -> float:
        now, then = np.interp([1 / k, 1 / (2 * k)], 1 / at[::-1], values[::-1])
        return float(now - then)

    # Between these the saving is straight in 1/k: both its ends move along one segment each.
    corners = sorted({float(k) for k in (*at, *(at / 2)) if at[0] <= k <= last} | {float(last)})
    if saving_ns(corners[-1]) >= least_ns:
        return NEVER
    for low, high in zip(corners[-2::-1], corners[:0:-1], strict=True):
        if saving_ns(low) >= least_ns:
            share = (saving_ns(low) - least_ns) / (saving_ns(low) - saving_ns(high))
            return 1 / (1 / low + share * (1 / high - 1 / low))
    return corners[0]


def attained(k: float, from_k: float = 1.0) -> float:
    """Amdahl: the share of all that could be saved in a layer from ``from_k`` on that is saved at ``k``, whatever its share of the whole."""
    return 1 - from_k / k


def naive_ns(layers: Layers, times: Mapping[int, float]) -> IntArray:
    """The naive line: every request's metric less the service time that its layers would save, shape (n,).

    ``times`` says how much faster each column gets. Waits stay as they were: that is what is naive about it. Time of a sped-up layer that was not
    told apart into wait and service counts as service.
    """
    value_ns = layers.total_ns.sum(axis=1).astype(np.float64)
    for column, factor in times.items():
        service_ns = layers.total_ns[:, column] - layers.wait_ns[:, column]
        value_ns -= service_ns * (1 - 1 / factor)
    return np.asarray(np.rint(value_ns), np.int64)
