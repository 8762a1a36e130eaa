"""The load of a live run: asked once, so that what is wrong costs one request; then handed to workers, phase by phase."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
from collections.abc import Coroutine
from dataclasses import replace
from typing import TYPE_CHECKING, Any, TypeVar

from latprof.pipeline.going import Going
from latprof.pipeline.meta import phase_meta, workers_meta
from latprof.pipeline.shown import progress, say, tell
from latprof.pipeline.stub import figures, note_figures
from latprof.schedule.plan import PREFLIGHT_SESSION
from latprof.workload.sessions import Session, joined

if TYPE_CHECKING:
    from latprof.client.endpoint import Endpoint
    from latprof.client.preflight import Preflight
    from latprof.client.targets import Targets
    from latprof.client.workers import Workers
    from latprof.stub.stack import RunningStub

T = TypeVar("T")


async def reach(going: Going, endpoint: Endpoint, stack: contextlib.AsyncExitStack) -> bool:
    """Ask once before any load, so that a wrong address, key or model costs one request; whether usage is to be asked for."""
    from latprof.client.preflight import preflight
    from latprof.client.targets import open_sole

    transport = open_sole(endpoint)
    stack.push_async_callback(transport.close)
    first = _unlike(going.plan.phases[0].planned[0].session)
    before = going.meta.get("target", {})
    going.meta["target"] = {
        "url": _listed(before.get("url", ""), str(endpoint.address)),
        "model": _listed(before.get("model", ""), endpoint.model),
        "is_stub": going.config.uses_stub,
    }
    asked = preflight(transport, first, run_id=going.run_id, seed=going.plan.seed)
    found: Preflight | None = await _unless_stopped(asked, going.stop)
    if found is not None:
        going.meta["preflight"] = dataclasses.asdict(found)
        for finding in found.findings:
            say(going, finding)
    return found is None or found.include_usage


def _unlike(session: Session) -> Session:
    """A session such as the first, with a prompt of its own: what is asked before the run must not be found in a prefix cache by the run."""
    turn = replace(session.turns[0], prompt=f"Before the run: {joined(session.turns[0].prompt)}")
    return Session(PREFLIGHT_SESSION, (turn,))


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


def start_workers(going: Going, targets: Targets, stack: contextlib.AsyncExitStack) -> Workers:
    """The processes that send, as many as the load is shared out among; they come up by themselves, and go with ``stack``."""
    from latprof.client.shards import count_workers, shares
    from latprof.client.workers import Workers
    from latprof.observations.graph import StepLog

    config, phases = going.config, going.plan.phases
    is_local = config.uses_stub or any(endpoint.unix_socket or endpoint.address.is_loopback for endpoint in targets.endpoints)
    count = count_workers(config.load.workers, phases, going.meta["host"]["cpus"] or 1, is_local=is_local)
    going.meta["arrival_model"] += shares(phases, count)
    steps = StepLog(going.folder)
    stack.push_async_callback(asyncio.to_thread, steps.close)  # after the workers are gone: nothing more is handed out
    workers = Workers(count, going.folder, on_handed_out=lambda ready: steps.add((one.phase, one.session) for one in ready))
    stack.push_async_callback(asyncio.to_thread, workers.kill)
    return workers


async def drive(going: Going, workers: Workers, targets: Targets, stub: RunningStub | None, *, include_usage: bool) -> None:
    """Every phase, one after the other, until someone stops it or a worker dies; run.json is whole after each."""
    from latprof.client.driver import Counters, Rules
    from latprof.observations.folder import write_meta
    from latprof.observations.streams import answered

    tell(going.watch, "handing the sessions over to the workers")
    rules = Rules(going.run_id, going.config.load.seed, going.config.target.timeout_ns, going.config.target.retries)
    await workers.open(going.folder, targets, rules, include_usage=include_usage)
    for phase in going.plan.phases:
        if not going.stop.is_set():
            await workers.load(phase, targets, include_usage=include_usage)
    if going.watch is not None:
        going.watch.load, going.watch.target = going.meta["arrival_model"], going.meta["target"]["url"]
    for phase in going.plan.phases:
        if going.stop.is_set() or workers.deaths:
            break
        before = await figures(stub)
        counters = Counters()
        async with progress(going, phase, counters, workers):
            driven = await workers.drive(counters, going.stop)
        going.meta["phases"].append(phase_meta(phase, driven))
        if stub is not None:
            note_figures(going, before, await figures(stub), stub.died())
        write_meta(going.folder, going.meta)
    going.meta["interrupted"] = going.stop.is_set()
    tell(going.watch, "the workers write what they have")
    try:
        await workers.close()
    finally:
        going.meta["workers"] = workers_meta(workers)
    going.meta["stale_retries"] = workers.stale_retries
    going.answered = await asyncio.to_thread(answered, going.folder)
