"""One run from configuration to report. The rooms do the work; this file says in which order.

    plan -> stack, receiver and workers up -> preflight -> warm-up and measured load -> late spans -> run folder compacted -> report

The report is always made from the folder, never from what is still in memory: ``latprof report`` shows the same.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import os
import secrets
import signal
import sys
import threading
from collections.abc import AsyncIterator, Callable, Coroutine, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from latprof.clock import WallAnchor, wall_anchor
from latprof.config import Config, Spans
from latprof.errors import Exit, RunFailedError, UsageError
from latprof.schedule.plan import PREFLIGHT_SESSION
from latprof.units import NS_PER_S
from latprof.workload.sessions import Session, joined

if TYPE_CHECKING:
    from latprof.analysis.verdicts.replications import Replication
    from latprof.client.driver import Counters, Driven
    from latprof.client.endpoint import Endpoint
    from latprof.client.preflight import Preflight
    from latprof.client.targets import Targets
    from latprof.client.workers import Workers
    from latprof.layers.course import Course
    from latprof.layers.table import Layers, Tables
    from latprof.live.watch import Watch
    from latprof.observations.folder import Run
    from latprof.observations.streams import Answered
    from latprof.pipeline_inject import Injector
    from latprof.report.values import Report
    from latprof.schedule.plan import Phase, Plan
    from latprof.spans.receiver import Receiver, Transport
    from latprof.spans.store import Spans as SpanStore
    from latprof.stub.stack import RunningStub

T = TypeVar("T")
_Figures = dict[str, dict[str, int]]

# What a person who waits for an answer hardly notices; the quickstart shows goodput with it. Nobody's endpoint is judged unasked.
_STUB_GOODPUT = {"ttft": 200.0, "tpot": 50.0}


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a run left behind: its folder, and what that says when it is read."""

    folder: Path
    opened: Opened
    exit_code: Exit

    @property
    def report(self) -> Report:
        """The report made from the folder."""
        return self.opened.report


@dataclass(frozen=True, eq=False)
class Opened:
    """A run folder as it was read: its report, the raw observations, the spans as received, and the layers found in them.

    ``layers`` are the tables by metric, the task's among them where there are sessions of several steps.
    """

    report: Report
    observed: Run
    spans: SpanStore
    tables: Tables
    layers: Mapping[str, Layers]


@dataclass(slots=True)
class _Session:
    """What one run holds while it goes."""

    config: Config
    folder: Path
    plan: Plan
    run_id: str
    anchor: WallAnchor
    quiet: bool
    stop: asyncio.Event
    watch: Watch | None = None  # of a run that is shown as it goes
    meta: dict[str, Any] = field(default_factory=dict)
    answered: Answered | None = None  # what spans are waited for


async def run_async(config: Config, *, quiet: bool = True, live: bool = False, stop: asyncio.Event | None = None) -> Outcome:
    """Run ``config`` to its end, or until ``stop`` is set; then report from the folder.

    Unless ``quiet`` standard error tells how it goes: with ``live`` a terminal shows a view of it, everything else gets lines.

    Raises:
        UsageError: something cannot be used as given; nothing was sent, and no folder is left.
        RunFailedError: the endpoint refused the very first request for good (key, model); no folder is left either.
    """
    stop = stop or asyncio.Event()
    async with _view(stop, wanted=live and not quiet) as watch:
        return await _run(config, quiet, stop, watch)


async def _run(config: Config, quiet: bool, stop: asyncio.Event, watch: Watch | None) -> Outcome:
    from latprof.observations.folder import create, discard, has_requests, write_meta
    from latprof.schedule.build import build_plan

    if config.uses_stub and not config.goodput:
        config = config.model_copy(update={"goodput": _STUB_GOODPUT})
    _tell(watch, "making the plan")
    plan = await asyncio.to_thread(build_plan, config)
    folder = create(config.out)
    session = _Session(config, folder, plan, secrets.token_hex(8), wall_anchor(), quiet, stop, watch)
    session.meta = _first_meta(session)
    write_meta(folder, session.meta)
    if watch is not None:
        watch.open(folder, session.anchor, config.spans.hops, config.spans.grace_ns)
    try:
        await _measure(session)
    except BaseException as error:
        # Nothing was measured and the message says why: the same command must work again with the same --out. A fault keeps its traces.
        if isinstance(error, UsageError | RunFailedError | asyncio.CancelledError) and not has_requests(folder):
            discard(folder)
        else:
            write_meta(folder, session.meta | {"status": "failed"})
        raise
    _tell(watch, "writing the run folder, making the report")
    return await asyncio.to_thread(_finish, session)


def run(config: Config, *, quiet: bool = True, live: bool = False) -> Outcome:
    """`run_async` on a loop of its own; Ctrl-C ends the load early and still reports, a second one gives up."""
    with new_runner() as runner:
        return runner.run(_until_interrupted(config, quiet=quiet, live=live))


def simulate(config: Config, *, allow_unstable: bool = False) -> Outcome:
    """Play ``config`` in virtual time: the same folder and report as `run`, the same bytes from the same seed.

    Raises:
        ConfigError: it cannot be played; or an open loop asks more of a layer than it can do, unless ``allow_unstable``.
    """
    from latprof.pipeline_simulate import simulate as played

    return played(config, allow_unstable=allow_unstable)


def report_of(folder: Path) -> Report:
    """The report of a run folder, complete or partial, from the folder alone.

    Raises:
        ConfigError: it is not a run folder, or one of a newer schema.
    """
    return open_run(folder).report


def replication_of(folder: Path, objectives_ms: Mapping[str, float] | None = None) -> Replication:
    """A run folder as one replication of an experiment; ``objectives_ms`` say what goodput is, by default those of its configuration.

    Raises:
        ConfigError: it is not a run folder, or one of a newer schema.
    """
    from latprof.analysis.verdicts.reduction import replication

    opened = open_run(folder)
    return replication(opened.observed, opened.layers, opened.report.doubts, objectives_ms)


def open_run(folder: Path | str) -> Opened:
    """Read a run folder, complete or partial, and understand it.

    Raises:
        ConfigError: it is not a run folder, or one of a newer schema.
    """
    from latprof.analysis.task import task_layers
    from latprof.observations.folder import load
    from latprof.observations.graph import load_steps
    from latprof.pipeline_inject import injection_of, with_injected
    from latprof.report.values import build

    folder = Path(folder)
    observed = load(folder)
    received = spans_of(observed)
    spans = with_injected(received, observed)
    tables = tables_of(observed, spans)
    tasks = task_layers(tables.e2el, observed.requests, load_steps(folder))
    layers = {table.metric: table for table in (tables.ttft, tables.e2el, *([tasks.layers] if tasks.have_several_steps else []))}
    report = build(observed, tables.ttft, received, tables.e2el, tasks, injection_of(observed))
    return Opened(report, observed, spans, tables, layers)


def courses_of(opened: Opened, rows: Iterable[int]) -> Iterator[Course]:
    """What those rows of the run's requests went through, one by one: where it really was, as far as anything tells."""
    from latprof.layers.course import laid_out, placed
    from latprof.layers.stored import has_layers

    observed = opened.observed
    if has_layers(observed.folder):
        return laid_out(opened.tables.e2el, observed.requests, rows)
    anchor = WallAnchor(**observed.meta["anchor"])
    hops = tuple(observed.meta["config"]["spans"]["hops"])
    return placed(opened.tables, observed.requests, opened.spans, anchor, rows, hops)


def tables_of(observed: Run, spans: SpanStore) -> Tables:
    """The layers of a run: as its folder keeps them, where they are known beforehand, else as its spans tell."""
    from latprof.layers.build import build_layers
    from latprof.layers.stored import has_layers, load_layers
    from latprof.layers.table import Tables

    if has_layers(observed.folder):
        return Tables(*(load_layers(observed.folder, observed.requests, metric) for metric in ("ttft", "e2el")))
    anchor = WallAnchor(**observed.meta["anchor"])
    return build_layers(observed.requests, spans, anchor, tuple(observed.meta["config"]["spans"]["hops"]))


def spans_of(observed: Run) -> SpanStore:
    """The spans of a run as received; those under traces of the server's own beside them, where the id of an answer says whose they are."""
    from latprof.layers.joining import joined
    from latprof.spans import store

    received, others = store.load(observed.folder), store.load_others(observed.folder)
    return joined(observed.requests, received, others, WallAnchor(**observed.meta["anchor"])) if others.num_rows else received


def layers_of(observed: Run, spans: SpanStore, metric: str) -> Layers:
    """The layers of a run for ``ttft`` or ``e2el``; see `tables_of`."""
    layers: Layers = getattr(tables_of(observed, spans), metric)
    return layers


@contextlib.contextmanager
def keep_stub_up_during(otlp_http_endpoint: str | None = None, config: Config | None = None) -> Iterator[str]:
    """The stack in a box for the length of a ``with``; its URL."""
    from latprof.stub.stack import start

    with new_runner() as runner:
        running = runner.run(start((config or Config()).stub, otlp_http_endpoint))
        try:
            yield running.url
        finally:
            runner.run(running.stop())


def exit_code_of(report: Report) -> Exit:
    """The exit code a report calls for."""
    if report.interrupted:
        return Exit.INTERRUPTED
    return Exit.DONE if report.valid else Exit.UNTRUSTED


# --- the run ------------------------------------------------------------------------------------------------------------------------------


async def _measure(session: _Session) -> None:
    from latprof.client.targets import resolve_targets
    from latprof.pipeline_inject import Injector

    config = session.config
    async with contextlib.AsyncExitStack() as stack:
        _tell(session.watch, "starting the span receiver")
        receiver = await _receive_spans(session, stack)
        injector = Injector(config, session.folder, session.run_id, stack)
        session.meta |= injector.meta
        if config.uses_stub:
            _tell(session.watch, "bringing the stack in a box up")
        stub = await _start_stub(session, stack, receiver, injector) if config.uses_stub else None
        targets = await injector.in_front(resolve_targets(config, None if stub is None else stub.url, os.environ))
        session.meta["targets"] = [
            {"name": name, "url": str(endpoint.address), "model": endpoint.model, "dialect": endpoint.dialect_name, "weight": weight}
            for name, endpoint, weight in zip(targets.names, targets.endpoints, targets.weights, strict=True)
        ]
        workers = _start_workers(session, targets, stack)  # they come up while the endpoints are asked
        _tell(session.watch, f"asking once before the load: {', '.join(str(endpoint.address) for endpoint in targets.endpoints)}")
        asked = [await _reach(session, endpoint, stack) for endpoint in targets.endpoints]
        # One answer for all: what one of several targets refuses is asked of none.
        await _drive(session, workers, targets, stub, include_usage=all(asked))
        _tell(session.watch, "waiting for late spans")
        await _collect(session, receiver, stub)
        await injector.end()


async def _receive_spans(session: _Session, stack: contextlib.AsyncExitStack) -> Receiver:
    """The OTLP receiver. A taken default port costs the spans, not the run; a port that was asked for must be had."""
    from latprof.spans.receiver import Receiver

    spans, stub = session.config.spans, session.config.uses_stub
    receiver = await asyncio.to_thread(
        Receiver.start,
        session.folder,
        session.run_id,
        host=spans.otlp_host,
        grpc_port=spans.grpc_port if spans.grpc_port is not None else (0 if stub else 4317),
        http_port=spans.http_port if spans.http_port is not None else (0 if stub else 4318),
        tolerate_taken=_not_asked(spans),
    )
    stack.push_async_callback(asyncio.to_thread, receiver.stop)
    session.meta["receiver"] = {
        "host": spans.otlp_host,
        "grpc_port": receiver.grpc_port,
        "http_port": receiver.http_port,
        "ports_taken": [str(taken) for taken in receiver.taken],
    }
    if session.watch is not None:
        session.watch.ports_taken = tuple(session.meta["receiver"]["ports_taken"])
    return receiver


def _not_asked(spans: Spans) -> list[Transport]:
    """Ports nobody asked for by name: when they are taken the run goes on without them."""
    asked: dict[Transport, int | None] = {"grpc": spans.grpc_port, "http": spans.http_port}
    return [transport for transport, port in asked.items() if port is None]


async def _start_stub(session: _Session, stack: contextlib.AsyncExitStack, receiver: Receiver, injector: Injector) -> RunningStub:
    from latprof.stub.stack import start

    truth = session.folder / "truth" if session.config.stub.truth else None
    config, endpoint = session.config, f"http://127.0.0.1:{receiver.http_port}"
    running = await start(config.stub, endpoint, truth, tokenizer=config.workload.tokenizer, between=injector.between)
    return await stack.enter_async_context(running)


def _start_workers(session: _Session, targets: Targets, stack: contextlib.AsyncExitStack) -> Workers:
    from latprof.client.shards import count_workers, shares
    from latprof.client.workers import Workers
    from latprof.observations.graph import StepLog

    config, phases = session.config, session.plan.phases
    is_local = config.uses_stub or any(endpoint.unix_socket or endpoint.address.is_loopback for endpoint in targets.endpoints)
    count = count_workers(config.load.workers, phases, session.meta["host"]["cpus"] or 1, is_local=is_local)
    session.meta["arrival_model"] += shares(phases, count)
    steps = StepLog(session.folder)
    stack.push_async_callback(asyncio.to_thread, steps.close)  # after the workers are gone: nothing more is handed out
    workers = Workers(count, session.folder, on_handed_out=lambda ready: steps.add((one.phase, one.session) for one in ready))
    stack.push_async_callback(asyncio.to_thread, workers.kill)
    return workers


async def _reach(session: _Session, endpoint: Endpoint, stack: contextlib.AsyncExitStack) -> bool:
    """Ask once before any load, so that a wrong address, key or model costs one request; whether usage is to be asked for."""
    from latprof.client.preflight import preflight
    from latprof.client.targets import open_sole
    from latprof.report.inert import plain

    transport = open_sole(endpoint)
    stack.push_async_callback(transport.close)
    first = _unlike(session.plan.phases[0].planned[0].session)
    before = session.meta.get("target", {})
    session.meta["target"] = {
        "url": _listed(before.get("url", ""), str(endpoint.address)),
        "model": _listed(before.get("model", ""), endpoint.model),
        "is_stub": session.config.uses_stub,
    }
    asked = preflight(transport, first, run_id=session.run_id, seed=session.plan.seed)
    found: Preflight | None = await _unless_stopped(asked, session.stop)
    if found is not None:
        session.meta["preflight"] = dataclasses.asdict(found)
        for finding in found.findings if not session.quiet else ():
            if session.watch is None:
                sys.stderr.write(f"{plain(finding)}\n")
            else:
                session.watch.note(finding)
    return found is None or found.include_usage


def _listed(told: str, one: str) -> str:
    """``one`` added to a list in words, unless it is there."""
    return ", ".join(dict.fromkeys([*filter(None, told.split(", ")), one]))


async def _unless_stopped(awaited: Coroutine[Any, Any, T], stop: asyncio.Event) -> T | None:
    """What ``awaited`` gives; None, at once, when ``stop`` is set first: an endpoint may be silent for as long as its timeout."""
    task, stopped = asyncio.ensure_future(awaited), asyncio.ensure_future(stop.wait())
    try:
        await asyncio.wait({task, stopped}, return_when=asyncio.FIRST_COMPLETED)
        return task.result() if task.done() else None
    finally:
        task.cancel()
        stopped.cancel()
        await asyncio.wait({task, stopped})


def _unlike(session: Session) -> Session:
    """A session such as the first, with a prompt of its own: what is asked before the run must not be found in a prefix cache by the run."""
    turn = replace(session.turns[0], prompt=f"Before the run: {joined(session.turns[0].prompt)}")
    return Session(PREFLIGHT_SESSION, (turn,))


async def _drive(session: _Session, workers: Workers, targets: Targets, stub: RunningStub | None, *, include_usage: bool) -> None:
    from latprof.client.driver import Counters, Rules
    from latprof.observations.folder import write_meta
    from latprof.observations.streams import answered

    _tell(session.watch, "handing the sessions over to the workers")
    rules = Rules(session.run_id, session.config.load.seed, session.config.target.timeout_ns, session.config.target.retries)
    await workers.open(session.folder, targets, rules, include_usage=include_usage)
    for phase in session.plan.phases:
        if not session.stop.is_set():
            await workers.load(phase, targets, include_usage=include_usage)
    if session.watch is not None:
        session.watch.load, session.watch.target = session.meta["arrival_model"], session.meta["target"]["url"]
    for phase in session.plan.phases:
        if session.stop.is_set() or workers.deaths:
            break
        before = await _figures(stub)
        counters = Counters()
        async with _progress(session, phase, counters, workers):
            driven = await workers.drive(counters, session.stop)
        session.meta["phases"].append(_phase_meta(phase, driven))
        if stub is not None:
            _note_stub(session, before, await _figures(stub), stub.died())
        write_meta(session.folder, session.meta)
    session.meta["interrupted"] = session.stop.is_set()
    _tell(session.watch, "the workers write what they have")
    try:
        await workers.close()
    finally:
        session.meta["workers"] = _workers_meta(workers)
    session.meta["stale_retries"] = workers.stale_retries
    session.answered = await asyncio.to_thread(answered, session.folder)


def _note_stub(session: _Session, before: _Figures, after: _Figures, died: str) -> None:
    """What the stages said of themselves before and after a phase, which is the last in ``phases``."""
    phase = session.meta["phases"][-1]
    told = {"name": phase["name"], "start_ns": phase["start_ns"], "end_ns": phase["end_ns"], "before": before, "after": after}
    phases = [*session.meta.get("stub", {}).get("phases", ()), told]
    session.meta["stub"] = {"after": after, "died": died, "phases": phases}


async def _figures(stub: RunningStub | None) -> _Figures:
    """What the stub's stages say of themselves. Nothing of the stub is imported for a real endpoint."""
    if stub is None:
        return {}
    from latprof.stub.watch import figures

    return await figures(stub.urls())


async def _collect(session: _Session, receiver: Receiver, stub: RunningStub | None) -> None:
    """Wait for late spans: less than the grace once every hop known to serve has told of every request."""
    services = [f"latprof-stub-{stage}" for stage in stub.ports] if stub is not None else []
    spans = session.config.spans
    traces, answers = session.answered or ((), ())
    waited = await receiver.wait_complete(
        traces, spans.grace_ns, expect_spans=stub is not None or bool(spans.hops), services=services, answers=answers
    )
    session.meta["receiver"] |= dataclasses.asdict(waited.stats) | {"complete": waited.complete, "waited_ns": waited.waited_ns}


def _finish(session: _Session) -> Outcome:
    from latprof.observations.folder import compact, write_meta
    from latprof.observations.graph import compact_steps
    from latprof.observations.injected import compact_injected

    compact(session.folder)
    _compact_spans(session.folder)
    compact_steps(session.folder)
    compact_injected(session.folder)
    session.meta["status"] = "interrupted" if session.meta.get("interrupted") else "complete"
    write_meta(session.folder, session.meta)
    opened = open_run(session.folder)
    return Outcome(session.folder, opened, exit_code_of(opened.report))


def _compact_spans(folder: Path) -> None:
    """The run's own, and of others those that tell of its answers."""
    from latprof.layers.joining import traces_told
    from latprof.observations.folder import load
    from latprof.spans import store

    store.compact(folder)
    others, told = store.load_others(folder), set[str]()
    if others.num_rows:
        observed = load(folder)
        told = traces_told(observed.requests, store.load(folder), others, WallAnchor(**observed.meta["anchor"]))
    store.compact_others(folder, told)


# --- run.json -----------------------------------------------------------------------------------------------------------------------------


def _first_meta(session: _Session) -> dict[str, Any]:
    """What is known before the first request; everything later is added to it."""
    from latprof.observations.folder import SCHEMA, host_facts, scrub
    from latprof.schedule.words import arrival_model

    measured = session.plan.phases[-1]
    return {
        "schema": SCHEMA,
        "status": "running",
        "run_id": session.run_id,
        "config": scrub(session.config.model_dump(mode="json", by_alias=True)),
        "config_hash": session.config.hash(),
        "seed": session.plan.seed,
        "anchor": dataclasses.asdict(session.anchor),
        "host": host_facts(),
        "arrival_model": arrival_model(session.plan.phases),
        "planned": {phase.name: phase.planned_requests for phase in session.plan.phases},
        "planned_rate_per_s": _planned_rate(measured),
        "stations": _stations(session.config),
        "replicas": _replicas(session.config),
        **_presets(session.config),
        "phases": [],
    }


def _presets(config: Config) -> dict[str, Any]:
    """What the stack in a box takes from presets, with the ranges that a report prints."""
    if not config.uses_stub:
        return {}
    from latprof.stub.presets.used import presets_used

    used = presets_used(config.stub)
    return {"presets": used} if used else {}


def _stations(config: Config) -> dict[str, int]:
    """Layer -> its servers: what the configuration says of a real stack, what the stack in a box is made of."""
    if not config.uses_stub:
        return dict(config.stations)
    from latprof.stub.models.stages import servers_of

    return servers_of(config.stub) | config.stations


def _replicas(config: Config) -> dict[str, int]:
    """Layer -> replicas among which its servers are shared out; of a real stack nobody says."""
    if not config.uses_stub:
        return {}
    from latprof.stub.models.stages import replicas_of_pools

    return replicas_of_pools(config.stub)


def _planned_rate(phase: Phase) -> float | None:
    """The rate of this very schedule, which for random arrivals is not the rate asked for."""
    if phase.loop == "closed" or len(phase.planned) < 2:
        return None
    first_ns, last_ns = phase.planned[0].offset_ns, phase.planned[-1].offset_ns
    if first_ns is None or last_ns is None or last_ns <= first_ns:
        return None
    return (len(phase.planned) - 1) / ((last_ns - first_ns) / NS_PER_S)


def _phase_meta(phase: Phase, driven: Sequence[Driven | None]) -> dict[str, Any]:
    """``health`` is that of the worst worker, figure by figure; a worker that died has none."""
    from latprof.client.health import worst

    ends = [one for one in driven if one is not None]
    return {
        "name": phase.name,
        "start_ns": min((one.start_ns for one in ends), default=0),
        "end_ns": max((one.end_ns for one in ends), default=0),
        "interrupted": any(one.interrupted for one in ends),
        "health": worst([one.health for one in ends]),
        "workers": [
            {"worker": number, "end_ns": one.end_ns, "health": dataclasses.asdict(one.health)}
            for number, one in enumerate(driven)
            if one is not None
        ],
    }


def _workers_meta(workers: Workers) -> dict[str, Any]:
    return {
        "count": len(workers),
        "deaths": [death.text for death in workers.deaths],
        "kernel_stamps": workers.has_kernel_stamps,
        "peak_bytes": workers.peak_bytes,
    }


# --- the terminal while it runs -----------------------------------------------------------------------------------------------------------


@contextlib.asynccontextmanager
async def _view(stop: asyncio.Event, *, wanted: bool) -> AsyncIterator[Watch | None]:
    """The view of a run, where it is wanted and standard error is a terminal for it; what it had to say is printed when it is gone."""
    if not wanted:
        yield None
        return
    from latprof.live.terminal import can_be_drawn_on
    from latprof.live.view import View
    from latprof.live.watch import Watch
    from latprof.report.inert import plain

    if not can_be_drawn_on(sys.stderr):
        yield None
        return
    watch = Watch(stop.is_set)
    try:
        with View(watch.look, sys.stderr) as view, _on_signal(signal.SIGTSTP, view.suspend):
            yield watch
    finally:
        watch.close()
        for note in watch.notes:
            sys.stderr.write(f"{plain(note)}\n")


@contextlib.contextmanager
def _on_signal(number: signal.Signals, handler: Callable[[], None]) -> Iterator[None]:
    """``handler`` for the length of a ``with``; in a thread, where there are no signals to handle, nothing."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    loop = asyncio.get_running_loop()
    loop.add_signal_handler(number, handler)
    try:
        yield
    finally:
        loop.remove_signal_handler(number)


def _tell(watch: Watch | None, step: str) -> None:
    if watch is not None:
        watch.step(step)


@contextlib.asynccontextmanager
async def _progress(session: _Session, phase: Phase, counters: Counters, workers: Workers) -> AsyncIterator[None]:
    if session.watch is not None:
        session.watch.drive(phase, counters, workers)
        try:
            yield
        finally:
            session.watch.rest()
        return
    if session.quiet:
        yield
        return
    from latprof.report.progress import show

    task = asyncio.create_task(show(phase, counters, sys.stderr))
    try:
        yield
    finally:
        task.cancel()
        await asyncio.wait([task])


def new_runner() -> asyncio.Runner:
    """A runner on uvloop, which latprof's figures are for; on the plain loop where there is no uvloop."""
    if sys.platform == "win32":
        return asyncio.Runner()
    import uvloop

    return asyncio.Runner(loop_factory=uvloop.new_event_loop)


ENDING_SIGNALS = (signal.SIGINT, signal.SIGTERM)


async def _until_interrupted(config: Config, *, quiet: bool, live: bool) -> Outcome:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    running = asyncio.ensure_future(run_async(config, quiet=quiet, live=live, stop=stop))

    def interrupt() -> None:
        if stop.is_set():
            running.cancel()
        stop.set()

    # As a library latprof may be in a thread, where there are no signals to handle.
    handled = ENDING_SIGNALS if threading.current_thread() is threading.main_thread() and sys.platform != "win32" else ()
    for number in handled:
        loop.add_signal_handler(number, interrupt)
    try:
        return await running
    except asyncio.CancelledError:
        raise KeyboardInterrupt from None
    finally:
        for number in handled:
            loop.remove_signal_handler(number)
