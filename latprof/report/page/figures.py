"""Which figures a run and a sweep have on paper, and the words around each: what it is, of what, and how sure one may be of it."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import replace
from functools import partial
from typing import Any, Final

from latprof.analysis.task import METRIC as TASK
from latprof.report.page import budget, distribution
from latprof.report.page import run as run_page
from latprof.report.page import sweep as sweep_page
from latprof.report.page.run import Shown
from latprof.report.page.static import Figure
from latprof.report.sweep.values import METRICS, SweepReport
from latprof.report.values import Report

_NAMES: Final[Mapping[str, str]] = {**METRICS, TASK: "task"}
_ADDS_UP = "A layer's part is its mean time among the {whom} there, so that the parts add up, in the order of the legend; hatched: known to be wait."


def of_run(shown: Shown) -> Iterator[Figure]:
    """The figures of a run, in the order of its page; none of a run without a request that succeeded."""
    report = shown.report
    told = run_page.pictures(shown)
    figure = partial(_figure, report, _whose(report, is_partial=shown.run.partial))
    for metric, data in told["budget"].items():
        adds_up = _ADDS_UP.format(whom=f"{data['requests']} tasks" if metric == TASK else "requests")
        yield figure(
            "budget",
            metric,
            data,
            f"{_capital(_NAMES[metric])} budget: what each layer contributes",
            f"{adds_up} {budget.promises(_NAMES[metric], data)}".strip(),
        )
    if (tail := told["tail"]) is not None:
        caption = budget.tail_words(report.budget, tail)
        yield figure("tail", "", tail, "TTFT: what slow requests have that usual ones have not", caption)
    for label, data in told["waterfall"].items():
        placed = "" if data["is_placed"] else " Where in time each layer was is not known; their lengths are laid end to end."
        caption = f"Session {data['session']}, turn {data['turn']}: an example, not a summary.{placed}"
        yield figure("waterfall", label, data, f"One request, the nearest to {budget.the(label)} of TTFT", caption)
    for metric, data in told["tails"].items():
        title = f"{_capital(data['name'])}: the share of requests that take longer"
        yield figure("tails", metric, {metric: data}, title, f"{distribution.tails_words({metric: data})} n = {data['arms'][0]['n']}.")
    if (heat := told["heat"]) is not None:
        what = "Requests by when they were due and by TTFT; below" if heat["cells"] else "Failures by when they were due, and"
        caption = f"{what}, how late the latest of them was sent. {distribution.over_time_words(heat)}"
        yield figure("heat", "", heat, "TTFT over the time of the run", caption)
    if (gantt := told["gantt"]) is not None:
        caption = f"Framed: its critical path, which with the waits (dashed) adds up to {gantt['own_ms']:,.0f} ms. A call is split at its first token."
        yield figure("gantt", "", gantt, f"One agent task, the nearest to {budget.the(gantt['label'])}", caption)


def of_sweep(report: SweepReport) -> Iterator[Figure]:
    """The figures of a sweep: one for every metric, percentile and line of points; none where no point has a run."""
    told = sweep_page.pictures(report)
    figure = partial(_figure, report, _whose_points(report))
    for data in told["sweep"].values():
        caption = (
            "Contributions of the layers, which add up to the total, with its 95 % interval where there are replications enough."
            f" {sweep_page.crossing_words(data)} Dashed: the naive line."
        )
        fixed = data["fixed"] and f",{data['fixed']}"
        which = f"{data['metric']}-{data['label']}{data['fixed']}"
        yield figure("sweep", which, data, f"{_capital(data['name'])} {data['label']} as {data['axis']} gets faster{fixed}", caption)
        title = f"What {data['name']} {data['label']} is made of as {data['axis']} gets faster{fixed}"
        caption = f"Shares of the contributions of the layers. {sweep_page.crossing_words(data)}"
        yield replace(figure("sweep", f"{which}-shares", data, title, caption), state={"share": True})
    for data in told["load"].values():
        caption = "With 95 % intervals where there are replications enough; dotted: the share of requests that met the objectives."
        yield figure("load", data["title"], data, f"Latency along {data['title']}", caption)


def _figure(report: Report | SweepReport, whose: str, kind: str, which: str, data: Mapping[str, Any], title: str, caption: str) -> Figure:
    name = re.sub(r"[^A-Za-z0-9.=_]+", "-", f"{kind}-{which}").strip("-.")
    return Figure(name, kind, data, title, f"{caption} {whose}", is_valid=report.valid, is_simulated=report.is_simulated)


def _whose(report: Report, *, is_partial: bool) -> str:
    invalid = "" if report.valid else f"NOT VALID: {_first_fatal(report)}. "
    parts = [
        _capital(report.arrival_model),
        f"{report.counts.ok} {'request' if report.counts.ok == 1 else 'requests'}"
        + (f", {report.counts.failed} failed" if report.counts.failed else ""),
        f"run {report.run_id}" + (", simulated in virtual time" if report.is_simulated else ""),
        *(["partial"] if is_partial or report.interrupted else []),
    ]
    return f"{invalid}{'; '.join(parts)}."


def _first_fatal(report: Report) -> str:
    return next(doubt.text for doubt in report.doubts if doubt.level == "fatal")


def _whose_points(report: SweepReport) -> str:
    # A point without a run does not know its load.
    known = [point for point in report.points if any(run.arrival_model for run in point.point.runs)]
    loads = list(dict.fromkeys(point.arrival_model for point in known)) or ["nothing was sent"]
    load = loads[0] if len(loads) == 1 else f"{loads[0]} … {loads[-1]}"
    each = f"{report.replications} {'run' if report.replications == 1 else 'runs'}"
    counting = sum(point.counts for point in report.points)
    parts = [
        _capital(load),
        f"{len(report.points)} points of {each}",
        *([f"only {counting} of them count, not {sweep_page.uncounted(report)}"] if counting < len(report.points) else []),
        *([f"sweep {report.folder.name}"] if report.folder is not None else []),
        *(["simulated in virtual time"] if report.is_simulated else []),
    ]
    return "; ".join(parts) + "."


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]
