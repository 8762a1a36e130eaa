"""What the kernel says of the processes that send, asked from outside: it costs them nothing."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from latprof.live.values import UNKNOWN
from latprof.units import NS_PER_S


class Use:
    """CPU time, and time without a core, of some processes since this was made; UNKNOWN where nobody tells."""

    def __init__(self, pids: Sequence[int], now_ns: int) -> None:
        self._pids = tuple(pids)
        self._began_ns = now_ns
        self._before = [(_cpu_ns(pid), _starved_ns(pid)) for pid in self._pids]

    def shares(self, now_ns: int) -> tuple[float, float]:
        """Of the busiest process: CPU time over time; of the one that waited most for a core: its waiting over time."""
        elapsed_ns = now_ns - self._began_ns
        if elapsed_ns < NS_PER_S:
            return UNKNOWN, UNKNOWN
        after = [(_cpu_ns(pid), _starved_ns(pid)) for pid in self._pids]
        cpu, starved = (
            [(late - early) / elapsed_ns for late, early in zip(kind, kind_before, strict=True) if late is not None and early is not None]
            for kind, kind_before in zip(zip(*after, strict=True), zip(*self._before, strict=True), strict=True)
        )
        return max(cpu, default=UNKNOWN), max(starved, default=UNKNOWN)


def _cpu_ns(pid: int) -> int | None:
    try:
        # The name in brackets may hold spaces; what follows does not.
        fields = Path(f"/proc/{pid}/stat").read_text(encoding="ascii", errors="replace").rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) * NS_PER_S // os.sysconf("SC_CLK_TCK")
    except (OSError, ValueError, IndexError):
        return None


def _starved_ns(pid: int) -> int | None:
    """Of the main thread, which has the event loop."""
    try:
        return int(Path(f"/proc/{pid}/task/{pid}/schedstat").read_text(encoding="ascii").split()[1])
    except (OSError, ValueError, IndexError):
        return None
