"""From a run to a replication: the rows that count, in order of intended start."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import fields, replace
from typing import Any

import numpy as np

from latprof.analysis.metrics import cached_share, in_intended_order, meets, samples, ttft_ns
from latprof.analysis.validity.doubts import Doubt
from latprof.analysis.verdicts.replications import Replication
from latprof.analysis.verdicts.steady import Steady, is_asked, steady, warmup_ns
from latprof.layers.table import Layers
from latprof.observations.columns import Requests, known
from latprof.observations.folder import Run


def replication(
    run: Run, tables: Mapping[str, Layers], doubts: Sequence[Doubt] = (), objectives_ms: Mapping[str, float] | None = None
) -> Replication:
    """Reduce a run. ``tables`` are its layers by metric; ``objectives_ms`` say what good is, by default those of its configuration."""
    requests = run.requests.select(run.requests.measured)
    requests = requests.select(in_intended_order(requests))
    found = _steady(run.meta, requests)
    kept = requests.select(requests.intended_ns >= found.from_ns)
    wanted = objectives_ms or run.meta.get("config", {}).get("goodput") or {}
    layers = {metric: _from(table, run.requests, found.from_ns) for metric, table in tables.items()}
    values = samples(kept, run.chunks)
    if "task" in layers:
        values["task"] = layers["task"].total_ns.sum(axis=1)
    return Replication(
        folder=run.folder,
        meta=run.meta,
        values_ns=values,
        layers=layers,
        failed=np.asarray(~kept.success, np.bool_),
        good=meets(kept, run.chunks, wanted) if wanted else None,
        steady=found,
        doubts=tuple(doubts),
        cached_share=cached_share(kept.select(kept.success)),
    )


def _steady(meta: Mapping[str, Any], requests: Requests) -> Steady:
    has = requests.success & known(ttft_ns(requests))
    before_ns = warmup_ns(meta)
    if not is_asked(meta):
        begin_ns = int(requests.intended_ns.min()) if len(requests) else 0
        return Steady(begin_ns, warmup_ns=before_ns, is_asked=False)
    found = steady(requests.intended_ns[has], ttft_ns(requests)[has], before_ns)
    # Nothing cut: failures before the first success count, too.
    return found if found.cut_requests else replace(found, from_ns=int(requests.intended_ns.min()) if len(requests) else 0)


def _from(layers: Layers, requests: Requests, from_ns: int) -> Layers:
    """The rows of a table from ``from_ns`` on, in order of intended start."""
    intended_ns = requests.intended_ns[layers.rows]
    order = np.argsort(intended_ns, kind="stable")
    order = order[intended_ns[order] >= from_ns]
    columns = {name.name: getattr(layers, name.name)[order] for name in fields(layers) if name.name in _PER_ROW}
    return replace(layers, conflicts=(), off_path=(), **columns)


_PER_ROW = frozenset({"rows", "total_ns", "wait_ns", "service_ns", "present"})
