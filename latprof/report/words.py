"""The report in sentences: what every renderer says in the same words."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Final, Literal

from latprof.analysis.laws import Law
from latprof.analysis.task import METRIC as TASK
from latprof.layers.call import AFTER_FIRST_TOKEN
from latprof.report import presets
from latprof.report.host import host
from latprof.report.table import Grid
from latprof.report.tasks import sentences
from latprof.report.values import Budget, Column, LayerRow, Report
from latprof.units import MISSING_NS, NS_PER_MS, NS_PER_S

Mood = Literal["good", "warn", "bad"]
SIMULATED: Final = "simulated (virtual time): nothing was measured"
NAMES: Final[Mapping[str, str]] = {"ttft": "TTFT", "e2el": "the call", TASK: "TASK"}
"""The decomposed metrics as sentences name them."""

# Stations less busy than this are not named, nor less stolen time.
_WORTH_NAMING = 0.01


def verdict(report: Report) -> tuple[str, Mood]:
    """Whether the run can be used, in words, and in what mood to say so."""
    if not report.valid:
        return "NOT VALID: do not use these figures for a decision", "bad"
    warnings = sum(doubt.level == "warning" for doubt in report.doubts)
    told = f", with {_number(warnings, 'warning')}" if warnings else ""
    return f"VALID{told}", "warn" if warnings else "good"


def largest(budget: Budget, laid_out: Grid) -> str:
    """One plain sentence: the largest layer at the middle, and at the end of the table, with the figures as printed."""
    parts: list[str] = []
    named = ""
    for index in sorted({0, len(budget.columns) - 1}):
        column = budget.columns[index]
        row = max(budget.rows, key=lambda row: row.total_ns[column.label])
        cell = next((line.cells[index] for line in laid_out.lines if line.layer == row.layer), "0")
        share = row.total_ns[column.label] / column.value_ns if column.value_ns else 0.0
        first = f"The largest layer of {NAMES[budget.metric]} is {row.layer}"
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
        f"{name} {in_ms(value_ns)} ms ({100 * value_ns / column.value_ns:.0f} %)" for name, value_ns in parts.items() if column.value_ns > 0
    )
    return f"The whole call {_where(column)}, {in_ms(column.value_ns)} ms: {told}."


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
    told = (f"{name} {in_ms(value_ns)} ms ({100 * value_ns / first.value_ns:.0f} %)" for name, value_ns in sums)
    return f"Together, {_where(first)}: {', '.join(told)}." if sums else ""


def counted(budget: Budget) -> str:
    """What a budget counts: requests, or tasks."""
    return "tasks" if budget.metric == TASK else "requests"


def footnotes(budget: Budget, laid_out: Grid) -> Iterator[str]:
    """How the table of a budget is to be read."""
    first = budget.columns[0].label
    dash = "; - was not told apart" if laid_out.has_untold_parts else ""
    yield f"Layers add up to the last row (Harrell-Davis percentiles of {NAMES[budget.metric]}). share, wait and service are at {first}{dash}."
    if any(column.kind == "tail mean" for column in budget.columns):
        yield f"tail mean: the mean of the slowest 5 % of the {counted(budget)}."
    names = []
    if laid_out.has_merged:
        names.append("a+b is time of neighbours that nothing tells apart")
    if laid_out.has_unattributed:
        names.append("unattributed@hop is time inside that hop which no layer claims")
    if names:
        yield "; ".join(names) + "."
    if laid_out.hidden:
        yield f"Nothing to print: {', '.join(laid_out.hidden)}."


def of_percentiles(report: Report) -> str:
    """How the table of metrics is to be read."""
    refused = any(math.isnan(value) for found in report.metrics.values() if found.n for value in found.given)
    dash = "; - where the sample is too small" if refused else ""
    return f"Linearly interpolated percentiles, from the intended start unless it says from send{dash}."


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


def facts(report: Report) -> Iterator[tuple[str, str]]:
    """Load, rate, failures, instrument, host and whatever else stands below the figures: a name and a sentence each."""
    rate, counts = report.rate, report.counts
    yield "load", report.arrival_model
    intended = f"{_figure(rate.intended_per_s)}/s intended, " if not math.isnan(report.facts.asked_per_s) else ""
    yield "rate", f"{intended}{_figure(rate.achieved_per_s)}/s achieved, CV of the gaps {_figure(rate.achieved_cv)}"
    warmup = f"; {counts.warmup} more for warm-up" if counts.warmup else ""
    planned = f" of {counts.planned} planned" if counts.planned not in {MISSING_NS, counts.turns_sent} else ""
    retries = f" and {_number(counts.retries, 'retry', 'retries')}" if counts.retries else ""
    yield (
        "requests",
        f"{counts.turns_sent}{planned}{retries} sent in {rate.duration_ns / NS_PER_S:.1f} s, {counts.ok} ok, {counts.failed} failed{warmup}",
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
        # Not zero, nor unknown: the same seed asked again of a server that has not forgotten it is the commonest cause.
        cached = f"; {100 * report.cached_share:.2g} % of the prompt tokens came from a cache" if report.cached_share > 0 else ""
        yield (
            "tokens",
            f"{_figure(rate.output_tokens_per_s)}/s out, {_figure(report.tokens_per_chunk)} per chunk, counted by {source}{cached}",
        )
    if report.is_simulated:
        yield "stations", _stations(report.facts.laws)
    else:
        yield "instrument", _instrument(report)
    if report.host and not report.is_simulated:
        yield "host", host(report.host)
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
    if facts.stolen_share >= _WORTH_NAMING:
        parts.append(f"{100 * facts.stolen_share:.0f} % of the processor time this machine asked for stolen")
    if not math.isnan(facts.loop_lag_p99_ns):
        parts.append(f"event loop {in_ms(facts.loop_lag_p99_ns)} ms late at p99")
    if not math.isnan(facts.lateness_p99_ns):
        parts.append(f"requests {in_ms(facts.lateness_p99_ns)} ms late at p99")
    if not math.isnan(facts.interval_share):
        parts.append(f"{100 * facts.interval_share:.2g} % of the chunks are intervals")
    return ", ".join(parts) or "nothing recorded"


def in_ms(value_ns: float) -> str:
    """Milliseconds as they are printed."""
    value = value_ns / NS_PER_MS
    return "-" if math.isnan(value) else f"{value:.2f}" if value < 1_000 else f"{value:.1f}"


def _figure(value: float) -> str:
    return "-" if math.isnan(value) else f"{value:.3g}" if value < 100 else f"{value:.1f}"


def _number(number: int, noun: str, nouns: str = "") -> str:
    return f"{number} {noun if number == 1 else nouns or f'{noun}s'}"
