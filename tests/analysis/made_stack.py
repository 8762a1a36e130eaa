"""A stack of three stations in a row, open loop, with draws that do not depend on how fast anything goes."""

from __future__ import annotations

import heapq
from collections.abc import Mapping

import numpy as np
import numpy.typing as npt

from latprof.layers.table import Layers
from latprof.units import NS_PER_MS

SERVERS = {"gateway.safety": 2, "prefill": 3, "decode": 16}
MEAN_MS = {"gateway.safety": 20.0, "prefill": 60.0, "decode": 400.0}


def stack(
    speedups: Mapping[str, float],
    *,
    n: int = 4_000,
    seed: int = 1,
    rate_per_s: float = 30.0,
    servers: Mapping[str, int] | None = None,
    mean_ms: Mapping[str, float] | None = None,
    constant: bool = False,
) -> Layers:
    """The call's table of ``n`` requests: exponential gaps and services (or constant services), first come first served."""
    servers, mean_ms = {**SERVERS, **(servers or {})}, {**MEAN_MS, **(mean_ms or {})}
    rng = np.random.default_rng(seed)
    at_ms = np.cumsum(rng.exponential(1000 / rate_per_s, n))
    waits, services = [], []
    for name in MEAN_MS:
        drawn = np.full(n, mean_ms[name]) if constant else rng.exponential(mean_ms[name], n)
        service_ms = drawn / speedups.get(name, 1.0)
        wait_ms = _waits(at_ms, service_ms, servers[name])
        waits.append(wait_ms)
        services.append(service_ms)
        at_ms = at_ms + wait_ms + service_ms
    wait_ns, service_ns = (np.rint(np.column_stack(part) * NS_PER_MS).astype(np.int64) for part in (waits, services))
    return Layers(
        metric="e2el",
        names=tuple(MEAN_MS),
        rows=np.arange(n),
        total_ns=wait_ns + service_ns,
        wait_ns=wait_ns,
        service_ns=service_ns,
        present=np.ones((n, len(MEAN_MS)), np.bool_),
        sources=(("simulated",),) * len(MEAN_MS),
        hops=(),
    )


def _waits(at_ms: npt.NDArray[np.float64], service_ms: npt.NDArray[np.float64], servers: int) -> npt.NDArray[np.float64]:
    """Kiefer and Wolfowitz: whoever comes next takes the server that is free first."""
    free = [0.0] * servers
    waits = np.zeros(len(at_ms))
    for row in np.argsort(at_ms, kind="stable"):
        begins = max(float(at_ms[row]), free[0])
        waits[row] = begins - at_ms[row]
        heapq.heapreplace(free, begins + float(service_ms[row]))
    return waits
