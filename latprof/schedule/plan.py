"""The plan: every session with its intended start, computed before the first byte is sent."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Literal, overload

from latprof.workload.sessions import Session

WARMUP = "warmup"
"""The one name that says a phase does not count."""

WARMUP_SESSION_BASE = 1 << 30
PREFLIGHT_SESSION = (1 << 31) - 1
"""Warm-up sessions are numbered from here, so that the length of the warm-up never shifts a measured session's draws."""


@dataclass(frozen=True, slots=True)
class Planned:
    """One session and when it should start: ns from the start of its phase; None in a closed loop, where a free place decides.

    ``phase`` is what its rows are called where it is not the name of the whole.
    """

    session: Session
    offset_ns: int | None
    phase: str = ""


class OnDemand(Sequence[Planned]):
    """Sessions of a closed loop that its duration ends, made when asked for: nobody knows beforehand how many it takes.

    ``len`` is how many there may be, not how many there will be (``limit``, or as many as there are numbers): iterate over it lazily.
    """

    def __init__(self, session: Callable[[int], Session], first: int, limit: int | None) -> None:
        self.limit = limit
        self.numbers = range(first, first + (WARMUP_SESSION_BASE if limit is None else limit))
        self._session = session

    def __len__(self) -> int:
        return len(self.numbers)

    @overload
    def __getitem__(self, index: int) -> Planned: ...

    @overload
    def __getitem__(self, index: slice) -> tuple[Planned, ...]: ...

    def __getitem__(self, index: int | slice) -> Planned | tuple[Planned, ...]:
        if isinstance(index, slice):
            return tuple(Planned(self._session(number), None) for number in self.numbers[index])
        return Planned(self._session(self.numbers[index]), None)


class Scheduled(Sequence[Planned]):
    """Sessions of an open loop: number i starts at ``offsets_ns[i]`` (ascending), and its rows are called ``names[i]`` (empty: as the phase).

    Made when looked at: a slice of all of them is the plan that a live run makes beforehand.
    """

    def __init__(self, session: Callable[[int], Session], numbers: range, offsets_ns: Sequence[int], names: Sequence[str] = ()) -> None:
        self.numbers, self.offsets_ns, self.names = numbers, offsets_ns, names
        self._session = session

    def __len__(self) -> int:
        return len(self.numbers)

    @overload
    def __getitem__(self, index: int) -> Planned: ...

    @overload
    def __getitem__(self, index: slice) -> tuple[Planned, ...]: ...

    def __getitem__(self, index: int | slice) -> Planned | tuple[Planned, ...]:
        if isinstance(index, slice):
            return tuple(self[i] for i in range(*index.indices(len(self))))
        name = self.names[index] if self.names else ""
        return Planned(self._session(self.numbers[index]), self.offsets_ns[index], name)


@dataclass(frozen=True, slots=True)
class Part:
    """A phase as it was asked for, where several are driven in one go: when it begins and how long it lasts, and its law in words."""

    name: str
    start_ns: int
    length_ns: int
    arrival: str
    rate: str


@dataclass(frozen=True)
class Phase:
    """A stretch of the schedule that is driven in one go: with one arrival process, or with one after the other (``parts``).

    Open loop: every ``Planned`` has an offset, ascending; ``max_concurrency`` (or None) holds sends back, and that wait is counted.
    Closed loop: ``concurrency`` places take the next session as soon as they are free, until ``duration_ns`` (or None) is over; where the
    duration alone ends it, ``planned`` is `OnDemand`.
    """

    name: str
    planned: Sequence[Planned]
    arrival: str
    rate_per_s: float | None = None
    concurrency: int | None = None
    max_concurrency: int | None = None
    duration_ns: int | None = None
    parts: tuple[Part, ...] = ()

    @property
    def is_measured(self) -> bool:
        """Whether its requests count."""
        return self.name != WARMUP

    @property
    def loop(self) -> Literal["open", "closed"]:
        """The load model; it is printed beside every answer."""
        return "closed" if self.concurrency is not None else "open"

    @cached_property
    def planned_requests(self) -> int | None:
        """How many turns will go if none fails; None where only the time it takes to answer them decides."""
        return None if isinstance(self.planned, OnDemand) else sum(len(planned.session.turns) for planned in self.planned)


@dataclass(frozen=True, slots=True)
class Plan:
    """The phases in order. The same configuration and seed give the same plan."""

    phases: tuple[Phase, ...]
    seed: int
