"""The report on a terminal: verdict and doubts, the largest layer in one sentence, the budget, then everything else in one block."""

from __future__ import annotations

import io
import math
import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from typing import TextIO

from rich.box import SIMPLE, Box
from rich.console import Console
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from latprof.analysis.doubts import Doubt, Level
from latprof.analysis.injection import Injection
from latprof.analysis.laws import Law
from latprof.analysis.metrics import SAMPLED
from latprof.analysis.quantiles import SHOWN
from latprof.analysis.task import METRIC as TASK
from latprof.layers.call import AFTER_FIRST_TOKEN
from latprof.report import injected, presets
from latprof.report.inert import harmless
from latprof.report.table import BAR_WIDTH, Grid, Line, broken, grid
from latprof.report.tasks import sentences
from latprof.report.values import Budget, Column, LayerRow, Report
from latprof.units import MISSING_NS, NS_PER_MS, NS_PER_S

_STYLES: Mapping[Level, str] = {"fatal": "bold red", "warning": "yellow", "note": "cyan"}
_ASCII_LINES = Box("    \n    \n -- \n    \n    \n -- \n    \n    \n", ascii=True)
# Rulers and bars: (line box, wait, rest).
_UTF_BAR, _ASCII_BAR = ("░", "█"), (".", "#")
# Without a terminal there is no width to keep to; this one has room for the bars.
_WIDTH_IN_FILES = 120
_BARS_FROM = 108
_NARROWEST_NAME = 14
# Stations less busy than this are not named.
_WORTH_NAMING = 0.01
_NAMES: Mapping[str, str] = {"ttft": "TTFT", "e2el": "the call", TASK: "TASK"}


def render(report: Report, file: TextIO | None = None, *, stderr: bool = False) -> None:
    """Print ``report`` to ``file`` (standard output, or standard error), in its width and encoding; NO_COLOR is honoured."""
    stream = file or (sys.stderr if stderr else sys.stdout)
    if isinstance(stream, io.TextIOWrapper):
        stream.reconfigure(errors="replace")  # a server's error text may hold what this terminal cannot show
    width = None if stream.isatty() else int(os.environ.get("COLUMNS") or _WIDTH_IN_FILES)
    write(report, Console(file=stream, width=width, highlight=False, markup=False, emoji=False))


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
    _facts(report, console)


# --- verdict ------------------------------------------------------------------------------------------------------------------------------


def _verdict(report: Report, console: Console) -> None:
    if report.is_simulated:
        console.print(Text("simulated (virtual time): nothing was measured", "bold cyan"))
    if report.valid:
        warnings = sum(doubt.level == "warning" for doubt in report.doubts)
        told = f", with {_number(warnings, 'warning')}" if warnings else ""
        console.print(Text(f"VALID{told}", "bold yellow" if warnings else "bold green"))
    else:
        console.print(Text("NOT VALID: do not use these figures for a decision", "bold red"))
    for doubt in report.doubts:
        _doubt(doubt, console)
    console.print()


def _doubt(doubt: Doubt, console: Console) -> None:
    line = Table.grid(padding=(0, 1))
    line.add_column(width=8)
    line.add_column()
    line.add_row(Text(doubt.level, _STYLES[doubt.level]), Text(doubt.text))
    line.add_row("", Text(f"-> {doubt.remedy}", "dim"))
    console.print(Padding(line, (0, 0, 0, 2)))


# --- the budget ---------------------------------------------------------------------------------------------------------------------------


def largest(budget: Budget, laid_out: Grid) -> str:
    """One plain sentence: the largest layer at the middle, and at the end of the table, with the figures as printed."""
    parts: list[str] = []
    named = ""
    for index in sorted({0, len(budget.columns) - 1}):
        column = budget.columns[index]
        row = max(budget.rows, key=lambda row: row.total_ns[column.label])
        cell = next((line.cells[index] for line in laid_out.lines if line.layer == row.layer), "0")
        share = row.total_ns[column.label] / column.value_ns if column.value_ns else 0.0
        first = f"The largest layer of {_NAMES[budget.metric]} is {row.layer}"
        who = "it is the same" if row.layer == named else f"it is {row.layer}" if named else first
        what = f"{cell} of {laid_out.total.cells[index]} ms ({100 * share:.0f} %)"
        parts.append(f"{_where(column)} {who}, {what}" if named else f"{who} {_where(column)}: {what}")
        named = row.layer
    return "; ".join(parts) + "." + _rise(budget)


def of_the_call(budget: Budget) -> str:
    """What the whole call is made of, in one sentence: what came before the first token, and after it."""
    column = budget.columns[0]
    after = {row.layer: row.total_ns[column.label] for row in budget.rows if row.layer in AFTER_FIRST_TOKEN}
    parts = {"before the first token": column.value_ns - sum(after.values()), **after}
    told = ", ".join(
        f"{name} {_ms(value_ns)} ms ({100 * value_ns / column.value_ns:.0f} %)" for name, value_ns in parts.items() if column.value_ns > 0
    )
    return f"The whole call {_where(column)}, {_ms(column.value_ns)} ms: {told}."


def _where(column: Column) -> str:
    return f"at {column.label}" if column.kind == "percentile" else f"in the {column.label}"


def by_prefix(budget: Budget) -> str:
    """The parts of the stack with several layers, each as one sum at the first column."""
    first = budget.columns[0]
    groups: dict[str, list[float]] = {}
    for row in budget.rows:
        prefixes = {part.split(".", 1)[0] for part in row.layer.split("+")}
        if len(prefixes) == 1 and row.total_ns[first.label] > 0:
            groups.setdefault(prefixes.pop(), []).append(row.total_ns[first.label])
    sums = [(name, sum(parts)) for name, parts in groups.items() if len(parts) > 1 and first.value_ns > 0]
    told = (f"{name} {_ms(value_ns)} ms ({100 * value_ns / first.value_ns:.0f} %)" for name, value_ns in sums)
    return f"Together, {_where(first)}: {', '.join(told)}." if sums else ""


def _rise(budget: Budget) -> str:
    """Which layer the tail comes from."""
    first, last = budget.columns[0], budget.columns[-1]
    if first.kind != "percentile" or last.kind != "percentile" or last.value_ns <= first.value_ns:
        return ""

    def rise_ns(row: LayerRow) -> float:
        return row.total_ns[last.label] - row.total_ns[first.label]

    row = max(budget.rows, key=rise_ns)
    share = rise_ns(row) / (last.value_ns - first.value_ns)
    return f" Of the rise from {first.label} to {last.label}, {100 * share:.0f} % is {row.layer}."


def _budget(budget: Budget, console: Console) -> None:
    laid_out = grid(budget)
    console.print(Text(largest(budget, laid_out), "bold"))
    console.print(by_prefix(budget))
    console.print()
    console.print(f"{_NAMES[budget.metric]} budget in ms: what each layer contributes at a percentile ({budget.requests} {_of(budget)})")
    console.print(_table(laid_out, console))
    for note in _footnotes(budget, laid_out):
        console.print(Padding(Text(note, "dim"), (0, 0, 0, 2)))
    console.print()


def _of(budget: Budget) -> str:
    return "tasks" if budget.metric == TASK else "requests"


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
    box = _ASCII_LINES if ascii_only else SIMPLE
    table = Table(box=box, show_edge=False, padding=(0, gap - 1, 0, 0), pad_edge=False, show_footer=True)
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


def _footnotes(budget: Budget, laid_out: Grid) -> Iterator[str]:
    first = budget.columns[0].label
    dash = "; - was not told apart" if laid_out.has_untold_parts else ""
    yield f"Layers add up to the last row (Harrell-Davis percentiles of {_NAMES[budget.metric]}). share, wait and service are at {first}{dash}."
    if any(column.kind == "tail mean" for column in budget.columns):
        yield f"tail mean: the mean of the slowest 5 % of the {_of(budget)}."
    names = []
    if laid_out.has_merged:
        names.append("a+b is time of neighbours that nothing tells apart")
    if laid_out.has_unattributed:
        names.append("unattributed@hop is time inside that hop which no layer claims")
    if names:
        yield "; ".join(names) + "."
    if laid_out.hidden:
        yield f"Nothing to print: {', '.join(laid_out.hidden)}."


# --- the rest -----------------------------------------------------------------------------------------------------------------------------


def _injection(injection: Injection, console: Console) -> None:
    console.print(f"Causal check: {injected.design(injection)}")
    for warning in injected.warnings(injection):
        console.print(Padding(Text(warning, "yellow"), (0, 0, 0, 2)))
    table = Table(box=_ASCII_LINES if console.options.ascii_only else SIMPLE, show_edge=False, padding=(0, 1, 0, 0), pad_edge=False)
    table.add_column("ms per ms of delay", min_width=14)
    for label in ("per request", "per block", "queue feedback"):
        table.add_column(label, justify="right", no_wrap=True)
    for row in injected.rows(injection):
        table.add_row(*row)
    console.print(table)
    told = injected.conclusion(injection)
    note = "95 % intervals; feedback is per block less per request" + (f". {told[0].upper()}{told[1:]}." if told else ".")
    console.print(Padding(Text(note, "dim"), (0, 0, 0, 2)))
    console.print()


def _metrics(report: Report, console: Console) -> None:
    table = Table(box=_ASCII_LINES if console.options.ascii_only else SIMPLE, show_edge=False, padding=(0, 1, 0, 0), pad_edge=False)
    table.add_column("ms", min_width=14)
    for label in ("mean", *(f"p{100 * p:g}" for p in SHOWN)):
        table.add_column(label, justify="right", min_width=9)
    table.add_column("n", justify="right", min_width=7)
    for metric, name in {**SAMPLED, TASK: "task"}.items():
        found = report.metrics[metric]
        if found.n:
            table.add_row(name, _ms(found.mean), *(_ms(value) for value in found.percentiles), str(found.n))
    console.print(table)
    console.print(
        Padding(Text("Linearly interpolated percentiles, from the intended start unless it says from send.", "dim"), (0, 0, 0, 2))
    )
    console.print()


def _facts(report: Report, console: Console) -> None:
    lines = Table.grid(padding=(0, 2))
    lines.add_column(style="bold")
    lines.add_column()
    for name, text in _lines(report):
        lines.add_row(name, Text(text))
    console.print(lines)


def _lines(report: Report) -> Iterator[tuple[str, str]]:
    rate, counts = report.rate, report.counts
    yield "load", report.arrival_model
    intended = f"{_figure(rate.intended_per_s)}/s intended, " if not math.isnan(report.facts.asked_per_s) else ""
    yield "rate", f"{intended}{_figure(rate.achieved_per_s)}/s achieved, CV of the gaps {_figure(rate.achieved_cv)}"
    warmup = f"; {counts.warmup} more for warm-up" if counts.warmup else ""
    planned = f" of {counts.planned} planned" if counts.planned not in {MISSING_NS, counts.sent} else ""
    yield (
        "requests",
        f"{counts.sent}{planned} sent in {rate.duration_ns / NS_PER_S:.1f} s, {counts.ok} ok, {counts.failed} failed{warmup}",
    )
    if counts.errors:
        yield "errors", ", ".join(f"{name} {number}" for name, number in counts.errors.items())
    if report.goodput is not None:
        wanted = ", ".join(f"{metric} <= {limit_ms:g} ms" for metric, limit_ms in report.goodput.objectives_ms.items())
        share = f"{100 * report.goodput.share:.1f} %" if not math.isnan(report.goodput.share) else "-"
        yield "goodput", f"{_figure(report.goodput.per_s)}/s ({share} meet {wanted})"
    if report.tasks is not None:
        yield "tasks", "; ".join(sentences(report.tasks))
    if report.tokens_sources:
        source = " and ".join(report.tokens_sources)
        yield (
            "tokens",
            f"{_figure(rate.output_tokens_per_s)}/s out, {_figure(report.tokens_per_chunk)} per chunk, counted by {source}",
        )
    if report.is_simulated:
        yield "stations", _stations(report.facts.laws)
    else:
        yield "instrument", _instrument(report)
    if report.host and not report.is_simulated:
        yield "host", _host(report)
    for line in presets.lines(report.presets):
        yield "preset", line
    where = f"{report.url}, " if report.url else ""
    yield "target", f"{where}{'the stack in a box' if report.is_stub else f'model {report.model}'}; seed {report.seed}"
    yield "written", f"{report.folder}  (latprof report {report.folder} prints this again)"


def _stations(laws: Sequence[Law]) -> str:
    """The stations by how busy they were."""
    busy = sorted((law for law in laws if law.servers), key=lambda law: -law.utilisation)
    shown = [f"{law.layer} {100 * law.utilisation:.1f} % of {law.servers}" for law in busy if law.utilisation >= _WORTH_NAMING]
    told = f"{', '.join(shown)} busy" if shown else "all idle"
    return f"{told}; Little's law and the utilisation law hold at all {len(laws)} to 1 %" if all(law.holds for law in laws) else told


def _instrument(report: Report) -> str:
    """The error of the instrument itself, beside what it measured."""
    facts, of_run = report.facts, report.facts.instrument
    parts = []
    if of_run is not None:
        parts += [f"{of_run.stamps} stamps"] if of_run.stamps != "unknown" else []
        parts.append(_number(of_run.workers, "worker"))
    parts += [f"{100 * facts.cpu_share:.0f} % of a core"] if not math.isnan(facts.cpu_share) else []
    if not math.isnan(facts.loop_lag_p99_ns):
        parts.append(f"event loop {_ms(facts.loop_lag_p99_ns)} ms late at p99")
    if not math.isnan(facts.lateness_p99_ns):
        parts.append(f"requests {_ms(facts.lateness_p99_ns)} ms late at p99")
    if not math.isnan(facts.interval_share):
        parts.append(f"{100 * facts.interval_share:.2g} % of the chunks are intervals")
    return ", ".join(parts) or "nothing recorded"


def _host(report: Report) -> str:
    host = report.host
    parts = [str(host[key]) for key in ("cpu_model", "kernel", "python") if host.get(key)]
    if host.get("cpus"):
        parts.insert(1 if host.get("cpu_model") else 0, _number(int(host["cpus"]), "core"))
    return ", ".join(parts)


def _ms(value_ns: float) -> str:
    value = value_ns / NS_PER_MS
    return "-" if math.isnan(value) else f"{value:.2f}" if value < 1_000 else f"{value:.1f}"


def _figure(value: float) -> str:
    return "-" if math.isnan(value) else f"{value:.3g}" if value < 100 else f"{value:.1f}"


def _number(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"
