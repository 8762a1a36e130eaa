from __future__ import annotations

from bisect import bisect_right
from collections import defaultdict
from collections.abc import Sequence
from typing import NamedTuple

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from latprof.config import Decode
from latprof.queues.batch import BatchMachine, Out, Segment
from latprof.queues.events import EventHeap
from latprof.stub.models.decode import DecodePool, Iteration

T1, PER_SEQUENCE = 1000, 10


class Asked(NamedTuple):
    at_ns: int
    tokens: int
    extra_ns: int = 0
    leaves_ns: int | None = None


class Told(NamedTuple):
    kind: str
    job: int
    at_ns: int
    admitted_ns: int


class Stepped:
    """`DecodePool` driven through every single iteration: what the macro-steps are held against. At a tie arrivals and leaves come first."""

    def __init__(self, slots: int, asked: Sequence[Asked], per_sequence_ns: float = PER_SEQUENCE) -> None:
        self.pool: DecodePool[int] = DecodePool(
            Decode.model_validate({"slots": slots, "t1": f"{T1}ns", "per_sequence_ns": per_sequence_ns})
        )
        self.told: list[Told] = []
        self.tokens: defaultdict[int, list[int]] = defaultdict(list)
        self._asked = asked
        self._heap: EventHeap[tuple[str, int]] = EventHeap()
        for at_ns, what, job in outside(asked):
            self._heap.push(at_ns, (what, job))
        while self._heap:
            self._step(*self._heap.pop())

    def _step(self, now_ns: int, event: tuple[str, int]) -> None:
        what, job = event
        if what == "arrive":
            self._next(self.pool.arrive(now_ns, job, self._asked[job].tokens, self._asked[job].extra_ns))
        elif what == "leave":
            self.pool.leave(job)
        elif what == "release":
            token, iteration = self.pool.release(now_ns, job)
            if token is not None:
                self._tell(now_ns, job, first=True, last=token.last, admitted_ns=token.admitted_ns)
            self._next(iteration)
        else:
            boundary = self.pool.boundary(now_ns)
            for one in boundary.tokens:
                self._tell(now_ns, one.job, first=one.nth == 0, last=one.last, admitted_ns=one.admitted_ns)
            for held in boundary.held:
                self._heap.push(held.due_ns, ("release", held.job))
            self._next(boundary.next)

    def _tell(self, now_ns: int, job: int, *, first: bool, last: bool, admitted_ns: int) -> None:
        self.tokens[job].append(now_ns)
        if first:
            self.told.append(Told("first", job, now_ns, admitted_ns))
        if last:
            self.told.append(Told("ended", job, now_ns, admitted_ns))

    def _next(self, iteration: Iteration | None) -> None:
        if iteration is not None:
            self._heap.push(iteration.ends_ns, ("boundary", -1))


def outside(asked: Sequence[Asked]) -> list[tuple[int, str, int]]:
    """Arrivals and leaves in the order of time."""
    arrivals = [(one.at_ns, 0, job) for job, one in enumerate(asked)]
    leaves = [(one.leaves_ns, 1, job) for job, one in enumerate(asked) if one.leaves_ns is not None]
    return [(at_ns, ("arrive", "leave")[what], job) for at_ns, what, job in sorted([*arrivals, *leaves])]


def driven(machine: BatchMachine[int], asked: Sequence[Asked]) -> tuple[list[Out[int]], int]:
    """Everything the machine tells, and how often it had to be asked."""
    outs: list[Out[int]] = []
    calls = 0
    for at_ns, what, job in outside(asked):
        while (due_ns := machine.next_ns) is not None and due_ns < at_ns:
            outs += machine.advance(due_ns)
            calls += 1
        if what == "arrive":
            machine.arrive(at_ns, job, asked[job].tokens, asked[job].extra_ns)
        else:
            machine.leave(at_ns, job)
    while (due_ns := machine.next_ns) is not None:
        outs += machine.advance(due_ns)
        calls += 1
    return outs, calls


def token_times(outs: Sequence[Out[int]], segments: Sequence[Segment], asked: Sequence[Asked]) -> dict[int, list[int]]:
    """Every token of every stream that ended, from its two stamps and the pool's segments."""
    firsts = {out.job: out.at_ns for out in outs if out.kind == "first"}
    begins = [segment.first_iteration for segment in segments]

    def over_ns(iteration: int) -> int:
        segment = segments[bisect_right(begins, iteration) - 1]
        assert iteration < segment.first_iteration + segment.count
        return segment.start_ns + (iteration - segment.first_iteration + 1) * segment.step_ns

    times = {}
    for out in outs:
        if out.kind == "ended":
            later = asked[out.job].tokens - 1
            times[out.job] = [firsts[out.job], *(over_ns(out.nth - back) for back in range(later - 1, -1, -1))]
    return times


# Multiples of 505 make arrivals fall on boundaries (T1 + PER_SEQUENCE is 1010).
GAPS = st.one_of(st.integers(0, 5000), st.integers(0, 12).map(lambda half: 505 * half))
STREAMS = st.tuples(GAPS, st.integers(1, 9), st.sampled_from([0, 0, 0, 1010, 2500]), st.one_of(st.none(), st.none(), GAPS))


def asked_from(drawn: Sequence[tuple[int, int, int, int | None]]) -> list[Asked]:
    asked, now_ns = [], 0
    for gap_ns, tokens, extra_ns, leaves_after_ns in drawn:
        now_ns += gap_ns
        asked.append(Asked(now_ns, tokens, extra_ns, None if leaves_after_ns is None else now_ns + leaves_after_ns))
    return asked


@settings(max_examples=500)
@given(st.integers(1, 4), st.lists(STREAMS, min_size=1, max_size=25), st.sampled_from([0.0, 10.0, 10.4]))
def test_macro_steps_equal_iteration_by_iteration_to_the_nanosecond(
    slots: int, drawn: list[tuple[int, int, int, int | None]], per_sequence_ns: float
) -> None:
    asked = asked_from(drawn)
    reference = Stepped(slots, asked, per_sequence_ns)
    machine: BatchMachine[int] = BatchMachine(T1, per_sequence_ns, slots)
    outs, _ = driven(machine, asked)
    assert [Told(*out[:4]) for out in outs] == reference.told
    ended = {out.job for out in outs if out.kind == "ended"}
    assert token_times(outs, machine.take_segments(), asked) == {job: reference.tokens[job] for job in ended}
    assert (machine.running, machine.waiting, machine.next_ns) == (0, 0, None)


@given(st.integers(1, 3), st.lists(STREAMS, min_size=1, max_size=15))
def test_it_does_not_matter_how_often_the_driver_looks(slots: int, drawn: list[tuple[int, int, int, int | None]]) -> None:
    asked = asked_from(drawn)
    machine: BatchMachine[int] = BatchMachine(T1, PER_SEQUENCE, slots)
    outs: list[Out[int]] = []
    for at_ns, what, job in outside(asked):
        outs += machine.advance(at_ns - 1)  # everything up to here in one go
        if what == "arrive":
            machine.arrive(at_ns, job, asked[job].tokens, asked[job].extra_ns)
        else:
            machine.leave(at_ns, job)
    outs += machine.advance(10**9)
    assert outs == driven(BatchMachine(T1, PER_SEQUENCE, slots), asked)[0]


def test_the_work_does_not_grow_with_the_tokens() -> None:
    def calls(tokens: int) -> int:
        asked = [Asked(700 * job, tokens) for job in range(200)]
        machine: BatchMachine[int] = BatchMachine(T1, PER_SEQUENCE, 16)
        outs, calls = driven(machine, asked)
        assert sum(out.kind == "ended" for out in outs) == 200
        assert len(machine.take_segments()) <= 2 * 200
        return calls

    assert calls(1_000_000) <= calls(1_000) <= 4 * 200


def test_segments_are_handed_out_once_and_neighbours_of_equal_length_are_one() -> None:
    machine: BatchMachine[int] = BatchMachine(T1, 0.0, 2)
    machine.arrive(0, 1, 4)
    machine.advance(2000)
    machine.arrive(2500, 2, 2)
    machine.advance(10_000)
    assert machine.take_segments() == [Segment(0, 0, 1000, 5)]
    assert machine.take_segments() == []


def test_what_cannot_be_meant_is_refused() -> None:
    with pytest.raises(ValueError, match="a batch needs a slot"):
        BatchMachine(1, 1, 0)
    machine: BatchMachine[int] = BatchMachine(T1, PER_SEQUENCE, 1)
    with pytest.raises(ValueError, match="at least one token"):
        machine.arrive(0, 1, 0)
    machine.arrive(0, 1, 5)
    with pytest.raises(ValueError, match="is here already"):
        machine.arrive(0, 1, 5)
    with pytest.raises(ValueError, match="advance first"):
        machine.arrive(2000, 2, 5)
    machine.leave(0, 7)
    assert machine.next_ns == T1 + PER_SEQUENCE
