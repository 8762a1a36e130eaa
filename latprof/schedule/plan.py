"""The plan: every session with its intended start, computed before the first byte is sent."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from latprof.workload.sessions import Session

PhaseName = Literal["warmup", "measured"]

WARMUP_SESSION_BASE = 1 << 30
"""Warm-up sessions are numbered from here, so that the length of the warm-up never shifts a measured session's draws."""


@dataclass(frozen=True, slots=True)
class Planned:
    """One session and when it should start: ns from the start of its phase; None in a closed loop, where a free place decides."""

    session: Session
    offset_ns: int | None


@dataclass(frozen=True, slots=True)
class Phase:
    """A stretch of the schedule with one arrival process.

    Open loop: every ``Planned`` has an offset, ascending; ``max_concurrency`` (or None) holds sends back, and that wait is counted.
    Closed loop: ``concurrency`` places take the next session as soon as they are free, until ``duration_ns`` (or None) is over.
    """

    name: PhaseName
    planned: tuple[Planned, ...]
    arrival: str
    rate_per_s: float | None = None
    concurrency: int | None = None
    max_concurrency: int | None = None
    duration_ns: int | None = None

    @property
    def loop(self) -> Literal["open", "closed"]:
        """The load model; it is printed beside every answer."""
        return "closed" if self.concurrency is not None else "open"


@dataclass(frozen=True, slots=True)
class Plan:
    """The phases in order. The same configuration and seed give the same plan."""

    phases: tuple[Phase, ...]
    seed: int
