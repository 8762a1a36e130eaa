"""One run from configuration to report. The rooms do the work; this file says in which order.

    plan -> stack, receiver and workers up -> preflight -> warm-up and measured load -> late spans -> run folder compacted -> report

The report is always made from the folder (`latprof.opening`), never from what is still in memory: ``latprof report`` shows the same.
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
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from latprof.clock import WallAnchor, wall_anchor
from latprof.config import Config, Spans
from latprof.errors import Exit, RunFailedError, UsageError
from latprof.opening import Opened, exit_code_of, open_run
from latprof.pipeline_meta import first_meta, phase_meta, workers_meta
from latprof.schedule.plan import PREFLIGHT_SESSION
from latprof.workload.sessions import Session, joined

if TYPE_CHECKING:
    from latprof.analysis.validity.overload import Overload
    from latprof.client.driver import Counters
    from latprof.client.endpoint import Endpoint
    from latprof.client.preflight import Preflight
    from latprof.client.targets import Targets
    from latprof.client.workers import Workers
    from latprof.live.watch import Watch
    from latprof.observations.streams import Answered
    from latprof.pipeline_inject import Injector
    from latprof.report.values import Report
    from latprof.schedule.plan import Phase, Plan
    from latprof.spans.receiver import Receiver, Transport
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
    session.meta = first_meta(config, plan, session.run_id, session.anchor)
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


# --- the run ------------------------------------------------------------------------------------------------------------------------------


async def _measure(session: _Session) -> None:
    from latprof.client.targets import resolve_targets
    from latprof.pipeline_inject import Injector

    config = session.config
    async with contextlib.AsyncExitStack() as stack:
        _tell(session.watch, "starting the span receiver")
        receiver = await _receive_spans(session, stack)
        injector = Injector(config, session.folder, session.run_id, stack)
        await injector.inside()
        session.meta |= injector.meta
        if config.uses_stub:
            _tell(session.watch, "bringing the stack in a box up")
        foreseen = _foresee(session, stack)  # while the stack comes up
        stub = await _start_stub(session, stack, receiver, injector) if config.uses_stub else None
        targets = await injector.in_front(resolve_targets(config, None if stub is None else stub.url, os.environ))
        session.meta["targets"] = [
            {"name": name, "url": str(endpoint.address), "model": endpoint.model, "dialect": endpoint.dialect_name, "weight": weight}
            for name, endpoint, weight in zip(targets.names, targets.endpoints, targets.weights, strict=True)
        ]
        workers = _start_workers(session, targets, stack)  # they come up while the endpoints are asked
        _tell(session.watch, f"asking once before the load: {', '.join(str(endpoint.address) for endpoint in targets.endpoints)}")
        asked = [await _reach(session, endpoint, stack) for endpoint in targets.endpoints]
        if foreseen is not None:
            _warn(session, await foreseen)
        if not session.stop.is_set():
            await injector.reached()
        # One answer for all: what one of several targets refuses is asked of none.
        await _drive(session, workers, targets, stub, include_usage=all(asked))
        _tell(session.watch, "waiting for late spans")
        await _collect(session, receiver, stub)
        await injector.end()
        session.meta |= injector.meta


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


def _foresee(session: _Session, stack: contextlib.AsyncExitStack) -> asyncio.Task[tuple[Overload, ...]] | None:
    """What the stack in a box will not keep up with; None where only the run itself can tell. Nothing of the stub is imported for a real endpoint."""
    from latprof.offered import can_overload, overloads

    if not session.config.uses_stub or not can_overload(session.plan):
        return None
    found = asyncio.create_task(asyncio.to_thread(overloads, session.config))
    stack.callback(found.cancel)
    return found


def _warn(session: _Session, overloads: Sequence[Overload]) -> None:
    """Say which layers are asked for more than they can do; the run is made all the same, and its report says so again."""
    from latprof.observations.folder import write_meta

    if not overloads:
        return
    session.meta["unstable"] = [dataclasses.asdict(one) for one in overloads]
    write_meta(session.folder, session.meta)
    for one in overloads:
        _say(session, one.line)


def _say(session: _Session, text: str) -> None:
    """A line for whoever watches."""
    from latprof.report.inert import plain

    if session.quiet:
        return
    if session.watch is None:
        sys.stderr.write(f"{plain(text)}\n")
    else:
        session.watch.note(text)


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
        for finding in found.findings:
            _say(session, finding)
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
        session.meta["phases"].append(phase_meta(phase, driven))
        if stub is not None:
            _note_stub(session, before, await _figures(stub), stub.died())
        write_meta(session.folder, session.meta)
    session.meta["interrupted"] = session.stop.is_set()
    _tell(session.watch, "the workers write what they have")
    try:
        await workers.close()
    finally:
        session.meta["workers"] = workers_meta(workers)
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
