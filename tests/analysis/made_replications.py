"""Replications from chosen rows, without a run folder."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from latprof.analysis.validity.doubts import Doubt
from latprof.analysis.verdicts.replications import Replication
from latprof.analysis.verdicts.steady import Steady
from latprof.layers.table import Layers
from latprof.units import NS_PER_MS

Floats = npt.NDArray[np.float64]


def replication(
    seed: int,
    layers_ms: Mapping[str, Floats] | None = None,
    *,
    metrics_ms: Mapping[str, Floats] | None = None,
    failed: Sequence[bool] | None = None,
    good: Sequence[bool] | None = None,
    doubts: Sequence[Doubt] = (),
    steady: Steady | None = None,
    meta: Mapping[str, Any] | None = None,
) -> Replication:
    """One run whose TTFT is the sum of ``layers_ms``, (n,) each in order of intended start; other metrics as given."""
    values = {metric: np.rint(ms * NS_PER_MS).astype(np.int64) for metric, ms in (metrics_ms or {}).items()}
    tables = {}
    if layers_ms:
        total_ns = np.rint(np.stack(list(layers_ms.values()), axis=1) * NS_PER_MS).astype(np.int64)
        tables["ttft"] = _layers(tuple(layers_ms), total_ns)
        values["ttft"] = total_ns.sum(axis=1)
    rows = max((len(one) for one in values.values()), default=0)
    return Replication(
        folder=Path(f"runs/{seed}"),
        meta={"run_id": f"run-{seed}", "seed": seed, "config": {}, **(meta or {})},
        values_ns=values,
        layers=tables,
        failed=np.asarray(np.zeros(rows, bool) if failed is None else failed, np.bool_),
        good=None if good is None else np.asarray(good, np.bool_),
        steady=steady or Steady(0),
        doubts=tuple(doubts),
    )


def _layers(names: tuple[str, ...], total_ns: npt.NDArray[np.int64]) -> Layers:
    zero = np.zeros_like(total_ns)
    return Layers("ttft", names, np.arange(len(total_ns)), total_ns, zero, total_ns, total_ns > 0, (("span",),) * len(names), ())


def ttft(seed: int, values_ms: Floats, **others: Any) -> Replication:
    return replication(seed, metrics_ms={"ttft": values_ms}, **others)
