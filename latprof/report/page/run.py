"""The page of one run."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from latprof.analysis.exemplars import exemplars
from latprof.analysis.metrics import SAMPLED
from latprof.analysis.quantiles import SHOWN
from latprof.analysis.task import METRIC as TASK
from latprof.layers.table import Layers
from latprof.layers.vocabulary import LAYERS
from latprof.observations.folder import Run
from latprof.observations.graph import Steps
from latprof.report import injected
from latprof.report.colours import colour_of
from latprof.report.host import versions
from latprof.report.page import budget, distribution
from latprof.report.page.document import document
from latprof.report.page.requests import Courses, waterfalls
from latprof.report.page.task import gantt
from latprof.report.summary import summary
from latprof.report.table import grid
from latprof.report.targets import TARGET_HEAD, TARGET_NOTE, target_cells
from latprof.report.tasks import sentences
from latprof.report.values import MEAN, Budget, Report
from latprof.report.words import by_prefix, facts, footnotes, largest, of_percentiles, of_the_call, verdict
from latprof.units import ms

_NAMES: Final[Mapping[str, str]] = {"ttft": "TTFT", "e2el": "call", TASK: "task"}
_OTHERS: Final = (
    "The layers add up to Harrell-Davis percentiles, which weigh the requests around one and so differ a little; an example has the time of the one"
    " request that is the nearest."
)


@dataclass(frozen=True, slots=True, eq=False)
class Shown:
    """What a page of a run is made of. ``layers`` by metric; ``repeat`` is the command that does it again, ``config`` what it needs for that.

    ``limits_ms``: metric -> column label -> what a budget promises there.
    """

    report: Report
    run: Run
    layers: Mapping[str, Layers]
    steps: Steps
    courses: Courses
    repeat: str
    config: str
    limits_ms: Mapping[str, Mapping[str, float]] = field(default_factory=dict)


def page(shown: Shown) -> str:
    """The page as HTML."""
    report = shown.report
    text, mood = verdict(report)
    drawn = pictures(shown)
    falls = drawn["waterfall"]
    return document(
        "run.html.j2",
        {
            "title": "latprof run",
            "subtitle": f"{report.run_id} · {report.url or 'the stack in a box'}",
            "summary": summary(report),
            "pictures": drawn,
            "report": {"is_simulated": report.is_simulated},
            "verdict": {"text": text, "mood": mood},
            "partial": list(_partial(shown)),
            "answer": list(_answer(report)),
            "headline": list(_headline(report)),
            "budgets": [(metric, _NAMES[metric]) for metric in drawn["budget"]],
            "promises": list(filter(None, (budget.promises(_NAMES[metric], one) for metric, one in drawn["budget"].items()))),
            "tail_words": budget.tail_words(report.budget, drawn["tail"]),
            "examples": [(label, f"{label}: {one['own_ms']:.1f} ms") for label, one in falls.items()],
            "placed": all(one["is_placed"] for one in falls.values()),
            "tails": [(metric, told["name"]) for metric, told in drawn["tails"].items() if told["arms"]],
            "percentiles": [f"p{100 * p:g}" for p in SHOWN],
            "tails_words": distribution.tails_words(drawn["tails"]),
            "heat_words": distribution.over_time_words(drawn["heat"]) if drawn["heat"] is not None else "",
            "metrics": list(_metrics(report)),
            "metrics_note": f"{of_percentiles(report)} {_OTHERS}",
            "targets": [target_cells(one) for one in report.targets],
            "target_head": TARGET_HEAD,
            "target_note": TARGET_NOTE,
            "rates": dict(facts(report))["rate"],
            "task_lines": list(sentences(report.tasks)) if report.tasks is not None else [],
            "tables": [_table(one) for one in _budgets(report).values()],
            "injection": _injection(report),
            "facts": [*facts(report), *([("versions", versions(report.host))] if report.host else [])],
            "errors": list(report.counts.errors.items()),
            "repeat": shown.repeat,
            "config": shown.config.splitlines(),
        },
    )


def pictures(shown: Shown) -> dict[str, Any]:
    """Every picture of a run by name; those with a choice of data by what is chosen."""
    report, run = shown.report, shown.run
    ttft = shown.layers["ttft"]
    chosen = exemplars(ttft, intended_ns=run.requests.intended_ns[ttft.rows])
    falls = waterfalls(chosen, run.requests, shown.courses)
    tails = distribution.tails({"run": [distribution.of_run(run)]})
    return {
        "budget": {metric: budget.stacked(one, shown.limits_ms.get(metric)) for metric, one in _budgets(report).items()},
        "tail": budget.tail(report.budget) if report.budget is not None else None,
        "waterfall": {one["label"]: one for one in falls},
        # Of one time, or several that are the same, there is no curve.
        "tails": {metric: told for metric, told in tails.items() if any(share > 0 for arm in told["arms"] for share in arm["share"])},
        "heat": _heat(run),
        "gantt": _gantt(shown),
    }


def _heat(run: Run) -> dict[str, Any] | None:
    """Of a single request there is no course of time."""
    drawn = distribution.over_time(run)
    return None if drawn is None or sum(cell[2] for cell in drawn["cells"]) + sum(drawn["failed"]) < 2 else drawn


def _budgets(report: Report) -> dict[str, Budget]:
    of_tasks = None if report.tasks is None else report.tasks.budget
    return {one.metric: one for one in (report.budget, report.call_budget, of_tasks) if one is not None}


def _gantt(shown: Shown) -> dict[str, Any] | None:
    tasks = shown.layers.get(TASK)
    if tasks is None or not len(tasks.rows):
        return None
    (example,) = exemplars(tasks, (0.5,))
    drawn = gantt(example, shown.run.requests, shown.steps)
    if drawn is None:
        return None
    return drawn | {"colours": {"before": colour_of("prefill"), "after": colour_of("decode"), "tool": colour_of("tool")}}


def _partial(shown: Shown) -> Iterator[str]:
    if shown.run.partial:
        yield f"The run is partial: {shown.run.partial_reason}."


def _answer(report: Report) -> Iterator[str]:
    if report.budget is not None:
        yield largest(report.budget, grid(report.budget))
        yield by_prefix(report.budget)
    if report.call_budget is not None:
        yield of_the_call(report.call_budget)


def _headline(report: Report) -> Iterator[tuple[str, float, str]]:
    """The figures people ask for first: name, value, unit."""
    middle, last = SHOWN.index(0.5), SHOWN.index(0.99)
    for metric, name in (("ttft", "TTFT"), ("e2el", "call"), (TASK, "task")):
        found = report.metrics[metric]
        if found.n:
            # Too few requests for a percentile: a mean stands for it.
            refused = [math.isnan(value) for value in found.given]
            yield (f"{name} mean", ms(found.mean), "ms") if refused[middle] else (f"{name} p50", ms(found.given[middle]), "ms")
            yield (f"{name} tail mean", ms(found.tail_mean), "ms") if refused[last] else (f"{name} p99", ms(found.given[last]), "ms")
    yield "requests/s achieved", report.rate.achieved_per_s, ""
    if report.goodput is not None:
        yield "of them good", 100 * report.goodput.share, "%"
    yield "failed", report.counts.failed, ""


def _metrics(report: Report) -> Iterator[dict[str, Any]]:
    for metric, name in {**SAMPLED, TASK: "task"}.items():
        found = report.metrics[metric]
        if found.n:
            values = [None if math.isnan(value) else ms(value) for value in found.given]
            yield {"name": name, "n": found.n, "mean": ms(found.mean), "at": values}


def _table(one: Budget) -> dict[str, Any]:
    """The budget as the terminal prints it: cells that add up as printed, with the exact figure behind each."""
    laid_out = grid(one)
    rows = {row.layer: row for row in one.rows}
    beside = [] if MEAN in laid_out.head else [one.mean]
    return {
        "metric": one.metric,
        "title": f"{_NAMES[one.metric]}, {one.requests} {'tasks' if one.metric == TASK else 'requests'}",
        "head": [*laid_out.head, *(column.label for column in beside)],
        "lines": [
            {
                "layer": line.layer,
                "meaning": LAYERS.get(line.layer, ""),
                "colour": colour_of(line.layer),
                "cells": [
                    *((cell, ms(rows[line.layer].total_ns[label])) for cell, label in zip(line.cells, laid_out.head, strict=True)),
                    *((f"{ms(rows[line.layer].total_ns[MEAN]):.2f}", ms(rows[line.layer].total_ns[MEAN])) for _ in beside),
                ],
                "share": line.share,
                "wait": line.wait,
                "service": line.service,
                "source": line.source,
                "coverage": line.coverage,
            }
            for line in laid_out.lines
        ],
        "total": [*laid_out.total.cells, *(f"{ms(column.value_ns):.2f}" for column in beside)],
        "share": laid_out.total.share,
        "wait": laid_out.total.wait,
        "service": laid_out.total.service,
        "notes": list(footnotes(one, laid_out)),
    }


def _injection(report: Report) -> dict[str, Any] | None:
    if report.injection is None:
        return None
    return {
        "told": [injected.design(report.injection), *injected.warnings(report.injection)],
        "head": injected.HEAD,
        "rows": list(injected.rows(report.injection)),
        "reading": injected.conclusion(report.injection),
    }
