"""One run from configuration to report. The rooms do the work; this file says in which order.

    plan -> stack, receiver and workers up -> preflight -> warm-up and measured load -> late spans -> run folder compacted -> report

The report is always made from the folder (`latprof.opening`), never from what is still in memory: ``latprof report`` shows the same.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import secrets
from typing import TYPE_CHECKING

from latprof.clock import wall_anchor
from latprof.config import Config
from latprof.errors import RunFailedError, UsageError
from latprof.pipeline.driving import drive, reach, start_workers
from latprof.pipeline.going import Going
from latprof.pipeline.goodput import judged
from latprof.pipeline.injector import Injector
from latprof.pipeline.loop import new_runner, until_interrupted
from latprof.pipeline.meta import first_meta, targets_meta
from latprof.pipeline.outcome import Outcome, outcome_of
from latprof.pipeline.shown import tell, view
from latprof.pipeline.spans_in import collect, compact_spans, receive_spans
from latprof.pipeline.stub import foresee, start_stub, warn

if TYPE_CHECKING:
    from latprof.live.watch import Watch


def run(config: Config, *, quiet: bool = True, live: bool = False) -> Outcome:
    """`run_async` on a loop of its own; Ctrl-C ends the load early and still reports, a second one gives up."""
    with new_runner() as runner:
        return runner.run(until_interrupted(lambda stop: run_async(config, quiet=quiet, live=live, stop=stop)))


async def run_async(config: Config, *, quiet: bool = True, live: bool = False, stop: asyncio.Event | None = None) -> Outcome:
    """Run ``config`` to its end, or until ``stop`` is set; then report from the folder.

    Unless ``quiet`` standard error tells how it goes: with ``live`` a terminal shows a view of it, everything else gets lines.

    Raises:
        UsageError: something cannot be used as given; nothing was sent, and no folder is left.
        RunFailedError: the endpoint refused the very first request for good (key, model); no folder is left either.
    """
    stop = stop or asyncio.Event()
    async with view(stop, wanted=live and not quiet) as watch:
        return await _run(config, quiet, stop, watch)


async def _run(config: Config, quiet: bool, stop: asyncio.Event, watch: Watch | None) -> Outcome:
    from latprof.observations.folder import create, discard, has_requests, write_meta
    from latprof.schedule.build import build_plan

    config = judged(config)
    tell(watch, "making the plan")
    plan = await asyncio.to_thread(build_plan, config)
    folder = create(config.out)
    going = Going(config, folder, plan, secrets.token_hex(8), wall_anchor(), quiet, stop, watch)
    going.meta = first_meta(config, plan, going.run_id, going.anchor)
    write_meta(folder, going.meta)
    if watch is not None:
        watch.open(folder, going.anchor, config.spans.hops, config.spans.grace_ns)
    try:
        await _measure(going)
    except BaseException as error:
        # Nothing was measured and the message says why: the same command must work again with the same --out. A fault keeps its traces.
        if isinstance(error, UsageError | RunFailedError | asyncio.CancelledError) and not has_requests(folder):
            discard(folder)
        else:
            write_meta(folder, going.meta | {"status": "failed"})
        raise
    tell(watch, "writing the run folder, making the report")
    return await asyncio.to_thread(_finish, going)


async def _measure(going: Going) -> None:
    from latprof.client.targets import resolve_targets

    config = going.config
    async with contextlib.AsyncExitStack() as stack:
        tell(going.watch, "starting the span receiver")
        receiver = await receive_spans(going, stack)
        injector = Injector(config, going.folder, going.run_id, stack)
        await injector.inside()
        going.meta |= injector.meta
        if config.uses_stub:
            tell(going.watch, "bringing the stack in a box up")
        foreseen = foresee(going, stack)  # while the stack comes up
        stub = await start_stub(going, stack, receiver, injector) if config.uses_stub else None
        targets = await injector.in_front(resolve_targets(config, None if stub is None else stub.url, os.environ))
        going.meta["targets"] = targets_meta(targets)
        workers = start_workers(going, targets, stack)  # they come up while the endpoints are asked
        tell(going.watch, f"asking once before the load: {', '.join(str(endpoint.address) for endpoint in targets.endpoints)}")
        asked = [await reach(going, endpoint, stack) for endpoint in targets.endpoints]
        if foreseen is not None:
            warn(going, await foreseen)
        if not going.stop.is_set():
            await injector.reached()
        # One answer for all: what one of several targets refuses is asked of none.
        await drive(going, workers, targets, stub, include_usage=all(asked))
        tell(going.watch, "waiting for late spans")
        await collect(going, receiver, stub)
        await injector.end()
        going.meta |= injector.meta


def _finish(going: Going) -> Outcome:
    from latprof.observations.folder import compact, write_meta
    from latprof.observations.graph import compact_steps
    from latprof.observations.injected import compact_injected

    compact(going.folder)
    compact_spans(going.folder)
    compact_steps(going.folder)
    compact_injected(going.folder)
    going.meta["status"] = "interrupted" if going.meta.get("interrupted") else "complete"
    write_meta(going.folder, going.meta)
    return outcome_of(going.folder)
