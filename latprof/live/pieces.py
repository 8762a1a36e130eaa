"""Pieces of a line, cut and put together by the cells they take, and figures as words."""

from __future__ import annotations

import math
from functools import lru_cache

from rich.cells import cell_len, set_cell_size

from latprof.live.marks import BLOCKS, Marks
from latprof.live.terminal import Line, Segment
from latprof.report.inert import plain
from latprof.units import NS_PER_MS, NS_PER_S


def seg(text: str, style: str = "") -> Segment:
    """A piece of a line. Every text goes through here: what a server said is shown, never obeyed."""
    return plain(text), style


@lru_cache(maxsize=512)  # most lines of a frame are those of the one before
def cut(line: Line, width: int, marks: Marks = BLOCKS) -> Line:
    """``line`` in at most ``width`` cells, with a mark where something was left out."""
    if sum(cell_len(text) for text, _ in line) <= width:
        return line
    kept: list[Segment] = []
    left = width - 1
    for text, style in line:
        cells = cell_len(text)
        if cells > left:
            kept.append((set_cell_size(text, max(0, left)) + marks.ellipsis, style))
            break
        kept.append((text, style))
        left -= cells
    return tuple(kept) if width > 0 else ()


@lru_cache(maxsize=512)
def padded(line: Line, width: int, marks: Marks) -> Line:
    """``line`` in exactly ``width`` cells."""
    line = cut(line, width, marks)
    return (*line, (" " * (width - sum(cell_len(text) for text, _ in line)), ""))


def beside(left: Line, right: Line, width: int) -> Line:
    """Both, the second at the right edge; the first alone where there is no room."""
    gap = width - sum(cell_len(text) for text, _ in (*left, *right))
    if gap == width:
        return ()
    return (*left, (" " * gap, ""), *right) if gap >= 2 else left


# --- figures ------------------------------------------------------------------------------------------------------------------------------


def in_ms(value_ns: float) -> str:
    """``8.12 ms``, ``124 ms``, ``12.3 s``."""
    value = value_ns / NS_PER_MS
    if math.isnan(value):
        return "-"
    return (
        f"{value:.2f} ms"
        if value < 10
        else f"{value:.1f} ms"
        if value < 100
        else f"{value:.0f} ms"
        if value < 10_000
        else f"{value / 1000:.1f} s"
    )


def in_per_s(per_s: float) -> str:
    """``5.25/s``, ``1250/s``."""
    return "-" if math.isnan(per_s) else f"{per_s:.2f}/s" if per_s < 10 else f"{per_s:.1f}/s" if per_s < 1_000 else f"{per_s:.0f}/s"


def clock(ns: float) -> str:
    """``0:11``, ``1:02:33``."""
    minutes, seconds = divmod(int(ns / NS_PER_S), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{seconds:02}" if hours else f"{minutes}:{seconds:02}"


def in_s(ns: float) -> str:
    """``1.5 s``."""
    return f"{ns / NS_PER_S:.1f} s"
