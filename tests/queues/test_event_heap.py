from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from latprof.queues.events import EventHeap


@given(st.lists(st.integers(0, 20)))
def test_events_come_in_time_order_and_ties_in_the_order_scheduled(times: list[int]) -> None:
    heap: EventHeap[int] = EventHeap()
    for index, at_ns in enumerate(times):
        heap.push(at_ns, index)
    popped = [heap.pop() for _ in times]
    assert popped == sorted((at_ns, index) for index, at_ns in enumerate(times))
    assert len(heap) == 0


def test_time_does_not_run_backwards() -> None:
    heap: EventHeap[str] = EventHeap()
    heap.push(10, "a")
    heap.pop()
    heap.push(10, "same instant is fine")
    with pytest.raises(ValueError, match="before the present"):
        heap.push(9, "past")


def test_events_need_no_order_of_their_own() -> None:
    heap: EventHeap[object] = EventHeap()
    first, second = object(), object()
    heap.push(1, first)
    heap.push(1, second)
    assert [heap.pop()[1], heap.pop()[1]] == [first, second]
