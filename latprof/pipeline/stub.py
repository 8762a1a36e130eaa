"""The stack in a box around a live run: brought up, and asked what it says of itself. Nothing of it is imported for a real endpoint."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from latprof.config import Config
from latprof.pipeline.going import Going
from latprof.pipeline.loop import new_runner
from latprof.pipeline.shown import say

if TYPE_CHECKING:
    from latprof.analysis.validity.overload import Overload
    from latprof.pipeline.injector import Injector
    from latprof.spans.receiver import Receiver
    from latprof.stub.stack import RunningStub

Figures = dict[str, dict[str, int]]


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


async def start_stub(going: Going, stack: contextlib.AsyncExitStack, receiver: Receiver, injector: Injector) -> RunningStub:
    """Bring it up, with its spans on their way to ``receiver`` and, where delays are injected into it, a hop between two of its stages."""
    from latprof.stub.stack import start

    truth = going.folder / "truth" if going.config.stub.truth else None
    config, endpoint = going.config, f"http://127.0.0.1:{receiver.http_port}"
    running = await start(config.stub, endpoint, truth, tokenizer=config.workload.tokenizer, between=injector.between)
    return await stack.enter_async_context(running)


def foresee(going: Going, stack: contextlib.AsyncExitStack) -> asyncio.Task[tuple[Overload, ...]] | None:
    """What the stack in a box will not keep up with; None where only the run itself can tell. Nothing of the stub is imported for a real endpoint."""
    from latprof.pipeline.offered import can_overload, overloads

    if not going.config.uses_stub or not can_overload(going.plan):
        return None
    found = asyncio.create_task(asyncio.to_thread(overloads, going.config))
    stack.callback(found.cancel)
    return found


def warn(going: Going, overloads: Sequence[Overload]) -> None:
    """Say which layers are asked for more than they can do; the run is made all the same, and its report says so again."""
    from latprof.observations.folder import write_meta

    if not overloads:
        return
    going.meta["unstable"] = [dataclasses.asdict(one) for one in overloads]
    write_meta(going.folder, going.meta)
    for one in overloads:
        say(going, one.line)


async def figures(stub: RunningStub | None) -> Figures:
    """What the stub's stages say of themselves. Nothing of the stub is imported for a real endpoint."""
    if stub is None:
        return {}
    from latprof.stub.watch import figures

    return await figures(stub.urls())


def note_figures(going: Going, before: Figures, after: Figures, died: str) -> None:
    """What the stages said of themselves before and after a phase, which is the last in ``phases``."""
    phase = going.meta["phases"][-1]
    told = {"name": phase["name"], "start_ns": phase["start_ns"], "end_ns": phase["end_ns"], "before": before, "after": after}
    phases = [*going.meta.get("stub", {}).get("phases", ()), told]
    going.meta["stub"] = {"after": after, "died": died, "phases": phases}
