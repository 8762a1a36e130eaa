"""A gate on a terminal: the verdict, every assertion with its mark, what was seen and the room that is left; then what it rests on."""

from __future__ import annotations

from typing import Final, TextIO

from rich.console import Console
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from latprof.report import presets
from latprof.report.console import console_on, print_doubt, print_remark
from latprof.report.gate import words
from latprof.report.gate.values import Gated
from latprof.report.inert import harmless

_MARKS: Final = {"pass": ("✓", "ok", "green"), "fail": ("✗", "FAIL", "bold red"), "inconclusive": ("?", "??", "yellow")}
_HEADS: Final = {"pass": "bold green", "fail": "bold red", "inconclusive": "bold yellow", "invalid": "bold red"}
_WIDTH_IN_FILES = 140


def render(gated: Gated, file: TextIO | None = None) -> None:
    """Print ``gated`` to ``file`` (standard output), in its width and encoding; NO_COLOR is honoured."""
    write(gated, console_on(file, width_in_files=_WIDTH_IN_FILES))


def write(gated: Gated, console: Console) -> None:
    """Print ``gated`` on ``console``; what strangers wrote is shown, not obeyed."""
    gated = harmless(gated)
    console.print(Text(words.head(gated), _HEADS[gated.word]))
    _assertions(gated, console)
    for one in gated.moved:
        print_remark(f"moved: {words.moved(one)}", console, "cyan")
    console.print()
    _budget(gated, console)
    _doubts(gated, console)
    _runs(gated, console)


def _assertions(gated: Gated, console: Console) -> None:
    table = Table(box=None, show_edge=False, pad_edge=False, padding=(0, 2, 0, 0), header_style="dim")
    for name, side in (
        ("", "left"),
        ("assertion", "left"),
        ("observed", "right"),
        (f"{gated.level} interval", "right"),
        ("slack", "right"),
        ("MDE", "right"),
    ):
        table.add_column(name, justify="right" if side == "right" else "left", no_wrap=name != "assertion", overflow="fold")
    for verdict in words.ordered(gated):
        sign, word, style = ("", "", "") if gated.word == "invalid" else _MARKS[verdict.outcome]
        mark = word if console.options.ascii_only else sign
        is_warning = verdict.claim.level == "warn"
        style = "yellow" if style and is_warning and verdict.outcome == "fail" else style
        name = f"{verdict.claim.name} (warning)" if is_warning else verdict.claim.name
        cells = (words.observed(verdict), words.interval(verdict), words.slack(verdict), words.detectable(verdict))
        table.add_row(Text(mark, style), Text(name), *(Text(cell) for cell in cells))
        if verdict.why:
            table.add_row("", Text(f"-> {verdict.why}", "dim"))
    console.print(Padding(table, (0, 0, 0, 2)))


def _budget(gated: Gated, console: Console) -> None:
    if gated.spending is None:
        return
    console.print(Text(f"Latency budget in ms: {gated.spending.metric} at {gated.spending.at}", "bold"))
    table = Table(box=None, show_edge=False, pad_edge=False, padding=(0, 2, 0, 0), header_style="dim")
    for name in ("layer", "promised", "spent", "left"):
        table.add_column(name, justify="left" if name == "layer" else "right", overflow="fold")
    for cells in words.promised(gated):
        table.add_row(*(Text(cell) for cell in cells))
    console.print(Padding(table, (0, 0, 0, 2)))
    if gated.spending.note:
        print_remark(gated.spending.note, console, "yellow")
    console.print()


def _doubts(gated: Gated, console: Console) -> None:
    for doubt in gated.doubts:
        if doubt.level == "note":
            continue
        print_doubt(doubt, console)
    for note in gated.notes:
        print_remark(f"note: {note}", console, "cyan")


def _runs(gated: Gated, console: Console) -> None:
    many = "s" if len(gated.runs) != 1 else ""
    console.print(
        Text(
            f"{len(gated.runs)} replication{many}; intervals are of {gated.level}; all assertions together share the 5 % of false alarms (Holm).",
            "dim",
        )
    )
    for line in presets.footnotes(gated.presets):
        console.print(Text(line, "dim"))
    for run in gated.runs:
        print_remark(f"{run.folder}  seed {run.seed}, {run.requests} requests, {run.failed} failed; {run.cut}", console)
