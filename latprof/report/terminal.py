"""The report on a terminal: verdict and doubts, the largest layer in one sentence, the budget, then everything else in one block."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TextIO

from rich.console import Console
from rich.table import Table
from rich.text import Text

from latprof.analysis.causal.injection import Injection
from latprof.analysis.metrics import SAMPLED
from latprof.analysis.quantiles import SHOWN
from latprof.analysis.targets import TargetFigures
from latprof.analysis.task import METRIC as TASK
from latprof.report import injected
from latprof.report.console import console_on, print_doubt, print_facts, print_remark, ruled
from latprof.report.inert import harmless
from latprof.report.table import BAR_WIDTH, Grid, Line, broken, grid
from latprof.report.targets import TARGET_HEAD, TARGET_NOTE, target_cells
from latprof.report.values import Budget, Report
from latprof.report.words import (
    NAMES,
    SIMULATED,
    Mood,
    by_prefix,
    counted,
    facts,
    footnotes,
    in_ms,
    largest,
    of_percentiles,
    of_the_call,
    verdict,
)

# Rulers and bars: (line box, wait, rest).
_UTF_BAR, _ASCII_BAR = ("░", "█"), (".", "#")
_BARS_FROM = 108
_NARROWEST_NAME = 14
_MOODS: Mapping[Mood, str] = {"good": "bold green", "warn": "bold yellow", "bad": "bold red"}


def render(report: Report, file: TextIO | None = None, *, stderr: bool = False) -> None:
    """Print ``report`` to ``file`` (standard output, or standard error), in its width and encoding; NO_COLOR is honoured."""
    write(report, console_on(file, stderr=stderr))


def write(report: Report, console: Console) -> None:
    """Print ``report`` on ``console``."""
    report = harmless(report)
    _verdict(report, console)
    if report.budget is not None:
        _budget(report.budget, console)
        if report.call_budget is not None:
            console.print(of_the_call(report.call_budget))
            console.print()
        if report.tasks is not None and report.tasks.budget is not None:
            _budget(report.tasks.budget, console)
        if report.injection is not None:
            _injection(report.injection, console)
        _metrics(report, console)
    if report.targets:
        _targets(report.targets, console)
    print_facts(facts(report), console)


# --- verdict ------------------------------------------------------------------------------------------------------------------------------


def _verdict(report: Report, console: Console) -> None:
    if report.is_simulated:
        console.print(Text(SIMULATED, "bold cyan"))
    text, mood = verdict(report)
    console.print(Text(text, _MOODS[mood]))
    for doubt in report.doubts:
        print_doubt(doubt, console)
    console.print()


# --- the budget ---------------------------------------------------------------------------------------------------------------------------


def _budget(budget: Budget, console: Console) -> None:
    laid_out = grid(budget)
    console.print(Text(largest(budget, laid_out), "bold"))
    console.print(by_prefix(budget))
    console.print()
    console.print(f"{NAMES[budget.metric]} budget in ms: what each layer contributes at a percentile ({budget.requests} {counted(budget)})")
    console.print(_table(laid_out, console))
    for note in footnotes(budget, laid_out):
        print_remark(note, console)
    console.print()


def _table(laid_out: Grid, console: Console) -> Table:
    wide = console.width >= _BARS_FROM
    ascii_only = console.options.ascii_only
    total, lines = laid_out.total, laid_out.lines
    columns = [
        *((label, total.cells[index], [line.cells[index] for line in lines], "right") for index, label in enumerate(laid_out.head)),
        ("share", total.share, [line.share for line in lines], "right"),
        ("wait", total.wait, [line.wait for line in lines], "right"),
        ("service", total.service, [line.service for line in lines], "right"),
        ("source", "", [line.source if wide else _short(line.source) for line in lines], "left"),
        ("cover", "", [line.coverage for line in lines], "right"),
    ]
    widths = [max(map(len, (head, foot, *cells))) for head, foot, cells, _ in columns]
    gap = 2 if wide else 1
    left = console.width - sum(widths) - gap * len(widths) - (gap + BAR_WIDTH if wide else 0)
    name_width = max(_NARROWEST_NAME, min(left, max((len(line.layer) for line in lines), default=0)))
    table = ruled(console, gap=gap - 1, show_footer=True)
    table.add_column("layer", total.layer, width=name_width)
    for (head, foot, _, side), width in zip(columns, widths, strict=True):
        table.add_column(head, foot, justify="right" if side == "right" else "left", min_width=width, no_wrap=True)
    if wide:
        table.add_column(f"{laid_out.head[0]} ({_bar(ascii_only)[0]} wait)", no_wrap=True)
    for index, line in enumerate(lines):
        cells = [column[2][index] for column in columns]
        table.add_row(broken(line.layer, name_width), *cells, *([_drawn(line, ascii_only=ascii_only)] if wide else []))
    return table


def _short(source: str) -> str:
    """The first source in four or five letters, and whether there are more."""
    first, *more = source.split("+")
    return f"{first[:5]}+" if more else first[:6]


def _bar(ascii_only: bool) -> tuple[str, str]:
    return _ASCII_BAR if ascii_only else _UTF_BAR


def _drawn(line: Line, *, ascii_only: bool) -> Text:
    wait, rest = _bar(ascii_only)
    return Text(wait * line.bar_wait, "yellow") + Text(rest * line.bar_rest, "blue")


# --- the rest -----------------------------------------------------------------------------------------------------------------------------


def _injection(injection: Injection, console: Console) -> None:
    console.print(f"Causal check: {injected.design(injection)}")
    for warning in injected.warnings(injection):
        print_remark(warning, console, "yellow")
    table = ruled(console)
    table.add_column(injected.HEAD[0], min_width=14)
    for label in injected.HEAD[1:]:
        table.add_column(label, justify="right", no_wrap=True)
    for row in injected.rows(injection):
        table.add_row(*row)
    console.print(table)
    told = injected.conclusion(injection)
    note = "95 % intervals; feedback is per block less per request" + (f". {told[0].upper()}{told[1:]}." if told else ".")
    print_remark(note, console)
    console.print()


def _metrics(report: Report, console: Console) -> None:
    table = ruled(console)
    table.add_column("ms", min_width=14)
    for label in ("mean", *(f"p{100 * p:g}" for p in SHOWN)):
        table.add_column(label, justify="right", min_width=9)
    table.add_column("n", justify="right", min_width=7)
    for metric, name in {**SAMPLED, TASK: "task"}.items():
        found = report.metrics[metric]
        if found.n:
            table.add_row(name, in_ms(found.mean), *(in_ms(value) for value in found.given), str(found.n))
    console.print(table)
    print_remark(of_percentiles(report), console)
    console.print()


def _targets(targets: Sequence[TargetFigures], console: Console) -> None:
    table = ruled(console)
    head, *labels = TARGET_HEAD
    table.add_column(head, min_width=8)
    for label in labels:
        table.add_column(label, justify="right", no_wrap=True)
    for one in targets:
        table.add_row(*target_cells(one))
    console.print(table)
    print_remark(TARGET_NOTE, console)
    console.print()
