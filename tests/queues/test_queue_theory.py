"""Stations against closed forms, in virtual time. Rates are per second; the mean service is 1 ms unless said otherwise."""

from __future__ import annotations

import heapq
import math
import random
from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import pytest

from latprof.queues.station import Begun, Station

Law = Callable[[random.Random], float]
MEAN_NS = 1_000_000
EXPONENTIAL: Law = lambda rng: rng.expovariate(1.0)  # noqa: E731
CONSTANT: Law = lambda _: 1.0  # noqa: E731
# Two-phase hyperexponential with balanced means: mean 1, squared coefficient of variation 4.
_HEAVY = 0.5 * (1 + math.sqrt(3 / 5))
HYPER: Law = lambda rng: rng.expovariate(2 * _HEAVY if rng.random() < _HEAVY else 2 * (1 - _HEAVY))  # noqa: E731


def waits_and_sojourns(servers: int, load: float, law: Law, customers: int, seed: int) -> npt.NDArray[np.float64]:
    """(2, customers) in units of the mean service, in order of beginning, the first twentieth dropped: it still remembers the empty start."""
    rng = random.Random(seed)
    station: Station[int] = Station(servers)
    ends: list[int] = []
    out: list[Begun[int]] = []
    now_ns = 0
    rate = load * servers
    for job in range(customers):
        now_ns += round(rng.expovariate(rate) * MEAN_NS)
        while ends and ends[0] <= now_ns:
            _start(station.finish(ends[0]), ends, out, drop=True)
        _start(station.arrive(now_ns, job, round(law(rng) * MEAN_NS)), ends, out)
    kept = out[customers // 20 :]
    waits = np.array([b.started_ns - b.arrived_ns for b in kept], dtype=np.float64)
    return np.vstack([waits, np.array([b.ends_ns - b.arrived_ns for b in kept])]) / MEAN_NS


def _start(begun: Begun[int] | None, ends: list[int], out: list[Begun[int]], *, drop: bool = False) -> None:
    if drop:
        heapq.heappop(ends)
    if begun is not None:
        heapq.heappush(ends, begun.ends_ns)
        out.append(begun)


def pooled(servers: int, load: float, law: Law, customers: int, replications: int = 4) -> npt.NDArray[np.float64]:
    return np.hstack([waits_and_sojourns(servers, load, law, customers // replications, seed) for seed in range(replications)])


@pytest.mark.parametrize(("load", "customers"), [(0.3, 120_000), (0.6, 240_000), (0.8, 480_000)])
def test_mm1_sojourn(load: float, customers: int) -> None:
    _, sojourns = pooled(1, load, EXPONENTIAL, customers)
    assert sojourns.mean() == pytest.approx(1 / (1 - load), rel=0.02)
    for p in (0.5, 0.99):
        assert np.quantile(sojourns, p) == pytest.approx(-math.log(1 - p) / (1 - load), rel=0.03)


def test_md1_waits_half_as_long_as_mm1() -> None:
    load = 0.6
    waits, _ = pooled(1, load, CONSTANT, 300_000)
    assert waits.mean() == pytest.approx(load / (2 * (1 - load)), rel=0.02)


def test_mmc_waits_as_erlang_c_says() -> None:
    servers, load = 4, 0.7
    offered = servers * load
    queued = offered**servers / math.factorial(servers) / (1 - load)
    erlang_c = queued / (sum(offered**k / math.factorial(k) for k in range(servers)) + queued)
    waits, _ = pooled(servers, load, EXPONENTIAL, 300_000)
    assert waits.mean() == pytest.approx(erlang_c / (servers * (1 - load)), rel=0.03)
    assert (waits > 0).mean() == pytest.approx(erlang_c, rel=0.03)


def test_mg1_waits_as_pollaczek_khinchine_says() -> None:
    load, cv2 = 0.5, 4
    waits, _ = pooled(1, load, HYPER, 300_000)
    assert waits.mean() == pytest.approx(load * (1 + cv2) / (2 * (1 - load)), rel=0.03)
