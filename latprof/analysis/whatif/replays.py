"""One replay of a scenario: the stack it is replayed through, the layers that come out, and how busy every station was."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np

from latprof.analysis.whatif.changes import Scenario
from latprof.analysis.whatif.decode_fit import UNLIMITED
from latprof.analysis.whatif.model import CAP, FIRST, PREFILL, QUEUE
from latprof.analysis.whatif.record import Load, Record, sessions_of
from latprof.errors import UsageError
from latprof.layers.call import DECODE, STREAM, UNTOLD
from latprof.layers.table import IntArray, Layers
from latprof.queues.path import ABSENT, Lockstep, Slots, Stack, Station
from latprof.queues.replay import Replayed, replay

_END_OF_TIME_NS = 1 << 62


@dataclass(frozen=True, slots=True)
class Use:
    """A station in a replay. ``servers`` is 0 where there is no limit; ``busy`` the mean number in service, ``load`` that over the servers.

    ``work_ns`` is the mean service of those who pass, ``share`` how many do, ``wait_ns`` the mean wait over all requests.
    """

    servers: int
    busy: float
    load: float
    work_ns: float
    share: float
    wait_ns: float
    source: str


@dataclass(frozen=True, eq=False)
class Played:
    """What a replay gave. ``call`` has a row per request that went, ``jobs`` its number in the record; ``intended_ns`` as replayed.

    ``tasks_ns`` is start to end of every session that came to its end, where there are tasks to speak of. ``use`` is by layer, over the time in which requests came.
    """

    call: Layers
    jobs: IntArray
    intended_ns: IntArray
    tasks_ns: IntArray
    use: Mapping[str, Use]
    per_s: float

    @property
    def ttft_ns(self) -> IntArray:
        """Intended start to first token, shape (m,)."""
        after = [i for i, name in enumerate(self.call.names) if name in {DECODE, STREAM, UNTOLD}]
        return np.asarray(self.call.total_ns.sum(axis=1) - self.call.total_ns[:, after].sum(axis=1), np.int64)

    @property
    def e2el_ns(self) -> IntArray:
        """Intended start to last token, shape (m,)."""
        return np.asarray(self.call.total_ns.sum(axis=1), np.int64)


def play(scenario: Scenario, load: Load) -> Played:
    """Replay the record under ``scenario`` and ``load``.

    Raises:
        UsageError: it would last so long that its times do not fit into 64 bits.
    """
    model = scenario.model
    stack, columns = stack_of(scenario)
    out = replay(stack, sessions_of(model.record, load), places=load.places, until_ns=load.until_ns, again=load.again)
    if max(out.last_here_ns, default=0) > _END_OF_TIME_NS:
        raise UsageError(
            "with these changes the replay would last for more than a hundred years; change less, or add servers (--servers LAYER=N)"
        )
    call = _table(scenario, out, columns)
    due_ns = np.array(out.due_ns, np.int64)
    whole = _with_tasks(model.record) if load.arrivals != "open" else frozenset()
    tasks_ns = np.array([ended_ns - begun_ns for number, begun_ns, ended_ns in out.sessions if number in whole], np.int64)
    return Played(call, np.array(out.job, np.int64), due_ns, tasks_ns, _use(scenario, out, columns, due_ns), rate_per_s(due_ns))


def rate_per_s(intended_ns: IntArray) -> float:
    """How often requests came between the first and the last; NaN where they all came at once."""
    length_ns = int(np.ptp(intended_ns)) if len(intended_ns) else 0
    return (len(intended_ns) - 1) / (length_ns / 1e9) if length_ns else np.nan


def stack_of(scenario: Scenario) -> tuple[Stack, tuple[int, ...]]:
    """The stack, and the column of each of its stations."""
    model = scenario.model
    gate: list[int] = []
    path = list(model.before())
    while path and model.names[path[0]] in {"client.lateness", "client.retry"} and model.cap is not None:
        gate.append(path.pop(0))
    stations: list[Station] = []
    columns: list[int] = []
    passing: list[int] = []
    for column in path:
        part = scenario.parts[column]
        if part.kind == "station":
            service_ns = np.where(model.passes[:, column], model.work_ns[:, column], ABSENT)
            stations.append(Station(part.servers, _sum(model.work_ns, passing), service_ns.tolist()))
            columns.append(column)
            passing = []
        elif part.kind != "wait":
            passing.append(column)
    stream = [model.names.index(STREAM)] if STREAM in model.names else []
    stack = Stack(
        stations=tuple(stations),
        pool=_pool(scenario),
        before_gate_ns=_sum(model.work_ns, gate),
        to_pool_ns=_sum(model.work_ns, passing),
        late_ns=[scenario.decode.late_ns] * len(model.record),
        back_ns=_sum(model.work_ns, model.back()),
        stream_ns=_sum(model.work_ns, stream),
        rest_ns=model.record.rest_ns.tolist(),
        gate=model.cap,
    )
    return stack, tuple(columns)


def _sum(work_ns: IntArray, columns: list[int] | tuple[int, ...]) -> list[int]:
    total: list[int] = work_ns[:, list(columns)].sum(axis=1).tolist()
    return total


def _pool(scenario: Scenario) -> Lockstep | Slots:
    decode = scenario.decode
    if decode.kind == "iterations":
        return Lockstep(
            t1_ns=max(0.0, decode.t1_ns * decode.scale + decode.added_ns),
            per_sequence_ns=decode.per_sequence_ns * decode.scale,
            slots=decode.slots,
            iterations=(decode.tokens if decode.makes_first else decode.after_first).tolist(),
            extra_ns=np.rint(decode.extra_ns * decode.scale + decode.first_added_ns).astype(np.int64).tolist(),
            makes_first=decode.makes_first,
        )
    first_ns = np.rint(np.maximum(decode.first_ns * decode.scale + decode.added_ns, 0) + decode.first_added_ns).astype(np.int64)
    rest_ns = np.rint(np.maximum(decode.rest_ns * decode.scale + decode.added_ns * decode.after_first, 0)).astype(np.int64)
    return Slots(decode.slots, (first_ns if decode.makes_first else np.zeros_like(first_ns)).tolist(), rest_ns.tolist(), decode.makes_first)


# --- what came out ------------------------------------------------------------------------------------------------------------------------


def _table(scenario: Scenario, out: Replayed, columns: tuple[int, ...]) -> Layers:
    """The call's layers of every request that went: waits as replayed, services as they were given."""
    model = scenario.model
    names, jobs = model.names, np.array(out.job, np.int64)
    work_ns = model.work_ns[jobs]
    wait_ns, service_ns, total_ns = (np.zeros((len(jobs), len(names)), np.int64) for _ in range(3))
    for column, part in enumerate(scenario.parts):
        if part.kind == "held":
            total_ns[:, column] = work_ns[:, column]
        elif part.kind in {"service", "station"}:
            service_ns[:, column] = np.where(model.passes[jobs, column], work_ns[:, column], 0)
    for station, column in enumerate(columns):
        wait_ns[:, _wait_column(scenario, column)] += np.array(out.waits_ns[station], np.int64)
    if CAP in names and model.cap is not None:
        wait_ns[:, names.index(CAP)] = out.gate_wait_ns
    late_ns = scenario.decode.late_ns
    arrived_ns, admitted_ns, first_ns, last_ns, here_ns, end_ns = (
        np.array(stamps, np.int64)
        for stamps in (out.arrived_ns, out.admitted_ns, out.first_ns, out.last_ns, out.first_here_ns, out.last_here_ns)
    )
    if FIRST in names:
        wait_ns[:, names.index(FIRST)] = admitted_ns - arrived_ns
        service_ns[:, names.index(FIRST)] = first_ns + late_ns - admitted_ns
    _after_first(scenario, jobs, last_ns - here_ns, end_ns - here_ns, service_ns, total_ns)
    total_ns += wait_ns + service_ns
    return replace(
        model.record.call,
        rows=model.record.call.rows[jobs],
        total_ns=total_ns,
        wait_ns=wait_ns,
        service_ns=service_ns,
        present=model.record.call.present[jobs],
        sources=tuple(("replay",) for _ in names),
        conflicts=(),
        off_path=(),
        clocks=(),
    )


def _wait_column(scenario: Scenario, column: int) -> int:
    """Where a station's waits belong: prefill has a layer for its queue."""
    names = scenario.model.names
    if names[column] == PREFILL and QUEUE in names and scenario.parts[names.index(QUEUE)].kind == "wait":
        return names.index(QUEUE)
    return column


def _after_first(
    scenario: Scenario, jobs: IntArray, decode_ns: IntArray, after_ns: IntArray, service_ns: IntArray, total_ns: IntArray
) -> None:
    """Fill the columns after the first token: decode as long as the engine makes tokens, then the way of the last one."""
    names = scenario.model.names
    untold = np.zeros(len(jobs), np.bool_)
    if UNTOLD in names:
        column = names.index(UNTOLD)
        untold = scenario.model.record.call.present[jobs, column]
        total_ns[:, column] = np.where(untold, after_ns, 0)
    decode_ns = np.maximum(decode_ns, 0)
    if DECODE in names:
        service_ns[:, names.index(DECODE)] = np.where(untold, 0, decode_ns)
        total_ns[:, names.index(STREAM)] = np.where(untold, 0, after_ns - decode_ns)


def _use(scenario: Scenario, out: Replayed, columns: tuple[int, ...], due_ns: IntArray) -> dict[str, Use]:
    """How busy each station was between the first and the last intended start: before and after that the load is not what it was."""
    model, jobs = scenario.model, np.array(out.job, np.int64)
    if not len(jobs):
        return {}
    window = (int(due_ns.min()), int(due_ns.max()))
    found = {}
    for station, column in enumerate(columns):
        part, passes = scenario.parts[column], model.passes[jobs, column]
        service_ns = np.where(passes, model.work_ns[jobs, column], 0)
        begun_ns = _begun(scenario, out, columns, station, due_ns)
        waits_ns = np.array(out.waits_ns[station], np.float64)
        found[part.name] = _used(part.servers, part.why, begun_ns, begun_ns + service_ns, passes, float(waits_ns.mean()), window)
    decode = scenario.decode
    admitted_ns, last_ns = np.array(out.admitted_ns, np.int64), np.array(out.last_ns, np.int64)
    wait_ns = float((admitted_ns - np.array(out.arrived_ns, np.int64)).mean())
    servers = 0 if decode.slots >= UNLIMITED else decode.slots
    found[DECODE] = _used(servers, _slots_from(scenario), admitted_ns, last_ns, np.ones(len(jobs), np.bool_), wait_ns, window)
    return found


def _slots_from(scenario: Scenario) -> str:
    """Who says how many slots decode has."""
    told, slots = scenario.model.record.stations.get(DECODE, UNLIMITED), scenario.decode.slots
    if slots != told:
        return "asked"
    return "no limit known" if slots >= UNLIMITED else "run.json"


def _begun(scenario: Scenario, out: Replayed, columns: tuple[int, ...], station: int, due_ns: IntArray) -> IntArray:
    """When service at a station began: everything before it on the path, and its wait."""
    model, jobs = scenario.model, np.array(out.job, np.int64)
    before = model.before()
    at_ns = due_ns + np.array(out.gate_wait_ns, np.int64)
    for column in before[: before.index(columns[station])]:
        if scenario.parts[column].kind != "wait":
            at_ns = at_ns + np.where(model.passes[jobs, column], model.work_ns[jobs, column], 0)
    for earlier in range(station + 1):
        at_ns = at_ns + np.array(out.waits_ns[earlier], np.int64)
    return np.asarray(at_ns, np.int64)


def _used(
    servers: int,
    source: str,
    begun_ns: IntArray,
    ended_ns: IntArray,
    passes: np.ndarray[tuple[int, ...], np.dtype[np.bool_]],
    wait_ns: float,
    window: tuple[int, int],
) -> Use:
    inside_ns = np.clip(ended_ns, *window) - np.clip(begun_ns, *window)
    length_ns = window[1] - window[0]
    busy = float(inside_ns[passes].sum()) / length_ns if length_ns else np.nan
    work_ns = float((ended_ns - begun_ns)[passes].mean()) if passes.any() else 0.0
    return Use(servers, busy, busy / servers if servers else np.nan, work_ns, float(passes.mean()), wait_ns, source)


def _with_tasks(record: Record) -> frozenset[int]:
    """The numbers of the sessions that have a task time: as in `latprof.analysis.task`, all that are whole, those of one call among them."""
    return frozenset(number for number, session in enumerate(record.sessions) if session.is_whole) if record.has_turns else frozenset()


def recorded_tasks_ns(record: Record) -> IntArray:
    """Start to end of every recorded session that is whole: the last end of its requests, or of a tool after them."""
    ends_ns = record.intended_ns + record.call.total_ns.sum(axis=1) + record.rest_ns
    lengths = []
    for number in sorted(_with_tasks(record)):
        session = record.sessions[number]
        stepped: list[int] = []
        for step in session.steps:
            last_ns = max((stepped[one] for one in step.after), default=session.start_ns)
            stepped.append(int(ends_ns[step.job]) if step.job >= 0 else last_ns + step.lasts_ns)
        lengths.append(max(stepped) - session.start_ns)
    return np.array(lengths, np.int64)
