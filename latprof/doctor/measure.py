"""The instrument measured: the same sockets, driver and recorder as in a run, against a responder that says when it sent."""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import gc
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from itertools import repeat
from pathlib import Path

import numpy as np
import numpy.typing as npt

from latprof.client.driver import Rules, drive
from latprof.client.endpoint import Endpoint, resolve_endpoint
from latprof.client.feed import ReadyFeed, prepare
from latprof.client.health import Health, HealthSampler, collector_off
from latprof.client.stamps import CHANNEL_CODES, Attempt, Channel, ChunkLog
from latprof.client.transport import HttpTransport
from latprof.clock import precise_timer
from latprof.config import Target
from latprof.doctor.responder import DIGITS
from latprof.errors import RunFailedError
from latprof.observations.recorder import Recorder
from latprof.schedule.plan import Phase, Planned
from latprof.units import MISSING_NS, NS_PER_MS, NS_PER_S
from latprof.workload.sessions import Session, Turn

STREAMS = 32
_CLOSED_S = 1.5
_SLEEPS, _SLEEP_NS = 150, 5 * NS_PER_MS
_LEARNING = 20
_CLOCK_MONOTONIC, _TFD_TIMER_ABSTIME = 1, 1
_SESSION = Session(0, (Turn("How long does it take?", 8, 100),))
_RULES = Rules("0" * 16, seed=0, timeout_ns=10 * NS_PER_S)
_START_S = 20.0

Ns = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Error:
    """The size of an error, ns; ``worst_ns`` is the largest of ``n``."""

    n: int
    p50_ns: float
    p99_ns: float
    worst_ns: float


@dataclass(frozen=True, slots=True)
class Speed:
    """What one worker did in a second, of requests or chunks, with everything recorded.

    ``cpu_share`` is that of this process; well below 1 the responder, or the machine, was the limit, and a worker could do more.
    """

    per_s: float
    cpu_share: float


@dataclass(frozen=True, slots=True)
class Floor:
    """What was measured.

    ``kernel_stamp`` is None where the kernel does not stamp; ``user_stamp`` is what a client that stamps after reading and parsing would have
    got in the same reads. ``health`` is that of this process meanwhile.
    """

    kernel_stamp: Error | None
    user_stamp: Error
    user_stamp_share: float
    interval_share: float
    timer: Error
    bare_timer: Error | None
    requests: Speed
    chunks: Speed
    health: Health
    gc_full_ns: int


def measure() -> Floor:
    """Everything, in about ten seconds.

    Raises:
        RunFailedError: the responder does not come up or does not answer.
    """
    import uvloop

    with _responding() as port, asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(_measure(f"http://127.0.0.1:{port}"))


async def _measure(url: str) -> Floor:
    endpoint = resolve_endpoint(Target(), url, {})
    with collector_off():
        bare, timer = await _timers()
    kernel, user, user_share, intervals, health = await _stamps(_asking(endpoint, "paced"))
    requests = await _speed(_asking(endpoint, "short"), 16, lambda attempt: int(attempt.succeeded))
    chunks = await _speed(_asking(endpoint, "flood"), 4, lambda attempt: attempt.token_chunks)
    began_ns = time.monotonic_ns()
    gc.collect()
    return Floor(kernel, user, user_share, intervals, timer, bare, requests, chunks, health, time.monotonic_ns() - began_ns)


def _asking(endpoint: Endpoint, answer: str) -> Endpoint:
    """``endpoint`` with the answer it is to give in its query."""
    line, _, rest = endpoint.head.partition(b"\r\n")
    method, path, version = line.split(b" ")
    return replace(endpoint, head=b"%b %b?answer=%b %b\r\n%b" % (method, path, answer.encode(), version, rest))


# --- stamps -------------------------------------------------------------------------------------------------------------------------------


@dataclass(slots=True)
class _Noting(ChunkLog):
    """A chunk log that also notes when each chunk got here: what a client without the kernel's stamps would write down."""

    noted_ns: list[int] | None = None

    def append(self, request: int, at_ns: int, size: int, channel: int) -> None:
        now_ns = time.monotonic_ns()
        ChunkLog.append(self, request, at_ns, size, channel)
        if self.noted_ns is not None:
            self.noted_ns.append(now_ns)


async def _stamps(endpoint: Endpoint) -> tuple[Error | None, Error, float, float, Health]:
    """Errors of the kernel's stamps and of those taken here, the share of reads without a kernel stamp, that of chunks in company, the health."""
    transport = HttpTransport(endpoint)
    log = _Noting(noted_ns=[])
    try:
        with collector_off(), HealthSampler(transport.sockets) as sampler:
            sent = await asyncio.gather(*(_stream(transport, number, log) for number in range(STREAMS)))
            health = sampler.health()
        attempts = [attempt for attempt, _ in sent]
        if not all(attempt.succeeded for attempt in attempts):
            raise RunFailedError(f"the doctor's own responder did not answer: {next(a.error_text for a in attempts if not a.succeeded)}")
        has_kernel = transport.clock.has_kernel
    finally:
        await transport.close()
    request, at_ns, noted_ns = (np.asarray(column, np.int64) for column in (log.request, log.at_ns, log.noted_ns))
    is_token = np.asarray(log.channel) == CHANNEL_CODES[Channel.CONTENT]
    stamped, noted, together = [], [], []
    for number, (_, sent_ns) in enumerate(sent):
        rows = is_token & (request == number)
        stamped.append(at_ns[rows] - sent_ns)
        noted.append(noted_ns[rows] - sent_ns)
        together.append(np.diff(at_ns[rows]) == 0)
    reads = sum(attempt.reads for attempt in attempts)
    user_share = sum(attempt.user_stamps for attempt in attempts) / reads
    is_kernel = has_kernel and user_share < 0.5
    return (
        _error(np.concatenate(stamped)) if is_kernel else None,
        _error(np.concatenate(noted)),
        user_share,
        float(np.concatenate(together).mean()),
        health,
    )


async def _stream(transport: HttpTransport, number: int, log: ChunkLog) -> tuple[Attempt, Ns]:
    """One paced answer, and when its tokens were sent."""
    await asyncio.sleep(number * 0.0003)  # the streams beat side by side, not as one
    attempt = _attempt(number)
    ask = replace(transport.encoder()(replace(_SESSION, session=number), 0), keeps_answer=True)
    text = await transport.send(ask, attempt, log)
    return attempt, np.array([int(text[at : at + DIGITS]) for at in range(0, len(text), DIGITS)], np.int64)


def _attempt(number: int) -> Attempt:
    return Attempt(number, number, 0, 0, "doctor", f"{number:032x}", f"{number:016x}", 8, 100)


# --- timers -------------------------------------------------------------------------------------------------------------------------------


async def _timers() -> tuple[Error | None, Error]:
    """The bare timer's error and the driver's, whose sleeps take turns."""
    timer = precise_timer()
    fd = _timerfd()
    bare = None if fd is None else partial(_bare_sleep, fd)
    late_ns: list[list[int]] = [[], []]
    try:
        for _ in range(_LEARNING + _SLEEPS):
            for lates, wait in zip(late_ns, (bare, timer.sleep_until), strict=True):
                if wait is not None:
                    at_ns = time.monotonic_ns() + _SLEEP_NS
                    await wait(at_ns)
                    lates.append(abs(time.monotonic_ns() - at_ns))
    finally:
        timer.close()
        if fd is not None:
            os.close(fd)
    of_bare, of_ours = (np.array(lates[_LEARNING:], np.int64) for lates in late_ns)
    return (_error(of_bare) if len(of_bare) else None), _error(of_ours)


def _timerfd() -> int | None:
    return ctypes.CDLL(None).timerfd_create(_CLOCK_MONOTONIC, 0) if sys.platform == "linux" else None


async def _bare_sleep(fd: int, at_ns: int) -> None:
    """A blocking read on a timerfd: what this machine can do without an event loop."""
    spec = (ctypes.c_long * 4)(0, 0, *divmod(at_ns, NS_PER_S))  # interval, first
    ctypes.CDLL(None).timerfd_settime(fd, _TFD_TIMER_ABSTIME, spec, None)
    os.read(fd, 8)


# --- speed --------------------------------------------------------------------------------------------------------------------------------


async def _speed(endpoint: Endpoint, places: int, count: Callable[[Attempt], int]) -> Speed:
    """A closed loop for a second and a half, driven and recorded as in a run."""
    transport = HttpTransport(endpoint)
    log, counted = ChunkLog(), 0
    phase = Phase("doctor", (Planned(_SESSION, None),), "closed", concurrency=places, duration_ns=round(_CLOSED_S * NS_PER_S))
    (ready,) = prepare(phase, transport.encoder())

    def end(attempt: Attempt) -> None:
        nonlocal counted
        counted += count(attempt)
        recorder.end(attempt)

    with tempfile.TemporaryDirectory(prefix="latprof-doctor-") as folder, Recorder(Path(folder), log) as recorder:
        feed = ReadyFeed(repeat(ready))
        driven = await drive(phase, transport, feed, transport.encoder(), log, _RULES, on_begin=recorder.begin, on_end=end)
    await transport.close()
    return Speed(counted / ((driven.end_ns - driven.start_ns) / NS_PER_S), driven.health.cpu_share)


def _error(errors_ns: Ns) -> Error:
    size = np.abs(errors_ns)
    if not len(size):
        return Error(0, MISSING_NS, MISSING_NS, MISSING_NS)
    return Error(len(size), float(np.quantile(size, 0.5)), float(np.quantile(size, 0.99)), float(size.max()))


# --- the responder ------------------------------------------------------------------------------------------------------------------------


@contextlib.contextmanager
def _responding() -> Iterator[int]:
    """The responder's port, for the length of a ``with``."""
    process = subprocess.Popen(
        [sys.executable, "-m", "latprof.doctor.responder"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        start_new_session=True,
    )
    try:
        if process.stdout is None or process.stdin is None:
            raise RunFailedError("the doctor's responder has no pipes")
        line = process.stdout.readline()
        if not line.strip().isdigit():
            raise RunFailedError("the doctor's responder did not come up; its message is above")
        yield int(line)
    finally:
        with contextlib.suppress(BrokenPipeError):
            process.communicate(timeout=_START_S)
