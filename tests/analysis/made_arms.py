"""Arms of made-up runs: a gateway of 20 ms, a router of 5 and a prefill that makes 450 +- 160 ms of it all, with seeds of their own."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from latprof.analysis.verdicts.arms import Arm, arm_of
from latprof.analysis.verdicts.replications import Replication
from latprof.analysis.verdicts.steady import Steady
from latprof.layers.table import Layers
from latprof.units import NS_PER_MS

NAMES = ("gateway.auth", "gateway.safety", "router", "prefill")
META: dict[str, Any] = {
    "arrival_model": "open loop, poisson 50/s",
    "host": {
        "platform": "linux",
        "machine": "x86_64",
        "cpu_model": "A processor",
        "cpus": 2,
        "python": "CPython 3.11.7",
        "latprof": "0.1.0",
    },
    "config": {"load": {"rate_per_s": 50.0, "num_requests": 400}, "stub": {"seed": 1}, "target": {"url": None}},
}


def made_layers(columns_ms: Mapping[str, Any], metric: str = "ttft") -> Layers:
    total_ns = np.rint(np.stack(list(columns_ms.values()), axis=1) * NS_PER_MS).astype(np.int64)
    names = tuple(columns_ms)
    return Layers(
        metric=metric,
        names=names,
        rows=np.arange(len(total_ns)),
        total_ns=total_ns,
        wait_ns=np.zeros_like(total_ns),
        service_ns=total_ns,
        present=total_ns > 0,
        sources=(("span",),) * len(names),
        hops=("gateway", "engine"),
    )


def made_columns(seed: int, n: int) -> dict[str, Any]:
    """One run's layers in ms, shape (n,) each."""
    draws = np.random.default_rng(seed)
    cv = 160 / 425
    sigma = np.sqrt(np.log1p(cv**2))
    return {
        "gateway.auth": draws.gamma(25, 5 / 25, n),
        "gateway.safety": draws.gamma(25, 15 / 25, n),
        "router": draws.gamma(25, 5 / 25, n),
        "prefill": draws.lognormal(np.log(425) - sigma**2 / 2, sigma, n),
    }


def made_replication(seed: int, n: int = 400, plant_ms: Mapping[str, float] | None = None, **meta: Any) -> Replication:
    """``plant_ms`` is added to each request's layer of that name."""
    columns = made_columns(seed, n)
    for layer, added in (plant_ms or {}).items():
        columns[layer] = columns.get(layer, np.zeros(n)) + added
    ttft = made_layers(columns)
    ttft_ns = ttft.total_ns.sum(axis=1)
    return Replication(
        folder=Path(f"runs/{seed}"),
        meta={**META, "seed": seed, **meta},
        values_ns={"ttft": ttft_ns},
        layers={"ttft": ttft},
        failed=np.zeros(n, bool),
        good=None,
        steady=Steady(0),
    )


def made_arm(seeds: Sequence[int], n: int = 400, plant_ms: Mapping[str, float] | None = None, name: str = "arm", **meta: Any) -> Arm:
    return arm_of(name, [made_replication(seed, n, plant_ms, **meta) for seed in seeds])
