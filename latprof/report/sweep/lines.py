"""Along one axis of a sweep: which layer overtakes the one that gets faster and where, what a doubling still saves, and the naive line."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from latprof.analysis.contributions import weights_of
from latprof.analysis.quantiles import FloatArray
from latprof.analysis.sweeps.crossings import NEVER, bracket, crossing, diminishing, holds, naive_ns
from latprof.analysis.sweeps.operational import is_at, station_of
from latprof.analysis.sweeps.pooled import MIN_REPLICATIONS, draws, interval, resampler
from latprof.layers.table import IntArray
from latprof.layers.vocabulary import UNATTRIBUTED
from latprof.report.sweep.values import CALL, METRICS, Axis, Column, PointReport, SweepReport

OTHERS = "all others together"
_RESAMPLES = 400


@dataclass(frozen=True, slots=True)
class Figure:
    """A k with its 95 % interval: NaN where there is none, `NEVER` where it lies beyond what was swept."""

    k: float
    low: float = math.nan
    high: float = math.nan


@dataclass(frozen=True, slots=True)
class Crossing:
    """Where a layer's contribution reaches that of the layer which gets faster. ``holds``: it stays the larger one from there on."""

    layer: str
    at: Figure
    holds: bool


@dataclass(frozen=True, slots=True)
class Along:
    """One column of one metric along one axis; crossings by k, of those not reached the largest first. ``naive_ns`` and ``gap`` (naive over measured, less 1) are by k; NaN where not known."""

    metric: str
    column: Column
    crossings: tuple[Crossing, ...]
    others: Crossing
    diminishing: Figure
    naive_ns: tuple[float, ...]
    gap: tuple[float, ...]


@dataclass(frozen=True, slots=True)
class Line:
    """The points along one speed-up, the other axes fixed (or moving along, in a zipped sweep). ``ks`` are those with a run that counts."""

    axis: str
    fixed: Mapping[str, float]
    ks: tuple[float, ...]
    points: tuple[PointReport, ...]
    along: tuple[Along, ...]

    def brackets(self) -> set[tuple[float, float]]:
        """Where on the grid crossings lie: what a further run in the middle would tell more about."""
        crossings = [found for one in self.along if one.metric == CALL for found in (*one.crossings, one.others)]
        return {pair for found in crossings if (pair := bracket(self.ks, found.at.k)) is not None}


@lru_cache(maxsize=4)
def lines(report: SweepReport) -> tuple[Line, ...]:
    """Every line of the sweep along which a layer gets faster, with at least two points that count."""
    speedups = [axis for axis in report.axes if axis.kind == "speedup" and (len(axis.values) > 1)]
    found = [_line(report, axis, group) for axis in (speedups[:1] if report.is_zipped else speedups) for group in _groups(report, axis)]
    return tuple(line for line in found if line is not None)


def _groups(report: SweepReport, axis: Axis) -> list[list[PointReport]]:
    groups: dict[tuple[float, ...], list[PointReport]] = {}
    for point in report.points:
        rest = () if report.is_zipped else tuple(value for name, value in point.point.setting.items() if name != axis.name)
        groups.setdefault(rest, []).append(point)
    return list(groups.values())


def _line(report: SweepReport, axis: Axis, group: Sequence[PointReport]) -> Line | None:
    used = sorted((point for point in group if point.counts and point.answers), key=lambda point: point.point.setting[axis.name])
    if len(used) < 2:
        return None
    ks = tuple(point.point.setting[axis.name] for point in used)
    faster = [other.name for other in report.axes if other.kind == "speedup"] if report.is_zipped else [axis.name]
    fixed = {} if report.is_zipped else {name: value for name, value in used[0].point.setting.items() if name != axis.name}
    along = tuple(
        _along(report, axis.name, faster, ks, used, metric, column) for metric, columns in report.columns.items() for column in columns
    )
    return Line(axis.name, fixed, ks, tuple(used), along)


def _along(
    report: SweepReport, axis: str, faster: Sequence[str], ks: tuple[float, ...], points: Sequence[PointReport], metric: str, column: Column
) -> Along:
    names = tuple(dict.fromkeys(name for point in points for name in point.answers[metric].names))
    groups = _compared(names, axis)
    found = np.array([_spread(point, metric, point.answers[metric].contributions[column.label].total_ns, names) for point in points])
    resampled = _resampled(report, points, metric, column, names)
    fast = np.array([is_at(name, axis) for name in names])
    groups = {name: members for name, members in groups.items() if found[:, members].any()}
    crossings = [_crossing(name, ks, members, fast, found, resampled, report.replications) for name, members in groups.items()]
    others = _crossing(OTHERS, ks, ~fast, fast, found, resampled, report.replications)
    totals = diminishing(ks, found.sum(axis=1), report.worthwhile_ns)
    spread = np.array([diminishing(ks, one.sum(axis=1), report.worthwhile_ns) for one in resampled])
    measured = [point.answers[metric].values[column.label].value for point in points]
    naive = _naive(points, metric, column, faster)
    return Along(
        metric=metric,
        column=column,
        crossings=tuple(sorted(crossings, key=lambda one: (one.at.k, -found[-1, groups[one.layer]].sum()))),
        others=others,
        diminishing=Figure(totals, *interval(spread, report.replications)),
        naive_ns=naive,
        gap=tuple(told / was - 1 if was else math.nan for told, was in zip(naive, measured, strict=True)),
    )


def _compared(names: Sequence[str], axis: str) -> dict[str, np.ndarray[tuple[int], np.dtype[np.bool_]]]:
    """The stations that do not get faster, and the prefixes with several layers below them, each with the columns that make it up."""
    slow = [name for name in names if not is_at(name, axis)]
    stations: dict[str, set[str]] = {}
    prefixes: dict[str, set[str]] = {}
    for name in slow:
        stations.setdefault(station_of(name), set()).add(name)
        if not name.startswith(UNATTRIBUTED) and "+" not in name and "." in name:
            prefixes.setdefault(station_of(name).split(".", 1)[0], set()).add(name)
    groups = {**{prefix: members for prefix, members in prefixes.items() if len(members) > 1}, **stations}
    return {group: np.array([name in members for name in names]) for group, members in groups.items()}


def _spread(point: PointReport, metric: str, values: FloatArray, names: Sequence[str]) -> FloatArray:
    """A point's columns among all names of the line; a layer it has not contributes 0."""
    own = {name: float(value) for name, value in zip(point.answers[metric].names, values, strict=True)}
    return np.array([own.get(name, 0.0) for name in names])


def _resampled(report: SweepReport, points: Sequence[PointReport], metric: str, column: Column, names: Sequence[str]) -> FloatArray:
    """Contributions in resamples of the replications, shape (B, K, L); the same replications are drawn at every k, whose seeds they share."""
    if report.replications < MIN_REPLICATIONS:
        return np.empty((0, len(points), len(names)))
    drawn: list[IntArray] = list(draws(report.replications, _RESAMPLES))
    sets = []
    for point in points:
        numbers = [run.number for run in point.point.used]
        resample = resampler(point.pools[metric], column.p, column.kind)
        sets.append([_spread(point, metric, resample(times[numbers]), names) for times in drawn])
    return np.asarray(np.array(sets).swapaxes(0, 1))


def _crossing(
    name: str,
    ks: tuple[float, ...],
    members: np.ndarray[tuple[int], np.dtype[np.bool_]],
    fast: np.ndarray[tuple[int], np.dtype[np.bool_]],
    found: FloatArray,
    resampled: FloatArray,
    replications: int,
) -> Crossing:
    layer_ns, fast_ns = found[:, members].sum(axis=1), found[:, fast].sum(axis=1)
    k = crossing(ks, layer_ns, fast_ns)
    spread = np.array([crossing(ks, one[:, members].sum(axis=1), one[:, fast].sum(axis=1)) for one in resampled])
    return Crossing(name, Figure(k, *interval(spread, replications)), k == NEVER or holds(ks, layer_ns, fast_ns))


def _naive(points: Sequence[PointReport], metric: str, column: Column, faster: Sequence[str]) -> tuple[float, ...]:
    """The slowest point's requests, less what would be saved in service: what one would say without a queue in mind."""
    base = points[0]
    layers = base.pools[metric].layers
    told = []
    for point in points:
        times = {}
        for index, name in enumerate(layers.names):
            factor = math.prod(point.point.setting[axis] / base.point.setting[axis] for axis in faster if is_at(name, axis))
            if factor != 1:
                times[index] = factor
        value_ns = np.sort(naive_ns(layers, times))
        told.append(float(value_ns @ weights_of(len(value_ns), column.p, column.kind)))
    return tuple(told)


def shown_metrics(report: SweepReport) -> dict[str, str]:
    """The metrics the sweep has, and what a table calls them."""
    return {metric: name for metric, name in METRICS.items() if metric in report.columns}
