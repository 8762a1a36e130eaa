"""A process that sends the load: drives its share of every phase and writes down what comes back.

``python -m latprof.worker`` holds no more than that takes (numpy, uvloop, httptools, pyarrow, orjson: 65 MB, and a start in 0.3 s). Its orders
come on its standard input from `latprof.client.workers`, its answers go to its standard output; when its input ends the profiler is gone, and it
writes what it has and ends.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import os
import resource
import signal
import sys
import threading
import traceback
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import IO, Any

from latprof.client.driver import Counters, drive
from latprof.client.feed import Feed, Ready, ReadyFeed
from latprof.client.health import HealthSampler
from latprof.client.orders import (
    Close,
    Closed,
    Ended,
    Fault,
    Go,
    Load,
    Loaded,
    More,
    Opened,
    Opening,
    Progress,
    Stop,
    Wanted,
    read_order,
    write_order,
)
from latprof.client.stamps import Attempt, ChunkLog
from latprof.client.targets import open_transport
from latprof.errors import UsageError
from latprof.observations.recorder import Recorder

_PROGRESS_S = 0.25
Say = Callable[[object], None]
"""Tells the parent."""


def go_without_pandas() -> None:
    """From now on nothing in this process finds pandas."""
    sys.meta_path.insert(0, _WithoutPandas())


class _WithoutPandas:
    """pyarrow looks for pandas at its first array: where there is one, that is 60 MB and half a second in the middle of a load."""

    @staticmethod
    def find_spec(name: str, path: object = None, target: object = None) -> None:
        """Not to be found.

        Raises:
            ModuleNotFoundError: pandas is asked for.
        """
        del path, target
        if name == "pandas":
            raise ModuleNotFoundError("a worker goes without pandas", name=name)


def main() -> None:
    """Work until the input ends or says so."""
    # Ctrl-C reaches every process of a terminal; when to stop is the parent's to say, so that the last answers still come in.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    go_without_pandas()
    orders, answers = os.fdopen(os.dup(0), "rb"), os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # whatever prints shall not be taken for an answer
    with _runner() as runner:
        runner.run(_work(orders, partial(write_order, pipe=answers)))


def _runner() -> asyncio.Runner:
    if sys.platform == "win32":
        return asyncio.Runner()
    import uvloop

    return asyncio.Runner(loop_factory=uvloop.new_event_loop)


async def _work(pipe: IO[bytes], say: Say) -> None:
    inbox: asyncio.Queue[Any] = asyncio.Queue()
    threading.Thread(target=_listen, args=(pipe, asyncio.get_running_loop(), inbox), name="latprof-orders", daemon=True).start()
    opening = await inbox.get()
    if not isinstance(opening, Opening):
        return
    try:
        worker = _Worker(opening, say)
    except UsageError as error:
        say(Fault(str(error), is_usage=True))
        return
    await worker.work(inbox)


def _listen(pipe: IO[bytes], loop: asyncio.AbstractEventLoop, inbox: asyncio.Queue[Any]) -> None:
    """A thread, because it blocks: unpickling happens here, before a phase begins, and for fed sessions a few at a time."""
    order: object = Opening
    while order is not None and not isinstance(order, Close):
        order = read_order(pipe)
        try:
            loop.call_soon_threadsafe(inbox.put_nowait, order)
        except RuntimeError:
            return  # the loop is closed: the worker ended for another reason


class _PipeFeed:
    """Sessions as the parent sends them; more are asked for when half of the last batch is gone."""

    def __init__(self, ready: list[Ready], want: Callable[[], None]) -> None:
        self._ready: asyncio.Queue[Ready | None] = asyncio.Queue()
        self._want = want
        self._low = 0
        self._is_asked = False
        self.add(ready)

    def add(self, ready: list[Ready]) -> None:
        """A batch came; an empty one says that there are no more."""
        for one in ready:
            self._ready.put_nowait(one)
        self._low = len(ready) // 2
        self._is_asked = not ready
        if not ready:
            self._ready.put_nowait(None)

    async def next(self) -> Ready | None:
        if not self._is_asked and self._ready.qsize() <= self._low:
            self._is_asked = True
            self._want()
        one = await self._ready.get()
        if one is None:
            self._ready.put_nowait(None)  # for everyone else who asks
        return one


class _Worker:
    """One run as this process sees it."""

    def __init__(self, opening: Opening, say: Say) -> None:
        self._opening = opening
        self._say = say
        self._chunks = ChunkLog()
        self._transport = open_transport(opening.targets)
        self._encode = self._transport.encoder(include_usage=opening.include_usage)
        self._recorder = Recorder(Path(opening.folder), self._chunks, worker=opening.worker)
        self._loads: deque[Load] = deque()
        self._next_request = opening.worker
        self._stop = asyncio.Event()
        self._feed: _PipeFeed | None = None
        self._driving: asyncio.Task[None] | None = None

    async def work(self, inbox: asyncio.Queue[Any]) -> None:
        """Follow orders to the last."""
        self._say(Opened(has_kernel_stamps=self._transport.clock.has_kernel))
        try:
            while (order := await inbox.get()) is not None:
                self._follow(order)
                if isinstance(order, Close):
                    break
        finally:
            if self._driving is not None and not self._driving.done():
                self._driving.cancel()
                await asyncio.wait([self._driving])
            await self._transport.close()
            failure = self._close()
        if order is not None:
            self._say(Closed(failure, self._transport.stale_retries, peak_bytes()))

    def _close(self) -> str:
        try:
            self._recorder.close()
        except UsageError as error:
            return str(error)
        return ""

    def _follow(self, order: object) -> None:
        if isinstance(order, Load):
            self._loads.append(order)
            # What stays for the whole run is looked through now, not when the first phase begins.
            gc.collect()
            gc.freeze()
            self._say(Loaded())
        elif isinstance(order, Go):
            self._stop.clear()
            self._driving = asyncio.create_task(self._drive(self._loads.popleft(), order.start_ns))
        elif isinstance(order, More) and self._feed is not None:
            self._feed.add(order.ready)
        elif isinstance(order, Stop):
            self._stop.set()

    async def _drive(self, load: Load, start_ns: int) -> None:
        counters = Counters()
        sampler = HealthSampler(self._transport.sockets)
        telling = asyncio.create_task(self._tell(counters, sampler))
        stale_before = self._transport.stale_retries
        try:
            driven = await drive(
                load.phase,
                self._transport,
                self._feed_of(load),
                self._encode,
                self._chunks,
                self._opening.rules,
                start_ns=start_ns,
                numbers=(self._next_request, self._opening.workers),
                on_begin=self._begin,
                on_end=self._recorder.end,
                counters=counters,
                stop=self._stop,
                sampler=sampler,
            )
        except asyncio.CancelledError:
            raise
        except BaseException:
            self._say(Fault(traceback.format_exc(), is_usage=False))
            raise
        finally:
            self._feed = None
            telling.cancel()
        self._next_request = driven.next_request
        self._say(Progress(counters, self._recorder.failed))
        self._say(Ended(replace(driven, stale_retries=self._transport.stale_retries - stale_before)))

    def _feed_of(self, load: Load) -> Feed:
        if not load.is_fed:
            return ReadyFeed(_handed_out(load.ready))
        self._feed = _PipeFeed(load.ready, partial(self._say, Wanted()))
        return self._feed

    def _begin(self, attempt: Attempt) -> None:
        attempt.worker = self._opening.worker
        self._recorder.begin(attempt)

    async def _tell(self, counters: Counters, sampler: HealthSampler) -> None:
        while True:
            await asyncio.sleep(_PROGRESS_S)
            self._say(Progress(counters, self._recorder.failed, sampler.new_lags_ns()))


def peak_bytes() -> int:
    """The most memory of this process that was resident; getrusage would tell the parent's, where that was more when it started this one."""
    with contextlib.suppress(OSError):
        for line in Path("/proc/self/status").read_text(encoding="ascii", errors="replace").splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def _handed_out(ready: list[Ready]) -> Iterator[Ready]:
    """One after the other, and not kept: a body is gone once it was sent."""
    ready.reverse()
    while ready:
        yield ready.pop()


if __name__ == "__main__":
    main()
