"""Gaps between tokens from the segments of a simulated run: every gap there was, as lengths with how often each occurred.

pool's iterations   | 14 ms | 14 ms | 15 ms | 15 ms | ...
answers inside      ----A---------------
                            ----B---------------          an iteration is a gap of every answer that was in it before
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from latprof.analysis.quantiles import SHOWN, TAIL_SHARE, Distribution
from latprof.observations.columns import IntArray, Requests
from latprof.observations.segments import PoolLog, Segments


@dataclass(frozen=True, eq=False)
class Gaps:
    """Lengths in ns, ascending, and how many gaps have each; both of shape (k,)."""

    length_ns: IntArray
    number: IntArray


def gaps_of(requests: Requests, segments: Segments) -> Gaps:
    """The gaps between the token-bearing chunks of ``requests``; the same as those between their chunks, were they written."""
    lengths, numbers = [], []
    mine = np.isin(segments.request, requests.request)
    for pool, log in segments.pools.items():
        rows = mine & (segments.pool == pool)
        lengths.append(log.step_ns)
        numbers.append(_in_each(log, segments.joined[rows], segments.ended[rows]))
    for length_ns, number in _own(segments, np.isin(segments.own_request, requests.request)):
        lengths.append(length_ns)
        numbers.append(number)
    if not lengths:
        return Gaps(np.empty(0, np.int64), np.empty(0, np.int64))
    return _summed(np.concatenate(lengths), np.concatenate(numbers))


def _in_each(log: PoolLog, joined: IntArray, ended: IntArray) -> IntArray:
    """How many gaps fell into each of a pool's runs: one for every iteration of it and every answer that was in it.

    With F(x) the sum over answers of max(0, x - joined) - max(0, x - ended), the gaps in iterations before x, a run of [a, b) has F(b) - F(a).
    """
    edges = np.append(log.first, log.first[-1:] + log.count[-1:])
    before = _passed(np.sort(joined), edges) - _passed(np.sort(ended), edges)
    return np.asarray(np.diff(before), np.int64)


def _passed(ordered: IntArray, edges: IntArray) -> IntArray:
    """For each edge x the sum of x - value over the values below it."""
    below = np.searchsorted(ordered, edges)
    sums = np.concatenate([[0], np.cumsum(ordered)])
    return np.asarray(below * edges - sums[below], np.int64)


def _own(segments: Segments, mine: np.ndarray[tuple[int], np.dtype[np.bool_]]) -> tuple[tuple[IntArray, IntArray], ...]:
    """Gaps inside the answers' own runs, and those from one run to the next."""
    request, start_ns, step_ns, count = (
        column[mine] for column in (segments.own_request, segments.own_start_ns, segments.own_step_ns, segments.own_count)
    )
    last_ns = start_ns + step_ns * (count - 1)
    same = request[1:] == request[:-1]
    between_ns = (start_ns[1:] - last_ns[:-1])[same]
    return (step_ns, count - 1), (between_ns, np.ones(len(between_ns), np.int64))


def _summed(lengths_ns: IntArray, numbers: IntArray) -> Gaps:
    some = numbers > 0
    length_ns, at = np.unique(lengths_ns[some], return_inverse=True)
    number = np.zeros(len(length_ns), np.int64)
    np.add.at(number, at, numbers[some])
    return Gaps(length_ns, number)


def distribution_of(gaps: Gaps) -> Distribution:
    """As `latprof.analysis.quantiles.distribution` has it of the gaps one by one, to rounding.

    Without their order nothing says how independent they are, so there are no Harrell-Davis quantiles and no ``n_eff``: both are NaN.
    """
    n = int(gaps.number.sum())
    unknown = tuple(np.nan for _ in SHOWN)
    if n == 0:
        return Distribution(0, np.nan, unknown, unknown, unknown, np.nan)
    upto = np.cumsum(gaps.number)
    tail = max(1, int(np.ceil(TAIL_SHARE * n - 1e-9)))
    in_tail = np.clip(upto - (n - tail), 0, gaps.number)
    return Distribution(
        n=n,
        mean=float(gaps.length_ns @ gaps.number / n),
        percentiles=tuple(_percentile(gaps, upto, p) for p in SHOWN),
        hd=unknown,
        n_eff=unknown,
        tail_mean=float(gaps.length_ns @ in_tail / tail),
    )


def _percentile(gaps: Gaps, upto: IntArray, p: float) -> float:
    """Linear interpolation between order statistics, as numpy has it."""
    rank = (int(upto[-1]) - 1) * p
    low = int(rank)
    below, above = (int(gaps.length_ns[np.searchsorted(upto, at, side="right")]) for at in (low, min(low + 1, int(upto[-1]) - 1)))
    return below + (above - below) * (rank - low)
