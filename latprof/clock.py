"""Time as a dependency: one monotonic clock in ns, a wall-clock anchor, and a timer finer than the event loop's.

asyncio's and uvloop's own timers are 1 ms coarse. A timerfd on the loop's selector wakes about 0.1 ms late on a virtual machine; `PreciseTimer`
arms it early by the lateness it has measured, so the median error is near zero without spinning.
"""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import heapq
import os
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from latprof.units import NS_PER_MS, NS_PER_S

Now = Callable[[], int]
"""A clock: monotonic nanoseconds. ``time.monotonic_ns`` in production, a counter in tests."""


@dataclass(frozen=True, slots=True)
class WallAnchor:
    """One instant seen on both clocks: ties this process's monotonic stamps to Unix time.

    ``bracket_ns`` is the width of the two monotonic readings around the wall reading: the anchor's own uncertainty.
    """

    monotonic_ns: int
    unix_ns: int
    bracket_ns: int

    def to_unix(self, monotonic_ns: int) -> int:
        """A monotonic stamp of this process as Unix nanoseconds."""
        return monotonic_ns - self.monotonic_ns + self.unix_ns

    def to_monotonic(self, unix_ns: int) -> int:
        """A Unix stamp of this host as this process's monotonic nanoseconds."""
        return unix_ns - self.unix_ns + self.monotonic_ns


def wall_anchor(tries: int = 16) -> WallAnchor:
    """The tightest of ``tries`` bracketed readings (below 1 µs on an idle machine)."""
    readings = []
    for _ in range(tries):
        before = time.monotonic_ns()
        unix = time.time_ns()
        after = time.monotonic_ns()
        readings.append(WallAnchor((before + after) // 2, unix, after - before))
    return min(readings, key=lambda reading: reading.bracket_ns)


class Timer(Protocol):
    """Wakes a coroutine at an instant of the monotonic clock."""

    async def sleep_until(self, at_ns: int) -> None:
        """Return at ``at_ns`` as nearly as this timer can; at once when that is past."""

    def close(self) -> None:
        """Give the file descriptor back. Sleepers are left to their cancellation."""


class LoopTimer:
    """The event loop's own timer: the fallback where there is no timerfd (1 ms coarse)."""

    async def sleep_until(self, at_ns: int) -> None:  # noqa: D102
        wait_ns = at_ns - time.monotonic_ns()
        await asyncio.sleep(max(0.0, wait_ns / NS_PER_S))

    def close(self) -> None:  # noqa: D102
        return


class _TimeSpec(ctypes.Structure):
    _fields_ = (("tv_sec", ctypes.c_long), ("tv_nsec", ctypes.c_long))


class _ITimerSpec(ctypes.Structure):
    _fields_ = (("it_interval", _TimeSpec), ("it_value", _TimeSpec))


_CLOCK_MONOTONIC = 1
_TFD_NONBLOCK, _TFD_CLOEXEC, _TFD_TIMER_ABSTIME = 0o4000, 0o2000000, 1
_PR_SET_TIMERSLACK = 29
# Never arm more than this early: beyond it a busy machine, not the timer, is late.
_MAX_LEAD_NS = 300_000
_START_LEAD_NS = 120_000
# From the reader callback to the sleeper's next line: one turn of the loop.
_RESUME_NS = 25_000
# A sleeper due within this is let go at once: another trip through the kernel would cost more.
_CLOSE_ENOUGH_NS = 15_000


class PreciseTimer:
    """One timerfd on the running loop, a heap of sleepers, and a lead learnt from how late it wakes.

    Without spinning the error is about ±50 µs at p50 on an idle machine; ``harness/timers.py`` prints it beside a bare timerfd loop.
    Python 3.11 has no ``os.timerfd_create`` (3.13 has), hence ctypes; the call costs about 2 µs.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop | None = None) -> None:
        self._loop = loop or asyncio.get_running_loop()
        self._libc = ctypes.CDLL(None, use_errno=True)
        self._libc.prctl(_PR_SET_TIMERSLACK, 1, 0, 0, 0)
        self._fd = self._libc.timerfd_create(_CLOCK_MONOTONIC, _TFD_NONBLOCK | _TFD_CLOEXEC)
        if self._fd < 0:
            raise OSError(ctypes.get_errno(), "timerfd_create")
        self._heap: list[tuple[int, int, asyncio.Future[None]]] = []
        self._order = 0  # ties wake in the order they were asked for
        self._fire_ns = 0
        self._lead_ns = _START_LEAD_NS
        self._spec = _ITimerSpec()
        self._loop.add_reader(self._fd, self._on_readable)

    async def sleep_until(self, at_ns: int) -> None:  # noqa: D102
        if at_ns - time.monotonic_ns() <= _CLOSE_ENOUGH_NS:
            await asyncio.sleep(0)
            return
        future: asyncio.Future[None] = self._loop.create_future()
        self._order += 1
        heapq.heappush(self._heap, (at_ns, self._order, future))
        if self._heap[0][2] is future:
            self._arm()
        await future

    def close(self) -> None:  # noqa: D102
        if self._fd >= 0:
            self._loop.remove_reader(self._fd)
            os.close(self._fd)
            self._fd = -1

    def _arm(self) -> None:
        self._fire_ns = max(self._heap[0][0] - self._lead_ns, time.monotonic_ns() + 1)
        self._spec.it_value.tv_sec, self._spec.it_value.tv_nsec = divmod(self._fire_ns, NS_PER_S)
        self._libc.timerfd_settime(self._fd, _TFD_TIMER_ABSTIME, ctypes.byref(self._spec), None)

    def _on_readable(self) -> None:
        with contextlib.suppress(BlockingIOError):
            os.read(self._fd, 8)
        now_ns = time.monotonic_ns()
        self._learn(now_ns - self._fire_ns + _RESUME_NS)
        while self._heap and self._heap[0][0] - now_ns <= _CLOSE_ENOUGH_NS + self._lead_ns // 4:
            _, _, future = heapq.heappop(self._heap)
            if not future.done():
                future.set_result(None)
        if self._heap:
            self._arm()

    def _learn(self, late_ns: int) -> None:
        """Move the lead towards the median lateness: a step up or down of fixed size finds the median, not the mean."""
        if late_ns > NS_PER_MS:
            return  # the machine was away; it says nothing about the timer
        step_ns = 5_000 if late_ns > self._lead_ns else -5_000
        self._lead_ns = min(_MAX_LEAD_NS, max(0, self._lead_ns + step_ns))


def precise_timer() -> Timer:
    """The best timer this platform has, for the running loop."""
    if sys.platform == "linux":
        with contextlib.suppress(OSError, AttributeError):
            return PreciseTimer()
    return LoopTimer()
