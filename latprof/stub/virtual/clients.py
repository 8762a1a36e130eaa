"""The clients in virtual time: sessions begin, their turns go when they are due, places are handed on; nobody is ever late.

    open loop     intended = T0 + offset --place under the cap--> start --stack--> end
    closed loop   intended = when a place became free (the first ones: T0)
    next turn     intended = last end among the steps it comes after + think time, and not before at_ns

Phases follow each other: one begins when every call of the one before is answered.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import NamedTuple

from latprof.stub.models.draws import Key
from latprof.stub.virtual.calendar import Calendar
from latprof.stub.virtual.call import Call, Then, VirtualPhase, VirtualSession, VirtualTool, VirtualTurn
from latprof.stub.virtual.integrals import Reading


class Driven(NamedTuple):
    """One phase as it went: its T0 and when its last call was answered."""

    start_ns: int
    end_ns: int


class _Going:
    """One session on its way. ``missing`` are how many steps each step still waits for, ``ready_ns`` the last end among those that ended."""

    __slots__ = ("branches", "end_ns", "followers", "missing", "ready_ns", "session", "start_ns")

    def __init__(self, session: VirtualSession, start_ns: int) -> None:
        self.session, self.start_ns, self.end_ns = session, start_ns, start_ns
        self.branches = 0  # turns due or under way
        self.missing = [len(set(step.before)) for step in session.steps]
        self.ready_ns = [start_ns] * len(session.steps)
        self.followers: list[list[int]] = [[] for _ in session.steps]
        for number, step in enumerate(session.steps):
            for before in set(step.before):
                self.followers[before].append(number)


class Clients:
    """Drives the phases one after the other; every call goes to ``send`` and comes back to `answered`.

    ``seed`` is that of the stack's draws. ``on_phase`` is told when a phase begins and when one is over.
    """

    def __init__(self, calendar: Calendar, seed: int, phases: Sequence[VirtualPhase], on_phase: Callable[[int], None]) -> None:
        self.servers: int | None = None
        self.driven: list[Driven] = []
        self.turns = [0] * len(phases)  # of the sessions that began
        self._calendar = calendar
        self._at = calendar.at
        self._seed = seed
        self._phases = phases
        self._on_phase = on_phase
        self._send: Then
        self._requests = self._in_flight = 0
        self._waiting: deque[Call] = deque()
        self._present_ns = 0  # when calls were answered minus when they went, summed up

    def start(self, send: Then) -> None:
        """The first phase begins now; calls go to ``send``."""
        self._send = send
        self._begin_phase(0)

    def read(self, now_ns: int) -> Reading:
        """The integrals of the whole stack up to now.

        Raises:
            RuntimeError: a call is under way.
        """
        if self._in_flight:
            raise RuntimeError(f"the stack is read at {now_ns} ns, when {self._in_flight} calls are under way")
        return Reading(self._present_ns, self._present_ns)

    # --- phases --------------------------------------------------------------------------------------------------------------------------

    def _begin_phase(self, now_ns: int) -> None:
        number = len(self.driven)
        if number == len(self._phases):
            return
        self._phase = phase = self._phases[number]
        self._start_ns = now_ns
        self._end_ns = None if phase.duration_ns is None else now_ns + phase.duration_ns
        self._sessions: Iterator[VirtualSession] = iter(phase.sessions)
        self._active = 1  # sessions under way, and the one that waits for its start
        self._on_phase(now_ns)
        if phase.concurrency is None:
            self._at(now_ns, self._next_open, None)
        else:
            self._active = phase.concurrency
            for _ in range(phase.concurrency):
                self._at(now_ns, self._next_closed, None)

    def _left(self, now_ns: int) -> None:
        """One session or place less; without any the phase is over."""
        self._active -= 1
        if self._active == 0:
            self.driven.append(Driven(self._start_ns, now_ns))
            self._on_phase(now_ns)
            self._begin_phase(now_ns)

    def _next_open(self, now_ns: int, session: VirtualSession | None) -> None:
        """``session`` begins (None: the phase does), and the one after it is written down."""
        following = next(self._sessions, None)
        if following is not None:
            self._active += 1
            self._at(self._start_ns + (following.offset_ns or 0), self._next_open, following)
        if session is None:
            self._left(now_ns)
        else:
            self._begin(session, now_ns)

    def _next_closed(self, now_ns: int, _: None) -> None:
        """A place is free."""
        session = None if self._is_past(now_ns) else next(self._sessions, None)
        if session is None:
            self._left(now_ns)
        else:
            self._begin(session, now_ns)

    def _is_past(self, at_ns: int) -> bool:
        return self._end_ns is not None and at_ns >= self._end_ns

    # --- sessions ------------------------------------------------------------------------------------------------------------------------

    def _begin(self, session: VirtualSession, now_ns: int) -> None:
        first = session.steps[0]
        if len(session.steps) == 1 and isinstance(first, VirtualTurn):  # always sent, as the live client has it
            self.turns[len(self.driven)] += 1
            self._begin_sole(session, first, now_ns)
            return
        going = _Going(session, now_ns)
        self.turns[len(self.driven)] += sum(isinstance(step, VirtualTurn) for step in session.steps)
        for one in self._due(going, [number for number, missing in enumerate(going.missing) if missing == 0]):
            self._branch(going, (one,))
        if going.branches == 0:
            self._over(max(now_ns, going.end_ns), now_ns)

    def _begin_sole(self, session: VirtualSession, turn: VirtualTurn, now_ns: int) -> None:
        """Nothing comes after its turn: most sessions of most workloads, so it is not kept."""
        due_ns = _due_ns(turn, now_ns, now_ns)
        self._write_down(Call(Key(self._seed, session.session, 0), 0, turn, session.phase, due_ns, None))

    def _branch(self, going: _Going, due: Sequence[tuple[int, int]]) -> None:
        """Turns that are due now; of several the first goes on with the branch. Where it comes after the end, the branch is over."""
        if due and not self._is_past(due[0][1]):
            step, due_ns = due[0]
            going.branches += 1
            turn = going.session.steps[step]
            assert isinstance(turn, VirtualTurn), "only turns are due"  # noqa: S101 - for the type checker
            key = Key(self._seed, going.session.session, step)
            self._write_down(Call(key, step, turn, going.session.phase, due_ns, going))
            for one in due[1:]:
                self._branch(going, (one,))

    def _write_down(self, call: Call) -> None:
        """A call that will be ready at its intended start, which may be now."""
        if call.intended_ns == self._calendar.now_ns:
            self._ready(call.intended_ns, call)
        else:
            self._at(call.intended_ns, self._ready, call)

    def _due(self, going: _Going, steps: Iterable[int]) -> list[tuple[int, int]]:
        """The turns among ``steps``, which wait for nothing more, and among what follows their tools: (step, intended start), by number."""
        due: list[tuple[int, int]] = []
        ready = deque(steps)
        while ready:
            number = ready.popleft()
            step = going.session.steps[number]
            if isinstance(step, VirtualTool):
                ready.extend(self._freed(going, number, going.ready_ns[number] + step.takes_ns))
            else:
                due.append((number, _due_ns(step, going.ready_ns[number], going.start_ns)))
        return sorted(due)

    @staticmethod
    def _freed(going: _Going, step: int, end_ns: int) -> Iterator[int]:
        """The steps that wait for nothing more now that ``step`` has its end."""
        going.end_ns = max(going.end_ns, end_ns)
        for follower in going.followers[step]:
            going.missing[follower] -= 1
            going.ready_ns[follower] = max(going.ready_ns[follower], end_ns)
            if going.missing[follower] == 0:
                yield follower

    def _over(self, end_ns: int, now_ns: int) -> None:
        """A session's last turn is answered; a place is kept until its last tool is done, at ``end_ns``."""
        if self._phase.concurrency is None:
            self._left(now_ns)
        else:
            self._at(end_ns, self._next_closed, None)

    # --- calls ---------------------------------------------------------------------------------------------------------------------------

    def _ready(self, now_ns: int, call: Call) -> None:
        """The call's intended start: it goes, or waits for a place."""
        call.number = self._requests
        self._requests += 1
        limit = self._phase.max_concurrency
        if limit is not None and self._in_flight >= limit:
            self._waiting.append(call)
        else:
            self._in_flight += 1
            self._let_go(now_ns, call)

    def _let_go(self, now_ns: int, call: Call) -> None:
        call.start_ns = now_ns
        self._present_ns -= now_ns
        self._send(now_ns, call)

    def answered(self, now_ns: int, call: Call) -> None:
        """The last token is at the client: its place goes to the one that has waited longest, and its session goes on."""
        self._present_ns += now_ns
        if self._waiting:
            self._let_go(now_ns, self._waiting.popleft())
        else:
            self._in_flight -= 1
        going: _Going | None = call.client
        if going is None:
            self._over(now_ns, now_ns)
            return
        going.branches -= 1
        self._branch(going, self._due(going, tuple(self._freed(going, call.step, now_ns))))
        if going.branches == 0:
            self._over(max(now_ns, going.end_ns), now_ns)


def _due_ns(turn: VirtualTurn, ready_ns: int, start_ns: int) -> int:
    at_ns = ready_ns + turn.think_ns
    return at_ns if turn.at_ns is None else max(at_ns, start_ns + turn.at_ns)
