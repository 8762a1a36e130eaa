"""A comparison on a terminal: the answer in a sentence, what the arms differ in, the end-to-end figures, the layers, and time that only moved."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from itertools import groupby
from typing import Final, TextIO

from rich.console import Console
from rich.table import Table
from rich.text import Text

from latprof.analysis.verdicts.arms import Arm
from latprof.analysis.verdicts.compare import Change, Comparison, Moved
from latprof.analysis.verdicts.differences import Verdict
from latprof.analysis.verdicts.replications import FEW, SHARES, Selector
from latprof.analysis.verdicts.steady import in_all
from latprof.report import presets
from latprof.report.console import LEVEL_STYLES, console_on, print_remark, ruled
from latprof.report.inert import harmless
from latprof.units import NS_PER_MS

_STYLES: Final[dict[Verdict, str]] = {"better": "green", "worse": "bold red", "same": "", "unknown": "yellow"}
_ORDER: Final[tuple[Verdict, ...]] = ("worse", "better", "unknown", "same")
_MOST_TOLD = 4
# Of the prompt tokens: a difference in what a cache knew that shows in prefill.
_CACHED_APART = 0.05


def render(told: Comparison, refused: Sequence[str] = (), file: TextIO | None = None, *, stderr: bool = False) -> None:
    """Print ``told`` to ``file`` (standard output, or standard error). ``refused``: why the arms cannot be held against each other at all."""
    write(told, console_on(file, stderr=stderr), refused)


def write(told: Comparison, console: Console, refused: Sequence[str] = ()) -> None:
    """Print ``told`` on ``console``."""
    told, refused = harmless(told), harmless(tuple(refused))
    style = "bold yellow" if refused else "bold" if told.valid else "bold red"
    console.print(Text(headline(told, refused), style))
    for doubt in {doubt.id: doubt for doubt in (*told.a.doubts, *told.b.doubts) if doubt.level == "fatal"}.values():
        print_remark(f"{doubt.level}  {doubt.text}\n-> {doubt.remedy}", console, LEVEL_STYLES[doubt.level])
    console.print()
    for line in arms(told):
        console.print(Text(line), soft_wrap=False)
    console.print()
    _end_to_end(told, console)
    _layers(told, console)
    for one in told.moved:
        console.print(Text(moved_words(one), "bold"))
    for note in footnotes(told):
        print_remark(note, console)


# --- words --------------------------------------------------------------------------------------------------------------------------------


def headline(told: Comparison, refused: Sequence[str] = ()) -> str:
    """The answer in a sentence."""
    if refused:
        return f"INCONCLUSIVE: the arms were not asked the same, or not measured on the same machine: {'; '.join(refused)}"
    if not told.valid:
        return "NOT VALID: do not use these figures for a decision"
    parts = [part for verdict in ("worse", "better") if (part := _changed(told, verdict))]
    if parts:
        return f"B is {', and '.join(parts)}."
    if not told.says_something:
        return f"INCONCLUSIVE: {next((change.why for change in told.end_to_end if change.why), 'there is no figure in both arms')}"
    return f"No difference found. {_would_have(next(change for change in told.end_to_end if change.shift is not None))}"


def _would_have(change: Change) -> str:
    """What the first figure would have shown."""
    if not change.detectable:
        return f"{change.key} would have shown any change."
    return f"{change.key} would mostly have shown a change of {_of(change, change.detectable)}{_unit(change)}{_percent(change, change.detectable)}."


def _changed(told: Comparison, verdict: Verdict) -> str:
    changed = [change for change in told.end_to_end if change.verdict == verdict]
    layers = list(dict.fromkeys(change.key.selector.layer for change in told.layers if change.verdict == verdict))
    shown = [
        f"{change.key} ({_signed(change, change.value)}{_unit(change)}{_percent(change, change.value)})" for change in changed[:_MOST_TOLD]
    ]
    more = len(changed) - len(shown)
    parts = [f"in {', '.join(shown)}" + (f" and {more} more" if more > 0 else "")] if shown else []
    parts += [f"in {'layer' if len(layers) == 1 else 'layers'} {', '.join(layers)}"] if layers else []
    return f"{verdict} {' and '.join(parts)}" if parts else ""


def _percent(change: Change, value: float) -> str:
    """``value`` as a share of A's figure; nothing of a share, or of zero."""
    has_share = change.key.selector.metric not in SHARES and change.a.value > 0
    return f", {100 * value / change.a.value:+.1f} %" if has_share else ""


def moved_words(one: Moved) -> str:
    """Time that one layer lost and another gained, in a sentence."""
    low, high = one.together.interval()
    at = "in the mean" if one.p is None else f"at p{100 * one.p:g}"
    return (
        f"{_ms(one.moved_ns)} ms moved from {one.lost} to {one.gained} {at}:"
        f" the two together changed by {_ms(one.together.value, '+')} ms ({_ms(low, '+')} .. {_ms(high, '+')})."
    )


def arms(told: Comparison) -> Iterator[str]:
    """What the two sides are, and what they differ in."""
    yield f"A  {_arm(told.a)}"
    yield f"B  {_arm(told.b)}"
    if told.is_paired:
        yield "The runs are compared pair by pair: those with the same seed had the same schedule."
    for what, apart in (("asked", told.apart.asked), ("the system under test", told.apart.system), ("the machine", told.apart.place)):
        if apart:
            yield f"They differ in {what}: {'; '.join(apart)}"
    if abs(told.a.cached_share - told.b.cached_share) > _CACHED_APART:
        yield (
            f"A cache knew {100 * told.a.cached_share:.2g} % of A's prompt tokens and {100 * told.b.cached_share:.2g} % of B's: what prefill and TTFT owe to"
            " that is no difference between the stacks. A stack that stays up remembers the prompts of a seed: give every run a --seed of its own."
        )


def _arm(arm: Arm) -> str:
    runs = f"{len(arm.seeds)} run{'' if len(arm.seeds) == 1 else 's'}"
    seeds = ", ".join(map(str, arm.seeds[:8])) + (", ..." if len(arm.seeds) > 8 else "")
    virtual = ", in virtual time" if arm.conditions.is_simulated else ""
    requests = sum(one.requests for one in arm.runs)
    counts = f"; {requests} requests count: {in_all([one.steady for one in arm.runs])}" if arm.runs else ""
    return f"{arm.name}: {runs}, seed{'' if len(arm.seeds) == 1 else 's'} {seeds}; {arm.conditions.arrival_model}{virtual}{counts}"


# --- tables -------------------------------------------------------------------------------------------------------------------------------


def _table(console: Console, title: str) -> Table:
    table = ruled(console)
    table.add_column(title, min_width=18)
    return table


def _end_to_end(told: Comparison, console: Console) -> None:
    table = _table(console, "end to end, ms")
    for head in ("A", "B", "B - A", "95 % interval", "found from", "by rank"):
        table.add_column(head, justify="right", no_wrap=True)
    table.add_column("verdict", no_wrap=True)
    for change in told.end_to_end:
        table.add_row(
            str(change.key), *_cells(change), "-" if math.isnan(change.rank_p) else f"p {change.rank_p:.3f}", _word(change.verdict)
        )
    console.print(table)
    console.print()


def _layers(told: Comparison, console: Console) -> None:
    if not told.layers:
        return
    table = _table(console, f"layers of {told.metric}, ms")
    for head in ("A p50", "B p50", "B - A", "95 % interval", "found from", "p95 B - A", "p99 B - A"):
        table.add_column(head, justify="right", no_wrap=True)
    table.add_column("verdict")
    for layer, changes in _by_layer(told):
        first, *others = changes
        table.add_row(
            layer, *_cells(first), *(_signed(change, change.value) if change.is_given else "-" for change in others), layer_verdict(changes)
        )
    console.print(table)
    console.print()


def _by_layer(told: Comparison) -> Iterator[tuple[str, list[Change]]]:
    for layer, changes in groupby(told.layers, key=lambda change: change.key.selector.layer):
        yield layer, list(changes)


def layer_verdict(changes: Sequence[Change]) -> Text:
    """One verdict for a layer: that of all its percentiles where they agree, else each with its percentiles; those without an interval say nothing."""
    told = [change for change in changes if change.shift is not None]
    words = [verdict for verdict in _ORDER if any(change.verdict == verdict for change in told)]
    if not words:
        return _word("unknown")
    if len(words) == 1 and len(told) == len(changes):
        return _word(words[0])
    parts = Text()
    for number, verdict in enumerate(words):
        at = " ".join(f"p{100 * (change.key.p or 0):g}" for change in told if change.verdict == verdict)
        parts += Text(", " if number else "") + Text(f"{verdict} {at}", _STYLES[verdict])
    return parts


def _cells(change: Change) -> tuple[str, ...]:
    if not change.is_given:
        return ("-",) * 5
    if change.shift is None:
        return _of(change, change.a.value), _of(change, change.b.value), _signed(change, change.value), "-", "-"
    low, high = change.shift.interval()
    interval = f"{_signed(change, low)} .. {_signed(change, high)}"
    return _of(change, change.a.value), _of(change, change.b.value), _signed(change, change.value), interval, _of(change, change.detectable)


def _word(verdict: Verdict) -> Text:
    return Text(verdict, _STYLES[verdict])


def _of(change: Change, value: float) -> str:
    return f"{100 * value:.2f} %" if change.key.selector.metric in SHARES and not math.isnan(value) else _ms(value)


def _signed(change: Change, value: float) -> str:
    return f"{100 * value:+.2f} %" if change.key.selector.metric in SHARES and not math.isnan(value) else _ms(value, "+")


def _unit(change: Change) -> str:
    return "" if change.key.selector.metric in SHARES else " ms"


def _ms(value_ns: float, sign: str = "") -> str:
    return "-" if math.isnan(value_ns) else f"{value_ns / NS_PER_MS:{sign}.2f}"


def _reasons(changes: Sequence[Change]) -> Iterator[str]:
    """Why there are figures without an interval, every reason once: layers that share one are named together."""
    layers: dict[tuple[str, str], dict[str, None]] = {}  # a layer comes once for every percentile
    for change in changes:
        if change.why:
            layer = change.key.selector.layer
            before, at, after = change.why.partition(f" {layer} ") if layer else (change.why, "", "")
            layers.setdefault((before, after), {})[layer if at else ""] = None
    for (before, after), named in layers.items():
        yield f"{before} {', '.join(named)} {after}" if after else before


def footnotes(told: Comparison) -> Iterator[str]:
    """How the tables are to be read."""
    yield (
        "found from: a true change of that size is called better or worse four times in five, all figures of the table allowed for"
        f"{_tolerance(told)}. Of two equal arms either table calls anything better or worse at most once in 20."
    )
    yield "same: smaller changes than that may be there. unknown: sure by itself but not among so many figures, or without an interval."
    if told.layers:
        yield (
            "Layers are contributions: means about the percentile of the whole, which add up to it run by run. One with an interval is the mean over"
            f" the runs (with fewer than {FEW}: over stretches of time), and they add up to the mean of these percentiles."
        )
        yield from _uneven(told)
    yield from (f"No interval: {why}." for why in _reasons((*told.end_to_end, *told.layers)))
    if min(len(told.a.seeds), len(told.b.seeds)) < FEW:
        yield f"With {FEW} runs of each arm, seeds apart, the percentiles above the median get intervals, too."
    yield from presets.footnotes_of_arms({"A": told.a.presets, "B": told.b.presets})


def _uneven(told: Comparison) -> Iterator[str]:
    """Where the table's layers do not add up to the figure end to end, since the runs of one side differ."""
    keys = dict.fromkeys(change.key._replace(selector=Selector(told.metric)) for change in told.layers if change.shift is not None)
    for name, arm in (("A", told.a), ("B", told.b)):
        for key, found in ((key, arm.figure(key)) for key in keys):
            if found.is_uneven:
                yield (
                    f"The {found.made_of} of {name} differ: {key} is {_ms(found.together)} ms of all requests together, and {_ms(found.mean_of_figures)}"
                    f" ms in the mean of the {found.made_of}, which the layers add up to."
                )


def _tolerance(told: Comparison) -> str:
    parts = [f"{100 * told.tolerance.share:g} %"] if told.tolerance.share else []
    parts += [f"{_ms(told.tolerance.least_ns)} ms"] if told.tolerance.least_ns else []
    return f" and a change of up to {' or '.join(parts)} being tolerated" if parts else ""
