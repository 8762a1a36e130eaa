"""The pieces that the tables of a sweep are made of."""

from __future__ import annotations

import math
from collections.abc import Sequence

from rich.console import Console
from rich.table import Table

from latprof.analysis.sweeps.pooled import PooledValue
from latprof.report.console import ruled
from latprof.report.inert import plain
from latprof.units import NS_PER_MS, ms

NAME_WIDTH = 22
CELL_WIDTH = 15

Rows = list[tuple[str, list[str]]]
"""Lines of a table: a name, and a cell for each point."""


def table(name: str, head: Sequence[str], rows: Rows, console: Console, *, foot: bool = False) -> Table:
    """Rows under ``head``; the last one apart as a sum where there is a ``foot``."""
    last = rows[-1] if foot and rows else None
    made = ruled(console, show_footer=foot)
    made.add_column(name, last[0] if last else "", min_width=NAME_WIDTH)
    for index, label in enumerate(head):
        made.add_column(label, last[1][index] if last else "", justify="right", no_wrap=True, min_width=8)
    for label, cells in rows[:-1] if last else rows:
        made.add_row(plain(label), *cells)
    return made


def milliseconds(told: PooledValue) -> str:
    """An estimate in ms with half of its interval."""
    value = f"{ms(told.value):.1f}" if told.value >= 1000 * NS_PER_MS else f"{ms(told.value):.2f}"
    if math.isnan(told.half):
        return value
    return f"{value} ±{ms(told.half):.2g}" if told.half < 100 * NS_PER_MS else f"{value} ±{ms(told.half):.0f}"


def per_s(told: PooledValue) -> str:
    """A rate with half of its interval."""
    if math.isnan(told.value):
        return "-"
    return f"{told.value:.3g}" if math.isnan(told.half) else f"{told.value:.3g} ±{told.half:.2g}"


def number(count: int, noun: str) -> str:
    """``3 replications``."""
    return f"{count} {noun}{'' if count == 1 else 's'}"
