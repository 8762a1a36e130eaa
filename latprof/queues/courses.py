"""Sessions as graphs of steps in virtual time: which requests are due, and when, as others end.

    due = the last end among the steps it comes after (the session's start, if none) + think time, and not before ``not_before_ns``

A tool needs nobody to wait for it: its end is known when it begins.
"""

from __future__ import annotations

from dataclasses import dataclass

TOOL = -1
"""The ``job`` of a step that sends nothing."""


@dataclass(frozen=True, slots=True)
class Step:
    """One step: the request ``job`` of the replay, or `TOOL`. ``after`` are numbers of earlier steps of the session.

    ``lasts_ns`` is the think time before a request, or what a tool takes; ``not_before_ns`` counts from the session's start.
    """

    job: int
    after: tuple[int, ...] = ()
    lasts_ns: int = 0
    not_before_ns: int | None = None


@dataclass(frozen=True, slots=True)
class Session:
    """Steps that only look back, and when the first may go; a free place decides that in a closed loop.

    ``is_whole``: no step of it is missing here, so that its end is the end of its task.
    """

    start_ns: int
    steps: tuple[Step, ...]
    is_whole: bool = True


def alone(start_ns: int, job: int) -> Session:
    """A session of one request."""
    return Session(start_ns, (Step(job),))


class Course:
    """One session on its way. ``end_ns`` is the last end so far, tools included; ``open`` how many of its requests are due and not ended."""

    __slots__ = ("_ends_ns", "_left", "end_ns", "open", "session", "start_ns")

    def __init__(self, session: Session, start_ns: int) -> None:
        self.session, self.start_ns, self.end_ns = session, start_ns, start_ns
        self.open = 0
        self._ends_ns: dict[int, int] = {}
        self._left = list(range(len(session.steps)))

    @property
    def is_over(self) -> bool:
        """Whether every step has ended; a session that time cut short never is."""
        return len(self._ends_ns) == len(self.session.steps)

    def due(self, before_ns: int | None = None) -> list[tuple[int, int]]:
        """(step, due) of the requests that are due now for the first time; those due at ``before_ns`` or later are not, and never will be."""
        found, left = [], []
        for number in self._left:
            step = self.session.steps[number]
            if not all(one in self._ends_ns for one in step.after):
                left.append(number)
                continue
            last_ns = max((self._ends_ns[one] for one in step.after), default=self.start_ns)
            if step.job == TOOL:
                self._note(number, last_ns + step.lasts_ns)
                continue
            due_ns = last_ns + step.lasts_ns
            due_ns = due_ns if step.not_before_ns is None else max(due_ns, self.start_ns + step.not_before_ns)
            if before_ns is None or due_ns < before_ns:
                found.append((number, due_ns))
        self._left = left
        self.open += len(found)
        return found

    def ended(self, step: int, end_ns: int) -> None:
        """A request of it has ended."""
        self.open -= 1
        self._note(step, end_ns)

    def _note(self, step: int, end_ns: int) -> None:
        self._ends_ns[step] = end_ns
        self.end_ns = max(self.end_ns, end_ns)
