"""Two axes at once: one figure of every point as a matrix, what each step along the first axis saves, and where that ends."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence

import numpy as np
from rich.console import Console
from rich.text import Text

from latprof.analysis.contributions import weights_of
from latprof.analysis.sweeps.pooled import PooledValue, mean_of
from latprof.report.console import print_remark
from latprof.report.sweep.tables import milliseconds, table
from latprof.report.sweep.values import METRICS, Axis, Column, PointReport, SweepReport, metric_ns
from latprof.units import NS_PER_MS, ms

Matrix = Mapping[tuple[float, float], PointReport]


def matrices(report: SweepReport, console: Console) -> None:
    """The top percentile of every metric, where the sweep is a grid of two axes."""
    wide = [axis for axis in report.axes if len(axis.values) > 1]
    if report.is_zipped or len(wide) != 2:
        return
    across, down = wide
    points = {(point.point.setting[across.name], point.point.setting[down.name]): point for point in report.points}
    for metric, columns in report.columns.items():
        column = columns[-1]
        rows = [(f"{down.name} {value:g}", [_cell(points.get((k, value)), metric, column) for k in across.values]) for value in down.values]
        console.print(Text(f"{METRICS[metric]} {column.label}, ms, across {across.name}", "bold"))
        console.print(table("", [f"{k:g}" for k in across.values], rows, console))
        for text in plateaus(report, across, down, points, metric):
            print_remark(text, console, "")
    console.print()


def plateaus(report: SweepReport, across: Axis, down: Axis, points: Matrix, metric: str) -> Iterator[str]:
    """For every value of the second axis, what each step along the first saves, and beyond which none is shown to be worthwhile."""
    column, least = report.columns[metric][-1], f"{ms(report.worthwhile_ns):g} ms"
    for value in down.values:
        at = [k for k in across.values if _counts(points, k, value)]
        if len(at) < 2:
            continue
        values = [_by_replication(points[k, value], metric, column) for k in at]
        steps = ", ".join(f"to {k:g} {_signed(saved(values[i], values[i + 1]))}" for i, k in enumerate(at[1:]))
        last = settled(at, values, report.worthwhile_ns)
        end = f"its last step still saves {least}" if last == at[-1] else f"none is shown to save {least} beyond {last:g}"
        yield f"{down.name} {value:g}: {across.name} {steps} ms; {end}"


def saved(before_ns: Mapping[int, float], after_ns: Mapping[int, float]) -> PooledValue:
    """What one setting saves over another, by replications that share their seeds."""
    differences = [before_ns[number] - after_ns[number] for number in before_ns if number in after_ns]
    return mean_of(differences) if differences else PooledValue(math.nan)


def settled(at: Sequence[float], values_ns: Sequence[Mapping[int, float]], least_ns: float) -> float:
    """The first of ``at`` from which no later one is shown to save ``least_ns``: by so much in the mean, and not by chance.

    The last if its own step still does. Where one replication leaves chance unknown, the mean decides.
    """

    def is_shown(saving: PooledValue) -> bool:
        return saving.value >= least_ns and not saving.value - saving.half <= 0

    return next(k for i, k in enumerate(at) if not any(is_shown(saved(values_ns[i], later)) for later in values_ns[i + 1 :]))


def _by_replication(point: PointReport, metric: str, column: Column) -> dict[int, float]:
    values = {run.number: np.sort(metric_ns(run.tables[metric])) for run in point.point.used}
    return {number: float(one @ weights_of(len(one), column.p, column.kind)) for number, one in values.items()}


def _signed(saving: PooledValue) -> str:
    half = "" if math.isnan(saving.half) else f" ±{ms(saving.half):.2g}" if saving.half < 100 * NS_PER_MS else f" ±{ms(saving.half):.0f}"
    return f"{ms(-saving.value):+.0f}{half}"


def _counts(points: Matrix, k: float, value: float) -> bool:
    return (k, value) in points and points[k, value].counts


def _cell(point: PointReport | None, metric: str, column: Column) -> str:
    if point is None or not point.answers or math.isnan(point.answers[metric].values[column.label].value):
        return "-"
    return milliseconds(point.answers[metric].values[column.label]) + ("" if point.counts else " !")
