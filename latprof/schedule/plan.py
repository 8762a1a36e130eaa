"""The plan: every session with its intended start, computed before the first byte is sent."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal, overload

from latprof.workload.sessions import Session

PhaseName = Literal["warmup", "measured"]

WARMUP_SESSION_BASE = 1 << 30
PREFLIGHT_SESSION = (1 << 31) - 1
"""Warm-up sessions are numbered from here, so that the length of the warm-up never shifts a measured session's draws."""


@dataclass(frozen=True, slots=True)
class Planned:
    """One session and when it should start: ns from the start of its phase; None in a closed loop, where a free place decides."""

    session: Session
    offset_ns: int | None


class OnDemand(Sequence[Planned]):
    """Sessions of a closed loop that its duration ends, made when asked for: nobody knows beforehand how many it takes.

    ``len`` is how many there may be, not how many there will be (``limit``, or as many as there are numbers): iterate over it lazily.
    """

    def __init__(self, session: Callable[[int], Session], first: int, limit: int | None) -> None:
        self.limit = limit
        self._session = session
        self._numbers = range(first, first + (WARMUP_SESSION_BASE if limit is None else limit))

    def __len__(self) -> int:
        return len(self._numbers)

    @overload
    def __getitem__(self, index: int) -> Planned: ...

    @overload
    def __getitem__(self, index: slice) -> tuple[Planned, ...]: ...

    def __getitem__(self, index: int | slice) -> Planned | tuple[Planned, ...]:
        if isinstance(index, slice):
            return tuple(Planned(self._session(number), None) for number in self._numbers[index])
        return Planned(self._session(self._numbers[index]), None)


@dataclass(frozen=True, slots=True)
class Phase:
    """A stretch of the schedule with one arrival process.

    Open loop: every ``Planned`` has an offset, ascending; ``max_concurrency`` (or None) holds sends back, and that wait is counted.
    Closed loop: ``concurrency`` places take the next session as soon as they are free, until ``duration_ns`` (or None) is over; where the
    duration alone ends it, ``planned`` is `OnDemand`.
    """

    name: PhaseName
    planned: Sequence[Planned]
    arrival: str
    rate_per_s: float | None = None
    concurrency: int | None = None
    max_concurrency: int | None = None
    duration_ns: int | None = None

    @property
    def loop(self) -> Literal["open", "closed"]:
        """The load model; it is printed beside every answer."""
        return "closed" if self.concurrency is not None else "open"

    @property
    def planned_sessions(self) -> int | None:
        """How many sessions will go; None where only the time it takes to answer them decides."""
        return None if isinstance(self.planned, OnDemand) else len(self.planned)


@dataclass(frozen=True, slots=True)
class Plan:
    """The phases in order. The same configuration and seed give the same plan."""

    phases: tuple[Phase, ...]
    seed: int
