"""The leverage of layers by running again: service 5 % longer and 5 % shorter, everything else drawn alike.

The estimate from one run knows only a station's own queue, at arrivals that do not answer; this one knows whatever the stack does.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from latprof.analysis.contributions import weights_of
from latprof.analysis.sweeps.bottlenecks import shares
from latprof.config import Config
from latprof.report.sweep.values import CALL, Column, Leverages, PointReport, SweepReport, SweptRun, metric_ns
from latprof.sweep.axes import config_at, known_speedups
from latprof.sweep.runs import Job, RunAll

STEP = 0.05
"""How much service is made longer and shorter."""

# Layers looked at: those where the first-order estimate is largest, and the busiest.
_CANDIDATES = 3
_Where = tuple[int, str, int]


def leverages(report: SweepReport, config: Config, folder: Path, run_all: RunAll, told: Callable[[str], None]) -> Leverages:
    """The elasticity d ln Q / d ln S of the call at every point, from runs below ``folder`` with the seeds of the point's own."""
    jobs: list[Job] = []
    where: dict[Path, _Where] = {}
    for index, point in enumerate(report.points):
        for layer, sign, run in itertools.product(candidates(report, point), (1, -1), point.point.used):
            out = folder / str(len(jobs))
            at = config_at(config, point.point.setting, run.number, out)
            jobs.append(Job(point.point.setting, run.number, longer(at, layer, 1 + sign * STEP)))
            where[out] = (index, layer, sign)
    told(f"{len(jobs)} further runs for the leverage")
    made: dict[_Where, list[SweptRun]] = {}
    for job, run in run_all(jobs):
        if job.config.out is not None:
            made.setdefault(where[job.config.out], []).append(run)
    found: dict[int, dict[str, dict[str, float]]] = {}
    for index, layer in dict.fromkeys((index, layer) for index, layer, _ in where.values()):
        for column in report.columns[CALL]:
            elasticity = _elasticity(made.get((index, layer, 1), ()), made.get((index, layer, -1), ()), column)
            told_of = found.setdefault(index, {}).setdefault(column.label, {})
            told_of |= {} if math.isnan(elasticity) else {layer: elasticity}
    return found


def candidates(report: SweepReport, point: PointReport) -> tuple[str, ...]:
    """Layers worth running again for: those that can be sped up and, by the first-order estimate, move the call most; and the busiest."""
    known = known_speedups()
    chosen: dict[str, None] = {}
    for column in report.columns.get(CALL, ()) if point.answers else ():
        answer = point.answers[CALL]
        told = shares(answer.names, answer.contributions[column.label], point.stations)
        moved = {name: share.response_ns for name, share in told.items() if name in known}
        chosen |= dict.fromkeys(sorted(moved, key=lambda name: -moved[name])[:_CANDIDATES])
    busiest = max((station for station in point.stations if station.name in known), key=lambda station: station.utilisation, default=None)
    return tuple(chosen | ({} if busiest is None else {busiest.name: None}))


def longer(config: Config, layer: str, times: float) -> Config:
    """The configuration with a layer's service ``times`` as long."""
    speedup = {**config.stub.speedup, layer: config.stub.speedup.get(layer, 1.0) / times}
    return config.model_copy(update={"stub": config.stub.model_copy(update={"speedup": speedup})})


def _elasticity(long: Sequence[SweptRun], short: Sequence[SweptRun], column: Column) -> float:
    """NaN where a run of either kind is missing: the two sides would not be drawn alike."""
    if not long or len(long) != len(short) or not all(run.is_used for run in (*long, *short)):
        return math.nan
    return math.log(_value_ns(long, column) / _value_ns(short, column)) / math.log((1 + STEP) / (1 - STEP))


def _value_ns(runs: Sequence[SweptRun], column: Column) -> float:
    values_ns = np.sort(np.concatenate([metric_ns(run.tables[CALL]) for run in runs]))
    return float(values_ns @ weights_of(len(values_ns), column.p, column.kind))
