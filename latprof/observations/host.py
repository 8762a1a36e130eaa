"""What a run was measured on and with: enough to judge and repeat it, nothing that names a machine or a person."""

from __future__ import annotations

import contextlib
import os
import platform
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

_LIBRARIES = (
    "aiohttp",
    "grpcio",
    "httptools",
    "numpy",
    "opentelemetry-sdk",
    "orjson",
    "pyarrow",
    "pydantic",
    "tokenizers",
    "uvloop",
)


def host_facts() -> dict[str, Any]:
    """Platform, processor, kernel, versions, and the load average of this moment: call it before the load starts.

    ``cpus`` is how many this process may use, ``cpus_total`` how many there are. ``load_average`` over 1, 5 and 15 minutes, or None.
    """
    return {
        "platform": platform.system().lower(),
        "machine": platform.machine(),
        "cpu_model": _cpu_model(),
        "cpus": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "cpus_total": os.cpu_count(),
        "kernel": platform.release(),
        "python": f"{platform.python_implementation()} {platform.python_version()}",
        "latprof": _version("latprof"),
        "libraries": {name: found for name in _LIBRARIES if (found := _version(name)) is not None},
        "load_average": _load_average(),
    }


def _version(distribution: str) -> str | None:
    try:
        return version(distribution)
    except PackageNotFoundError:
        return None


def _load_average() -> list[float] | None:
    try:
        return [round(average, 2) for average in os.getloadavg()]
    except OSError:
        return None


def _cpu_model() -> str | None:
    """As /proc/cpuinfo names it; None where it does not (arm64, not Linux)."""
    with contextlib.suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines():
            name, _, value = line.partition(":")
            if name.strip() == "model name":
                return value.strip()
    return None
