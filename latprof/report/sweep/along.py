"""What a sweep says along one axis, in words: crossings, diminishing return, and the naive line beside what was found."""

from __future__ import annotations

import math
from collections.abc import Iterator

from rich.console import Console
from rich.text import Text

from latprof.analysis.sweeps.crossings import NEVER, attained
from latprof.analysis.sweeps.pooled import MIN_REPLICATIONS
from latprof.report.console import print_remark
from latprof.report.inert import plain
from latprof.report.sweep.lines import Along, Crossing, Figure, Line
from latprof.report.sweep.tables import CELL_WIDTH, NAME_WIDTH, table
from latprof.report.sweep.values import METRICS, SweepReport
from latprof.units import ms

_WORST_GAP = 0.10
_BUSY = 0.6


def line_of(report: SweepReport, line: Line, console: Console) -> None:
    """Print what was found along one line of the sweep."""
    fixed = ", ".join(f"{name}={value:g}" for name, value in line.fixed.items())
    console.print()
    console.print(Text(f"As {line.axis} gets faster{f', at {fixed}' if fixed else ''}", "bold"))
    console.print(f"  load: {'; '.join(dict.fromkeys(point.arrival_model for point in line.points))}")
    for one in line.along:
        for text in sentences_along(report, line, one):
            print_remark(plain(text), console, "")
    _naive_tables(line, console)
    first = f"{line.ks[0]:.4g}"
    print_remark(
        "The naive line is the first point less the service saved, waits as they were; beside it how far off it is. The last row is Amdahl's"
        f" 1 - {first}/k: the share of all that speeding this layer up from {first} on could ever save.",
        console,
    )
    if any(abs(gap) > _WORST_GAP for one in line.along for gap in one.gap) or _is_busy(line):
        print_remark(
            f"Do not use the naive line here: it is off by more than 10 %, or a station is more than {100 * _BUSY:.0f} % busy.", console
        )
    if report.replications < MIN_REPLICATIONS:
        print_remark(f"Crossings have intervals from {MIN_REPLICATIONS} replications on.", console)


def _naive_tables(line: Line, console: Console) -> None:
    """The naive line, as many k side by side as the width holds."""
    most = max(1, (console.width - NAME_WIDTH) // CELL_WIDTH)
    cells = {f"{METRICS[one.metric]} {one.column.label}, naive": _naive(one) for one in line.along}
    for begin in range(0, len(line.ks), most):
        part = slice(begin, begin + most)
        rows = [(name, told[part]) for name, told in cells.items()]
        rows.append(("saved of all there is", [f"{100 * attained(k, line.ks[0]):.0f} %" for k in line.ks[part]]))
        console.print(table(f"naive line, ms ({line.axis})", [f"{k:.4g}" for k in line.ks[part]], rows, console))


def _is_busy(line: Line) -> bool:
    return any(station.utilisation > _BUSY for point in line.points for station in point.stations)


def sentences_along(report: SweepReport, line: Line, one: Along) -> Iterator[str]:
    """Where layers overtake the one that gets faster, and what a doubling still saves."""
    where = f"{METRICS[one.metric]} {one.column.label}"
    if one.metric == "ttft":
        if not math.isnan(one.diminishing.k):
            yield f"{where}: {_diminishing(report, line, one.diminishing)}"
        return
    last = line.ks[-1]
    reached = [found for found in one.crossings if found.at.k != NEVER]
    never = [found.layer for found in one.crossings if found.at.k == NEVER]
    yield f"{where}: {_crossing(one.others, line)}; {_diminishing(report, line, one.diminishing)}"
    for found in reached:
        yield f"    {_crossing(found, line)}"
    if never:
        shown = ", ".join(never[:6]) + (f" and {len(never) - 6} more" if len(never) > 6 else "")
        yield f"    not reached by k={last:g}: {shown}"


def _crossing(found: Crossing, line: Line) -> str:
    verb = "are as large as" if found.layer.endswith("together") else "is as large as"
    if found.at.k == NEVER:
        return f"{found.layer} {verb} {line.axis}: not reached by k={line.ks[-1]:g}{_interval(found.at, line)}"
    if found.at.k <= line.ks[0]:
        return f"{found.layer} {verb} {line.axis} from the start (k={line.ks[0]:g}){_interval(found.at, line)}"
    back = "" if found.holds else ", but not at every k beyond"
    return f"{found.layer} {verb} {line.axis} at k={found.at.k:.3g}{_interval(found.at, line)}{back}"


def _diminishing(report: SweepReport, line: Line, found: Figure) -> str:
    least = f"{ms(report.worthwhile_ns):g} ms"
    if math.isnan(found.k):
        return "no doubling in the sweep to judge by"
    if found.k == NEVER:
        return f"one more doubling still saves {least} at k={line.ks[-1] / 2:g}"
    return f"one more doubling saves less than {least} from k={found.k:.3g} on{_interval(found, line)}"


def _interval(found: Figure, line: Line) -> str:
    if math.isnan(found.low):
        return ""
    low, high = (f"beyond {line.ks[-1]:g}" if value == NEVER else f"{value:.3g}" for value in (found.low, found.high))
    return f" [{low}, {high}]"


def _naive(one: Along) -> list[str]:
    return [
        f"{ms(value):.2f}" if index == 0 else f"{ms(value):.2f} ({100 * gap:+.0f} %)"
        for index, (value, gap) in enumerate(zip(one.naive_ns, one.gap, strict=True))
    ]
