"""The view as lines of text: a function of what is shown and of the size, for any size.

badge  0:11 ━━━━━━━━━━━━────────── 0:14 left
rate        TTFT p50    TTFT p99    in flight   tokens        figures of now, below them those of the run, and their past
layers of TTFT                                 | errors
  p50  |prefill        |decode.first |.|       | doubts      beside each other, or below where it is narrow
  one row a layer
what counts, and how to end it
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import zip_longest

from rich.cells import cell_len

from latprof.live.layers import layers
from latprof.live.marks import BLOCKS, Marks
from latprof.live.pieces import beside, clock, cut, in_s, padded, seg
from latprof.live.terminal import Line
from latprof.live.tiles import in_brief, tiles
from latprof.live.troubles import troubles
from latprof.live.values import Driven, Shown, Step
from latprof.units import NS_PER_S

_TWO_COLUMNS_FROM = 130
_FOOT = "The report is what counts; layers here are of a sample."
_HOW_TO_END = "Ctrl-C ends early"


def lines(shown: Shown, size: tuple[int, int], marks: Marks = BLOCKS) -> list[Line]:
    """At most ``size[1]`` lines of at most ``size[0]`` cells; what is most worth knowing comes first and stays longest."""
    width, height = size
    drawn = _head(shown, width, marks)
    if height >= 12:
        drawn.append(beside((seg(shown.load, "dim"),), (seg(shown.target, "dim"),), width))
    drawn += [()] * (height >= 20)
    if shown.driven is None:
        drawn += [_step(step, marks) for step in shown.steps[-max(1, height - len(drawn)) :]]
        drawn += [(), *troubles((), "", (), shown.notes, width, height)] if shown.notes else []
    elif height < 9:
        drawn += in_brief(shown.driven, width)
    else:
        drawn += [*tiles(shown, shown.driven, size, marks), *[()] * (height >= 16)]
    left = height - len(drawn) - (2 if height >= 20 else 1)
    if shown.driven is not None and left > 0:
        drawn += _below(shown, width, left, marks)
    if height >= 14 and len(drawn) < height:
        drawn += [()] * (height - 1 - len(drawn))
        drawn.append(beside((seg(_FOOT, "dim"),), (seg(_HOW_TO_END, "dim"),), width))
    return [cut(line, width, marks) for line in drawn[:height]]


def _head(shown: Shown, width: int, marks: Marks) -> list[Line]:
    driven = shown.driven
    if driven is None or not shown.is_driving:
        badge = seg(f" {'finishing' if driven is not None else 'stopping' if shown.is_stopping else 'starting'} ", "bold reverse cyan")
        step = shown.steps[-1] if shown.steps else None
        what = (seg(f" {step.text}  "), seg(in_s(step.so_far_ns), "dim")) if step is not None and driven is not None else ()
        return [(badge, *what)]
    name, style = (driven.name, "bold reverse yellow") if driven.is_warmup else (driven.name, "bold reverse green")
    badge = seg(f" {'stopping' if shown.is_stopping else name} ", "bold reverse red" if shown.is_stopping else style)
    ends = seg(f" {_ends(driven, is_stopping=shown.is_stopping)}", "bold")
    gone = seg(f" {clock(driven.elapsed_ns)} ", "")
    note = seg(" (not counted)", "dim") if driven.is_warmup and width >= 60 else seg("")
    room = width - sum(cell_len(text) for text, _ in (badge, gone, ends, note))
    share = min(1.0, driven.elapsed_ns / driven.length_ns) if driven.length_ns else math.nan
    if room < 4 or math.isnan(share):
        return [(badge, note, gone, ends)]
    full = int(share * room)
    return [(badge, note, gone, (marks.done * full, style.replace("reverse ", "")), (marks.to_do * (room - full), "dim"), ends)]


def _ends(driven: Driven, *, is_stopping: bool) -> str:
    if is_stopping:
        return "what is in flight has 2 s"
    if driven.length_ns is None:
        return "no end known"
    left_ns = driven.length_ns - driven.elapsed_ns
    if left_ns <= 0:
        return "the last answers"
    left = clock(left_ns + NS_PER_S - 1)
    return {"estimate": f"about {left} left", "starts": f"last start in {left}"}.get(driven.end, f"{left} left")


def _step(step: Step, marks: Marks) -> Line:
    if step.took_ns is None:
        return (seg(f" {marks.going} ", "bold cyan"), seg(step.text), seg(f"  {in_s(step.so_far_ns)}", "dim"))
    return (seg(f" {marks.tick} ", "green"), seg(step.text, "dim"), seg(f"  {in_s(step.took_ns)}", "dim"))


def _below(shown: Shown, width: int, rows: int, marks: Marks) -> list[Line]:
    """The layers, and what is wrong: beside each other where it is wide."""

    def of_layers(width: int, rows: int) -> Sequence[Line]:
        return layers(shown.sampled, shown.no_layers, width, rows, marks)

    def of_troubles(width: int, rows: int) -> Sequence[Line]:
        return troubles(shown.errors, shown.error_text, shown.doubts, shown.notes, width, rows)

    if width >= _TWO_COLUMNS_FROM:
        left_wide = width * 3 // 5
        both = zip_longest(of_layers(left_wide - 3, rows), of_troubles(width - left_wide, rows), fillvalue=())
        return [(*padded(left, left_wide, marks), *right) for left, right in both]
    told = of_troubles(width, rows)
    # The layers get what they can show; errors and doubts what that leaves, and never less than a third.
    wanted = of_layers(width, rows)
    for_layers = max(rows - len(told) - 1, min(len(wanted), rows - min(len(told), max(1, rows // 3)) - 1))
    above = of_layers(width, for_layers)
    return [*above, *([()] if above and rows >= 8 else []), *told][:rows]
