"""An arm on a terminal as a baseline keeps it: under what conditions it holds, its figures with their intervals, and the ceilings."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TextIO

from rich.console import Console
from rich.table import Table
from rich.text import Text

from latprof.analysis.verdicts.arms import LAYER_PERCENTILES, PERCENTILES, Arm, Key
from latprof.analysis.verdicts.conditions import fingerprint
from latprof.analysis.verdicts.estimates import Estimate
from latprof.analysis.verdicts.replications import SHARES, Selector
from latprof.report.console import console_on, ruled
from latprof.report.inert import harmless, plain
from latprof.units import NS_PER_MS


def render(arm: Arm, ceilings_ns: Mapping[Key, float], file: TextIO | None = None) -> None:
    """Print ``arm`` and its ceilings to ``file``, standard output by default."""
    console = console_on(file)
    for line in _conditions(harmless(arm)):
        console.print(Text(line))
    console.print()
    timed = [metric for metric in arm.metrics if metric not in SHARES]
    console.print(_table(console, "end to end, ms", arm, [Selector(metric) for metric in timed], PERCENTILES))
    shares = [f"{metric} {100 * arm.figure(Key(Selector(metric), None)).value:.2f} %" for metric in arm.metrics if metric in SHARES]
    console.print(Text(", ".join(shares)))
    for metric, layers in arm.layers.items():
        console.print()
        console.print(_table(console, f"layers of {metric}, ms", arm, [Selector(metric, layer) for layer in layers], LAYER_PERCENTILES))
    console.print()
    if _is_any_refused(arm, timed):
        console.print(Text("-: too few requests lie beyond that percentile"))
    told = ", ".join(f"{key} {ceiling_ns / NS_PER_MS:.2f} ms" for key, ceiling_ns in ceilings_ns.items())
    console.print(Text(f"ceilings, which stay when the baseline is saved again: {told or 'none'}"))


def _conditions(arm: Arm) -> list[str]:
    found = arm.conditions
    runs = f"{len(arm.seeds)} run{'' if len(arm.seeds) == 1 else 's'}"
    parts = {"asked": found.asked, "system": found.system, "place": found.place}
    told = [f"{name:<8}{', '.join(f'{key} {value}' for key, value in flat.items())}" for name, flat in parts.items() if flat]
    virtual = ", in virtual time" if found.is_simulated else ""
    return [
        f"{arm.name}: {runs}, seeds {', '.join(map(str, arm.seeds))}; fingerprint {fingerprint(found)}",
        f"load    {found.arrival_model}{virtual}",
        *told,
    ]


def _table(console: Console, title: str, arm: Arm, selectors: Sequence[Selector], percentiles: Sequence[float]) -> Table:
    table = ruled(console)
    table.add_column(title, min_width=18)
    for p in percentiles:
        table.add_column(f"p{100 * p:g}", justify="right", no_wrap=True)
    for selector in selectors:
        name = selector.layer or selector.metric
        table.add_row(plain(name), *(_cell(arm.figure(Key(selector, p)), p) for p in percentiles))
    return table


def _is_any_refused(arm: Arm, metrics: Sequence[str]) -> bool:
    """Layers are refused where their metric is."""
    return any(not arm.figure(Key(Selector(metric), p)).is_given(p) for metric in metrics for p in PERCENTILES)


def _cell(one: Estimate, p: float) -> str:
    if math.isnan(one.value) or not one.is_given(p):
        return "-"
    half = f" ± {(one.high - one.low) / 2 / NS_PER_MS:.2f}" if one.has_interval else " (no interval)"
    return f"{one.value / NS_PER_MS:.2f}{half}"
