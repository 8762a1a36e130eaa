"""A sweep as a value: what every renderer of it shares, computed from the runs at its points and nothing else."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np

from latprof.analysis.contributions import Contributions, Kind, contributions_as
from latprof.analysis.sweeps.bottlenecks import Bottlenecks, elasticities, find, shares
from latprof.analysis.sweeps.crossings import WORTHWHILE_NS
from latprof.analysis.sweeps.highest import Searched
from latprof.analysis.sweeps.operational import Bounds, Loop, Station, bounds, doubts_of, stations
from latprof.analysis.sweeps.pooled import Pool, PooledValue, estimate, kind_of_pool, mean_of, pooled
from latprof.analysis.validity.doubts import Doubt
from latprof.layers.table import IntArray, Layers

SHOWN = (0.5, 0.99)
CALL = "e2el"
METRICS: Mapping[str, str] = {"ttft": "TTFT", CALL: "call", "task": "task"}
"""What is told of every point, and what a table calls it."""


@dataclass(frozen=True, slots=True)
class Axis:
    """What is swept: a layer's speed-up by its name, `rate`, `concurrency`, or a key of the configuration by its dotted path."""

    name: str
    kind: Literal["speedup", "rate", "concurrency", "key"]
    values: tuple[float, ...]


@dataclass(frozen=True, slots=True, eq=False)
class SweptRun:
    """One run of one point, understood; ``failure`` says why there is none (``refused``: a load that the stack cannot serve was not even run).

    ``tables`` by metric, rows in order of intended start.

    ``asked_per_s`` is NaN in a closed loop. ``good`` of ``recorded`` requests met the objectives. ``presets`` are what the
    stack took from presets, as run.json holds it.
    """

    number: int
    folder: Path
    seed: int = 0
    doubts: tuple[Doubt, ...] = ()
    interrupted: bool = False
    arrival_model: str = ""
    completed_per_s: float = math.nan
    asked_per_s: float = math.nan
    good: int = 0
    recorded: int = 0
    tables: Mapping[str, Layers] = field(default_factory=dict)
    servers: Mapping[str, int] = field(default_factory=dict)
    loop: Loop = field(default_factory=lambda: Loop("open"))
    presets: tuple[Mapping[str, Any], ...] = ()
    failure: str = ""
    refused: bool = False

    @property
    def is_used(self) -> bool:
        """Whether it counts: it was made, with an answer in it, and no fatal doubt was raised."""
        return not self.failure and len(self.tables[CALL].rows) > 0 and not any(doubt.level == "fatal" for doubt in self.doubts)


@dataclass(frozen=True, slots=True)
class Point:
    """The runs at one setting (axis name -> value)."""

    setting: Mapping[str, float]
    runs: tuple[SweptRun, ...]

    @property
    def used(self) -> tuple[SweptRun, ...]:
        """The runs that count."""
        return tuple(run for run in self.runs if run.is_used)

    @property
    def told(self) -> tuple[SweptRun, ...]:
        """The runs its figures are from: those that count; where none does, those that were made at all, for what they are worth."""
        return self.used or tuple(run for run in self.runs if not run.failure and len(run.tables[CALL].rows))

    @property
    def name(self) -> str:
        """As it is printed: ``decode=4, rate=20``."""
        return ", ".join(f"{axis}={value:g}" for axis, value in self.setting.items())


@dataclass(frozen=True, slots=True)
class Column:
    """One column of a metric, of the same kind at every point: the percentile ``p``, or what stands for it where a sample is too small."""

    p: float
    kind: Kind

    @property
    def label(self) -> str:
        """What a table calls it."""
        return f"p{100 * self.p:g}" if self.kind == "percentile" else self.kind


@dataclass(frozen=True, slots=True, eq=False)
class Answer:
    """One metric at one point, by column label. ``names`` and the contributions, (L,) each, are in path order."""

    names: tuple[str, ...]
    values: Mapping[str, PooledValue]
    contributions: Mapping[str, Contributions]
    bottlenecks: Mapping[str, Bottlenecks]


@dataclass(frozen=True, slots=True, eq=False)
class PointReport:
    """What a point came to. ``answers`` by metric, empty where there is no run; ``counts`` unless all its runs are in fatal doubt."""

    point: Point
    pools: Mapping[str, Pool]
    answers: Mapping[str, Answer]
    completed: PooledValue
    good_share: float
    stations: tuple[Station, ...]
    bounds: Bounds | None
    leverage_is_measured: bool

    @property
    def counts(self) -> bool:
        """Whether crossings may rest on it."""
        return bool(self.point.used)

    @property
    def arrival_model(self) -> str:
        """Who decided when requests went."""
        return next((run.arrival_model for run in self.point.runs if run.arrival_model), "unknown")


Leverages = Mapping[int, Mapping[str, Mapping[str, float]]]
"""Elasticities of the call found by running again: point index -> column label -> station."""


@dataclass(frozen=True, slots=True, eq=False)
class SweepReport:
    """A sweep, understood. ``columns`` by metric; ``searched`` of the points that a search for the highest load made."""

    axes: tuple[Axis, ...]
    is_zipped: bool
    is_simulated: bool
    replications: int
    points: tuple[PointReport, ...]
    columns: Mapping[str, tuple[Column, ...]]
    doubts: tuple[Doubt, ...]
    worthwhile_ns: float
    folder: Path | None = None
    searched: Searched | None = None

    @property
    def interrupted(self) -> bool:
        """Whether someone ended it early."""
        return any(run.interrupted for point in self.points for run in point.point.runs)

    @property
    def valid(self) -> bool:
        """Whether anything of it can be used."""
        return any(point.counts for point in self.points)

    @property
    def presets(self) -> tuple[Mapping[str, Any], ...]:
        """What all its runs took from presets, point by point."""
        return tuple(number for point in self.points for run in point.point.runs for number in run.presets)


def build(
    points: Sequence[Point],
    axes: Sequence[Axis],
    *,
    is_zipped: bool = False,
    is_simulated: bool = False,
    leverages: Leverages | None = None,
    worthwhile_ns: float = WORTHWHILE_NS,
    folder: Path | None = None,
) -> SweepReport:
    """Understand a sweep. Points are put in the order of their settings; ``leverages`` counts them in that order."""
    ordered = sorted(points, key=lambda point: tuple(point.setting.values()))
    columns = _columns(ordered)
    reports = tuple(_point(point, columns, (leverages or {}).get(index)) for index, point in enumerate(ordered))
    return SweepReport(
        axes=tuple(axes),
        is_zipped=is_zipped,
        is_simulated=is_simulated,
        replications=max((len(point.runs) for point in ordered), default=0),
        points=reports,
        columns=columns,
        doubts=tuple(_doubts(reports)),
        worthwhile_ns=worthwhile_ns,
        folder=folder,
    )


def metric_ns(layers: Layers) -> IntArray:
    """What the layers add up to, shape (n,)."""
    return np.asarray(layers.total_ns.sum(axis=1), np.int64)


def _columns(points: Sequence[Point]) -> dict[str, tuple[Column, ...]]:
    """A percentile only if every point that counts has enough requests for it: a crossing compares like with like."""
    found = {}
    told = [point.told for point in points if point.told]
    for metric in METRICS:
        if not told or not all(metric in run.tables and len(run.tables[metric].rows) for runs in told for run in runs):
            continue
        columns: list[Column] = []
        for p in SHOWN:
            kinds = {kind_of_pool([metric_ns(run.tables[metric]) for run in runs], p) for runs in told}
            columns.append(Column(p, "percentile" if kinds == {"percentile"} else "tail mean" if p > 0.5 else "mean"))
        found[metric] = tuple(columns)
    return found


def _point(point: Point, columns: Mapping[str, Sequence[Column]], measured: Mapping[str, Mapping[str, float]] | None) -> PointReport:
    runs = point.told
    if not runs:
        return PointReport(point, {}, {}, PooledValue(math.nan), math.nan, (), None, leverage_is_measured=False)
    throughput = mean_of([run.completed_per_s for run in runs])
    pools = {metric: pooled([run.tables[metric] for run in runs]) for metric in columns}
    call = pools[CALL].layers if CALL in pools else pooled([run.tables[CALL] for run in runs]).layers
    at = stations(call, runs[0].servers, throughput.value)
    is_open = all(run.loop.kind == "open" for run in runs)
    answers = {
        metric: _answer(
            pools[metric], [run.tables[metric] for run in runs], columns[metric], at, measured if metric == CALL else None, is_open
        )
        for metric in columns
    }
    recorded = sum(run.recorded for run in runs)
    return PointReport(
        point=point,
        pools=pools,
        answers=answers,
        completed=throughput,
        good_share=sum(run.good for run in runs) / recorded if recorded else math.nan,
        stations=at,
        bounds=bounds(at, call, throughput.value, _loop(runs)),
        leverage_is_measured=measured is not None,
    )


def _loop(runs: Sequence[SweptRun]) -> Loop:
    """All are of one kind and size; their think time is a mean."""
    return replace(runs[0].loop, think_ns=float(np.mean([run.loop.think_ns for run in runs])))


def _answer(
    pool: Pool,
    tables: Sequence[Layers],
    columns: Sequence[Column],
    at: Sequence[Station],
    measured: Mapping[str, Mapping[str, float]] | None,
    is_open: bool,
) -> Answer:
    names = pool.layers.names
    values = [metric_ns(table) for table in tables]
    estimates, contributed, found = {}, {}, {}
    for column in columns:
        told = contributions_as(pool.layers, column.p, column.kind)
        by_station = shares(names, told, at)
        leverage = measured.get(column.label, {}) if measured is not None else elasticities(by_station, told, at) if is_open else {}
        estimates[column.label] = estimate(values, column.p, column.kind)
        contributed[column.label] = told
        found[column.label] = find(by_station, at, leverage)
    return Answer(names, estimates, contributed, found)


def _doubts(points: Sequence[PointReport]) -> Iterator[Doubt]:
    """What is wrong with single points; one that does not count takes no part in crossings."""
    runs = [(point.point, run) for point in points for run in point.point.runs]
    failed = [(point, run) for point, run in runs if run.failure]
    if failed:
        text = f"no run came of {_listed(failed)}; the first said: {failed[0][1].failure}"
        yield Doubt("point_failed", "warning", text, "see what it says; the other points stand")
    fatal = [(point, run, doubt) for point, run in runs for doubt in run.doubts if doubt.level == "fatal" and not run.failure]
    for name in dict.fromkeys(doubt.id for _, _, doubt in fatal):
        those = [(point, run) for point, run, doubt in fatal if doubt.id == name]
        first = next(doubt for _, _, doubt in fatal if doubt.id == name)
        yield Doubt(name, "warning", f"not to be trusted and left out: {_listed(those)}; of the first: {first.text}", first.remedy)
    if missing := [point.point.name for point in points if not point.counts]:
        text = f"no run counts at {'; '.join(missing)} (marked !): no crossing rests on it"
        yield Doubt("point_missing", "warning", text, "run the sweep again, or lighten its load")
    told = [(point, doubt) for point, run in runs if run.is_used for doubt in _bound(run)]
    for name in dict.fromkeys(doubt.id for _, doubt in told):
        those_points = "; ".join(dict.fromkeys(point.name for point, doubt in told if doubt.id == name))
        first = next(doubt for _, doubt in told if doubt.id == name)
        yield Doubt(name, first.level, f"{those_points}: {first.text}", first.remedy)


def _bound(run: SweptRun) -> Iterator[Doubt]:
    at = stations(run.tables[CALL], run.servers, run.completed_per_s)
    return doubts_of(bounds(at, run.tables[CALL], run.completed_per_s, run.loop), at, run.asked_per_s)


def _listed(runs: Sequence[tuple[Point, SweptRun]]) -> str:
    """Which replications of which points: ``decode=1 (0, 2)``."""
    numbers: dict[str, list[str]] = {}
    for point, run in runs:
        numbers.setdefault(point.name, []).append(str(run.number))
    return "; ".join(f"{name} (replication {', '.join(told)})" for name, told in numbers.items())
