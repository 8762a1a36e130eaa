"""Steps of an engine: runs of iterations whose length grows evenly, in ticks of 2^-30 ns, and how they are logged as equal steps.

The i-th iteration of a step lasts ``base + growth * i``, so that k of them last S(k) = k*base + growth*k*(k-1)/2, an exact integer.
A boundary's time in ns is the floor of its ticks.
"""

from __future__ import annotations

from math import ceil, isqrt, sqrt
from typing import Final

from latprof.stub.models.costs import TICK_BITS

Segment = tuple[int, int, int, int]
"""(first iteration, start ns, step ns, count): iteration number ``first + i`` ends at ``start + step * (i + 1)``."""

_BENT: Final = 32  # a straight piece of c iterations strays by growth * c^2 / 8 at most: below 1/256 of a step


def iterations_until(base: int, growth: int, need: int) -> int:
    """The fewest iterations, at least 1, that last ``need`` ticks or more."""
    if growth == 0:
        return max(1, -(-need // base))
    half = base - growth / 2
    k = max(1, ceil(2 * need / (half + sqrt(max(0.0, half * half + 2.0 * growth * need)))))
    while k * base + growth * (k * (k - 1) // 2) < need:  # a float's last digits: one round at most
        k += 1
    while k > 1 and (k - 1) * base + growth * ((k - 1) * (k - 2) // 2) >= need:
        k -= 1
    return k


class SegmentLog:
    """The iterations that are over, until they are taken."""

    __slots__ = ("_segments",)

    def __init__(self) -> None:
        self._segments: list[Segment] = []

    def add(self, first: int, start: int, base: int, growth: int, count: int) -> None:
        """Log a step of ``count`` iterations from tick ``start``. Equal steps of whole ns whose total is exact, and so is every end of a piece."""
        if count == 1 or not growth:
            start_ns = start >> TICK_BITS
            self._piece(first, start_ns, (start + count * base) >> TICK_BITS, count)
            return
        done = 0
        while done < count:
            step = base + growth * done
            piece = count - done
            if growth * piece * piece * _BENT > step:
                piece = min(piece, max(1, isqrt(step // (growth * _BENT))))
            over = done + piece
            start_ns = (start + done * base + growth * (done * (done - 1) // 2)) >> TICK_BITS
            end_ns = (start + over * base + growth * (over * (over - 1) // 2)) >> TICK_BITS
            self._piece(first + done, start_ns, end_ns, piece)
            done = over

    def take(self) -> list[Segment]:
        """All segments since the last call."""
        taken, self._segments = self._segments, []
        return taken

    def _piece(self, first: int, start_ns: int, end_ns: int, count: int) -> None:
        step_ns, longer = divmod(end_ns - start_ns, count)
        shorter = count - longer
        self._segments.append((first, start_ns, step_ns, shorter))
        if longer:  # the remainder, one ns to each of the last
            self._segments.append((first + shorter, start_ns + step_ns * shorter, step_ns + 1, longer))
