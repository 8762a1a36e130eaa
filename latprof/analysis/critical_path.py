"""The critical path of one session: which steps, one after the other, its end waited for.

1. time     every step gets its interval: a turn from its intended start to the end of its answer, a tool as long as it takes

               0 |==call==|                              1, 2 come after 0; 3 after 1 and 2
               1          |==tool==|
               2          |====tool====|
               3                       .think.|==call==|

2. walk     from the step that ended last back to the session's start, each time to the one it waited for: the last to end of those before it

                 0000000000222222222222........33333333  1 was over before anybody waited for it: it is hidden behind 2

A step begins when the last of those before it has ended (after thinking), so the path tiles the session.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Final, NamedTuple

from latprof.observations.graph import Steps
from latprof.units import MISSING_NS


class Timed(NamedTuple):
    """A session in time: its start, and when each step began and ended."""

    start_ns: int
    begins_ns: list[int]
    ends_ns: list[int]

    def ready_ns(self, after: Sequence[int]) -> int:
        """When a step that comes after these could go on: thinking begins then."""
        return max((self.ends_ns[before] for before in after), default=self.start_ns)


class Graph(NamedTuple):
    """The steps of one session, by number."""

    is_turn: Sequence[bool]
    after: Sequence[Sequence[int]]
    think_ns: Sequence[int]
    takes_ns: Sequence[int]
    at_ns: Sequence[int]


ONE_TURN: Final = Graph([True], [()], [0], [MISSING_NS], [MISSING_NS])
"""A session that has no row: one turn, due at its start."""


class Graphs:
    """Graphs by session."""

    def __init__(self, steps: Steps) -> None:
        self._rows = dict(steps.by_session())
        self._steps = steps
        self._is_turn = steps.is_turn
        self._offsets = steps.after_offsets
        self._after = steps.after.tolist()

    def of(self, session: int) -> Graph | None:
        """The graph of a session; None where it has no row."""
        rows = self._rows.get(session)
        if rows is None:
            return None
        steps = self._steps
        offsets = self._offsets[rows.start : rows.stop + 1].tolist()
        after = [self._after[begin:end] for begin, end in pairwise(offsets)]
        return Graph(
            self._is_turn[rows].tolist(), after, steps.think_ns[rows].tolist(), steps.takes_ns[rows].tolist(), steps.at_ns[rows].tolist()
        )


def times(graph: Graph, calls_ns: Mapping[int, tuple[int, int]]) -> Timed | None:
    """When every step began and ended; ``calls_ns`` holds the intended start and the end of each turn.

    None where they contradict the graph: a turn that was due before what it comes after had ended.
    """
    start_ns = _session_start_ns(graph, calls_ns)
    begins_ns: list[int] = []
    ends_ns: list[int] = []
    for number, after in enumerate(graph.after):
        ready_ns = max((ends_ns[before] for before in after), default=start_ns)
        begun_ns, ended_ns = calls_ns[number] if graph.is_turn[number] else (ready_ns, ready_ns + graph.takes_ns[number])
        if begun_ns < ready_ns or ended_ns < begun_ns:
            return None
        begins_ns.append(begun_ns)
        ends_ns.append(ended_ns)
    return Timed(start_ns, begins_ns, ends_ns)


def _session_start_ns(graph: Graph, calls_ns: Mapping[int, tuple[int, int]]) -> int:
    """From the first turn backwards: before it can only be tools, and thinking, and a bound that counts from the start."""
    first = graph.is_turn.index(True)
    ends_ns: list[int] = []
    for number in range(first):
        ends_ns.append(max((ends_ns[before] for before in graph.after[number]), default=0) + graph.takes_ns[number])
    ready_ns = max((ends_ns[before] for before in graph.after[first]), default=0)
    due_ns = max(ready_ns + graph.think_ns[first], graph.at_ns[first] if graph.at_ns[first] != MISSING_NS else 0)
    return calls_ns[first][0] - due_ns


class Stretch(NamedTuple):
    """A step on the path, and what it waited for: the end of the step before it on the path, or the session's start, at ``since_ns``."""

    step: int
    since_ns: int


def walk(graph: Graph, timed: Timed) -> list[Stretch]:
    """The steps on the critical path, the last one first. Of two that ended together the earlier number counts.

    A turn that is not due before a time of its own (``at_ns``, from the session's start), and was ready earlier, waited for that time and for
    no step: its path leads straight to the session's start.
    """
    step = max(range(len(timed.ends_ns)), key=timed.ends_ns.__getitem__)
    path: list[Stretch] = []
    while True:
        ready_ns = timed.ready_ns(graph.after[step])
        if not graph.after[step] or (graph.is_turn[step] and timed.begins_ns[step] > ready_ns + graph.think_ns[step]):
            return [*path, Stretch(step, timed.start_ns)]
        path.append(Stretch(step, ready_ns))
        step = max(graph.after[step], key=timed.ends_ns.__getitem__)
