"""Limits of this machine that a run will meet, read from where the kernel tells them; None where it does not."""

from __future__ import annotations

import contextlib
import os
import resource
import sys
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Limits:
    """``cores`` this process may use; ``quota_cores`` the CPU quota of its container; ``load_1m`` the load average of the last minute.

    ``open_files`` and its hard limit; ``ephemeral_ports`` for connections out; ``governor`` of the CPU clock; ``clock_source`` of the kernel;
    ``is_virtual``: it runs under a hypervisor.
    """

    cores: int
    quota_cores: float | None = None
    load_1m: float | None = None
    open_files: int | None = None
    open_files_hard: int | None = None
    ephemeral_ports: int | None = None
    governor: str | None = None
    clock_source: str | None = None
    is_virtual: bool | None = None


def read_limits() -> Limits:
    """As of now."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with_load = hasattr(os, "getloadavg")
    return Limits(
        cores=len(os.sched_getaffinity(0)) if sys.platform == "linux" else os.cpu_count() or 1,
        quota_cores=quota_in(_told("/sys/fs/cgroup/cpu.max")),
        load_1m=round(os.getloadavg()[0], 2) if with_load else None,
        open_files=None if soft == resource.RLIM_INFINITY else soft,
        open_files_hard=None if hard == resource.RLIM_INFINITY else hard,
        ephemeral_ports=ports_in(_told("/proc/sys/net/ipv4/ip_local_port_range")),
        governor=_told("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor"),
        clock_source=_told("/sys/devices/system/clocksource/clocksource0/current_clocksource"),
        is_virtual=_is_virtual(_told("/proc/cpuinfo")),
    )


def quota_in(cpu_max: str | None) -> float | None:
    """Cores from a cgroup's ``cpu.max`` (``quota period``, or ``max period``)."""
    with contextlib.suppress(ValueError, AttributeError, ZeroDivisionError):
        quota, period = (cpu_max or "").split()
        return int(quota) / int(period)
    return None


def ports_in(local_port_range: str | None) -> int | None:
    """How many ports ``first last`` are."""
    with contextlib.suppress(ValueError, AttributeError):
        first, last = map(int, (local_port_range or "").split())
        return last - first + 1
    return None


def _is_virtual(cpuinfo: str | None) -> bool | None:
    flags = next((line for line in (cpuinfo or "").splitlines() if line.startswith("flags")), None)
    return None if flags is None else "hypervisor" in flags.split()


def _told(path: str) -> str | None:
    try:
        return Path(path).read_text(encoding="utf-8", errors="replace").strip() or None
    except OSError:
        return None
