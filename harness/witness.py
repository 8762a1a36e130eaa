"""When the machine stood still, by the word of somebody who has nothing else to do.

On each processor a process of its own wakes every millisecond, ahead of everything else there (niceness -20, where that is allowed), and writes down when
it was due and when it came. What held it up (a host that gave the processor to others) held up whatever ran beside it, and is no fault of what is
measured; what it slept through undisturbed is.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import struct
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import numpy.typing as npt

from latprof.units import NS_PER_MS, NS_PER_S

IntArray = npt.NDArray[np.int64]

EVERY_NS = NS_PER_MS
LATE_NS = NS_PER_MS // 4
"""Later than this, and it was held up: twice what a timer alone is late on a virtual machine."""

_CLOCK_MONOTONIC, _TFD_TIMER_ABSTIME = 1, 1
_ROW = struct.Struct("qq")


@dataclass(slots=True)
class Witness:
    """What the witnesses of all processors saw, once the ``with`` is over: shape (n, 2), monotonic ns, due and come, of each time one was held up."""

    stalls_ns: IntArray = field(default_factory=lambda: np.zeros((0, 2), np.int64))
    late_p99_ns: float = float("nan")

    def touched(self, begin_ns: IntArray, end_ns: IntArray) -> npt.NDArray[np.bool_]:
        """Which of the intervals overlap a time when a witness was held up, or the millisecond after it, in which what had piled up went on."""
        if not len(self.stalls_ns):
            return np.zeros(len(begin_ns), np.bool_)
        stalls_ns = self.stalls_ns[np.argsort(self.stalls_ns[:, 0])]
        # Whoever ends last of those that begin before an interval ends decides.
        last_ns = np.maximum.accumulate(stalls_ns[:, 1] + EVERY_NS)
        before = np.searchsorted(stalls_ns[:, 0] - EVERY_NS, end_ns, "right")
        return np.asarray((before > 0) & (last_ns[np.maximum(before - 1, 0)] >= begin_ns))


@contextmanager
def witness() -> Iterator[Witness]:
    """Watch every processor that this process may use for the length of a ``with``."""
    seen = Witness()
    with tempfile.TemporaryDirectory(prefix="latprof-witness-") as folder:
        paths = [Path(folder) / str(processor) for processor in sorted(os.sched_getaffinity(0))]
        watchers = [
            subprocess.Popen([sys.executable, "-m", "harness.witness", path.name, str(path)], cwd=Path(__file__).parents[1])
            for path in paths
        ]
        try:
            yield seen
        finally:
            for watcher in watchers:
                watcher.terminate()
            for watcher in watchers:
                watcher.wait()
            rows = [np.frombuffer(path.read_bytes(), np.int64).reshape(-1, 2) for path in paths if path.exists()]
            together = np.concatenate(rows) if rows else np.zeros((0, 2), np.int64)
            if len(together):
                late_ns = together[:, 1] - together[:, 0]
                seen.stalls_ns = together[late_ns > LATE_NS]
                seen.late_p99_ns = float(np.percentile(late_ns, 99))


def watch(processor: int, path: Path) -> None:
    """Wake every millisecond until told to end; every wake-up, due and come, goes to ``path``."""
    os.sched_setaffinity(0, {processor})
    with contextlib.suppress(OSError):
        os.setpriority(os.PRIO_PROCESS, 0, -20)
    ended: list[int] = []
    signal.signal(signal.SIGTERM, lambda number, _: ended.append(number))
    parent = os.getppid()
    libc = ctypes.CDLL(None, use_errno=True)
    timer = libc.timerfd_create(_CLOCK_MONOTONIC, 0)
    due_ns = time.monotonic_ns() + EVERY_NS
    libc.timerfd_settime(timer, _TFD_TIMER_ABSTIME, (ctypes.c_long * 4)(0, EVERY_NS, *divmod(due_ns, NS_PER_S)), None)
    with path.open("wb") as file:
        while not ended and os.getppid() == parent:
            missed = int.from_bytes(os.read(timer, 8), sys.byteorder)
            file.write(_ROW.pack(due_ns, time.monotonic_ns()))
            due_ns += missed * EVERY_NS


if __name__ == "__main__":
    watch(int(sys.argv[1]), Path(sys.argv[2]))
