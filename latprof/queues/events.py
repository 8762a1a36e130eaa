"""The event heap of virtual time: the earliest first, ties in the order they were scheduled, so that a run repeats to the bit."""

from __future__ import annotations

import heapq
from typing import Generic, TypeVar

E = TypeVar("E")


class EventHeap(Generic[E]):
    """What will happen, by when. Time never runs backwards: an event cannot be put before the one last taken."""

    def __init__(self) -> None:
        self._heap: list[tuple[int, int, E]] = []
        self._order = 0  # breaks ties; events themselves are never compared
        self.now_ns = 0

    def __len__(self) -> int:
        return len(self._heap)

    def push(self, at_ns: int, event: E) -> None:
        """Schedule ``event``.

        Raises:
            ValueError: ``at_ns`` lies before the event last popped.
        """
        if at_ns < self.now_ns:
            raise ValueError(f"an event at {at_ns} ns lies before the present, {self.now_ns} ns")
        self._order += 1
        heapq.heappush(self._heap, (at_ns, self._order, event))

    def pop(self) -> tuple[int, E]:
        """The next event and its time, which becomes the present.

        Raises:
            IndexError: nothing is scheduled.
        """
        self.now_ns, _, event = heapq.heappop(self._heap)
        return self.now_ns, event
