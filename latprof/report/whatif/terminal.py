"""A what-if on a terminal: doubts, the answer in one sentence, percentiles now and predicted, layers, stations, bottlenecks, what was held."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import TextIO

from rich.console import Console
from rich.table import Table
from rich.text import Text

from latprof.analysis.sweeps.bottlenecks import Bottlenecks, Leader
from latprof.analysis.whatif.answer import ALLOWED, NAMES, Answer
from latprof.analysis.whatif.replays import Use
from latprof.report import presets
from latprof.report.console import console_on, print_doubt, print_facts, print_remark, ruled
from latprof.report.inert import harmless
from latprof.report.rounding import rounded_to_sum
from latprof.units import NS_PER_MS

_BARS_FROM = 100
_BAR_WIDTH = 24
# Layers that print as zero everywhere are named in a line of their own.
_UNIT_NS = NS_PER_MS / 100
# A station that is used less and makes nobody wait is not shown.
_WORTH_SHOWING = 0.01


def render(answer: Answer, file: TextIO | None = None, *, stderr: bool = False) -> None:
    """Print ``answer`` to ``file`` (standard output, or standard error), in its width and encoding; NO_COLOR is honoured."""
    write(answer, console_on(file, stderr=stderr))


def write(answer: Answer, console: Console) -> None:
    """Print ``answer`` on ``console``."""
    answer = harmless(answer)
    console.print(Text(f"WHAT IF  {_changes(answer)}", "bold"))
    for doubt in answer.doubts:
        print_doubt(doubt, console)
    console.print()
    console.print(Text(sentence(answer), "bold"))
    console.print()
    _percentiles(answer, console)
    _layers(answer, console)
    _stations(answer, console)
    if answer.worth:
        _worth(answer, console)
    print_facts(_lines(answer), console)


def sentence(answer: Answer) -> str:
    """The answer in one sentence: the call, and TTFT where it moves."""
    parts = []
    for metric in ("e2el", "ttft"):
        at = [one for one in answer.predictions if one.metric == metric and one.is_given]
        told = ", ".join(
            f"{_ms(one.now_ns)} -> {_ms(one.predicted_ns)} ms at p{100 * one.p:g} ({_percent(one.predicted_ns / one.now_ns - 1)})"
            for one in at
        )
        if at:
            parts.append(f"{'The call' if metric == 'e2el' else NAMES[metric]} goes {told}")
    return "; ".join(parts) + "." if parts else f"{answer.requests} requests are too few for a percentile; record a longer run."


def _changes(answer: Answer) -> str:
    return ", ".join(change.text for change in answer.changes) or f"the same stack under another load: {answer.load.text}"


def _grid(console: Console, *heads: str) -> Table:
    table = ruled(console)
    for index, head in enumerate(heads):
        table.add_column(head, justify="left" if index == 0 else "right", no_wrap=True)
    return table


# --- percentiles --------------------------------------------------------------------------------------------------------------------------


def _percentiles(answer: Answer, console: Console) -> None:
    table = _grid(console, "ms", "now", "predicted", "change", "95 % (blocks)", "anchored", "naive", "naive is off")
    for one in answer.predictions:
        if not one.is_given:
            table.add_row(f"{NAMES[one.metric]} p{100 * one.p:g}", *("-" for _ in table.columns[1:]))
            continue
        bounds = "-" if one.bounds_ns is None else f"{_ms(one.bounds_ns[0])} .. {_ms(one.bounds_ns[1])}"
        table.add_row(
            f"{NAMES[one.metric]} p{100 * one.p:g}",
            _ms(one.now_ns),
            _ms(one.predicted_ns),
            _percent(one.predicted_ns / one.now_ns - 1 if one.now_ns else 0.0),
            bounds,
            _ms(one.anchored_ns),
            "-" if one.naive_ns is None else _ms(one.naive_ns),
            "-" if one.naive_ns is None else _percent(one.naive_gap),
        )
    console.print(table)
    print_remark(reproduced(answer), console)
    print_remark(
        "predicted: the replay's own figure. anchored: now, times predicted over replayed without change. naive: the saved service subtracted, waits"
        " kept. Intervals say what hangs on which requests came, not whether the model is right.",
        console,
    )
    console.print()


def reproduced(answer: Answer) -> str:
    """How near the replay without change is to the record."""
    told = ", ".join(f"{NAMES[one.metric]} p{100 * one.p:g} {100 * one.off:+.1f} %" for one in answer.reproduced)
    allowed = " and ".join(f"{100 * most:.0f} % at p{100 * p:g}" for p, most in ALLOWED.items())
    return f"Replayed without any change: {told} of the record ({allowed} allowed)."


# --- layers -------------------------------------------------------------------------------------------------------------------------------


def _layers(answer: Answer, console: Console) -> None:
    if not answer.given:
        return
    first = answer.given[0]
    sides = [(p, side) for p in answer.given for side in ("now_ns", "predicted_ns")]
    columns = {(p, side): rounded_to_sum([max(0.0, getattr(line, side)[p]) for line in answer.layers], _UNIT_NS) for p, side in sides}
    has_bars = console.width >= _BARS_FROM
    heads = [f"p{100 * p:g} {'now' if side == 'now_ns' else 'predicted'}" for p, side in sides]
    table = _grid(console, "layer of the call, ms", *heads, *([f"p{100 * first:g} wait"] if has_bars else []))
    if has_bars:
        table.add_column(f"p{100 * first:g} predicted over now", no_wrap=True)
    longest = max((max(line.now_ns[first], line.predicted_ns[first]) for line in answer.layers), default=0.0) or 1.0
    hidden = []
    for index, line in enumerate(answer.layers):
        cells = [columns[one][index] for one in sides]
        if not any(cells):
            hidden.append(line.layer)
            continue
        row: list[str | Text] = [line.layer, *(f"{cell / 100:.2f}" for cell in cells)]
        if has_bars:
            bar = _bar(line.now_ns[first] / longest, line.predicted_ns[first] / longest, ascii_only=console.options.ascii_only)
            row += [f"{line.wait_ns[first] / NS_PER_MS:.2f}", bar]
        table.add_row(*row)
    table.add_section()
    table.add_row("call", *(f"{sum(columns[one]) / 100:.2f}" for one in sides))
    console.print(table)
    if hidden:
        print_remark(f"Nothing to print: {', '.join(hidden)}.", console)
    console.print()


def _bar(now: float, predicted: float, *, ascii_only: bool) -> Text:
    """What stays, then what goes or what comes."""
    stays, goes, comes = ("#", ".", "+") if ascii_only else ("█", "░", "▓")
    both = round(_BAR_WIDTH * min(now, predicted))
    rest = round(_BAR_WIDTH * max(now, predicted)) - both
    return Text(stays * both, "blue") + Text((goes if now > predicted else comes) * rest, "green" if now > predicted else "red")


# --- stations -----------------------------------------------------------------------------------------------------------------------------


def _stations(answer: Answer, console: Console) -> None:
    table = _grid(console, "station", "servers", "used now", "predicted", "mean wait now, ms", "predicted", "servers from")
    for name, new in answer.use_predicted.items():
        now = answer.use_now[name]
        if _is_shown(now) or _is_shown(new):
            waits = (_ms(now.wait_ns), _ms(new.wait_ns))
            table.add_row(name, _servers(now, new), _load(now), _load(new), *waits, new.source or "-")
    console.print(table)
    for when, found in (("now", answer.bottlenecks_now), ("then", answer.bottlenecks)):
        print_remark(f"bottleneck {when:<5} {bottlenecks(found)}", console, "")
    print_remark(
        "budget: the largest part of the call's p50; capacity: the busiest station; leverage: where 1 % less service saves most (%), its queue"
        " included. Several names: a fifth of service more or less decides.",
        console,
    )
    console.print()


def _is_shown(use: Use) -> bool:
    return use.wait_ns >= _UNIT_NS or (not math.isnan(use.load) and use.load >= _WORTH_SHOWING) or not use.servers


def _servers(now: Use, new: Use) -> str:
    if not new.servers:
        return "no limit"
    return str(new.servers) if now.servers == new.servers else f"{now.servers} -> {new.servers}"


def _load(use: Use) -> str:
    return f"{use.busy:.3g} on" if math.isnan(use.load) else f"{100 * use.load:.0f} %"


def bottlenecks(found: Bottlenecks) -> str:
    """The three in a line."""
    shares = {"budget": found.budget, "capacity": found.capacity, "leverage": found.leverage}
    return "; ".join(f"{name} {_leader(name, leader)}" for name, leader in shares.items())


def _leader(name: str, leader: Leader | None) -> str:
    if leader is None:
        return "unknown"
    value = (
        f"{leader.value / NS_PER_MS:.1f} ms"
        if name == "budget"
        else f"{100 * leader.value:.0f} %"
        if name == "capacity"
        else f"{leader.value:.2f}"
    )
    return f"{' or '.join(leader.names[:3])} ({value})"


def _worth(answer: Answer, console: Console) -> None:
    keys = [(metric, p) for metric, p in answer.worth[0].saved_ns if answer.prediction(metric, p).is_given]
    table = _grid(console, "saved, ms", *(f"{NAMES[metric]} p{100 * p:g}" for metric, p in keys))
    for worth in answer.worth:
        table.add_row(worth.change.text, *(_ms(worth.saved_ns[key]) for key in keys))
    table.add_section()
    table.add_row("together", *(_ms(math.fsum(worth.saved_ns[key] for worth in answer.worth)) for key in keys))
    console.print(table)
    print_remark("Shapley values: the mean of what a change saves over all orders in which the changes could be made.", console)
    console.print()


# --- the rest -----------------------------------------------------------------------------------------------------------------------------


def _lines(answer: Answer) -> Iterator[tuple[str, str]]:
    yield "load", f"{answer.arrival_model}; replayed: {answer.load.text}"
    yield "rate", f"{answer.per_s_now:.3g}/s now, {answer.per_s_predicted:.3g}/s predicted"
    yield "decode", answer.decode
    if answer.held:
        yield "held", f"{', '.join(answer.held)}: recorded times, kept as they were unless named. Cached tokens are as recorded, too"
    for line in presets.lines(answer.presets):
        yield "preset", line
    yield "record", f"{answer.requests} requests of {answer.folder}"


def _ms(value_ns: float) -> str:
    value = value_ns / NS_PER_MS
    return "-" if math.isnan(value) else f"{value:.2f}" if abs(value) < 1_000 else f"{value:.1f}"


def _percent(share: float) -> str:
    return f"{100 * share:+.0f} %"
