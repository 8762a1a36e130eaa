"""The layers of TTFT, of a sample: two stacked bars on one scale, and a row a layer."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from functools import lru_cache

from rich.cells import cell_len, set_cell_size

from latprof.live.marks import Marks, bar, widths_of
from latprof.live.pieces import in_ms, padded, seg
from latprof.live.terminal import Line, Segment
from latprof.live.values import Bar, Sampled
from latprof.report.colours import colour_of
from latprof.report.inert import plain
from latprof.units import NS_PER_MS, NS_PER_S

_NAME, _WIDE_NAME = 20, 26
_LABEL = 10  # of a stacked bar
_TAIL = "slow 5 %"
_SHORT = {"decode.first": "decode"}  # where the last part says too little
_SHOWN_FROM_NS = NS_PER_MS / 200
_THICK_FROM = 24  # rows from which its figures stand in it


@lru_cache(maxsize=8)  # it changes once a second, and is drawn more often
def layers(sampled: Sampled | None, none_yet: str, width: int, rows: int, marks: Marks) -> tuple[Line, ...]:
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
        head = (seg(f" {label:<{_LABEL - 1}}", "dim"), seg(f"{in_ms(total_ns):>8} ", "bold"))
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
        *padded((seg(f" {one.layer}"),), name_wide, marks),
        seg(f"{one.p50_ns / NS_PER_MS:>8.{decimals}f}", "bold"),
        seg(f"{share:>6.0%}", "dim"),
        *tail,
        seg("  "),
        (marks.wait * waited, colour),
        (full[waited:], colour),
    )
