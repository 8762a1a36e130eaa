"""The course of one session: which of its turns are due, and when. Pure: ends go in, due turns come out.

    due = the last end among the steps it comes after (the session's start, if none) + think time, and not before at_ns

A tool needs nobody to wait for it: its end is known when it begins.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import NamedTuple

from latprof.workload.sessions import NO_CONTEXT, Session, Step, Turn


class Due(NamedTuple):
    """A turn, by its step number, and its intended start."""

    step: int
    at_ns: int


class Course:
    """One session on its way. ``end_ns`` is the last end so far, tools included."""

    def __init__(self, session: Session, start_ns: int) -> None:
        self.end_ns = start_ns
        self._start_ns = start_ns
        self._steps = session.steps
        self._ends_ns: dict[int, int] = {}
        self._left = list(range(len(session.steps)))

    def begin(self) -> list[Due]:
        """The turns that come after nothing but tools."""
        return self._due()

    def ended(self, step: int, end_ns: int) -> list[Due]:
        """The turns that are due now that turn ``step`` has ended, in order of their number."""
        self._note(step, end_ns)
        return self._due()

    def _note(self, step: int, end_ns: int) -> None:
        self._ends_ns[step] = end_ns
        self.end_ns = max(self.end_ns, end_ns)

    def _due(self) -> list[Due]:
        due, left = [], []
        for number in self._left:  # a step only looks back, so one pass sees the end of every tool it needs
            step = self._steps[number]
            before = tuple(waits_for(step))
            if not all(one in self._ends_ns for one in before):
                left.append(number)
                continue
            last_ns = max((self._ends_ns[one] for one in before), default=self._start_ns)
            if isinstance(step, Turn):
                not_before_ns = last_ns if step.at_ns is None else self._start_ns + step.at_ns
                due.append(Due(number, max(last_ns + step.think_ns, not_before_ns)))
            else:
                self._note(number, last_ns + step.takes_ns)
        self._left = left
        return due


def only_turn_ns(session: Session, start_ns: int) -> int | None:
    """When the turn of a session that has no other step is due: most sessions of most workloads, and worth a short cut."""
    if len(session.steps) != 1:
        return None
    turn = session.steps[0]
    if not isinstance(turn, Turn):
        return None
    at_ns = start_ns + turn.think_ns
    return at_ns if turn.at_ns is None else max(at_ns, start_ns + turn.at_ns)


def waits_for(step: Step) -> Iterator[int]:
    """The steps that must have ended before ``step`` is due: a turn needs the answer that it continues, whatever else it comes after."""
    yield from step.after
    if isinstance(step, Turn) and step.context != NO_CONTEXT:
        yield step.context


def has_branches(steps: Iterable[Step]) -> bool:
    """Whether two turns of a session can ever be in flight, or waited for, at once; a chain has one after the other."""
    return any(number - 1 not in waits_for(step) for number, step in enumerate(steps) if number > 0)
