"""A sweep on a terminal: doubts first, then metrics, contributions and utilisation by point, the three bottlenecks, and where layers cross."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from typing import TextIO

from rich.console import Console
from rich.text import Text

from latprof.analysis.sweeps.bottlenecks import Leader
from latprof.analysis.sweeps.operational import Station
from latprof.report import presets
from latprof.report.console import console_on, print_doubt, print_remark, ruled
from latprof.report.inert import harmless, plain
from latprof.report.rounding import rounded_to_sum
from latprof.report.sweep.along import line_of
from latprof.report.sweep.grid import matrices
from latprof.report.sweep.lines import lines, shown_metrics
from latprof.report.sweep.tables import CELL_WIDTH, NAME_WIDTH, Rows, milliseconds, number, per_s, table
from latprof.report.sweep.values import CALL, Answer, Column, PointReport, SweepReport
from latprof.units import NS_PER_MS


def render(report: SweepReport, file: TextIO | None = None, *, stderr: bool = False) -> None:
    """Print ``report`` to ``file`` (standard output, or standard error), in its width and encoding; NO_COLOR is honoured."""
    write(report, console_on(file, stderr=stderr))


def write(report: SweepReport, console: Console) -> None:
    """Print ``report`` on ``console``."""
    report = harmless(report)
    for doubt in report.doubts:
        print_doubt(doubt, console)
    if report.doubts:
        console.print()
    matrices(report, console)
    for index, block in enumerate(_blocks(report, console)):
        if index:
            console.print()
        _block(report, block, console)
    for line in lines(report):
        line_of(report, line, console)
    for told in presets.footnotes(report.presets):
        print_remark(told, console)
    if report.folder is not None:
        console.print(f"\nwritten  {report.folder}  (latprof report {report.folder} prints this again, and of a folder in it that run)")


def _blocks(report: SweepReport, console: Console) -> Iterator[list[PointReport]]:
    """Points that stand side by side: along the first axis, the others fixed, as many as the width holds; those that were asked for."""
    most = max(1, (console.width - NAME_WIDTH) // CELL_WIDTH)
    groups: dict[tuple[float, ...], list[PointReport]] = {}
    for point in report.points:
        if any(point.point.setting[axis.name] not in axis.values for axis in report.axes):
            continue
        rest = () if report.is_zipped else tuple(point.point.setting.values())[1:]
        groups.setdefault(rest, []).append(point)
    for group in groups.values():
        for begin in range(0, len(group), most):
            yield group[begin : begin + most]


def _block(report: SweepReport, block: Sequence[PointReport], console: Console) -> None:
    first = report.axes[0]
    others = [axis.name for axis in report.axes[1:]]
    fixed = ", ".join(f"{name}={block[0].point.setting[name]:g}" for name in others) if others and not report.is_zipped else ""
    how = "simulated" if report.is_simulated else "measured live"
    title = f"Sweep of {first.name}{f' at {fixed}' if fixed else ''}, {how}, {number(report.replications, 'replication')} of every point"
    console.print(Text(title, "bold"))
    for told in _arrival_models(block):
        console.print(f"  {plain(told)}")
    head = [_heading(report, point) for point in block]
    if not any(point.answers for point in block):
        console.print("No run of these points counts.")
        return
    console.print(table(f"{first.name}", head, _metric_rows(report, block), console))
    if report.replications < 2:
        print_remark("One replication tells nothing of how far its figures may be off: no intervals. --replications 5 gives them.", console)
    else:
        print_remark(
            "± is half of the 95 % interval, by Student's t over the replications; - where one of them is too short to tell.", console
        )
    for column in report.columns.get(CALL, ()):
        console.print(Text(f"What each layer contributes to the call at {_of(column)}, ms", "bold"))
        console.print(table("layer", head, _contribution_rows(block, column), console, foot=True))
    print_remark(
        "Contributions add up to the call's own figure. They are not the layers' own percentiles: 32 beside the gateway at p99 is what it takes of the"
        " slowest calls, not the gateway's p99.",
        console,
    )
    console.print(table("station (servers)", head, _station_rows(block), console))
    print_remark("Utilisation X D / c: throughput, mean service, servers. Throughput cannot exceed the bounds below it.", console)
    _bottlenecks(report, block, console)


def _heading(report: SweepReport, point: PointReport) -> str:
    values = list(point.point.setting.values())
    text = "/".join(f"{value:.4g}" for value in values) if report.is_zipped else f"{values[0]:.4g}"
    return text if point.counts else f"{text} !"


def _arrival_models(block: Sequence[PointReport]) -> Iterator[str]:
    """One line where all points share it; else one for each."""
    models = {point.arrival_model for point in block}
    if len(models) == 1:
        yield f"load: {models.pop()}"
    else:
        yield from (f"load at {point.point.name}: {point.arrival_model}" for point in block)


# --- tables -------------------------------------------------------------------------------------------------------------------------------


def _metric_rows(report: SweepReport, block: Sequence[PointReport]) -> Rows:
    rows: Rows = []
    for metric, name in shown_metrics(report).items():
        for column in report.columns[metric]:
            cells = [milliseconds(point.answers[metric].values[column.label]) if point.answers else "-" for point in block]
            rows.append((f"{name} {column.label}, ms", cells))
    rows.append(("completed per s", [per_s(point.completed) for point in block]))
    if any(not math.isnan(point.good_share) for point in block):
        rows.append(("goodput, share", ["-" if math.isnan(point.good_share) else f"{100 * point.good_share:.1f} %" for point in block]))
    return rows


def _contribution_rows(block: Sequence[PointReport], column: Column) -> Rows:
    names = tuple(dict.fromkeys(name for point in block if point.answers for name in point.answers[CALL].names))
    unit_ns = NS_PER_MS / 100
    columns: list[dict[str, int]] = []
    for point in block:
        if not point.answers:
            columns.append({})
            continue
        answer = point.answers[CALL]
        columns.append(dict(zip(answer.names, rounded_to_sum(list(answer.contributions[column.label].total_ns), unit_ns), strict=True)))
    rows: Rows = []
    for name in names:
        units = [told.get(name, 0) for told in columns]
        if any(units):
            rows.append((name, [f"{unit / 100:.2f}" if told else "-" for unit, told in zip(units, columns, strict=True)]))
    rows.append(("call", [f"{sum(told.values()) / 100:.2f}" if told else "-" for told in columns]))
    return rows


def _station_rows(block: Sequence[PointReport]) -> Rows:
    told: dict[str, list[Station | None]] = {}
    for index, point in enumerate(block):
        for station in point.stations:
            told.setdefault(station.name, [None] * len(block))[index] = station
    rows: Rows = []
    for name, stations in told.items():
        servers = {station.servers for station in stations if station is not None}
        label = f"{name} ({servers.pop()})" if len(servers) == 1 else name
        rows.append((label, [_busy(station, told_servers=len(servers) == 0) for station in stations]))
    found = [point.bounds for point in block]
    rows.append(
        ("X <= c/D, per s", ["-" if one is None or math.isinf(one.capacity_per_s) else f"{one.capacity_per_s:.1f}" for one in found])
    )
    if any(one is not None and not math.isnan(one.population_per_s) for one in found):
        cells = ["-" if one is None or math.isnan(one.population_per_s) else f"{one.population_per_s:.1f}" for one in found]
        rows.append(("X <= N/(D+Z), per s", cells))
    return rows


def _busy(station: Station | None, *, told_servers: bool) -> str:
    if station is None:
        return "-"
    return f"{100 * station.utilisation:.1f} %{'' if station.is_exact else '?'}{'' if told_servers else f' of {station.servers}'}"


def _bottlenecks(report: SweepReport, block: Sequence[PointReport], console: Console) -> None:
    made = ruled(console, gap=2)
    for name in ("bottlenecks", report.axes[0].name, "budget: the largest", "capacity: the busiest", "leverage", ""):
        made.add_column(name)
    for metric, called in shown_metrics(report).items():
        for column in report.columns[metric] if metric != "ttft" else ():
            for point in block:
                if point.answers:
                    name = f"{called} {column.label}" if point is block[0] else ""
                    made.add_row(name, _heading(report, point), *_named(point.answers[metric], column))
    console.print(made)
    print_remark(
        "`a or b`: which of them leads hangs on less than 20 % of some service mean. Leverage E: the metric falls by E % when the service of that"
        f" layer does by 1 %, its queue included; {_where_from(block)}. Es need not sum to 1.",
        console,
    )


def _named(answer: Answer, column: Column) -> tuple[str, str, str, str]:
    found, value_ns = answer.bottlenecks[column.label], answer.values[column.label].value
    return (
        _leader(found.budget, lambda value: f"{100 * value / value_ns:.0f} %"),
        _leader(found.capacity, lambda value: f"{100 * value:.0f} %"),
        _leader(found.leverage, lambda value: f"E {value:.2f}"),
        "differ" if found.differ else "",
    )


def _where_from(block: Sequence[PointReport]) -> str:
    if any(point.leverage_is_measured for point in block):
        return "found by running again 5 % longer and shorter"
    if all(any(a.leverage is not None for a in one.bottlenecks.values()) for point in block for one in point.answers.values()):
        return "to first order, of a station's own queue at arrivals that do not answer"
    return "in a closed loop it takes further runs (--simulate --leverage)"


def _leader(leader: Leader | None, figure: Callable[[float], str]) -> str:
    if leader is None:
        return "-"
    more = f" or {len(leader.names) - 3} more" if len(leader.names) > 3 else ""
    return f"{' or '.join(leader.names[:3])}{more} ({figure(leader.value)})"


def _of(column: Column) -> str:
    return column.label if column.kind == "percentile" else f"the {column.label}"
