"""What a recorded run gives a replay: its requests in order, its sessions, and how its load was made. Nothing but the run folder is asked."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any, Literal

import numpy as np

from latprof.analysis.metrics import streamed_tokens
from latprof.errors import UsageError
from latprof.layers.table import IntArray, Layers
from latprof.observations.columns import elapsed_ns, known
from latprof.observations.folder import Run
from latprof.observations.graph import Steps
from latprof.queues.courses import TOOL, Course, Session, Step, alone
from latprof.schedule.plan import WARMUP
from latprof.units import duration_ns

Arrivals = Literal["recorded", "open", "closed"]
ARRIVALS: tuple[Arrivals, ...] = ("recorded", "open", "closed")

WHAT: Mapping[Arrivals, str] = {
    "recorded": "sessions start as recorded, their later turns after the turns and tools they come after",
    "open": "every request at its recorded intended start, whatever the answers do",
    "closed": "places that take the next session when they are free",
}
"""The arrival models of a replay in words."""


@dataclass(frozen=True, slots=True)
class Load:
    """How the sessions were made to come. ``until_ns``: nothing due at or after it went; ``again``: only the time, not the sessions, ended it."""

    arrivals: Arrivals
    places: int | None = None
    cap: int | None = None
    until_ns: int | None = None
    again: bool = False

    @property
    def text(self) -> str:
        """In words, with its numbers."""
        if self.arrivals == "closed":
            return f"closed loop: {self.places} {WHAT['closed']}"
        return WHAT[self.arrivals] + (f", at most {self.cap} in flight" if self.cap else "")


@dataclass(frozen=True, eq=False)
class Record:
    """The measured successes of a run by intended start; columns of shape (n,) beside the call's layers, whose rows are in the same order.

    ``tokens`` are those that were streamed, 0 where they are not known. ``rest_ns`` passes between the last token and the end of the request. ``left_out`` counts measured
    requests that are not here, attempts that a retry made good among them: they failed, or nothing tells of their layers. ``shares_engine``: prompts and answers were computed in the same
    iterations, as far as the run says so. ``replicas`` are by layer those among which a balancer shares out its ``stations``, where more than one.
    ``presets`` are what the stack took from presets, as run.json holds it.
    """

    call: Layers
    intended_ns: IntArray
    tokens: IntArray
    rest_ns: IntArray
    sessions: tuple[Session, ...]
    load: Load
    stations: Mapping[str, int]
    replicas: Mapping[str, int]
    arrival_model: str
    left_out: int
    shares_engine: bool
    folder: str
    presets: tuple[Mapping[str, Any], ...] = ()

    def __len__(self) -> int:
        return len(self.intended_ns)

    @property
    def has_turns(self) -> bool:
        """Whether some session has more than one step: then there is a task to speak of."""
        return any(len(session.steps) > 1 or not session.is_whole for session in self.sessions)


def record_of(run: Run, call: Layers, steps: Steps) -> Record:
    """Take a run apart for a replay.

    Raises:
        UsageError: there is no request to replay, the phases cannot be replayed as one, or sessions of several turns lack their graphs.
    """
    if not len(call.rows):
        raise UsageError(
            f"{run.folder}: not one measured request succeeded and told of its layers, so there is nothing to replay; run latprof report"
            f" {run.folder} to see why, and measure again"
        )
    order = np.argsort(run.requests.intended_ns[call.rows], kind="stable")
    call = _in_order(call, order)
    requests = run.requests.select(call.rows)
    streamed = streamed_tokens(requests, run.chunks)
    tokens = np.where(known(streamed), streamed, requests.token_chunks)
    rest_ns = elapsed_ns(requests.last_token_ns, requests.end_ns)
    return Record(
        call=call,
        intended_ns=requests.intended_ns,
        tokens=np.maximum(tokens, 0),
        rest_ns=np.where(known(rest_ns), np.maximum(rest_ns, 0), 0),
        sessions=_sessions(run, requests.session, requests.turn, requests.intended_ns, requests.end_ns, steps),
        load=_load(run.meta),
        stations={str(layer): int(servers) for layer, servers in (run.meta.get("stations") or {}).items()},
        replicas={str(layer): int(n) for layer, n in (run.meta.get("replicas") or {}).items() if int(n) > 1},
        arrival_model=str(run.meta.get("arrival_model", "unknown")),
        left_out=int(run.requests.measured.sum()) - len(order),
        shares_engine=_shares_engine(run.meta),
        folder=str(run.folder),
        presets=tuple(run.meta.get("presets", ())),
    )


def _in_order(call: Layers, order: IntArray) -> Layers:
    return replace(
        call,
        rows=call.rows[order],
        total_ns=call.total_ns[order],
        wait_ns=call.wait_ns[order],
        service_ns=call.service_ns[order],
        present=call.present[order],
    )


def _shares_engine(meta: Mapping[str, Any]) -> bool:
    """Whether it was the stack in a box with a colocated engine; of a real one nobody knows."""
    config = meta.get("config", {})
    is_stub = not config.get("target", {}).get("url") and not config.get("targets")
    return bool(is_stub and config.get("stub", {}).get("engine", {}).get("mode") == "colocated")


# --- sessions -----------------------------------------------------------------------------------------------------------------------------


def _sessions(run: Run, session: IntArray, turn: IntArray, intended_ns: IntArray, end_ns: IntArray, steps: Steps) -> tuple[Session, ...]:
    jobs: defaultdict[int, dict[int, int]] = defaultdict(dict)
    for job, (number, step) in enumerate(zip(session.tolist(), turn.tolist(), strict=True)):
        jobs[number][step] = job
    graphs = dict(steps.by_session()) if len(steps) else {}
    found = []
    for number, of_session in jobs.items():
        if number in graphs:
            made = _of_graph(steps, graphs[number], of_session, intended_ns)
        elif len(of_session) == 1:
            made = alone(int(intended_ns[next(iter(of_session.values()))]), next(iter(of_session.values())))
        else:
            made = _chain(run, of_session, intended_ns, end_ns)
        if made is not None:
            found.append(made)
    return tuple(sorted(found, key=lambda one: one.start_ns))


def _of_graph(steps: Steps, rows: slice, jobs: Mapping[int, int], intended_ns: IntArray) -> Session | None:
    """The steps that ran: a turn without an answer is left out, and so is whatever comes after it, for the session went no further there.

    Such a session is replayed for what it asked of the stack, and is not whole: it has no task time.
    """
    made: list[Step] = []
    number_of: dict[int, int] = {}
    for row in range(rows.start, rows.stop):
        after = steps.after_of(row)
        job = jobs.get(int(steps.step[row])) if steps.is_turn[row] else TOOL
        if job is None or not all(one in number_of for one in after):
            continue
        lasts_ns = int(steps.takes_ns[row] if job == TOOL else steps.think_ns[row])
        bound_ns = int(steps.at_ns[row]) if known(steps.at_ns[row : row + 1])[0] else None
        number_of[int(steps.step[row])] = len(made)
        made.append(Step(job, tuple(number_of[one] for one in after), lasts_ns, bound_ns))
    # The session's start is not written down: it is the intended start of a first turn, less what its graph puts before that.
    offsets = [(made[number].job, due_ns) for number, due_ns in Course(Session(0, tuple(made)), 0).due()]
    if not offsets:
        return None
    start_ns = min(int(intended_ns[job]) - due_ns for job, due_ns in offsets)
    return Session(start_ns, tuple(made), is_whole=len(made) == rows.stop - rows.start)


def _chain(run: Run, jobs: Mapping[int, int], intended_ns: IntArray, end_ns: IntArray) -> Session:
    """Of a folder without graphs: turn after turn, with the pauses that were. Nothing tells whether it came to its end."""
    in_order = [job for _, job in sorted(jobs.items())]
    steps = [Step(in_order[0])]
    for number, (before, job) in enumerate(pairwise(in_order)):
        pause_ns = int(intended_ns[job] - end_ns[before])
        if pause_ns < 0:
            raise UsageError(
                f"{run.folder}: turns of one session overlap, and steps.parquet, which says what came after what, is missing;"
                " measure again with this version, or ask for --arrivals open"
            )
        steps.append(Step(job, (number,), pause_ns))
    return Session(int(intended_ns[in_order[0]]), tuple(steps), is_whole=False)


# --- the load -----------------------------------------------------------------------------------------------------------------------------


def _load(meta: Mapping[str, Any]) -> Load:
    load = meta.get("config", {}).get("load", {})
    parts = [part for part in load.get("phases") or () if part.get("name") != WARMUP]
    closed = [part for part in parts if part.get("concurrency")]
    if len(parts) > 1 and closed:
        names = ", ".join(str(part.get("name")) for part in parts)
        raise UsageError(
            f"the run has several measured phases ({names}), one of them a closed loop, and they cannot be replayed as one load;"
            " measure the phase in question in a run of its own"
        )
    pace = parts[0] if parts else load
    if not pace.get("concurrency"):
        return Load("recorded", cap=pace.get("max_concurrency") or load.get("max_concurrency"))
    until_ns, again = None, False
    measured = [phase for phase in meta.get("phases", ()) if phase.get("name") != WARMUP]
    if pace.get("duration") and measured:
        until_ns = int(measured[0]["start_ns"]) + duration_ns(pace["duration"])
        again = not (pace.get("num_requests") or load.get("max_requests"))
    return Load("closed", places=int(pace["concurrency"]), until_ns=until_ns, again=again)


def asked_load(record: Record, arrivals: Arrivals | None, places: int | None) -> Load:
    """The load of the prediction: that of the run, unless another was asked for.

    Raises:
        UsageError: places were asked for where none are taken.
    """
    own = record.load
    wanted = arrivals or ("closed" if places is not None else own.arrivals)
    if wanted == "recorded" and own.arrivals == "closed":
        wanted = "closed"  # that is how it was
    if places is not None and (wanted != "closed" or places < 1):
        raise UsageError(f"--places {places}: wants a number from 1 up, and --arrivals closed; got arrivals {wanted}")
    if wanted == "closed":
        if own.arrivals == "closed":
            return own if places is None else replace(own, places=places)
        return Load("closed", places=places or _sessions_at_once(record))
    return own if wanted == own.arrivals else Load(wanted, cap=own.cap)


def _sessions_at_once(record: Record) -> int:
    """How many sessions were on at the same time on average (Little's law): the places a closed loop of the same load would have."""
    ends_ns = record.intended_ns + record.call.total_ns.sum(axis=1) + record.rest_ns
    inside_ns = sum(
        max(int(ends_ns[step.job]) for step in session.steps if step.job != TOOL) - session.start_ns for session in record.sessions
    )
    length_ns = int(ends_ns.max() - record.intended_ns.min())
    return max(1, round(inside_ns / length_ns)) if length_ns else 1


def sessions_of(record: Record, load: Load) -> tuple[Session, ...]:
    """The sessions to replay under ``load``."""
    if load.arrivals == "open":
        return tuple(alone(int(intended_ns), job) for job, intended_ns in enumerate(record.intended_ns.tolist()))
    return record.sessions
