"""How the generator itself did while it drove: a loaded client reports its own queue as the server's latency."""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import fcntl
import gc
import os
import resource
import struct
import sys
import termios
import time
from array import array
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, fields
from itertools import islice
from pathlib import Path
from typing import Self

from latprof.clock import wall_offset_ns
from latprof.units import MISSING_NS, NS_PER_MS, NS_PER_S

_TICK_NS = 20 * NS_PER_MS
# Every so many ticks (four times a second) the sockets and the clocks are looked at.
_LOOK_EVERY = 12
# Asking the kernel costs a microsecond a socket, on the event loop.
_MOST_SOCKETS = 128
# Later than this and a person sees it in the times between chunks. The timer itself is late by a tenth of it on a virtual machine.
STALL_NS = NS_PER_MS
_MOST_STALLS = 1_000
_STEP_NS = NS_PER_MS
# A tick is a hundredth of a second of one processor: of fewer a share is chance.
_ENOUGH_TICKS = 100
_CLOCK_MONOTONIC, _TFD_FLAGS, _TFD_TIMER_ABSTIME = 1, 0o4000 | 0o2000000, 1


@dataclass(frozen=True, slots=True)
class Health:
    """Of one process over one phase.

    Loop lag: how late the event loop got to a 20 ms tick; MISSING_NS for a phase shorter than a tick. ``stalls``: (when, how late) of the
    ticks that were late by more than a millisecond, the first thousand of them. ``cpu_share``: CPU time of the process over the phase's
    length, 1.0 being one core. ``starved_share``: of the phase's length, time in which the event loop's thread could have run and no core
    was free for it (None where the kernel does not tell). ``stolen_share``: of the processor time that the whole machine asked for, what its
    host gave to others instead (steal; None where nobody tells, or next to nothing was asked for). ``gc_pauses`` and their longest: garbage collection, which is off during a phase.
    ``receive_queue_max_bytes``: the most that was seen waiting unread in one socket, and ``waiting_sockets_share`` how often any did.
    ``clock_steps``: jumps of the wall clock by more than a millisecond against the monotonic one.
    """

    loop_lag_p50_ns: int
    loop_lag_p99_ns: int
    loop_lag_max_ns: int
    cpu_share: float
    involuntary_switches: int
    stalls: tuple[tuple[int, int], ...] = ()
    starved_share: float | None = None
    gc_pauses: int = 0
    gc_pause_max_ns: int = 0
    receive_queue_max_bytes: int = 0
    waiting_sockets_share: float = 0.0
    clock_steps: int = 0
    stolen_share: float | None = None


def worst(of_workers: Sequence[Health]) -> dict[str, int | float]:
    """Figure by figure the worst of several processes; switches and pauses are added up. Empty without any."""
    if not of_workers:
        return {}
    figures: dict[str, int | float] = {}
    for field in fields(Health):
        values = [value for one in of_workers if isinstance(value := getattr(one, field.name), int | float)]
        if values:
            figures[field.name] = sum(values) if field.name in {"involuntary_switches", "gc_pauses"} else max(values)
    return figures | {"stalls": sum(len(one.stalls) for one in of_workers)}


class HealthSampler:
    """Measures inside its ``with`` block. ``sockets`` gives the descriptors that may have something to read."""

    def __init__(self, sockets: Callable[[], Iterable[int]] = tuple) -> None:
        self._sockets = sockets

    def __enter__(self) -> Self:
        self._lags_ns = array("q")
        self._lags_told = 0
        self._stalls: list[tuple[int, int]] = []
        self._looks = self._looks_until = 0
        self._sockets_seen = self._sockets_waiting = self._most_waiting = 0
        self._clock_steps = 0
        self._offset_ns = wall_offset_ns()
        self._collections = _Collections()
        self._began_ns = time.monotonic_ns()
        self._began_cpu_ns = time.process_time_ns()
        self._began_starved_ns = _starved_ns()
        self._began_switches = _involuntary_switches()
        self._began_ticks = processor_ticks()
        self._ticks = _ticks(self._tick)
        return self

    def __exit__(self, *_: object) -> None:
        self._ticks.close()
        self._collections.close()

    def health(self) -> Health:
        """What was measured so far."""
        wall_ns = max(1, time.monotonic_ns() - self._began_ns)
        lags_ns = sorted(self._lags_ns)
        starved_ns = _starved_ns()
        known = starved_ns is not None and self._began_starved_ns is not None
        return Health(
            loop_lag_p50_ns=_rank(lags_ns, 0.50),
            loop_lag_p99_ns=_rank(lags_ns, 0.99),
            loop_lag_max_ns=_rank(lags_ns, 1.0),
            cpu_share=(time.process_time_ns() - self._began_cpu_ns) / wall_ns,
            involuntary_switches=_involuntary_switches() - self._began_switches,
            stalls=tuple(self._stalls),
            starved_share=((starved_ns or 0) - (self._began_starved_ns or 0)) / wall_ns if known else None,
            gc_pauses=self._collections.count,
            gc_pause_max_ns=self._collections.longest_ns,
            receive_queue_max_bytes=self._most_waiting,
            waiting_sockets_share=self._sockets_waiting / self._sockets_seen if self._sockets_seen else 0.0,
            clock_steps=self._clock_steps,
            stolen_share=_stolen_share(self._began_ticks, processor_ticks()),
        )

    def new_lags_ns(self) -> tuple[int, ...]:
        """How late the ticks were since this was last asked, for whoever watches while it goes on."""
        begin, self._lags_told = self._lags_told, len(self._lags_ns)
        return tuple(self._lags_ns[begin:])

    def _tick(self, due_ns: int, now_ns: int) -> None:
        late_ns = now_ns - due_ns
        self._lags_ns.append(late_ns)
        if late_ns > STALL_NS and len(self._stalls) < _MOST_STALLS:
            self._stalls.append((due_ns, late_ns))
        self._looks_until -= 1
        if self._looks_until <= 0:
            self._looks_until = _LOOK_EVERY
            self._look()

    def _look(self) -> None:
        for socket in islice(self._sockets(), _MOST_SOCKETS):
            waiting = _unread_bytes(socket)
            self._sockets_seen += 1
            self._sockets_waiting += waiting > 0
            self._most_waiting = max(self._most_waiting, waiting)
        offset_ns = wall_offset_ns()
        if abs(offset_ns - self._offset_ns) > _STEP_NS:
            self._clock_steps += 1
        self._offset_ns = offset_ns


@contextmanager
def collector_off() -> Iterator[None]:
    """No garbage collection inside: a full collection over a run's rows stops the event loop for tens of ms and would be read as latency.

    The hot path makes no reference cycles that matter (`http1` cuts its own), so memory does not grow for want of it.
    """
    was_enabled = gc.isenabled()
    gc.collect()
    gc.freeze()
    gc.disable()
    try:
        yield
    finally:
        # What is frozen stays so: thawed, it would all be looked through again before the next phase, after its T0 was fixed.
        if was_enabled:
            gc.enable()


# --- ticks of the event loop --------------------------------------------------------------------------------------------------------------

OnTick = Callable[[int, int], None]
"""When a tick was due, and when the event loop got to it."""


class _KernelTicks:
    """A periodic timerfd: due times are exact, and a loop that was away for several ticks hears of each of them."""

    def __init__(self, on_tick: OnTick) -> None:
        self._loop = asyncio.get_running_loop()
        self._on_tick = on_tick
        libc = ctypes.CDLL(None, use_errno=True)
        self._fd = libc.timerfd_create(_CLOCK_MONOTONIC, _TFD_FLAGS)
        if self._fd < 0:
            raise OSError(ctypes.get_errno(), "timerfd_create")
        self._due_ns = time.monotonic_ns() + _TICK_NS
        spec = (ctypes.c_long * 4)(0, _TICK_NS, *divmod(self._due_ns, NS_PER_S))  # interval, first
        libc.timerfd_settime(self._fd, _TFD_TIMER_ABSTIME, spec, None)
        self._loop.add_reader(self._fd, self._on_readable)

    def close(self) -> None:
        if self._fd >= 0:
            self._loop.remove_reader(self._fd)
            os.close(self._fd)
            self._fd = -1

    def _on_readable(self) -> None:
        now_ns = time.monotonic_ns()
        with contextlib.suppress(BlockingIOError):
            for _ in range(int.from_bytes(os.read(self._fd, 8), sys.byteorder)):
                self._on_tick(self._due_ns, now_ns)
                self._due_ns += _TICK_NS


class _LoopTicks:
    """The event loop's own timer, 1 ms coarse: up to that is no sign of load."""

    def __init__(self, on_tick: OnTick) -> None:
        self._loop = asyncio.get_running_loop()
        self._on_tick = on_tick
        self._arm()

    def close(self) -> None:
        self._handle.cancel()

    def _arm(self) -> None:
        self._due_ns = time.monotonic_ns() + _TICK_NS
        self._handle = self._loop.call_later(_TICK_NS / NS_PER_S, self._tick)

    def _tick(self) -> None:
        self._on_tick(self._due_ns, time.monotonic_ns())
        self._arm()


def _ticks(on_tick: OnTick) -> _KernelTicks | _LoopTicks:
    if sys.platform == "linux":
        with contextlib.suppress(OSError, AttributeError, NotImplementedError):
            return _KernelTicks(on_tick)
    return _LoopTicks(on_tick)


# --- what the interpreter and the kernel tell ---------------------------------------------------------------------------------------------


class _Collections:
    """Counts garbage collections of this process."""

    def __init__(self) -> None:
        self.count = 0
        self.longest_ns = 0
        self._began_ns = 0
        gc.callbacks.append(self._on_collection)

    def close(self) -> None:
        gc.callbacks.remove(self._on_collection)

    def _on_collection(self, phase: str, _: dict[str, int]) -> None:
        if phase == "start":
            self._began_ns = time.monotonic_ns()
        else:
            self.count += 1
            self.longest_ns = max(self.longest_ns, time.monotonic_ns() - self._began_ns)


def _unread_bytes(socket: int) -> int:
    """What waits in a socket's receive queue; nothing for one that was closed meanwhile."""
    try:
        return int(struct.unpack("i", fcntl.ioctl(socket, termios.FIONREAD, b"\0\0\0\0"))[0])
    except OSError:
        return 0


def _starved_ns() -> int | None:
    """How long this thread has waited for a core so far."""
    try:
        return int(Path("/proc/thread-self/schedstat").read_text(encoding="ascii").split()[1])
    except (OSError, ValueError, IndexError):
        return None


def processor_ticks() -> tuple[int, int] | None:
    """Of all processors together since boot: the ticks (10 ms) that were used, and those that a hypervisor refused."""
    try:
        with Path("/proc/stat").open(encoding="ascii") as file:
            user, nice, system, _idle, _iowait, irq, softirq, stolen = map(int, file.readline().split()[1:9])
    except (OSError, ValueError):
        return None
    return user + nice + system + irq + softirq, stolen


def _stolen_share(before: tuple[int, int] | None, after: tuple[int, int] | None) -> float | None:
    if before is None or after is None:
        return None
    used, stolen = (late - early for late, early in zip(after, before, strict=True))
    return stolen / (used + stolen) if used + stolen >= _ENOUGH_TICKS else None


def _involuntary_switches() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_nivcsw


def _rank(ordered: list[int], share: float) -> int:
    """Nearest rank; a health figure needs no interpolation."""
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))] if ordered else MISSING_NS
