from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from latprof.queues.events import EventHeap
from latprof.queues.station import Begun, Station

JOBS = st.lists(st.tuples(st.integers(0, 50), st.integers(0, 30)), min_size=1, max_size=60)  # gap before it, service


def play(servers: int, jobs: list[tuple[int, int]]) -> list[Begun[int]]:
    """Every job's Begun, in order of beginning; a finish before an arrival of the same instant."""
    station: Station[int] = Station(servers)
    heap: EventHeap[tuple[int, int] | None] = EventHeap()
    began: list[Begun[int]] = []

    def note(begun: Begun[int] | None) -> None:
        if begun is not None:
            began.append(begun)
            heap.push(begun.ends_ns, None)

    at_ns = 0
    for job, (gap_ns, service_ns) in enumerate(jobs):
        at_ns += gap_ns
        heap.push(at_ns, (job, service_ns))
    while heap:
        now_ns, event = heap.pop()
        note(station.finish(now_ns) if event is None else station.arrive(now_ns, *event))
    assert station.running == 0
    assert station.waiting == 0
    return began


@given(st.integers(1, 4), JOBS)
def test_every_job_is_served_once_in_order_and_never_before_it_came(servers: int, jobs: list[tuple[int, int]]) -> None:
    began = play(servers, jobs)
    assert [begun.job for begun in began] == list(range(len(jobs)))
    assert all(begun.started_ns >= begun.arrived_ns for begun in began)
    assert [begun.ends_ns - begun.started_ns for begun in began] == [service_ns for _, service_ns in jobs]


@given(st.integers(1, 4), JOBS)
def test_no_server_idles_while_a_job_waits_and_none_serves_two(servers: int, jobs: list[tuple[int, int]]) -> None:
    free_at_ns = [0] * servers  # Kiefer-Wolfowitz: the same station written as a recursion
    for begun in play(servers, jobs):
        free_at_ns.sort()
        assert begun.started_ns == max(begun.arrived_ns, free_at_ns[0])
        free_at_ns[0] = begun.ends_ns


def test_a_late_finish_is_passed_on_to_whoever_waits() -> None:
    station: Station[str] = Station(1)
    first = station.arrive(0, "a", 10)
    assert first is not None
    assert station.arrive(1, "b", 5) is None
    assert station.waiting == 1
    assert station.finish(first.ends_ns + 3) == Begun("b", 1, 13, 18)


def test_a_service_may_be_asked_for_when_it_begins() -> None:
    station: Station[str] = Station(1)
    known = 10
    station.arrive(0, "a", 5)
    station.arrive(0, "b", lambda: known)
    known = 20
    begun = station.finish(5)
    assert begun is not None
    assert begun.ends_ns == 25


def test_misuse_is_an_error() -> None:
    with pytest.raises(ValueError, match="at least one server"):
        Station(0)
    with pytest.raises(RuntimeError, match="without a job"):
        Station(1).finish(0)
