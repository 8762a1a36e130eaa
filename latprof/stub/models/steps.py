"""Steps of an engine: runs of iterations whose length grows evenly, in ticks of 2^-30 ns, and how they are logged as equal steps.

The i-th iteration of a step lasts ``base + growth * i``, so that k of them last S(k) = k*base + growth*k*(k-1)/2, an exact integer.
A boundary's time in ns is the floor of its ticks.
"""

from __future__ import annotations

from collections.abc import Iterable
from math import ceil, isqrt, sqrt
from typing import Final

from latprof.stub.models.costs import TICK_BITS

Step = tuple[int, int, int, int, int]
"""(first iteration, start in ticks, base, growth, count)."""
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


def segments_of(steps: Iterable[Step]) -> list[Segment]:
    """``steps`` as equal steps of whole ns, whose total is exact, and so is every end of a piece."""
    segments: list[Segment] = []
    for first, start, base, growth, count in steps:
        start_ns = start >> TICK_BITS
        if count == 1:
            segments.append((first, start_ns, ((start + base) >> TICK_BITS) - start_ns, 1))
        elif not growth:
            _add_even(segments, first, start_ns, (start + count * base) >> TICK_BITS, count)
        else:
            _add_growing(segments, first, start, base, growth, count)
    return segments


def _add_growing(segments: list[Segment], first: int, start: int, base: int, growth: int, count: int) -> None:
    """A step in pieces that are straight enough."""
    done = 0
    while done < count:
        step = base + growth * done
        piece = count - done
        if growth * piece * piece * _BENT > step:
            piece = min(piece, max(1, isqrt(step // (growth * _BENT))))
        over = done + piece
        start_ns = (start + done * base + growth * (done * (done - 1) // 2)) >> TICK_BITS
        end_ns = (start + over * base + growth * (over * (over - 1) // 2)) >> TICK_BITS
        _add_even(segments, first + done, start_ns, end_ns, piece)
        done = over


def _add_even(segments: list[Segment], first: int, start_ns: int, end_ns: int, count: int) -> None:
    step_ns, longer = divmod(end_ns - start_ns, count)
    shorter = count - longer
    segments.append((first, start_ns, step_ns, shorter))
    if longer:  # the remainder, one ns to each of the last
        segments.append((first + shorter, start_ns + step_ns * shorter, step_ns + 1, longer))
