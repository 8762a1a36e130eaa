"""The task: from the start of a session to the end of its last step, and which layer owned each nanosecond of it.

1. time, 2. walk    the critical path of the session (`latprof.analysis.critical_path`)
3. account          every stretch of it goes to layers: a call to its own, a tool to ``tool``, what lies between to ``think``

                      0 |==call==|
                      2          |====tool====|
                      3                       .think.|==call==|
                        ^ client.lateness ... decode, stream  ^ client.lateness ...

The path tiles the task, and a call's layers the call: so layers sum to the task, to the nanosecond. What the client cost per turn is in its
``client.*`` layers: a call begins at its intended start.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Final, Literal

import numpy as np

from latprof.analysis.critical_path import ONE_TURN, Graph, Graphs, Timed, times, walk
from latprof.client.stamps import ErrorClass
from latprof.layers.table import BoolArray, IntArray, Layers
from latprof.layers.vocabulary import path_order
from latprof.observations.columns import Requests
from latprof.observations.graph import Steps

METRIC: Final = "task"
TOOL: Final = "tool"
THINK: Final = "think"
# After the last token come the usage and the end mark: chunks on their way.
_REST: Final = "stream"

Incomplete = Literal["failed", "cut", "untold"]
"""Why a session has no task time: a turn failed; the run ended before its last turn had; or nothing tells its graph, or a call's layers."""

_CUT = {ErrorClass.INTERRUPTED.value, ErrorClass.UNFINISHED.value}


@dataclass(frozen=True, slots=True)
class Tasks:
    """The measured sessions that came to their end, one row each, in order of their start.

    ``layers`` is shaped as for every metric; its ``rows`` (n,) are those of the requests each session began with, so that
    ``requests.session[layers.rows]`` is ``session``. ``hidden_ns`` (n, L) is what each layer did beside the path, not part of the sum: nobody
    waited for it. ``turns`` and ``steps`` (n,) count what a session consists of, ``turns_on_path`` those on its path. Sessions that did not
    come to their end are counted in ``incomplete``. ``have_several_steps``: some session, of either kind, is more than its one call.
    """

    layers: Layers
    session: IntArray
    start_ns: IntArray
    turns: IntArray
    turns_on_path: IntArray
    steps: IntArray
    hidden_ns: IntArray
    incomplete: Mapping[Incomplete, int]
    have_several_steps: bool

    @property
    def task_ns(self) -> IntArray:
        """How long each task took, shape (n,)."""
        return np.asarray(self.layers.total_ns.sum(axis=1), np.int64)


@dataclass(slots=True)
class _Sums:
    """What the sessions add up to: calls as pairs (task, row of the call's layers), everything else as ns per task."""

    calls: list[tuple[int, int]] = field(default_factory=list)
    tool_ns: list[int] = field(default_factory=list)
    think_ns: list[int] = field(default_factory=list)
    rest_ns: list[int] = field(default_factory=list)

    def begin(self) -> None:
        """The next task."""
        for column in (self.tool_ns, self.think_ns, self.rest_ns):
            column.append(0)


@dataclass(slots=True)
class _Found:
    """The tasks found so far."""

    on_path: _Sums = field(default_factory=_Sums)
    hidden: _Sums = field(default_factory=_Sums)
    first_row: list[int] = field(default_factory=list)
    start_ns: list[int] = field(default_factory=list)
    turns: list[int] = field(default_factory=list)
    turns_on_path: list[int] = field(default_factory=list)
    steps: list[int] = field(default_factory=list)
    incomplete: Counter[Incomplete] = field(default_factory=Counter)
    have_several_steps: bool = False

    def begin(self, first_row: int, start_ns: int, turns: int, steps: int) -> None:
        """The next task."""
        self.on_path.begin()
        self.hidden.begin()
        self.first_row.append(first_row)
        self.start_ns.append(start_ns)
        self.turns.append(turns)
        self.turns_on_path.append(0)
        self.steps.append(steps)


class _Calls:
    """The last attempt at every measured turn, and its row among the call's layers (-1: it has none)."""

    def __init__(self, call: Layers, requests: Requests) -> None:
        measured = np.flatnonzero(requests.measured)
        order = measured[np.lexsort((requests.attempt[measured], requests.turn[measured], requests.session[measured]))]
        session, turn = requests.session[order], requests.turn[order]
        is_last = np.ones(len(order), np.bool_)
        is_last[:-1] = (session[1:] != session[:-1]) | (turn[1:] != turn[:-1])
        at = order[is_last]
        layers_row = np.full(len(requests), -1, np.int64)
        layers_row[call.rows] = np.arange(len(call.rows))
        self.row = at.tolist()
        self.turn = requests.turn[at].tolist()
        self.layers_row = layers_row[at].tolist()
        self.intended_ns = requests.intended_ns[at].tolist()
        self.last_token_ns = requests.last_token_ns[at].tolist()
        self.end_ns = requests.end_ns[at].tolist()
        self.success = requests.success[at].tolist()
        self.error = requests.error_class[at].tolist()
        self._session = requests.session[at]

    def by_session(self) -> Iterator[tuple[int, range]]:
        """Every session that sent something, and its calls in order of their turns."""
        numbers, begins = np.unique(self._session, return_index=True)
        ends = [*begins[1:].tolist(), len(self._session)]
        yield from zip(numbers.tolist(), map(range, begins.tolist(), ends), strict=True)


def task_layers(call: Layers, requests: Requests, steps: Steps) -> Tasks:
    """The tasks of a run, from the layers of its calls (metric ``e2el``), its requests and the graphs of its sessions."""
    calls = _Calls(call, requests)
    graphs = Graphs(steps)
    found = _Found()
    for session, mine in calls.by_session():
        reason = _task(session, mine, calls, graphs, found)
        if reason is not None:
            found.incomplete[reason] += 1
    return _tasks(call, requests, found)


def _task(session: int, mine: range, calls: _Calls, graphs: Graphs, found: _Found) -> Incomplete | None:
    """Take one session in; why not, where that cannot be."""
    graph = graphs.of(session)
    of_turn = {calls.turn[one]: one for one in mine}
    found.have_several_steps |= len(of_turn) > 1 or (graph is not None and len(graph.is_turn) > 1)
    if any(not calls.success[one] for one in mine):
        return "cut" if all(calls.success[one] or calls.error[one] in _CUT for one in mine) else "failed"
    if graph is None and len(of_turn) > 1:
        return "untold"
    graph = graph or ONE_TURN
    if any(is_turn and number not in of_turn for number, is_turn in enumerate(graph.is_turn)):
        return "cut"
    if any(calls.layers_row[one] < 0 for one in mine):
        return "untold"
    timed = times(graph, {turn: (calls.intended_ns[one], calls.end_ns[one]) for turn, one in of_turn.items()})
    if timed is None or any(calls.end_ns[one] < calls.last_token_ns[one] for one in mine):
        return "untold"
    first = min(mine, key=calls.intended_ns.__getitem__)
    found.begin(calls.row[first], timed.start_ns, len(of_turn), len(graph.is_turn))
    _account(graph, timed, of_turn, calls, found)
    return None


def _account(graph: Graph, timed: Timed, of_turn: Mapping[int, int], calls: _Calls, found: _Found) -> None:
    task = len(found.first_row) - 1
    path = dict(walk(graph, timed))
    for number, after in enumerate(graph.after):
        sums = found.on_path if number in path else found.hidden
        sums.think_ns[task] += timed.begins_ns[number] - (path[number] if number in path else timed.ready_ns(after))
        if graph.is_turn[number]:
            one = of_turn[number]
            sums.calls.append((task, calls.layers_row[one]))
            sums.rest_ns[task] += calls.end_ns[one] - calls.last_token_ns[one]
            found.turns_on_path[task] += number in path
        else:
            sums.tool_ns[task] += graph.takes_ns[number]


def _tasks(call: Layers, requests: Requests, found: _Found) -> Tasks:
    n = len(found.first_row)
    both = (found.on_path, found.hidden)
    added = {
        TOOL: np.array([sums.tool_ns for sums in both], np.int64),
        THINK: np.array([sums.think_ns for sums in both], np.int64),
        _REST: np.array([sums.rest_ns for sums in both], np.int64),
    }
    own = {name for name, ns in added.items() if ns.any()}
    names = tuple(sorted({*call.names, *own}, key=lambda name: path_order(name, call.hops)))
    at = np.array([names.index(name) for name in call.names], np.int64)
    total_ns, hidden_ns = (_summed(call.total_ns, sums, n, at, len(names)) for sums in both)
    wait_ns, service_ns = (_summed(table, found.on_path, n, at, len(names)) for table in (call.wait_ns, call.service_ns))
    present = _summed(call.present.astype(np.int64), found.on_path, n, at, len(names))
    present += _summed(call.present.astype(np.int64), found.hidden, n, at, len(names))
    for name in own:
        column = names.index(name)
        total_ns[:, column] += added[name][0]
        hidden_ns[:, column] += added[name][1]
        present[:, column] += added[name].sum(axis=0)
        if name != _REST:
            service_ns[:, column] += added[name][0]
    told = (present > 0).mean(axis=0) if n else np.zeros(len(names))
    calls = sum(len(sums.calls) for sums in both)
    if calls:  # of twenty calls one that tells of a layer is no task that does
        told[at] = sum(_told(call, sums) for sums in both) / calls
    order = np.argsort(np.array(found.start_ns, np.int64), kind="stable")
    sources = {**dict.fromkeys(own, ("client",)), **dict(zip(call.names, call.sources, strict=True))}
    rows = np.array(found.first_row, np.int64)[order]
    has: BoolArray = present[order] > 0
    layers = Layers(
        METRIC,
        names,
        rows,
        total_ns[order],
        wait_ns[order],
        service_ns[order],
        has,
        tuple(sources[name] for name in names),
        call.hops,
        told=told,
    )
    counts = (np.array(values, np.int64)[order] for values in (found.start_ns, found.turns, found.turns_on_path, found.steps))
    start_ns, turns, turns_on_path, steps = counts
    incomplete = dict(found.incomplete)
    return Tasks(
        layers, requests.session[rows], start_ns, turns, turns_on_path, steps, hidden_ns[order], incomplete, found.have_several_steps
    )


def _told(call: Layers, sums: _Sums) -> IntArray:
    """How many of those calls tell of each layer of the call, shape (L,)."""
    return np.asarray(call.present[[row for _, row in sums.calls]].sum(axis=0), np.int64)


def _summed(table: IntArray, sums: _Sums, n: int, at: IntArray, width: int) -> IntArray:
    """Rows of the call's table added up by task, its columns put ``at`` their places among ``width``."""
    summed = np.zeros((n, width), np.int64)
    if sums.calls:
        task, row = np.array(sums.calls, np.int64).T
        by_task = np.zeros((n, table.shape[1]), np.int64)
        np.add.at(by_task, task, table[row])
        summed[:, at] = by_task
    return summed
