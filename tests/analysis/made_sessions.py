"""Sessions that ran: the client's own course, with answers that take a chosen time."""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np
from made_requests import attempt, layers, requests

from latprof.analysis.task import Tasks, task_layers
from latprof.client.course import Course
from latprof.client.stamps import Attempt
from latprof.layers.table import Layers
from latprof.observations.columns import Requests
from latprof.observations.graph import StepLog, Steps, load_steps
from latprof.workload.sessions import Session

Takes = Callable[[int], int]
"""Step number of a turn -> ns from its intended start to the end of its answer."""

LATE_NS, REST_NS = 1_000, 300
"""Of every call made here: the generator's lateness, and what comes after the last token."""


def ran(session: Session, start_ns: int, takes_ns: Takes, **stamps: Any) -> tuple[list[Attempt], int]:
    """The requests of a session that began at ``start_ns``, and when it was over."""
    course = Course(session, start_ns)
    going = [(due.at_ns + takes_ns(due.step), due.step, due.at_ns) for due in course.begin()]
    heapq.heapify(going)
    attempts = []
    while going:
        end_ns, step, at_ns = heapq.heappop(going)
        attempts.append(call(session.session, step, at_ns, end_ns, **stamps))
        for due in course.ended(step, end_ns):
            heapq.heappush(going, (due.at_ns + takes_ns(due.step), due.step, due.at_ns))
    return attempts, course.end_ns


def call(session: int, step: int, intended_ns: int, end_ns: int, **stamps: Any) -> Attempt:
    """One turn's request."""
    between_ns = (end_ns - REST_NS - intended_ns) // 2
    found: dict[str, Any] = {
        "session": session,
        "turn": step,
        "intended_ns": intended_ns,
        "first_token_ns": intended_ns + between_ns,
        "last_token_ns": end_ns - REST_NS,
        "end_ns": end_ns,
    }
    return attempt(session * 1000 + step, **(found | stamps))


def call_table(made: Requests) -> Layers:
    """The call's layers of every success: lateness, prefill up to the first token, decode up to the last."""
    rows = np.flatnonzero(made.success & made.measured)
    late = np.full(len(rows), LATE_NS)
    prefill = made.first_token_ns[rows] - made.intended_ns[rows] - late
    decode = made.last_token_ns[rows] - made.first_token_ns[rows]
    total = np.column_stack([late, prefill, decode]).astype(np.int64).reshape(len(rows), 3)
    return layers(total, ("client.lateness", "prefill", "decode"), metric="e2el", rows=rows)


def graphs(folder: Path, sessions: Iterable[Session], phase: str = "measured") -> Steps:
    """The graphs as a run folder keeps them."""
    log = StepLog(folder)
    log.add([(phase, session) for session in sessions])
    log.close()
    return load_steps(folder)


def tasks_of(folder: Path, attempts: Iterable[Attempt], sessions: Iterable[Session]) -> Tasks:
    """The tasks of a run that sent ``attempts`` for ``sessions``."""
    made = requests(*attempts)
    return task_layers(call_table(made), made, graphs(folder, sessions))
