"""Time as a dependency: one monotonic clock in ns, a wall-clock anchor, and a timer finer than the event loop's.

asyncio's and uvloop's own timers are 1 ms coarse. A timerfd on the loop's selector wakes about 0.1 ms late on a virtual machine; `PreciseTimer`
arms it early by the lateness it has measured, so the median error is near zero without spinning, and smaller yet with it.
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


def wall_offset_ns() -> int:
    """Unix time minus the monotonic clock, now. It changes when the wall clock is stepped, and not when it is slewed."""
    anchor = wall_anchor(tries=4)
    return anchor.unix_ns - anchor.monotonic_ns


class Timer(Protocol):
    """Wakes a coroutine at an instant of the monotonic clock.

    ``stalls`` are its own late wake-ups: (when it was set to fire, how much later the process got to it), those above 1 ms, the first thousand.
    """

    stalls: list[tuple[int, int]]

    async def sleep_until(self, at_ns: int) -> None:
        """Return at ``at_ns`` as nearly as this timer can; at once when that is past."""

    def close(self) -> None:
        """Give the file descriptor back. Sleepers are left to their cancellation."""


class LoopTimer:
    """The event loop's own timer: the fallback where there is no timerfd (1 ms coarse, so its lateness tells of no stall)."""

    def __init__(self) -> None:
        self.stalls: list[tuple[int, int]] = []

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
# The driver's timer waits for the last of it awake, this long at most, and never for more than this share of the time.
SPIN_NS = 150_000
_SPIN_SHARE = 0.1
_MOST_STALLS = 1_000
_SPIN_LOOKED_AT_EVERY_NS = NS_PER_S


class PreciseTimer:
    """One timerfd on the running loop, a heap of sleepers, and a lead learnt from how late it wakes.

    Without spinning it is armed early by the median of what it wakes late: an error of about ±50 µs at p50 on an idle machine. With ``spin_ns``
    it is armed early by the 90th percentile, and what is left is waited for awake: at most ``spin_ns`` at a time, a tenth of the time in
    all, and only while a core is free. ``harness/timers.py`` prints both beside a bare timerfd loop.
    Python 3.11 has no ``os.timerfd_create`` (3.13 has), hence ctypes; the call costs about 2 µs.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop | None = None, *, spin_ns: int = 0) -> None:
        self.stalls: list[tuple[int, int]] = []
        self._loop = loop or asyncio.get_running_loop()
        self._libc = ctypes.CDLL(None, use_errno=True)
        self._libc.prctl(_PR_SET_TIMERSLACK, 1, 0, 0, 0)
        self._fd = self._libc.timerfd_create(_CLOCK_MONOTONIC, _TFD_NONBLOCK | _TFD_CLOEXEC)
        if self._fd < 0:
            raise OSError(ctypes.get_errno(), "timerfd_create")
        self._heap: list[tuple[int, int, asyncio.Future[None]]] = []
        self._order = 0  # ties wake in the order they were asked for
        self._fire_ns = 0
        self._lead = _Learnt(_START_LEAD_NS, 0.5)
        self._early = _Learnt(_START_LEAD_NS, 0.9)
        self._resume = _Learnt(_RESUME_NS, 0.5, step_ns=1_000)
        self._spin = _Spin(spin_ns)
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
        now_ns = time.monotonic_ns()
        lead_ns = (self._early if self._spin.is_free(now_ns) else self._lead).value_ns + self._resume.value_ns
        self._fire_ns = max(self._heap[0][0] - min(lead_ns, _MAX_LEAD_NS), now_ns + 1)
        self._spec.it_value.tv_sec, self._spec.it_value.tv_nsec = divmod(self._fire_ns, NS_PER_S)
        self._libc.timerfd_settime(self._fd, _TFD_TIMER_ABSTIME, ctypes.byref(self._spec), None)

    def _on_readable(self) -> None:
        with contextlib.suppress(BlockingIOError):
            os.read(self._fd, 8)
        now_ns = time.monotonic_ns()
        late_ns = now_ns - self._fire_ns
        if late_ns <= NS_PER_MS:
            self._lead.see(late_ns)
            self._early.see(late_ns)
        elif len(self.stalls) < _MOST_STALLS:  # the machine was away: it says nothing about the timer
            self.stalls.append((self._fire_ns, late_ns))
        spun_ns = self._spin_until_due(now_ns)
        now_ns += spun_ns
        # Runs right before the first sleeper does: what a turn of the loop takes.
        self._loop.call_soon(self._see_turn, now_ns)
        close_ns = _CLOSE_ENOUGH_NS + self._resume.value_ns + (0 if spun_ns else self._lead.value_ns // 4)
        while self._heap and self._heap[0][0] - now_ns <= close_ns:
            _, _, future = heapq.heappop(self._heap)
            if not future.done():
                future.set_result(None)
        if self._heap:
            self._arm()

    def _spin_until_due(self, now_ns: int) -> int:
        """Wait awake for the first sleeper, so that it goes on when it is due; how long that took, 0 when there was nothing to wait for."""
        if not self._heap:
            return 0
        left_ns = self._heap[0][0] - self._resume.value_ns - now_ns
        if left_ns <= 0 or not self._spin.may(left_ns, now_ns):
            return 0
        until_ns = now_ns + left_ns
        while time.monotonic_ns() < until_ns:
            pass
        return time.monotonic_ns() - now_ns

    def _see_turn(self, let_go_ns: int) -> None:
        took_ns = time.monotonic_ns() - let_go_ns
        if took_ns <= NS_PER_MS:
            self._resume.see(took_ns)


class _Learnt:
    """A quantile of what is seen, followed by steps of fixed size: up with the odds of the quantile, down with the rest."""

    def __init__(self, value_ns: int, quantile: float, step_ns: int = 10_000) -> None:
        self.value_ns = value_ns
        self._up_ns, self._down_ns = round(step_ns * quantile), round(step_ns * (1 - quantile))

    def see(self, seen_ns: int) -> None:
        """Move towards the quantile: a mean would be moved by every stall."""
        step_ns = self._up_ns if seen_ns > self.value_ns else -self._down_ns
        self.value_ns = min(_MAX_LEAD_NS, max(0, self.value_ns + step_ns))


class _Spin:
    """How long a timer may wait awake: ``limit_ns`` at a time, a share of the time in all, and only while a core is free."""

    def __init__(self, limit_ns: int) -> None:
        self._limit_ns = limit_ns
        self._left_ns = 0
        self._look_ns = 0
        self._idle = idle_ns() if limit_ns else None
        self._is_free = False

    def is_free(self, now_ns: int) -> bool:
        """Whether waiting awake takes nothing from anybody; looked at once a second."""
        if self._limit_ns and now_ns >= self._look_ns:
            self._look(now_ns)
        return self._is_free and self._left_ns > self._limit_ns

    def may(self, wanted_ns: int, now_ns: int) -> bool:
        """Take ``wanted_ns`` from what may still be spent."""
        if wanted_ns > self._limit_ns or not self.is_free(now_ns):
            return False
        self._left_ns -= wanted_ns
        return True

    def _look(self, now_ns: int) -> None:
        idle = idle_ns()
        over_ns = now_ns - self._look_ns + _SPIN_LOOKED_AT_EVERY_NS
        if self._look_ns and idle is not None and self._idle is not None:
            # What this timer itself spent awake would have been idle.
            spent_ns = round(_SPIN_LOOKED_AT_EVERY_NS * _SPIN_SHARE) - self._left_ns if self._is_free else 0
            self._is_free = idle - self._idle + spent_ns >= over_ns
        self._idle = idle
        self._left_ns = round(_SPIN_LOOKED_AT_EVERY_NS * _SPIN_SHARE)
        self._look_ns = now_ns + _SPIN_LOOKED_AT_EVERY_NS


def idle_ns() -> int | None:
    """How long the cores this process may run on have been idle, summed; None where nobody tells (then none counts as free)."""
    try:
        mine = {f"cpu{number}" for number in os.sched_getaffinity(0)}
        with open("/proc/stat", encoding="ascii") as lines:  # noqa: PTH123 - read once a second beside the hot path
            rows = [line.split() for line in lines if line.startswith("cpu")]
    except (OSError, AttributeError):
        return None
    ticks = sum(int(row[4]) for row in rows if row[0] in mine)
    return ticks * NS_PER_S // os.sysconf("SC_CLK_TCK")


def precise_timer(*, spin_ns: int = 0) -> Timer:
    """The best timer this platform has, for the running loop; ``spin_ns`` as in `PreciseTimer`."""
    if sys.platform == "linux":
        with contextlib.suppress(OSError, AttributeError):
            return PreciseTimer(spin_ns=spin_ns)
    return LoopTimer()
