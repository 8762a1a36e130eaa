"""How the generator itself did while it drove: a loaded client reports its own queue as the server's latency."""

from __future__ import annotations

import asyncio
import gc
import resource
import time
from array import array
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Self

from latprof.units import MISSING_NS, NS_PER_MS, NS_PER_S

_TICK_NS = 20 * NS_PER_MS


@dataclass(frozen=True, slots=True)
class Health:
    """Over one phase.

    Loop lag: how late the event loop ran a 20 ms tick, raw (its timers are 1 ms coarse, so up to that is no sign of load);
    MISSING_NS for a phase shorter than a tick. ``cpu_share``: CPU time of the process over the phase's length, 1.0 being one core.
    """

    loop_lag_p50_ns: int
    loop_lag_p99_ns: int
    loop_lag_max_ns: int
    cpu_share: float
    involuntary_switches: int


class HealthSampler:
    """Measures inside its ``with`` block."""

    def __enter__(self) -> Self:
        self._loop = asyncio.get_running_loop()
        self._lags_ns = array("q")
        self._began_ns = time.monotonic_ns()
        self._began_cpu_ns = time.process_time_ns()
        self._began_switches = _involuntary_switches()
        self._arm()
        return self

    def __exit__(self, *_: object) -> None:
        self._handle.cancel()

    def health(self) -> Health:
        """What was measured so far."""
        wall_ns = max(1, time.monotonic_ns() - self._began_ns)
        lags_ns = sorted(self._lags_ns)
        return Health(
            loop_lag_p50_ns=_rank(lags_ns, 0.50),
            loop_lag_p99_ns=_rank(lags_ns, 0.99),
            loop_lag_max_ns=_rank(lags_ns, 1.0),
            cpu_share=(time.process_time_ns() - self._began_cpu_ns) / wall_ns,
            involuntary_switches=_involuntary_switches() - self._began_switches,
        )

    def _arm(self) -> None:
        self._due_ns = time.monotonic_ns() + _TICK_NS
        self._handle = self._loop.call_later(_TICK_NS / NS_PER_S, self._tick)

    def _tick(self) -> None:
        self._lags_ns.append(time.monotonic_ns() - self._due_ns)
        self._arm()


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
        gc.unfreeze()
        if was_enabled:
            gc.enable()


def _rank(ordered: list[int], share: float) -> int:
    """Nearest rank; a health figure needs no interpolation."""
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))] if ordered else MISSING_NS


def _involuntary_switches() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_nivcsw
