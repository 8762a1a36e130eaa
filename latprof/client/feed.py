"""Sessions made ready for the wire, and the seam through which the driver gets them: from this process, or from the parent of a worker."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Protocol

from latprof.client.transport import Ask, Encode
from latprof.schedule.plan import OnDemand, Phase
from latprof.workload.sessions import Session, Step, Turn


@dataclass(frozen=True, slots=True)
class Ready:
    """One planned session made ready.

    ``asks`` has an entry per step: None for a tool, and for a turn that continues an answer which has yet to come. ``offset_ns`` is ns from the
    start of the drive, None in a closed loop; ``phase`` is what its rows are called. Can be pickled; in one pickle, shared pieces of bodies
    stay shared.
    """

    session: Session
    offset_ns: int | None
    asks: tuple[Ask | None, ...]
    phase: str


class Feed(Protocol):
    """Hands sessions out in order of their start."""

    async def next(self) -> Ready | None:
        """The next session; None when there are no more. The places of a closed loop ask one at a time, but do not wait for each other."""


class ReadyFeed:
    """A feed from this process."""

    def __init__(self, ready: Iterable[Ready]) -> None:
        self._ready = iter(ready)

    async def next(self) -> Ready | None:  # noqa: D102
        return next(self._ready, None)


def feed_of(phase: Phase, encode: Encode) -> Feed:
    """Every session made ready now.

    Where time alone ends a closed loop they are made one by one when a place is free (0.1 ms for a prompt of 256 tokens): that time counts as
    lateness, since the place was free.
    """
    made = prepare(phase, encode)
    is_endless = isinstance(phase.planned, OnDemand) and phase.planned.limit is None
    return ReadyFeed(made if is_endless else list(made))


def prepare(phase: Phase, encode: Encode) -> Iterator[Ready]:
    """The sessions of ``phase`` in order, each made ready when it is asked for."""
    for planned in phase.planned:
        session = planned.session
        awaited = _awaiting_answers(session)
        asks = tuple(
            encode(session, number) if isinstance(step, Turn) and number not in awaited else None
            for number, step in enumerate(session.steps)
        )
        # Texts are in the bodies now: a session that needs no further one is sent on, and kept, without them.
        lean = session if awaited else Session(session.session, tuple(map(_without_text, session.steps)))
        yield Ready(lean, planned.offset_ns, asks, planned.phase or phase.name)


def _awaiting_answers(session: Session) -> set[int]:
    """The turns whose context holds an answer that is not planned; they come after it."""
    awaiting: set[int] = set()
    for number, step in enumerate(session.steps):
        if isinstance(step, Turn) and step.context >= 0:
            before = session.steps[step.context]
            if step.context in awaiting or (isinstance(before, Turn) and before.answer is None):
                awaiting.add(number)
    return awaiting


def _without_text(step: Step) -> Step:
    return replace(step, prompt="", system="", answer="") if isinstance(step, Turn) else step
