"""Errors by class, and the doubts and notes there are so far."""

from __future__ import annotations

import textwrap
from functools import lru_cache

from rich.cells import cell_len

from latprof.analysis.validity.doubts import Doubt
from latprof.live.pieces import seg
from latprof.live.terminal import Line

_STYLES = {"fatal": "bold red", "warning": "yellow", "note": "cyan"}


@lru_cache(maxsize=8)
def troubles(
    errors: tuple[tuple[str, int], ...], error_text: str, doubts: tuple[Doubt, ...], notes: tuple[str, ...], width: int, rows: int
) -> tuple[Line, ...]:
    """Errors by class, then doubts and notes, the gravest first; remedies while there is room."""
    drawn = _errors(errors, error_text, width)[: 1 if rows < 5 else 2 if rows < 8 else rows]
    found = [*((doubt.level, doubt.text, doubt.remedy) for doubt in doubts), *(("note", text, "") for text in notes)]
    if not found:
        return (*drawn, (seg("doubts ", "bold"), seg(" none so far", "dim")))[:rows]
    bodies = [_wrapped(level, text, width) for level, text, _ in found]
    room = rows - len(drawn) - sum(map(len, bodies))
    for (_, _, remedy), body in zip(found, bodies, strict=True):
        drawn += body
        more = [(seg(f"{'':8}{line}", "dim"),) for line in textwrap.wrap(f"-> {remedy}", max(8, width - 9))] if remedy else []
        if len(more) <= room:
            drawn += more
            room -= len(more)
    return tuple(drawn[:rows])


def _errors(errors: tuple[tuple[str, int], ...], error_text: str, width: int) -> list[Line]:
    if not errors:
        return [(seg("errors ", "bold"), seg(" none", "dim"))]
    counted = ", ".join(f"{name} {number}" for name, number in errors)
    head: Line = (seg("errors  ", "bold"), seg(counted, "bold red"))
    if cell_len(counted) + cell_len(error_text) + 10 <= width:
        return [(*head, seg(f"  {error_text}", "dim"))]
    return [head, *((seg(f"{'':8}{line}", "dim"),) for line in textwrap.wrap(error_text, max(8, width - 9))[:2])]


def _wrapped(level: str, text: str, width: int) -> list[Line]:
    first, *more = textwrap.wrap(text, max(8, width - 9)) or [""]
    return [(seg(f"{level:<8}", _STYLES[level]), seg(first)), *((seg(f"{'':8}{line}"),) for line in more)]
