"""How far each clock is off, from what causality says, pooled over the requests of a run.

One request says: the callee began after it was asked and passed its answer on before its caller had it. That bounds what has to be added to
the callee's stamps (Cristian 1989). The bounds of all requests are intersected per pair of clocks, and chained outwards from the client.

    caller  |asked                     answered|
    callee        |began       passed on|            asked - began <= offset <= answered - passed on
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from latprof.units import MISSING_NS, NS_PER_US

# Stamps are taken in µs by some senders and the wall anchor has a width: closer than this to zero is zero.
TOLERANCE_NS = 50 * NS_PER_US
# Requests whose stamps lie (a span closed late by a callback, a retry under one span) are allowed this share on each side.
_TRIM_SHARE = 0.01
# Of offsets that contradict each other, zero is the likelier: clocks are usually right.
_NEARLY_AS_MANY = 0.95


@dataclass(frozen=True, slots=True)
class Constraint:
    """One request's word: ``low_ns <= offset(clock) - offset(reference) <= high_ns``; an offset is added to that clock's stamps.

    A bound is near where only the way lies between its two stamps. Where work does as well, it holds, but the truth may be far from it.
    """

    clock: str
    reference: str
    low_ns: int
    high_ns: int
    low_is_near: bool = True
    high_is_near: bool = True


@dataclass(frozen=True, slots=True)
class ClockOffset:
    """What is added to one clock's stamps, and how far off that may be: the truth lies in [low_ns, high_ns] if the path obeys causality.

    ``corrected`` is False where nothing was changed. ``consistent`` is False when no single offset fits the requests (a step, a drift, or
    stamps that lie), and for a clock that no request ties to the root: then the bounds are MISSING_NS. ``requests`` counts constraints.
    """

    clock: str
    offset_ns: int
    low_ns: int
    high_ns: int
    requests: int
    corrected: bool
    consistent: bool


class _Bounds(NamedTuple):
    low_ns: int
    high_ns: int
    consistent: bool = True
    requests: int = 0
    low_is_near: bool = True
    high_is_near: bool = True

    def reversed(self) -> _Bounds:
        return _Bounds(-self.high_ns, -self.low_ns, self.consistent, self.requests, self.high_is_near, self.low_is_near)

    def contains(self, value_ns: int) -> bool:
        return self.low_ns - TOLERANCE_NS <= value_ns <= self.high_ns + TOLERANCE_NS

    @property
    def likeliest_ns(self) -> int:
        """The middle, for the ways there and back are mostly alike; the near bound where the other one has a server's work in it."""
        if self.low_is_near == self.high_is_near:
            return (self.low_ns + self.high_ns) // 2
        return self.low_ns if self.low_is_near else self.high_ns


_Edges = Mapping[str, Mapping[str, _Bounds]]
"""clock -> neighbour -> bounds of offset(clock) - offset(neighbour)."""


def estimate(constraints: Iterable[Constraint], root: str) -> dict[str, ClockOffset]:
    """The offset of every clock against ``root`` (which is right by definition and not in the answer).

    Clocks are placed from the root outwards, each against all neighbours placed before it. An offset of zero is kept where the bounds allow
    it; else the offset of a neighbour is taken over where that fits (two processes of one host); else the middle of the bounds, or the near one
    where only one is. Where the requests contradict each other, the bounds are those of the most requests that agree: a few stamps that lie move no clock.
    """
    edges = _edges(constraints)
    placed = {root: ClockOffset(root, 0, 0, 0, 0, corrected=False, consistent=True)}
    ring = [root]
    while ring:
        # Those with the most requests first: they are the best bounded, and bound the others of their ring.
        found = {clock for known in ring for clock in edges.get(known, {}) if clock not in placed}
        ring = sorted(found, key=lambda clock: (-_weight(edges[clock], placed), clock))
        for clock in ring:
            placed[clock] = _place(clock, edges[clock], placed)
    for clock in sorted(set(edges) - set(placed)):
        count = sum(bounds.requests for bounds in edges[clock].values())
        placed[clock] = ClockOffset(clock, 0, MISSING_NS, MISSING_NS, count, corrected=False, consistent=False)
    del placed[root]
    return placed


def _weight(neighbours: Mapping[str, _Bounds], placed: Mapping[str, ClockOffset]) -> int:
    return sum(bounds.requests for name, bounds in neighbours.items() if name in placed)


def _place(clock: str, neighbours: Mapping[str, _Bounds], placed: Mapping[str, ClockOffset]) -> ClockOffset:
    """``clock`` against the neighbours whose offsets are known. Bounds of a chain add; several chains are intersected."""
    known = sorted((name for name in neighbours if name in placed), key=lambda name: -neighbours[name].requests)
    chained = [_chained(neighbours[name], placed[name].low_ns, placed[name].high_ns) for name in known]
    truth = _intersect([b.low_ns for b in chained], [b.high_ns for b in chained])
    # Against where the neighbours were put, not where they may lie: keeps callee inside caller after the correction.
    fitting = [_chained(neighbours[name], placed[name].offset_ns, placed[name].offset_ns) for name in known]
    fit = _intersect([b.low_ns for b in fitting], [b.high_ns for b in fitting])
    agreed = truth.consistent and all(neighbours[name].consistent for name in known)
    wanted = (0, *(placed[name].offset_ns for name in known))
    kept = (offset_ns for offset_ns in wanted if fit.contains(offset_ns) and truth.contains(offset_ns))
    low_is_near, high_is_near = any(neighbours[name].low_is_near for name in known), any(neighbours[name].high_is_near for name in known)
    fit = fit._replace(low_is_near=low_is_near, high_is_near=high_is_near)
    likeliest_ns = min(max(fit.likeliest_ns, truth.low_ns), truth.high_ns)
    offset_ns = next(kept, likeliest_ns)
    consistent = agreed and all(placed[name].consistent for name in known)
    requests = sum(neighbours[name].requests for name in known)
    return ClockOffset(clock, offset_ns, truth.low_ns, truth.high_ns, requests, offset_ns != 0, consistent)


def _chained(bounds: _Bounds, low_ns: int, high_ns: int) -> _Bounds:
    return bounds._replace(low_ns=low_ns + bounds.low_ns, high_ns=high_ns + bounds.high_ns)


def _edges(constraints: Iterable[Constraint]) -> _Edges:
    """Both directions of every pair of clocks that a request ties together."""
    lows: dict[tuple[str, str], list[int]] = defaultdict(list)
    highs: dict[tuple[str, str], list[int]] = defaultdict(list)
    near: dict[tuple[str, str], tuple[bool, bool]] = defaultdict(lambda: (False, False))
    for c in constraints:
        one_way = c.clock < c.reference
        pair = (c.clock, c.reference) if one_way else (c.reference, c.clock)
        lows[pair].append(c.low_ns if one_way else -c.high_ns)
        highs[pair].append(c.high_ns if one_way else -c.low_ns)
        low, high = (c.low_is_near, c.high_is_near) if one_way else (c.high_is_near, c.low_is_near)
        near[pair] = near[pair][0] or low, near[pair][1] or high
    edges: dict[str, dict[str, _Bounds]] = defaultdict(dict)
    for (clock, reference), low_ns in lows.items():
        if clock != reference:
            low_is_near, high_is_near = near[clock, reference]
            bounds = _intersect(low_ns, highs[clock, reference])._replace(low_is_near=low_is_near, high_is_near=high_is_near)
            edges[clock][reference] = bounds
            edges[reference][clock] = bounds.reversed()
    return edges


def _intersect(low_ns: Sequence[int], high_ns: Sequence[int]) -> _Bounds:
    """The bounds that all requests share; if none, those of all but 1 % on each side; if still none, those of the most that agree."""
    # float64 is exact to 104 days of ns, and stamps that lie by centuries cannot overflow it.
    lows, highs = np.array(low_ns, np.float64), np.array(high_ns, np.float64)
    low, high = int(lows.max()), int(highs.min())
    if low > high:
        low, high = _trimmed(lows, highs)
    consistent = low - high <= TOLERANCE_NS
    if not consistent:
        low, high = _most_agreed(lows, highs)
    return _Bounds(min(low, high), max(low, high), consistent, len(lows))


def _most_agreed(lows: npt.NDArray[np.float64], highs: npt.NDArray[np.float64]) -> tuple[int, int]:
    """The bounds shared by as many requests as possible; zero's own, when nearly as many allow it. Requests that fit no offset do not count."""
    possible = lows <= highs
    if not possible.any():
        return int(highs.min()), int(lows.max())
    lows, highs = lows[possible], highs[possible]
    at = np.concatenate([lows, highs])
    # Openings before closings at one instant: bounds are inclusive.
    order = np.lexsort((np.repeat([0, 1], len(lows)), at))
    depth = np.cumsum(np.repeat([1, -1], len(lows))[order])
    deepest = int(depth.argmax())
    allowing_zero = (lows <= TOLERANCE_NS) & (highs >= -TOLERANCE_NS)
    if allowing_zero.sum() >= _NEARLY_AS_MANY * depth[deepest]:
        agreed = allowing_zero
    else:
        point = at[order[deepest]]
        agreed = (lows <= point) & (highs >= point)
    return int(lows[agreed].max()), int(highs[agreed].min())


def _trimmed(lows: npt.NDArray[np.float64], highs: npt.NDArray[np.float64]) -> tuple[int, int]:
    skip = math.floor(len(lows) * _TRIM_SHARE)
    at = len(lows) - 1 - skip
    return int(np.partition(lows, at)[at]), int(np.partition(highs, skip)[skip])
