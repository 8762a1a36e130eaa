"""A station that holds its place while it waits for what lies behind it: the wait that delays behind it cause. Pure.

    arrive -> [ waiting ... ] -> [ places: own work, then everything behind ] -> over

A place is held for as long as the rest of the request's way takes; a delay anywhere behind is held for too, and everybody who waits, waits longer.
"""

from __future__ import annotations

import heapq
from collections.abc import Sequence


def waits_ns(arrived_ns: Sequence[int], held_ns: Sequence[int], places: int) -> list[int]:
    """How long each request waits for a place, first come first served (Kiefer and Wolfowitz 1955, the recursion over free places).

    ``arrived_ns`` ascends; ``held_ns`` is how long each keeps its place once it has it.

    Raises:
        ValueError: fewer than one place, columns of different length, or arrivals out of order.
    """
    if places < 1:
        raise ValueError(f"a station needs at least one place, got {places}")
    free_ns: list[int] = []
    waits: list[int] = []
    last_ns = None
    for at_ns, length_ns in zip(arrived_ns, held_ns, strict=True):
        if last_ns is not None and at_ns < last_ns:
            raise ValueError(f"arrivals must ascend, got {at_ns} ns after {last_ns} ns")
        last_ns = at_ns
        begun_ns = at_ns if len(free_ns) < places else max(at_ns, heapq.heappop(free_ns))
        heapq.heappush(free_ns, begun_ns + length_ns)
        waits.append(begun_ns - at_ns)
    return waits
