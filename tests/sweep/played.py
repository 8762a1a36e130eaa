"""Runs that need no stack: layers drawn from the configuration's own seeds and speed-ups, nothing waits."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from latprof.analysis.sweeps.operational import Loop
from latprof.analysis.validity.doubts import Doubt
from latprof.config import Config
from latprof.layers.call import first_token_layers
from latprof.layers.table import Layers
from latprof.report.sweep.values import CALL, SweptRun
from latprof.sweep.runs import Done, Job, RunAll
from latprof.units import NS_PER_MS

MEAN_MS = {"gateway.safety": 15.0, "prefill": 100.0, "decode": 800.0}
FATAL = Doubt("lateness", "fatal", "requests went late", "lower the rate")


def table(config: Config, n: int = 600) -> Layers:
    """The call: every layer's service divided by its speed-up, the same draws at every speed."""
    rng = np.random.default_rng(config.stub.seed)
    columns = [rng.gamma(16.0, mean_ms / 16, n) / config.stub.speedup.get(name, 1.0) for name, mean_ms in MEAN_MS.items()]
    total_ns = np.rint(np.column_stack(columns) * NS_PER_MS).astype(np.int64)
    return Layers(
        metric=CALL,
        names=tuple(MEAN_MS),
        rows=np.arange(n),
        total_ns=total_ns,
        wait_ns=np.zeros_like(total_ns),
        service_ns=total_ns,
        present=np.ones_like(total_ns, np.bool_),
        sources=(("simulated",),) * len(MEAN_MS),
        hops=(),
    )


def played(job: Job, **others: Any) -> SweptRun:
    """The run of one job at 10 requests/s; ``others`` replace its fields."""
    call = table(job.config)
    run = SweptRun(
        number=job.number,
        folder=job.config.out or Path("nowhere"),
        seed=job.config.load.seed,
        arrival_model=f"open loop, poisson {job.config.load.rate_per_s or 10:g}/s",
        completed_per_s=10.0,
        asked_per_s=10.0,
        good=590,
        recorded=600,
        tables={"ttft": first_token_layers(call), CALL: call},
        servers={"gateway.safety": 4, "prefill": 4, "decode": 64},
        loop=Loop("open"),
    )
    return replace(run, **others)


def player(change: Callable[[Job], dict[str, Any]] = lambda _: {}, seen: list[Job] | None = None) -> RunAll:
    """Plays every job; ``change`` says what is different about one, ``seen`` keeps them."""

    def run_all(jobs: Sequence[Job]) -> Iterator[Done]:
        for job in jobs:
            if seen is not None:
                seen.append(job)
            yield job, played(job, **change(job))

    return run_all
