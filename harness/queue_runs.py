"""Runs of a known queue, made at once: an M/M/1 prefill behind a gateway whose layers owe nothing to the load. Its quantiles are known exactly.

gateway.auth    gamma, 5 +- 1 ms
gateway.safety  lognormal, 10 +- 8 ms
prefill         response times of an M/M/1 queue: exponential with mean service / (1 - utilisation), and dependent on each other
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from latprof.analysis.verdicts.replications import Replication
from latprof.analysis.verdicts.steady import Steady
from latprof.layers.table import Layers
from latprof.units import NS_PER_MS

Array = npt.NDArray[np.float64]

SERVICE_MS = 100.0
AUTH_MS, AUTH_SHAPE = 5.0, 25.0
SAFETY_MS, SAFETY_CV = 10.0, 0.8
_META: dict[str, Any] = {"arrival_model": "open loop, poisson", "is_simulated": True}
# The queue starts empty; so many times its relaxation time are thrown away before the first request that counts.
_RELAXATIONS = 30.0


def responses_ms(utilisation: float, n: int, draws: np.random.Generator) -> Array:
    """Response times of ``n`` requests in a row of an M/M/1 queue in its steady state, by Lindley's recursion."""
    before = int(_RELAXATIONS / (1 - utilisation) ** 2)
    services = draws.exponential(SERVICE_MS, n + before)
    gaps = draws.exponential(SERVICE_MS / utilisation, n + before)
    walk = np.r_[0.0, np.cumsum(services[:-1] - gaps[1:])]
    return np.asarray((walk - np.minimum.accumulate(walk) + services)[before:])


def columns_ms(utilisation: float, n: int, draws: np.random.Generator) -> dict[str, Array]:
    """The layers of one run, shape (n,) each, in order of intended start."""
    sigma = np.sqrt(np.log1p(SAFETY_CV**2))
    return {
        "gateway.auth": draws.gamma(AUTH_SHAPE, AUTH_MS / AUTH_SHAPE, n),
        "gateway.safety": draws.lognormal(np.log(SAFETY_MS) - sigma**2 / 2, sigma, n),
        "prefill": responses_ms(utilisation, n, draws),
    }


def replication(
    seed: Sequence[int], utilisation: float, n: int, plant_ms: Mapping[str, float] | None = None, scale: float = 1.0
) -> Replication:
    """A run; ``plant_ms`` is added to layers of every request, ``scale`` multiplies all of them."""
    columns = {name: scale * values for name, values in columns_ms(utilisation, n, np.random.default_rng(list(seed))).items()}
    for name, added in (plant_ms or {}).items():
        columns[name] = columns[name] + added
    total_ns = np.rint(np.stack(list(columns.values()), axis=1) * NS_PER_MS).astype(np.int64)
    layers = Layers(
        metric="ttft",
        names=tuple(columns),
        rows=np.arange(n),
        total_ns=total_ns,
        wait_ns=np.zeros_like(total_ns),
        service_ns=total_ns,
        present=np.ones_like(total_ns, bool),
        sources=(("simulated",),) * len(columns),
        hops=("gateway", "engine"),
    )
    return Replication(
        folder=Path("/".join(map(str, seed))),
        meta={**_META, "seed": int(np.random.SeedSequence(list(seed)).generate_state(1)[0])},
        values_ns={"ttft": total_ns.sum(axis=1)},
        layers={"ttft": layers},
        failed=np.zeros(n, np.bool_),
        good=None,
        steady=Steady(0),
    )


def truth_ms(utilisation: float, p: float) -> dict[str, float]:
    """The ``p``-quantile of TTFT (key ``ttft``) and what each layer contributes there, by convolving the three laws on a grid of 0.02 ms."""
    step = 0.02
    grid = np.arange(step / 2, 3_000, step)
    mean = SERVICE_MS / (1 - utilisation)
    sigma = np.sqrt(np.log1p(SAFETY_CV**2))
    laws = {
        "gateway.auth": grid ** (AUTH_SHAPE - 1) * np.exp(-grid * AUTH_SHAPE / AUTH_MS),
        "gateway.safety": np.exp(-((np.log(grid) - np.log(SAFETY_MS) + sigma**2 / 2) ** 2) / (2 * sigma**2)) / grid,
        "prefill": np.exp(-grid / mean),
    }
    laws = {name: law / law.sum() for name, law in laws.items()}
    whole = _convolved(list(laws.values()))
    at = int(np.searchsorted(np.cumsum(whole), p))
    found = {"ttft": (at + len(laws) / 2) * step}
    for name in laws:
        weighted = _convolved([law * grid if other == name else law for other, law in laws.items()])
        found[name] = float(weighted[at] / whole[at])
    return found


def _convolved(laws: Sequence[Array]) -> Array:
    size = 1 << (len(laws) * len(laws[0]) - 1).bit_length()
    spectrum = np.prod([np.fft.rfft(law, size) for law in laws], axis=0)
    return np.asarray(np.fft.irfft(spectrum, size))
