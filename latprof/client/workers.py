"""The worker processes of a run as the profiler holds them: started, handed their sessions, let go at one instant, listened to.

profiler ──orders──> latprof.worker ──requests──> target
    ^                     │    └──> requests.w0.arrows, chunks.w0.arrows
    └──── answers ────────┘
"""

from __future__ import annotations

import asyncio
import contextlib
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, fields, replace
from itertools import islice
from pathlib import Path
from typing import IO, Any

from latprof.client.driver import Counters, Driven, Rules
from latprof.client.feed import Ready, prepare
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
from latprof.client.shards import phase_of, shard
from latprof.client.targets import Targets, encoder_of
from latprof.client.transport import Encode
from latprof.errors import LatprofError, UsageError
from latprof.schedule.plan import OnDemand, Phase
from latprof.units import NS_PER_MS

COMMAND = (sys.executable, "-m", "latprof.worker")
# From the order to go until T0: it has to get through to every worker.
_LEAD_NS = 50 * NS_PER_MS
_LOOK_S = 0.1
# A worker that was told to close has its last batch to write; one that is told to end at once, too.
_END_S = 10.0
# Sessions sent ahead to a worker that asks: as many, or as many bytes of bodies, whichever is less.
_AHEAD, _AHEAD_BYTES = 512, 16 * 2**20
# Of a worker's event loop, kept for whoever watches: those of 20 s. Without a watcher they are forgotten.
_LAGS = 1_000


@dataclass(frozen=True, slots=True)
class Death:
    """A worker that ended before its time. ``text`` says how, as far as it is known."""

    worker: int
    text: str


HandedOut = Callable[[Sequence[Ready]], None]
"""Told of sessions just before a worker gets them; from any thread."""


class WorkerFaultError(LatprofError):
    """A worker found an error of latprof's own; the text is its traceback."""


class Workers:
    """Worker processes; `kill` them whatever happens. Their event loop is the one that was running when they were started.

    ``deaths`` are those that ended by themselves: what they had flushed counts, the rest of their load was not sent. ``on_handed_out`` is told of
    sessions before they go to a worker.
    """

    def __init__(self, count: int, folder: Path, command: Sequence[str] = COMMAND, on_handed_out: HandedOut = lambda _: None) -> None:
        self._on_handed_out = on_handed_out
        self.deaths: list[Death] = []
        self.stale_retries = 0
        self.peak_bytes = 0
        self.has_kernel_stamps = True
        self._workers: list[_Worker] = []
        try:
            for number in range(count):
                self._workers.append(_Worker(number, folder, command))
        except BaseException:
            self.kill()
            raise

    def __len__(self) -> int:
        return len(self._workers)

    @property
    def pids(self) -> list[int]:
        """Process ids, by worker."""
        return [worker.popen.pid for worker in self._workers]

    def take_lags_ns(self) -> list[int]:
        """How late the workers' event loops got to their ticks since this was last asked; from any thread."""
        taken: list[int] = []
        for worker in self._workers:
            with contextlib.suppress(IndexError):
                while True:
                    taken.append(worker.lags_ns.popleft())
        return taken

    async def open(self, folder: Path, targets: Targets, rules: Rules, *, include_usage: bool) -> None:
        """Have every worker create its files and its transport. They share this process's working directory.

        Raises:
            UsageError: the files cannot be created.
            WorkerFaultError: a worker did not come up.
        """
        count = len(self)
        shared = targets.shared_by(count)
        for worker in self._workers:
            await worker.say(Opening(worker.number, count, str(folder), shared, include_usage, rules))
        for opened in await self._answers(Opened):
            self.has_kernel_stamps = self.has_kernel_stamps and opened.has_kernel_stamps
        self._raise_if_dead()

    async def load(self, phase: Phase, targets: Targets, *, include_usage: bool) -> None:
        """Hand every worker its sessions of a phase, bodies written; phases are driven in the order they are loaded in.

        Where only time ends a closed loop they are handed over as they are asked for.

        Raises:
            WorkerFaultError: a worker died over it.
        """

        def encoder() -> Encode:
            return encoder_of(targets, include_usage=include_usage)

        for worker in self._workers:
            planned = shard(phase.planned, worker.number, len(self))
            mine = phase_of(phase, worker.number, len(self))
            is_fed = isinstance(phase.planned, OnDemand)
            if is_fed:
                worker.batches.append(self._told(_batches(replace(phase, planned=planned), encoder)))
                ready = await worker.apart(next, worker.batches[-1], [])
            else:
                worker.batches.append(iter(()))
                ready = await worker.apart(next, self._told(_whole(replace(phase, planned=planned), encoder)))
            await worker.say(Load(mine, ready, is_fed))
        await self._answers(Loaded)
        self._raise_if_dead()

    async def drive(self, counters: Counters, stop: asyncio.Event) -> list[Driven | None]:
        """Drive the next phase that was loaded, on all workers from one instant; by worker, None for one that died.

        ``counters`` are kept up to date meanwhile. When a worker dies, or cannot write, the others end early too: what is left is not the load
        that was asked for.

        Raises:
            WorkerFaultError: a worker found an error of latprof's own.
        """
        start_ns = time.monotonic_ns() + _LEAD_NS
        alive = [worker for worker in self._workers if not worker.is_dead]
        for worker in alive:
            worker.begin()
            await worker.say(Go(start_ns))
        ends = {worker.number: asyncio.create_task(worker.answer()) for worker in alive}
        stopping = asyncio.create_task(stop.wait())
        told = False
        try:
            while not all(end.done() for end in ends.values()):
                waited = [end for end in ends.values() if not end.done()]
                await asyncio.wait([*waited, *([] if told else [stopping])], timeout=_LOOK_S, return_when=asyncio.FIRST_COMPLETED)
                _merge(counters, [worker.counters for worker in self._workers])
                if not told and (stopping.done() or self._has_trouble(ends.values())):
                    told = True
                    for worker in alive:
                        await worker.say(Stop())
        finally:
            for task in (stopping, *ends.values()):
                task.cancel()
        _merge(counters, [worker.counters for worker in self._workers])
        return [self._driven(ends[number].result()) if number in ends else None for number in range(len(self))]

    def _has_trouble(self, ends: Iterable[asyncio.Task[Any]]) -> bool:
        """A worker died, cannot write, or found an error: what the others would still send is not the load that was asked for."""
        if any(worker.is_dead or worker.cannot_write for worker in self._workers):
            return True
        return any(end.done() and not isinstance(end.result(), Ended) for end in ends)

    async def close(self) -> None:
        """Have everything written, and wait for their end.

        Raises:
            UsageError: not everything could be written, and why.
        """
        failures = []
        for worker in self._workers:
            if not worker.is_dead:
                await worker.say(Close())
        for worker in self._workers:
            closed = await worker.answer()
            if isinstance(closed, Closed):
                failures.append(closed.failure)
                self.stale_retries += closed.stale_retries
                self.peak_bytes = max(self.peak_bytes, closed.peak_bytes)
            elif isinstance(closed, Death) and closed not in self.deaths:
                self.deaths.append(closed)
        await asyncio.to_thread(self.kill)
        failure = next(filter(None, failures), None)
        if failure is not None:
            raise UsageError(failure)

    def kill(self) -> None:
        """End them at once: they write what they have. Blocks for that; safe to call twice."""
        for worker in self._workers:
            worker.hang_up()
        for worker in self._workers:
            worker.wait()

    async def _answers(self, kind: type[Any]) -> list[Any]:
        """One answer of every worker that lives."""
        answers = []
        for worker in self._workers:
            if not worker.is_dead:
                answer = await worker.answer()
                self._note(answer)
                answers += [answer] if isinstance(answer, kind) else []
        return answers

    def _told(self, batches: Iterator[list[Ready]]) -> Iterator[list[Ready]]:
        """The same batches, each made known before a worker gets it."""
        for batch in batches:
            self._on_handed_out(batch)
            yield batch

    def _driven(self, answer: object) -> Driven | None:
        self._note(answer)
        return answer.driven if isinstance(answer, Ended) else None

    def _note(self, answer: object) -> None:
        if isinstance(answer, Death):
            self.deaths.append(answer)
        elif isinstance(answer, Fault):
            raise UsageError(answer.text) if answer.is_usage else WorkerFaultError(answer.text)

    def _raise_if_dead(self) -> None:
        """Before anything was sent there is no run to save."""
        if self.deaths:
            raise WorkerFaultError(f"a worker process did not come up: {self.deaths[0].text}")


class _Worker:
    """One worker process. What it says comes in on a thread; what it is told goes out on another, so that no pipe blocks the event loop."""

    def __init__(self, number: int, folder: Path, command: Sequence[str]) -> None:
        self.number = number
        self.is_dead = False
        self.cannot_write = False
        self.counters = Counters()
        self.lags_ns: deque[int] = deque(maxlen=_LAGS)
        self.batches: list[Iterator[list[Ready]]] = []
        self._current = -1
        self._loop = asyncio.get_running_loop()
        self._answers: asyncio.Queue[Any] = asyncio.Queue()
        self._log = folder / f"worker.w{number}.log"
        with self._log.open("wb") as log:
            self.popen = subprocess.Popen(  # noqa: S603 - our own interpreter and module
                command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                # Ctrl-C is for the profiler, which then tells the workers.
                start_new_session=True,
            )
        self._told = ThreadPoolExecutor(1, f"latprof-orders-{number}")
        threading.Thread(target=self._listen, args=(_pipe(self.popen.stdout),), name=f"latprof-answers-{number}", daemon=True).start()

    async def say(self, order: object) -> None:
        """Tell it; returns when the pipe has taken it. To one that died nothing is told, and `answer` says so."""
        await self.apart(self._write, order)

    async def apart(self, work: Callable[..., Any], *arguments: Any) -> Any:
        """Do ``work`` on the thread of this worker's orders, one after the other."""
        return await self._loop.run_in_executor(self._told, work, *arguments)

    async def answer(self) -> Any:
        """Its next answer; a `Death` when there will be no more."""
        answer = await self._answers.get()
        if isinstance(answer, Death):
            self._answers.put_nowait(answer)
        return answer

    def begin(self) -> None:
        """The next phase."""
        self._current += 1
        self.counters = Counters()

    def hang_up(self) -> None:
        """Close its input: it ends by that."""
        self._told.shutdown(wait=False, cancel_futures=True)
        # On a thread: closing waits for an order that is just being written, and a worker that hangs takes none.
        threading.Thread(target=self._close_input, daemon=True).start()

    def wait(self) -> None:
        """Until it is gone, by force if need be; its log goes too if there is nothing in it."""
        try:
            self.popen.wait(_END_S)
        except subprocess.TimeoutExpired:
            self.popen.kill()
            self.popen.wait()
        if self._log.exists() and not self._log.stat().st_size:
            self._log.unlink()

    def _close_input(self) -> None:
        with contextlib.suppress(OSError, ValueError):
            _pipe(self.popen.stdin).close()

    def _write(self, order: object) -> None:
        with contextlib.suppress(OSError, ValueError):
            write_order(order, _pipe(self.popen.stdin))

    def _listen(self, pipe: IO[bytes]) -> None:
        answer: object = Opened
        while answer is not None:
            answer = read_order(pipe)
            if answer is None:
                self.popen.wait()
                answer = Death(self.number, self._how_it_ended())
            try:
                self._loop.call_soon_threadsafe(self._take, answer)
            except RuntimeError:
                return  # the loop is closed
            if isinstance(answer, Death):
                return

    def _take(self, answer: object) -> None:
        if isinstance(answer, Progress):
            self.counters = answer.counters
            self.lags_ns.extend(answer.lags_ns)
            self.cannot_write = answer.cannot_write
        elif isinstance(answer, Wanted):
            self._told.submit(self._feed, self.batches[self._current])
        else:
            self.is_dead = self.is_dead or isinstance(answer, Death)
            self._answers.put_nowait(answer)

    def _feed(self, batches: Iterator[list[Ready]]) -> None:
        self._write(More(next(batches, [])))

    def _how_it_ended(self) -> str:
        last = ""
        with contextlib.suppress(FileNotFoundError):
            last = self._log.read_text(errors="replace").strip().rpartition("\n")[2]
        return f"worker {self.number} (process {self.popen.pid}) ended with code {self.popen.returncode}: {last or 'it left no message'}"


def _pipe(pipe: IO[bytes] | None) -> IO[bytes]:
    if pipe is None:
        raise ValueError("the process must have been started with pipes")
    return pipe


def _whole(phase: Phase, encoder: Callable[[], Encode]) -> Iterator[list[Ready]]:
    """All sessions in one batch, which share their texts."""
    yield list(prepare(phase, encoder()))


def _batches(phase: Phase, encoder: Callable[[], Encode]) -> Iterator[list[Ready]]:
    """Sessions in batches, each written by an encoder of its own, which forgets the texts with it."""
    sessions = iter(phase.planned)
    while True:
        encode, size = encoder(), 0
        batch: list[Ready] = []
        for planned in islice(sessions, _AHEAD):
            batch += prepare(replace(phase, planned=(planned,)), encode)
            size += sum(len(piece) for ask in batch[-1].asks if ask is not None for piece in (*ask.body, *ask.new_body))
            if size >= _AHEAD_BYTES:
                break
        if not batch:
            return
        yield batch


def _merge(counters: Counters, of_workers: Sequence[Counters]) -> None:
    """Add up what the workers count."""
    for field in fields(Counters):
        values = [getattr(each, field.name) for each in of_workers]
        setattr(counters, field.name, sum(values) if isinstance(values[0], int) else next((value for value in values if value), ""))
