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
import textwrap
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache

from rich.cells import cell_len, set_cell_size

from latprof.analysis.validity.doubts import Doubt
from latprof.live.marks import BLOCKS, Marks, bar, chart, widths_of
from latprof.live.terminal import Line, Segment
from latprof.live.values import ENOUGH_FOR_P99, Bar, Driven, Moment, Sampled, Shown, Step, Ttft
from latprof.report.colours import colour_of
from latprof.report.inert import plain
from latprof.units import NS_PER_MS, NS_PER_S

_STYLES = {"fatal": "bold red", "warning": "yellow", "note": "cyan"}
_TWO_COLUMNS_FROM = 130
_TILE = 15  # the narrowest tile that holds its words
_NAME, _WIDE_NAME = 20, 26
_LABEL = 10  # of a stacked bar
_TAIL = "slow 5 %"
_SHORT = {"decode.first": "decode"}  # where the last part says too little
_SHOWN_FROM_NS = NS_PER_MS / 200
_THICK_FROM = 24  # rows from which its figures stand in it
_FOOT = "The report is what counts; layers here are of a sample."
_HOW_TO_END = "Ctrl-C ends early"


def lines(shown: Shown, size: tuple[int, int], marks: Marks = BLOCKS) -> list[Line]:
    """At most ``size[1]`` lines of at most ``size[0]`` cells; what is most worth knowing comes first and stays longest."""
    width, height = size
    drawn = _head(shown, width, marks)
    if height >= 12:
        drawn.append(_beside((seg(shown.load, "dim"),), (seg(shown.target, "dim"),), width))
    drawn += [()] * (height >= 20)
    if shown.driven is None:
        drawn += [_step(step, marks) for step in shown.steps[-max(1, height - len(drawn)) :]]
        drawn += [(), *_doubts((), "", (), shown.notes, width, height)] if shown.notes else []
    elif height < 9:
        drawn += _in_brief(shown.driven, width)
    else:
        drawn += [*_tiles(shown, shown.driven, size, marks), *[()] * (height >= 16)]
    left = height - len(drawn) - (2 if height >= 20 else 1)
    if shown.driven is not None and left > 0:
        drawn += _below(shown, width, left, marks)
    if height >= 14 and len(drawn) < height:
        drawn += [()] * (height - 1 - len(drawn))
        drawn.append(_beside((seg(_FOOT, "dim"),), (seg(_HOW_TO_END, "dim"),), width))
    return [cut(line, width, marks) for line in drawn[:height]]


# --- pieces of text -----------------------------------------------------------------------------------------------------------------------


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
def _padded(line: Line, width: int, marks: Marks) -> Line:
    line = cut(line, width, marks)
    return (*line, (" " * (width - sum(cell_len(text) for text, _ in line)), ""))


def _beside(left: Line, right: Line, width: int) -> Line:
    """Both, the second at the right edge; the first alone where there is no room."""
    gap = width - sum(cell_len(text) for text, _ in (*left, *right))
    if gap == width:
        return ()
    return (*left, (" " * gap, ""), *right) if gap >= 2 else left


def _ms(value_ns: float) -> str:
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


def _rate(per_s: float) -> str:
    return "-" if math.isnan(per_s) else f"{per_s:.2f}/s" if per_s < 10 else f"{per_s:.1f}/s" if per_s < 1_000 else f"{per_s:.0f}/s"


def _clock(ns: float) -> str:
    minutes, seconds = divmod(int(ns / NS_PER_S), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{seconds:02}" if hours else f"{minutes}:{seconds:02}"


def _seconds(ns: float) -> str:
    return f"{ns / NS_PER_S:.1f} s"


# --- the head -----------------------------------------------------------------------------------------------------------------------------


def _head(shown: Shown, width: int, marks: Marks) -> list[Line]:
    driven = shown.driven
    if driven is None or not shown.is_driving:
        badge = seg(f" {'finishing' if driven is not None else 'stopping' if shown.is_stopping else 'starting'} ", "bold reverse cyan")
        step = shown.steps[-1] if shown.steps else None
        what = (seg(f" {step.text}  "), seg(_seconds(step.so_far_ns), "dim")) if step is not None and driven is not None else ()
        return [(badge, *what)]
    name, style = (driven.name, "bold reverse yellow") if driven.is_warmup else (driven.name, "bold reverse green")
    badge = seg(f" {'stopping' if shown.is_stopping else name} ", "bold reverse red" if shown.is_stopping else style)
    ends = seg(f" {_ends(driven, is_stopping=shown.is_stopping)}", "bold")
    gone = seg(f" {_clock(driven.elapsed_ns)} ", "")
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
    left = _clock(left_ns + NS_PER_S - 1)
    return {"estimate": f"about {left} left", "starts": f"last start in {left}"}.get(driven.end, f"{left} left")


def _step(step: Step, marks: Marks) -> Line:
    if step.took_ns is None:
        return (seg(f" {marks.going} ", "bold cyan"), seg(step.text), seg(f"  {_seconds(step.so_far_ns)}", "dim"))
    return (seg(f" {marks.tick} ", "green"), seg(step.text, "dim"), seg(f"  {_seconds(step.took_ns)}", "dim"))


# --- figures ------------------------------------------------------------------------------------------------------------------------------


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
        wanted = (f"{_rate(driven.intended_per_s)} intended", f"{_rate(driven.intended_per_s)[:-2]} intended")
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
        _Tile("rate", _rate(driven.achieved_per_s), wanted, lambda one: one.rate_per_s, "green", "yellow" if behind else ""),
        _Tile("TTFT p50 now", _ms(driven.now.p50_ns), (f"run {_ms(driven.so_far.p50_ns)}",), lambda one: one.p50_ns, "cyan"),
        _Tile(
            f"{_high(driven.now)} now, n {driven.now.n}", _ms(driven.now.p99_ns), (_of_the_run(driven),), lambda one: one.p99_ns, "magenta"
        ),
        _Tile("in flight", str(driven.in_flight), waits, lambda one: float(one.in_flight), "blue"),
        _Tile("requests", sent, done, lambda one: one.tokens_per_s, "white", "bold red" if driven.failed else ""),
    ]


def _high(ttft: Ttft) -> str:
    return "p99" if ttft.n >= ENOUGH_FOR_P99 else "max"


def _of_the_run(driven: Driven) -> str:
    name = "run" if _high(driven.so_far) == _high(driven.now) else f"run {_high(driven.so_far)}"
    return f"{name} {_ms(driven.so_far.p99_ns)}"


def _tiles(shown: Shown, driven: Driven, size: tuple[int, int], marks: Marks) -> list[Line]:
    tiles = _of(driven)
    width, height = size
    across = max(1, min(len(tiles), width // _TILE))
    wide = width // across
    drawn: list[Line] = []
    for first in range(0, len(tiles), across):
        row = tiles[first : first + across]
        below = [next((text for text in tile.below if cell_len(text) <= wide - 2), tile.below[-1]) for tile in row]
        parts: list[list[Segment]] = [
            [seg(tile.label, "dim") for tile in row],
            [seg(tile.value, "bold") for tile in row],
            [seg(text, tile.warns or "dim") for tile, text in zip(row, below, strict=True)],
        ]
        charts = [_past(tile, shown.history, (wide - 2, _chart_rows(height, across)), marks) for tile in row]
        parts += [list(rows) for rows in zip(*charts, strict=True)]
        drawn += [tuple(piece for one in line for piece in _padded(((" ", ""), one), wide, marks)) for line in parts]
    return drawn


def _past(tile: _Tile, history: Sequence[Moment], size: tuple[int, int], marks: Marks) -> list[Segment]:
    shown = history[-2 * size[0] :]
    return [(row, tile.style) for row in chart(tuple(tile.series(one) for one in shown), *size, marks)]


def _chart_rows(height: int, across: int) -> int:
    """Charts are what goes first where rows are few, and they grow where there are many."""
    if across < 4:
        return 0 if height < 40 else 1
    return 0 if height < 20 else 1 if height < 32 else 3 if height < 40 else 5 if height < 48 else 8


def _in_brief(driven: Driven, width: int) -> list[Line]:
    """For a terminal of a few rows: words and figures, as many to a line as fit."""
    intended = "" if math.isnan(driven.intended_per_s) or driven.closed_places is not None else f" of {_rate(driven.intended_per_s)}"
    told = [
        ("rate", f"{_rate(driven.achieved_per_s)}{intended}"),
        ("p50", _ms(driven.now.p50_ns)),
        (_high(driven.now), _ms(driven.now.p99_ns)),
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


# --- layers, errors, doubts ---------------------------------------------------------------------------------------------------------------


def _below(shown: Shown, width: int, rows: int, marks: Marks) -> list[Line]:
    def layers(width: int, rows: int) -> Sequence[Line]:
        return _layers(shown.sampled, shown.no_layers, width, rows, marks)

    def doubts(width: int, rows: int) -> Sequence[Line]:
        return _doubts(shown.errors, shown.error_text, shown.doubts, shown.notes, width, rows)

    if width >= _TWO_COLUMNS_FROM:
        left_wide = width * 3 // 5
        left, right = list(layers(left_wide - 3, rows)), list(doubts(width - left_wide, rows))
        blank: list[Line] = [()]
        return [
            (*_padded(one, left_wide, marks), *other)
            for one, other in zip(
                left + blank * (max(len(left), len(right)) - len(left)),
                right + blank * (max(len(left), len(right)) - len(right)),
                strict=True,
            )
        ]
    told = doubts(width, rows)
    # The layers get what they can show; errors and doubts what that leaves, and never less than a third.
    wanted = layers(width, rows)
    for_layers = max(rows - len(told) - 1, min(len(wanted), rows - min(len(told), max(1, rows // 3)) - 1))
    above = layers(width, for_layers)
    return [*above, *([()] if above and rows >= 8 else []), *told][:rows]


@lru_cache(maxsize=8)  # it changes once a second, and is drawn more often
def _layers(sampled: Sampled | None, none_yet: str, width: int, rows: int, marks: Marks) -> tuple[Line, ...]:
    """Two stacked bars on one scale, and a row a layer below a heading; ``rows`` in all at most."""
    if rows < (1 if sampled is None else 3):  # a heading, a layer, the rest
        return ()
    if sampled is None:
        return ((seg("layers  ", "bold"), seg(none_yet, "dim")),)
    stacked = [("TTFT p50", sampled.p50_ns, [one.p50_ns for one in sampled.bars])]
    if not math.isnan(sampled.tail_ns) and rows >= 9:
        stacked.append((_TAIL, sampled.tail_ns, [one.tail_ns for one in sampled.bars]))
    longest_ns = max(total_ns for _, total_ns, _ in stacked)
    room = width - _LABEL - 9
    drawn: list[Line] = []
    for label, total_ns, parts in stacked if rows >= 7 and room >= 10 else ():
        cells = round(room * total_ns / longest_ns) if longest_ns > 0 else 0
        widths = widths_of(parts, cells)
        head = (seg(f" {label:<{_LABEL - 1}}", "dim"), seg(f"{_ms(total_ns):>8} ", "bold"))
        drawn.append((*head, *_stacked([(one.layer, one.layer) for one in sampled.bars], widths, marks)))
        if rows >= _THICK_FROM:
            figures = [(one.layer, f"{part / NS_PER_MS:.3g}") for one, part in zip(sampled.bars, parts, strict=True)]
            drawn += [(seg(" " * (_LABEL + 9)), *_stacked(figures, widths, marks)), ()]
    return tuple(drawn + _table(sampled, width, rows - len(drawn), marks))


def _stacked(told: Sequence[tuple[str, str]], widths: Sequence[int], marks: Marks) -> Iterable[Segment]:
    """One line of a bar: (layer, text) by segment, each in its layer's colour and with its text where that fits; parted by a line as well."""
    drawn = [(layer, text, wide) for (layer, text), wide in zip(told, widths, strict=True) if wide]
    for at, (layer, text, wide) in enumerate(drawn):
        edge = marks.edge if wide > 1 and at + 1 < len(drawn) else ""
        room = wide - len(edge)
        words = (plain(text), _SHORT.get(layer, plain(text).rsplit(".", 1)[-1])) if text == layer else (text,)
        fits = next((f" {one}" for one in words if cell_len(one) < room), "")
        yield (set_cell_size(fits, room) + edge, _filled(layer))


def _filled(layer: str) -> str:
    """The layer's colour behind ink that can be read on it. Reverse, so that a terminal without colours shows a bar as well."""
    colour = colour_of(layer)
    red, green, blue = (int(colour[at : at + 2], 16) for at in (1, 3, 5))
    ink = "black" if 0.299 * red + 0.587 * green + 0.114 * blue > 110 else "bright_white"
    return f"reverse {colour} on {ink}"


def _table(sampled: Sampled, width: int, rows: int, marks: Marks) -> list[Line]:
    """A heading, the largest layers in path order, and the rest of them as one."""
    has_tail = width >= 60 and not math.isnan(sampled.tail_ns)
    bars = [one for one in sampled.bars if _largest_ns(one) >= _SHOWN_FROM_NS]
    others: list[Bar] = []
    if len(bars) > rows - 1:
        kept = {one.layer for one in sorted(bars, key=_largest_ns, reverse=True)[: max(0, rows - 2)]}
        others = [one for one in bars if one.layer not in kept]
        bars = [one for one in bars if one.layer in kept]
    longest_ns = max((one.p50_ns for one in bars), default=0.0)
    name_wide = max(
        12,
        min(_WIDE_NAME if width >= 90 else _NAME if width >= 60 else 16, max((cell_len(plain(one.layer)) for one in bars), default=0) + 2),
    )
    room = max(0, width - name_wide - 16 - (9 if has_tail else 0))
    tail = f" {_TAIL}" if has_tail else ""
    columns = f"{'p50':>8} share{tail}  "
    of_what = next((words for words in _of_what(sampled) if name_wide + cell_len(columns) + cell_len(words) <= width), "")
    head = (seg(f"{'layer':<{name_wide}}", "bold"), seg(f"{columns}{of_what}", "dim"))
    drawn: list[Line] = [head, *(_row(one, sampled, (name_wide, room), longest_ns, marks, has_tail=has_tail) for one in bars)]
    if others:
        rest = Bar(f"{len(others)} others", *(sum(getattr(one, name) for one in others) for name in ("p50_ns", "wait_ns", "tail_ns")))
        drawn.append(tuple((text, "dim") for text, _ in _row(rest, sampled, (name_wide, 0), longest_ns, marks, has_tail=has_tail)))
    return drawn[:rows]


def _of_what(sampled: Sampled) -> Iterable[str]:
    """What the figures are of, in ever fewer words."""
    ages = f"{sampled.newest_ns / NS_PER_S:.0f}-{sampled.oldest_ns / NS_PER_S:.0f} s old"
    yield f"in ms, of a sample: {sampled.n} of {sampled.of} requests, {ages}"
    yield f"in ms, of {sampled.n} of {sampled.of}, {ages}"
    yield f"{sampled.n} of {sampled.of}, {ages}"
    yield f"of {sampled.n}"


def _largest_ns(one: Bar) -> float:
    return one.p50_ns if math.isnan(one.tail_ns) else max(one.p50_ns, one.tail_ns)


def _row(one: Bar, sampled: Sampled, wide: tuple[int, int], longest_ns: float, marks: Marks, *, has_tail: bool) -> Line:
    name_wide, room = wide
    decimals = 2 if sampled.p50_ns < 1_000 * NS_PER_MS else 1 if sampled.p50_ns < 100_000 * NS_PER_MS else 0
    share = one.p50_ns / sampled.p50_ns if sampled.p50_ns > 0 else 0.0
    tail = (seg(f"{one.tail_ns / NS_PER_MS:>9.{decimals}f}", "dim"),) if has_tail else ()
    full = bar(one.p50_ns / longest_ns if longest_ns > 0 else 0.0, room, marks)
    waited = round(len(full) * one.wait_ns / one.p50_ns) if one.p50_ns > 0 else 0
    colour = colour_of(one.layer)
    return (
        *_padded((seg(f" {one.layer}"),), name_wide, marks),
        seg(f"{one.p50_ns / NS_PER_MS:>8.{decimals}f}", "bold"),
        seg(f"{share:>6.0%}", "dim"),
        *tail,
        seg("  "),
        (marks.wait * waited, colour),
        (full[waited:], colour),
    )


@lru_cache(maxsize=8)
def _doubts(
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
