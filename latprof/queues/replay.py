r"""Requests once more through their stations, in virtual time: what happens to every wait when services, servers or arrivals change.

    due -> [gate] -> delay -> (station) -> delay -> (station) -> ... -> delay -> (decode pool) -> first token -> back -> first token here
                                                                                              \-> last token -> stream -> last token here

Services come as columns, one number per request, so two replays of the same requests share every draw. A departure from a first-come station is
known on arrival, from the times at which its servers are free.
"""

from __future__ import annotations

import heapq
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import cycle
from typing import NamedTuple

from latprof.queues.batch import BatchMachine
from latprof.queues.courses import Course, Session
from latprof.queues.path import ABSENT, Lockstep, Slots, Stack
from latprof.queues.sharing import SharingMachine

# More servers than any replay has requests in flight are no limit, and their free times would only take memory.
_MOST_SERVERS = 1 << 14


@dataclass(slots=True)
class Replayed:
    """One row per request that went, in order of its due time being known; columns of equal length, ns.

    ``arrived_ns``, ``admitted_ns``, ``first_ns`` and ``last_ns`` are the pool's stamps; ``first_here_ns`` and ``last_here_ns`` the client's.
    ``waits_ns`` has a column per station. ``sessions`` are (start, end) of every session that came to its last step's end, and its number.
    """

    job: list[int] = field(default_factory=list)
    due_ns: list[int] = field(default_factory=list)
    gate_wait_ns: list[int] = field(default_factory=list)
    waits_ns: list[list[int]] = field(default_factory=list)
    arrived_ns: list[int] = field(default_factory=list)
    admitted_ns: list[int] = field(default_factory=list)
    first_ns: list[int] = field(default_factory=list)
    last_ns: list[int] = field(default_factory=list)
    first_here_ns: list[int] = field(default_factory=list)
    last_here_ns: list[int] = field(default_factory=list)
    sessions: list[tuple[int, int, int]] = field(default_factory=list)


def replay(
    stack: Stack, sessions: Sequence[Session], *, places: int | None = None, until_ns: int | None = None, again: bool = False
) -> Replayed:
    """Replay ``sessions``: each from its own start; with ``places`` from the first start on, as a place becomes free, in their order.

    ``until_ns``: no request due at that time or later goes. ``again``: in a closed loop the sessions are taken again from the first, as often
    as there is time. Ties go to what was known first, so that a replay repeats to the bit.

    Raises:
        ValueError: a station without servers, places without a session, or sessions again without an end.
    """
    if places is not None and (places < 1 or not sessions):
        raise ValueError(f"a closed loop needs a place and a session, got {places} places and {len(sessions)} sessions")
    if any(station.servers < 1 for station in stack.stations):
        raise ValueError("every station needs at least one server")
    if again and until_ns is None:
        raise ValueError("sessions that are taken again need a time at which it ends, got none")
    return _Replay(stack, sessions, places, until_ns, again=again).run()


# What happens to a row next; kept as small numbers because a replay takes some millions of them.
_START, _DUE, _GATED, _STATION, _POOL, _ENDED = range(6)


class _Event(NamedTuple):
    at_ns: int
    order: int
    what: int
    row: int  # of a request; of `_START` the session's number
    station: int


class _Replay:
    """The state of one replay."""

    def __init__(self, stack: Stack, sessions: Sequence[Session], places: int | None, until_ns: int | None, *, again: bool) -> None:
        self._stack, self._sessions, self._until_ns = stack, sessions, until_ns
        self._out = Replayed(waits_ns=[[] for _ in stack.stations])
        self._events: list[_Event] = []
        self._order = 0
        self._courses: list[tuple[Course, int, int]] = []  # per row: its session, the session's number, the step
        self._free_ns = [[0] * min(station.servers, _MOST_SERVERS) for station in stack.stations]
        pool = stack.pool
        self._batch: BatchMachine[int] | SharingMachine[int] | None = None
        if isinstance(pool, Lockstep) and pool.makes_first:
            self._batch = BatchMachine(pool.t1_ns, pool.per_sequence_ns, pool.slots, keep_segments=False)
        elif isinstance(pool, Lockstep):
            self._batch = SharingMachine(pool.t1_ns, pool.per_sequence_ns, pool.slots)
        self._slots_free_ns = [0] * min(pool.slots, _MOST_SERVERS)
        self._past_gate = 0
        self._at_gate: deque[int] = deque()
        self._following = self._queue(places, again=again)

    def _queue(self, places: int | None, *, again: bool) -> Iterator[int]:
        """Let the first sessions go; the numbers of those that a free place takes."""
        numbers = range(len(self._sessions))
        if places is None:
            for number in numbers:
                self._push(self._sessions[number].start_ns, _START, number)
            return iter(())
        following = iter(cycle(numbers) if again else numbers)
        begin_ns = min(session.start_ns for session in self._sessions)
        for _, number in zip(range(places), following, strict=False):
            self._push(begin_ns, _START, number)
        return following

    def run(self) -> Replayed:
        handlers = (self._start, self._due, self._gated, self._station, self._pool, self._ended)
        events, batch = self._events, self._batch
        while True:
            due_ns = batch.next_ns if batch is not None else None
            if events and (due_ns is None or events[0].at_ns <= due_ns):
                event = heapq.heappop(events)
                handlers[event.what](event.at_ns, event.row, event.station)
            elif batch is not None and due_ns is not None:
                self._advance(batch, due_ns)
            else:
                return self._out

    def _push(self, at_ns: int, what: int, row: int, station: int = 0) -> None:
        self._order += 1
        heapq.heappush(self._events, _Event(at_ns, self._order, what, row, station))

    # --- sessions -------------------------------------------------------------------------------------------------------------------------

    def _start(self, now_ns: int, number: int, _: int) -> None:
        if self._until_ns is None or now_ns < self._until_ns:
            self._go_on(Course(self._sessions[number], now_ns), number)

    def _go_on(self, course: Course, number: int) -> None:
        out = self._out
        for step, due_ns in course.due(self._until_ns):
            row = len(out.job)
            out.job.append(course.session.steps[step].job)
            out.due_ns.append(due_ns)
            self._courses.append((course, number, step))
            for column in (
                out.gate_wait_ns,
                out.arrived_ns,
                out.admitted_ns,
                out.first_ns,
                out.last_ns,
                out.first_here_ns,
                out.last_here_ns,
            ):
                column.append(0)
            for waits_ns in out.waits_ns:
                waits_ns.append(0)
            self._push(due_ns, _DUE, row)
        if not course.open:
            if course.is_over:
                out.sessions.append((number, course.start_ns, course.end_ns))
            following = next(self._following, None)
            if following is not None:
                self._push(course.end_ns, _START, following)

    def _ended(self, now_ns: int, row: int, _: int) -> None:
        if self._stack.gate is not None:
            self._past_gate -= 1
            if self._at_gate:
                self._pass_gate(now_ns, self._at_gate.popleft())
        course, number, step = self._courses[row]
        course.ended(step, now_ns)
        self._go_on(course, number)

    # --- the path -------------------------------------------------------------------------------------------------------------------------

    def _due(self, now_ns: int, row: int, _: int) -> None:
        before_ns = self._stack.before_gate_ns[self._out.job[row]]
        if self._stack.gate is None:
            self._onward(now_ns + before_ns, row, 0)
        else:
            self._push(now_ns + before_ns, _GATED, row)

    def _gated(self, now_ns: int, row: int, _: int) -> None:
        self._out.gate_wait_ns[row] = -now_ns
        if self._past_gate < (self._stack.gate or 0):
            self._pass_gate(now_ns, row)
        else:
            self._at_gate.append(row)

    def _pass_gate(self, now_ns: int, row: int) -> None:
        self._past_gate += 1
        self._out.gate_wait_ns[row] += now_ns
        self._onward(now_ns, row, 0)

    def _onward(self, now_ns: int, row: int, station: int) -> None:
        """To the next station the job passes, or to the pool."""
        job, stations = self._out.job[row], self._stack.stations
        while station < len(stations):
            now_ns += stations[station].delay_ns[job]
            if stations[station].service_ns[job] != ABSENT:
                self._push(now_ns, _STATION, row, station)
                return
            station += 1
        self._push(now_ns + self._stack.to_pool_ns[job], _POOL, row)

    def _station(self, now_ns: int, row: int, station: int) -> None:
        free_ns = self._free_ns[station]
        started_ns = max(now_ns, free_ns[0])
        ended_ns = started_ns + self._stack.stations[station].service_ns[self._out.job[row]]
        heapq.heapreplace(free_ns, ended_ns)
        self._out.waits_ns[station][row] = started_ns - now_ns
        self._onward(ended_ns, row, station + 1)

    # --- decode ---------------------------------------------------------------------------------------------------------------------------

    def _pool(self, now_ns: int, row: int, _: int) -> None:
        job, pool = self._out.job[row], self._stack.pool
        self._out.arrived_ns[row] = now_ns
        if isinstance(pool, Slots):
            self._take_slot(pool, now_ns, row, job)
        elif pool.iterations[job] < 1:
            self._tell(row, now_ns, now_ns, now_ns)
        elif isinstance(self._batch, BatchMachine):
            self._batch.arrive(now_ns, row, pool.iterations[job], pool.extra_ns[job])
        elif self._batch is not None:
            self._batch.arrive(now_ns, row, pool.iterations[job])

    def _take_slot(self, pool: Slots, now_ns: int, row: int, job: int) -> None:
        admitted_ns = max(now_ns, self._slots_free_ns[0])
        first_ns = admitted_ns + pool.first_ns[job] if pool.makes_first else now_ns
        last_ns = admitted_ns + pool.first_ns[job] + pool.rest_ns[job]
        heapq.heapreplace(self._slots_free_ns, last_ns)
        self._tell(row, admitted_ns, first_ns, last_ns)

    def _advance(self, batch: BatchMachine[int] | SharingMachine[int], now_ns: int) -> None:
        out, makes_first = self._out, isinstance(batch, BatchMachine)
        for told in batch.advance(now_ns):
            row = told.job
            if told.kind == "first":
                out.first_ns[row] = told.at_ns
            else:
                self._tell(row, told.admitted_ns, out.first_ns[row] if makes_first else out.arrived_ns[row], told.at_ns)

    def _tell(self, row: int, admitted_ns: int, first_ns: int, last_ns: int) -> None:
        out, stack, job = self._out, self._stack, self._out.job[row]
        out.admitted_ns[row], out.first_ns[row], out.last_ns[row] = admitted_ns, first_ns, last_ns
        out.first_here_ns[row] = first_ns + stack.late_ns[job] + stack.back_ns[job]
        out.last_here_ns[row] = max(last_ns, out.first_here_ns[row]) + stack.stream_ns[job]
        self._push(out.last_here_ns[row] + stack.rest_ns[job], _ENDED, row)
