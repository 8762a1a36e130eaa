"""The figures of a run, each above its past; in words alone where there is little room."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from rich.cells import cell_len

from latprof.live.marks import Marks, chart
from latprof.live.pieces import in_ms, in_per_s, padded, seg
from latprof.live.terminal import Line, Segment
from latprof.live.values import ENOUGH_FOR_P99, Driven, Moment, Shown, Ttft
from latprof.units import NS_PER_S

_NARROWEST = 15  # holds its words


def tiles(shown: Shown, driven: Driven, size: tuple[int, int], marks: Marks) -> list[Line]:
    """As many beside each other as there is room for, with charts as high as there are rows for."""
    of_run = _of(driven)
    width, height = size
    across = max(1, min(len(of_run), width // _NARROWEST))
    wide = width // across
    drawn: list[Line] = []
    for first in range(0, len(of_run), across):
        row = of_run[first : first + across]
        below = [next((text for text in tile.below if cell_len(text) <= wide - 2), tile.below[-1]) for tile in row]
        parts: list[list[Segment]] = [
            [seg(tile.label, "dim") for tile in row],
            [seg(tile.value, "bold") for tile in row],
            [seg(text, tile.warns or "dim") for tile, text in zip(row, below, strict=True)],
        ]
        charts = [_past(tile, shown.history, (wide - 2, _chart_rows(height, across)), marks) for tile in row]
        parts += [list(rows) for rows in zip(*charts, strict=True)]
        drawn += [tuple(piece for one in line for piece in padded(((" ", ""), one), wide, marks)) for line in parts]
    return drawn


def in_brief(driven: Driven, width: int) -> list[Line]:
    """For a terminal of a few rows: words and figures, as many to a line as fit."""
    intended = "" if math.isnan(driven.intended_per_s) or driven.closed_places is not None else f" of {in_per_s(driven.intended_per_s)}"
    told = [
        ("rate", f"{in_per_s(driven.achieved_per_s)}{intended}"),
        ("p50", in_ms(driven.now.p50_ns)),
        (_high(driven.now), in_ms(driven.now.p99_ns)),
        ("in flight", str(driven.in_flight)),
        ("ok", str(driven.ok)),
        ("failed", str(driven.failed)),
    ]
    drawn: list[Line] = [()]
    for label, value in told:
        more: Line = (seg(f" {label} ", "dim"), seg(f"{value} ", "bold"))
        if sum(cell_len(text) for text, _ in (*drawn[-1], *more)) > width and drawn[-1]:
            drawn.append(())
        drawn[-1] = (*drawn[-1], *more)
    return drawn


@dataclass(frozen=True, slots=True)
class _Tile:
    label: str
    value: str
    below: tuple[str, ...]  # the same in ever fewer words
    series: Callable[[Moment], float]
    style: str  # of the chart
    warns: str = ""  # style of ``below``, where it is something to look at


def _of(driven: Driven) -> list[_Tile]:
    behind = abs(driven.achieved_per_s - driven.intended_per_s) > 0.1 * driven.intended_per_s
    wanted = ("intended: not known yet", "")
    if driven.closed_places is not None:
        wanted, behind = (f"closed loop, {driven.closed_places} places", f"closed, {driven.closed_places}"), False
    elif not math.isnan(driven.intended_per_s):
        wanted = (f"{in_per_s(driven.intended_per_s)} intended", f"{in_per_s(driven.intended_per_s)[:-2]} intended")
    waits = ("none without a token", "")
    if driven.waiting:
        longest = f"{driven.longest_ns / NS_PER_S:.{1 if driven.longest_ns < 100 * NS_PER_S else 0}f} s"
        waits = (f"{driven.waiting} without a token, longest {longest}", f"longest {longest}")
    sent = f"{driven.sent}" if driven.planned is None else f"{driven.sent} of {driven.planned}"
    tokens = "" if math.isnan(driven.tokens_per_s) else f", {driven.tokens_per_s:.0f} tokens/s"
    done = (f"{driven.ok} ok{tokens}", f"{driven.ok} ok")
    if driven.failed:
        done = (f"{driven.ok} ok, {driven.failed} failed", f"{driven.failed} failed")
    return [
        _Tile("rate", in_per_s(driven.achieved_per_s), wanted, lambda one: one.rate_per_s, "green", "yellow" if behind else ""),
        _Tile("TTFT p50 now", in_ms(driven.now.p50_ns), (f"run {in_ms(driven.so_far.p50_ns)}",), lambda one: one.p50_ns, "cyan"),
        _Tile(
            f"{_high(driven.now)} now, n {driven.now.n}",
            in_ms(driven.now.p99_ns),
            (_of_the_run(driven),),
            lambda one: one.p99_ns,
            "magenta",
        ),
        _Tile("in flight", str(driven.in_flight), waits, lambda one: float(one.in_flight), "blue"),
        _Tile("requests", sent, done, lambda one: one.tokens_per_s, "white", "bold red" if driven.failed else ""),
    ]


def _high(ttft: Ttft) -> str:
    return "p99" if ttft.n >= ENOUGH_FOR_P99 else "max"


def _of_the_run(driven: Driven) -> str:
    name = "run" if _high(driven.so_far) == _high(driven.now) else f"run {_high(driven.so_far)}"
    return f"{name} {in_ms(driven.so_far.p99_ns)}"


def _past(tile: _Tile, history: Sequence[Moment], size: tuple[int, int], marks: Marks) -> list[Segment]:
    shown = history[-2 * size[0] :]
    return [(row, tile.style) for row in chart(tuple(tile.series(one) for one in shown), *size, marks)]


def _chart_rows(height: int, across: int) -> int:
    """Charts are what goes first where rows are few, and they grow where there are many."""
    if across < 4:
        return 0 if height < 40 else 1
    return 0 if height < 20 else 1 if height < 32 else 3 if height < 40 else 5 if height < 48 else 8
