"""What whoever waits for a run sees of it: a view on a terminal, lines everywhere else."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import sys
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING

from latprof.pipeline.going import Going
from latprof.pipeline.loop import on_signals

if TYPE_CHECKING:
    from latprof.client.driver import Counters
    from latprof.client.workers import Workers
    from latprof.live.watch import Watch
    from latprof.schedule.plan import Phase


@contextlib.asynccontextmanager
async def view(stop: asyncio.Event, *, wanted: bool) -> AsyncIterator[Watch | None]:
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
        with View(watch.look, sys.stderr) as drawn, on_signals((signal.SIGTSTP,), drawn.suspend):
            yield watch
    finally:
        watch.close()
        for note in watch.notes:
            sys.stderr.write(f"{plain(note)}\n")


def tell(watch: Watch | None, step: str) -> None:
    """What is done now, outside of the load: a step of the view, and no line of its own elsewhere."""
    if watch is not None:
        watch.step(step)


def say(going: Going, text: str) -> None:
    """A line for whoever watches."""
    from latprof.report.inert import plain

    if going.quiet:
        return
    if going.watch is None:
        sys.stderr.write(f"{plain(text)}\n")
    else:
        going.watch.note(text)


@contextlib.asynccontextmanager
async def progress(going: Going, phase: Phase, counters: Counters, workers: Workers) -> AsyncIterator[None]:
    """How a phase goes, for as long as it does."""
    if going.watch is not None:
        going.watch.drive(phase, counters, workers)
        try:
            yield
        finally:
            going.watch.rest()
        return
    if going.quiet:
        yield
        return
    from latprof.report.progress import show

    task = asyncio.create_task(show(phase, counters, sys.stderr))
    try:
        yield
    finally:
        task.cancel()
        await asyncio.wait([task])
