"""Bars and charts of text, in block elements or in ASCII."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache


@dataclass(frozen=True, slots=True)
class Marks:
    """The characters a terminal can show. ``eighths`` fill a cell from the left, ``steps`` from below; the last of each fills it."""

    eighths: str
    steps: str
    wait: str
    done: str
    to_do: str
    edge: str
    tick: str
    going: str
    ellipsis: str
    has_lines: bool  # Braille patterns, for charts of several rows


BLOCKS = Marks("▏▎▍▌▋▊▉█", "▁▂▃▄▅▆▇█", "░", "━", "─", "▕", "✓", "●", "…", has_lines=True)
ASCII = Marks("#", ".:|#", ".", "=", "-", "|", "+", "*", "~", has_lines=False)

# Dots of a Braille pattern, from the lowest: of its left column, of its right one.
_DOTS = ((0x40, 0x04, 0x02, 0x01), (0x80, 0x20, 0x10, 0x08))
_BRAILLE = 0x2800
_HEADROOM = 1.6


def bar(share: float, width: int, marks: Marks) -> str:
    """``share`` (0 to 1) of ``width`` cells, to an eighth of a cell where the terminal can; something is shown of what is not nothing."""
    steps = len(marks.eighths)
    filled = round(min(1.0, max(0.0, share)) * width * steps)
    if share > 0:
        filled = max(1, filled)
    whole, part = divmod(filled, steps)
    return (marks.eighths[-1] * whole + (marks.eighths[part - 1] if part else ""))[:width]


@lru_cache(maxsize=16)  # a chart changes once a second, and is drawn more often
def chart(values: tuple[float, ...], width: int, height: int, marks: Marks) -> tuple[str, ...]:
    """The last values over ``width`` cells and ``height`` rows, from 0 on, the oldest first; nothing where a value is not known.

    Twice as many fit on a line of dots as on columns. What is steady keeps below the top, so that a rise can be seen.
    """
    if width < 1 or height < 1:
        return ()
    in_dots = marks.has_lines and height > 1
    shown = values[-width * (2 if in_dots else 1) :]
    known = sorted(value for value in shown if not math.isnan(value))
    top = max(known[-1], _HEADROOM * known[len(known) // 2]) if known else 0.0
    shares = [value / top if top > 0 else math.nan for value in shown]
    return tuple(_dotted(shares, height) if in_dots else _columns(shares, height, marks))


def _columns(shares: Sequence[float], height: int, marks: Marks) -> list[str]:
    steps = len(marks.steps)
    levels = [0 if math.isnan(share) else math.ceil(share * height * steps) for share in shares]
    rows = []
    for row in range(height - 1, -1, -1):
        cells = [min(steps, max(0, level - row * steps)) for level in levels]
        rows.append("".join(marks.steps[cell - 1] if cell else " " for cell in cells))
    return rows


def _dotted(shares: Sequence[float], height: int) -> list[str]:
    """A line, two values to a cell and four dots to a row; neighbours are joined."""
    cells = [[0] * ((len(shares) + 1) // 2) for _ in range(height)]
    before: int | None = None
    for at, share in enumerate(shares):
        if math.isnan(share):
            before = None
            continue
        level = min(height * 4 - 1, round(share * (height * 4 - 1)))
        low, high = (level, level) if before is None else (min(level, before + 1), max(level, before - 1))
        for dot in range(low, high + 1):
            cells[height - 1 - dot // 4][at // 2] |= _DOTS[at % 2][dot % 4]
        before = level
    return ["".join(chr(_BRAILLE + cell) if cell else " " for cell in row) for row in cells]


def widths_of(parts: Sequence[float], total: int) -> list[int]:
    """``parts`` as whole cells that add up to ``total``, by largest remainder."""
    whole = sum(parts)
    if whole <= 0 or total <= 0:
        return [0] * len(parts)
    exact = [part / whole * total for part in parts]
    cells = [math.floor(cell) for cell in exact]
    by_rest = sorted(range(len(parts)), key=lambda at: (cells[at] - exact[at], at))
    for at in by_rest[: total - sum(cells)]:
        cells[at] += 1
    return cells
