"""How many servers a layer has, where nobody told: the number whose first-come queue makes the waits that were recorded."""

from __future__ import annotations

import heapq
from typing import NamedTuple

import numpy as np

from latprof.layers.table import IntArray
from latprof.units import NS_PER_MS

# Waits that are shorter than this on average, and than a hundredth of the service, are no queue.
_NO_QUEUE_NS = NS_PER_MS // 10
_NO_QUEUE_SHARE = 0.01
# A fit is none when the mean wait, quantile by quantile, is missed by more than this share and a millisecond.
_MISSED_SHARE = 0.3
_MISSED_NS = NS_PER_MS
_ENOUGH = 20_000


class Fit(NamedTuple):
    """``servers`` is None where no number fits; 0 where no queue was seen, so that any number that is large enough would do."""

    servers: int | None
    text: str


def fit_servers(arrived_ns: IntArray, wait_ns: IntArray, service_ns: IntArray) -> Fit:
    """Find the number of servers by the smallest area between the distribution functions of the recorded and the replayed waits.

    Shapes (n,), for the requests that passed the layer. The area is the mean distance of equally ranked waits (Wasserstein's).
    """
    mean_wait_ns, mean_service_ns = float(wait_ns.mean()), float(service_ns.mean())
    if mean_wait_ns <= max(_NO_QUEUE_NS, _NO_QUEUE_SHARE * mean_service_ns):
        return Fit(0, "no queue was seen")
    order = np.argsort(arrived_ns, kind="stable")[:_ENOUGH]
    arrived_ns, wait_ns, service_ns = arrived_ns[order], wait_ns[order], service_ns[order]
    arrived, service = arrived_ns.tolist(), service_ns.tolist()
    recorded = np.sort(wait_ns)
    # Whoever waited saw every server busy, so the number lies near the most that were in service at once.
    busiest = _most_at_once(arrived_ns + wait_ns, arrived_ns + wait_ns + service_ns)
    best, least_ns = 0, np.inf
    for servers in range(1, max(4, 2 * busiest) + 1):
        missed_ns = float(np.abs(np.sort(fifo_waits(arrived, service, servers)) - recorded).mean())
        if missed_ns < least_ns:
            best, least_ns = servers, missed_ns
        elif servers > best + 1:
            break  # waits only shrink with more servers, so it gets no better from here
    if least_ns > max(_MISSED_SHARE * mean_wait_ns, _MISSED_NS):
        off = f"{least_ns / NS_PER_MS:.2g} ms off a mean wait of {mean_wait_ns / NS_PER_MS:.2g} ms"
        return Fit(None, f"no number of first-come servers makes its waits (the nearest, {best}, is {off})")
    return Fit(best, f"fitted, {least_ns / NS_PER_MS:.2g} ms off a mean wait of {mean_wait_ns / NS_PER_MS:.2g} ms")


def fifo_waits(arrived_ns: list[int], service_ns: list[int], servers: int) -> IntArray:
    """Waits before ``servers`` first-come servers; arrivals ascending."""
    free_ns = [arrived_ns[0] if arrived_ns else 0] * servers
    waits = np.empty(len(arrived_ns), np.int64)
    for index, (now_ns, length_ns) in enumerate(zip(arrived_ns, service_ns, strict=True)):
        started_ns = max(now_ns, free_ns[0])
        heapq.heapreplace(free_ns, started_ns + length_ns)
        waits[index] = started_ns - now_ns
    return waits


def _most_at_once(begun_ns: IntArray, ended_ns: IntArray) -> int:
    """How many intervals overlap at most; one that ends as another begins does not overlap it."""
    times_ns = np.concatenate([ended_ns, begun_ns])
    steps = np.concatenate([-np.ones(len(ended_ns), np.int64), np.ones(len(begun_ns), np.int64)])
    return int(np.cumsum(steps[np.argsort(times_ns, kind="stable")]).max())
