"""The replay of held places against the station that the stub is made of."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from latprof.queues.events import EventHeap
from latprof.queues.holding import waits_ns
from latprof.queues.station import Station


def by_station(arrived_ns: list[int], held_ns: list[int], places: int) -> list[int]:
    """The same by events: places are given back before they are asked for at the same instant."""
    station: Station[int] = Station(places)
    heap: EventHeap[tuple[str, int]] = EventHeap()
    waits = [0] * len(arrived_ns)
    for number, at_ns in enumerate(arrived_ns):
        while len(heap) and heap._heap[0][0] <= at_ns:
            now_ns, _ = heap.pop()
            if (begun := station.finish(now_ns)) is not None:
                waits[begun.job] = begun.started_ns - begun.arrived_ns
                heap.push(begun.ends_ns, ("over", begun.job))
        if (begun := station.arrive(at_ns, number, held_ns[number])) is not None:
            heap.push(begun.ends_ns, ("over", number))
    while len(heap):
        now_ns, _ = heap.pop()
        if (begun := station.finish(now_ns)) is not None:
            waits[begun.job] = begun.started_ns - begun.arrived_ns
            heap.push(begun.ends_ns, ("over", begun.job))
    return waits


@given(st.lists(st.tuples(st.integers(0, 50), st.integers(0, 120)), max_size=60), st.integers(1, 5))
def test_waits_are_those_of_a_station(rows: list[tuple[int, int]], places: int) -> None:
    arrived_ns, at_ns = [], 0
    for gap_ns, _ in rows:
        at_ns += gap_ns
        arrived_ns.append(at_ns)
    held_ns = [held for _, held in rows]
    assert waits_ns(arrived_ns, held_ns, places) == by_station(arrived_ns, held_ns, places)


def test_a_delay_behind_the_place_is_waited_for_by_others() -> None:
    assert waits_ns([0, 1, 2], [10, 10, 10], 1) == [0, 9, 18]
    assert waits_ns([0, 1, 2], [15, 10, 10], 1) == [0, 14, 23]  # 5 more for the first are 5 more for everybody behind it
    assert waits_ns([0, 1, 2], [15, 10, 10], 3) == [0, 0, 0]


def test_what_cannot_be_is_said() -> None:
    with pytest.raises(ValueError, match="at least one place, got 0"):
        waits_ns([0], [1], 0)
    with pytest.raises(ValueError, match="arrivals must ascend"):
        waits_ns([5, 4], [1, 1], 1)
    with pytest.raises(ValueError, match="zip"):
        waits_ns([5, 4], [1], 1)
