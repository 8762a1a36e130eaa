"""One agent task as a Gantt chart: every step in time, and the path that the task's length is made of."""

from __future__ import annotations

from typing import Any

import numpy as np

from latprof.analysis.critical_path import ONE_TURN, Graphs, times, walk
from latprof.analysis.exemplars import Exemplar
from latprof.observations.columns import Requests
from latprof.observations.graph import Steps
from latprof.units import MISSING_NS, ms


def gantt(example: Exemplar, requests: Requests, steps: Steps) -> dict[str, Any] | None:
    """The session that ``example`` began; None where its steps do not tell its course."""
    session = int(requests.session[example.row])
    mine = np.flatnonzero((requests.session == session) & requests.measured & requests.success)
    calls = {int(requests.turn[row]): int(row) for row in mine}
    graph = Graphs(steps).of(session) or ONE_TURN
    if any(is_turn and number not in calls for number, is_turn in enumerate(graph.is_turn)):
        return None
    timed = times(graph, {turn: (int(requests.intended_ns[row]), int(requests.end_ns[row])) for turn, row in calls.items()})
    if timed is None:
        return None
    since_ns = dict(walk(graph, timed))

    def from_start(stamp_ns: int) -> float:
        return ms(stamp_ns - timed.start_ns)

    def step(number: int) -> dict[str, Any]:
        is_turn = graph.is_turn[number]
        first_ns = int(requests.first_token_ns[calls[number]]) if is_turn else MISSING_NS
        return {
            "name": f"call {number}" if is_turn else f"tool {number}",
            "is_call": is_turn,
            "after": list(graph.after[number]),
            "start_ms": from_start(timed.begins_ns[number]),
            "first_token_ms": from_start(first_ns) if first_ns != MISSING_NS else None,
            "end_ms": from_start(timed.ends_ns[number]),
            "since_ms": from_start(since_ns[number]) if number in since_ns else None,
            "on_path": number in since_ns,
        }

    return {
        "label": example.label,
        "column_ms": ms(example.value_ns),
        "own_ms": ms(example.own_ns),
        "session": session,
        "steps": [step(number) for number in range(len(graph.is_turn))],
    }
