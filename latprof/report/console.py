"""What every report on a terminal is drawn with: the console, doubts, remarks, facts line by line, and tables with rulers that it can show."""

from __future__ import annotations

import io
import os
import sys
from collections.abc import Iterable, Mapping
from typing import Any, Final, TextIO

from rich.box import SIMPLE, Box
from rich.console import Console
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from latprof.analysis.validity.doubts import Doubt, Level

LEVEL_STYLES: Final[Mapping[Level, str]] = {"fatal": "bold red", "warning": "yellow", "note": "cyan"}
_ASCII_LINES = Box("    \n    \n -- \n    \n    \n -- \n    \n    \n", ascii=True)


def console_on(file: TextIO | None, *, stderr: bool = False, width_in_files: int = 120) -> Console:
    """``file`` (standard output, or standard error), in its width and encoding; NO_COLOR is honoured. A file has no width to keep to."""
    stream = file or (sys.stderr if stderr else sys.stdout)
    if isinstance(stream, io.TextIOWrapper):
        stream.reconfigure(errors="replace")  # a server's error text may hold what this terminal cannot show
    width = None if stream.isatty() else int(os.environ.get("COLUMNS") or width_in_files)
    return Console(file=stream, width=width, highlight=False, markup=False, emoji=False)


def print_doubt(doubt: Doubt, console: Console) -> None:
    """What was seen, and below it what to do."""
    line = Table.grid(padding=(0, 1))
    line.add_column(width=8)
    line.add_column()
    line.add_row(Text(doubt.level, LEVEL_STYLES[doubt.level]), Text(doubt.text))
    line.add_row("", Text(f"-> {doubt.remedy}", "dim"))
    console.print(Padding(line, (0, 0, 0, 2)))


def print_remark(text: str, console: Console, style: str = "dim") -> None:
    """A line or more of their own, indented."""
    console.print(Padding(Text(text, style), (0, 0, 0, 2)))


def print_facts(facts: Iterable[tuple[str, str]], console: Console) -> None:
    """A name and what there is to say of it, line by line."""
    lines = Table.grid(padding=(0, 2))
    lines.add_column(style="bold")
    lines.add_column()
    for name, text in facts:
        lines.add_row(name, Text(text))
    console.print(lines)


def ruled(console: Console, *, gap: int = 1, **more: Any) -> Table:
    """A table without columns so far, with a ruler below its head that the terminal can show; ``more`` is what rich's has besides."""
    box = _ASCII_LINES if console.options.ascii_only else SIMPLE
    return Table(box=box, show_edge=False, padding=(0, gap, 0, 0), pad_edge=False, **more)
