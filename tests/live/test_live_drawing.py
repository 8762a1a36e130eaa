"""The view against golden text. After a wanted change: ``LATPROF_GOLDEN=write pytest tests/live/test_live_drawing.py``, then read the diff."""

from __future__ import annotations

import math
import os
import unicodedata
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from made_shown import FINISHING, STARTING, made_driven, made_history, made_sampled, made_shown
from rich.cells import cell_len

from latprof.analysis.validity.doubts import Doubt
from latprof.live.drawing import lines
from latprof.live.marks import ASCII, BLOCKS, Marks, bar, chart, widths_of
from latprof.live.terminal import Line
from latprof.live.values import Bar, Driven, Sampled, Shown, Step, Ttft
from latprof.report.colours import colour_of
from latprof.units import NS_PER_MS, NS_PER_S

GOLDEN = Path(__file__).parent / "golden"
HOSTILE = "\x1b[2J\x1b]0;title\x07\x9b2J\r\x08two\nlines\t\u2028\u202egnirts\u200b \ud83d [bold red]x[/] 字字字 e\u0301"

WARMUP = made_shown(
    driven=made_driven(name="warmup", is_warmup=True, planned=103, sent=60, ok=52, failed=0), errors=(), doubts=(), sampled=None
)
CLOSED = made_shown(
    driven=made_driven(closed_places=24, planned=None, length_ns=None, end="unknown", failed=0, intended_per_s=math.nan),
    load="closed loop, 24 in flight",
    sampled=made_sampled(has_tail=False),
    errors=(),
    doubts=(),
)
VIEWS: dict[str, tuple[Shown, tuple[int, int], Marks]] = {
    "80x24": (made_shown(), (80, 24), BLOCKS),
    "200x50": (made_shown(), (200, 50), BLOCKS),
    "130x34": (made_shown(), (130, 34), BLOCKS),
    "40x24": (made_shown(), (40, 24), BLOCKS),
    "60x8": (made_shown(), (60, 8), BLOCKS),
    "ascii": (made_shown(), (80, 24), ASCII),
    "calm": (made_shown(errors=(), doubts=(), driven=made_driven(failed=0)), (80, 24), BLOCKS),
    "warmup": (WARMUP, (80, 24), BLOCKS),
    "closed": (CLOSED, (80, 24), BLOCKS),
    "starting": (STARTING, (80, 24), BLOCKS),
    "stopping": (made_shown(is_stopping=True), (80, 16), BLOCKS),
    "finishing": (FINISHING, (80, 24), BLOCKS),
}


def text_of(drawn: list[Line]) -> str:
    return "".join("".join(text for text, _ in line).rstrip() + "\n" for line in drawn)


@pytest.mark.parametrize("name", VIEWS)
def test_the_view_reads_as_it_should(name: str) -> None:
    shown, size, marks = VIEWS[name]
    drawn = text_of(lines(shown, size, marks))
    golden = GOLDEN / f"{name}.txt"
    if os.environ.get("LATPROF_GOLDEN") == "write":
        golden.write_text(drawn, encoding="utf-8")
    assert drawn == golden.read_text(encoding="utf-8")


def test_the_largest_of_a_few_is_not_called_a_p99() -> None:
    few, many = Ttft(120 * NS_PER_MS, 140 * NS_PER_MS, 43), Ttft(120 * NS_PER_MS, 160 * NS_PER_MS, 400)
    for now, so_far, told in ((few, few, "run 140 ms"), (few, many, "run p99 160 ms"), (many, many, "run 160 ms")):
        for size in ((80, 24), (200, 50)):
            drawn = text_of(lines(made_shown(driven=made_driven(now=now, so_far=so_far), doubts=()), size))
            assert f"{'p99' if now is many else 'max'} now, n {now.n}" in drawn
            assert told in drawn
        brief = text_of(lines(made_shown(driven=made_driven(now=now, so_far=so_far)), (60, 4)))
        assert ("p99 " in brief) == (now is many)


def test_ascii_is_ascii() -> None:
    assert text_of(lines(made_shown(), (80, 24), ASCII)).isascii()


def spoiled(shown: Shown) -> Shown:
    """The same with hostile words wherever a stranger may have put some."""
    sampled = Sampled((Bar(HOSTILE, 9e7, 1e7, 9e7), Bar(f"unattributed@{HOSTILE}", 9e6, 0, 9e6)), 9.9e7, 9.9e7, 50, 600)
    return made_shown(
        load=HOSTILE,
        target=HOSTILE,
        driven=shown.driven and made_driven(name=HOSTILE),
        is_driving=shown.is_driving,
        steps=(Step(HOSTILE, None, 5),),
        sampled=sampled,
        errors=((HOSTILE, 3),),
        error_text=HOSTILE * 3,
        doubts=(Doubt("x", "warning", HOSTILE * 2, HOSTILE),),
        notes=(HOSTILE,),
    )


@pytest.mark.parametrize("shown", [made_shown(), FINISHING, STARTING], ids=["driving", "finishing", "starting"])
@pytest.mark.parametrize("size", [(80, 24), (200, 50), (40, 12)])
def test_what_a_stranger_wrote_is_shown_and_never_obeyed(shown: Shown, size: tuple[int, int]) -> None:
    drawn = lines(spoiled(shown), size)
    found = {c for line in drawn for text, _ in line for c in text if unicodedata.category(c) in {"Cc", "Cf", "Cs", "Zl", "Zp"}}
    assert found == set()
    assert "\\x1b" in text_of(drawn)


STATES = st.sampled_from([*(shown for shown, _, _ in VIEWS.values()), spoiled(made_shown()), spoiled(STARTING), spoiled(FINISHING)])


@settings(max_examples=150, deadline=None)
@given(STATES, st.integers(1, 220), st.integers(1, 60), st.sampled_from([BLOCKS, ASCII]))
def test_it_fits_into_any_terminal(shown: Shown, width: int, height: int, marks: Marks) -> None:
    drawn = lines(shown, (width, height), marks)
    assert 1 <= len(drawn) <= height
    assert all(sum(cell_len(text) for text, _ in line) <= width for line in drawn)


@settings(max_examples=60, deadline=None)
@given(st.integers(40, 220), st.integers(9, 60))
def test_rate_and_ttft_are_there_whatever_else_must_go(width: int, height: int) -> None:
    drawn = text_of(lines(made_shown(), (width, height)))
    assert "50.2/s" in drawn
    assert "124 ms" in drawn


def test_what_is_off_is_in_colour() -> None:
    def styles_of(word: str, **changes: Any) -> set[str]:
        drawn = lines(made_shown(driven=made_driven(**changes)), (200, 50))
        return {style for line in drawn for text, style in line if word in text}

    assert styles_of("intended") == {"dim"}
    assert styles_of("intended", achieved_per_s=40.0) == {"yellow"}
    assert styles_of("failed") == {"bold red"}


def test_layers_have_their_colours() -> None:
    drawn = lines(made_shown(), (200, 50))
    styles = {style for line in drawn for text, style in line if text.startswith(" prefill")}
    assert f"reverse {colour_of('prefill')} on black" in styles
    rows = [line for line in lines(made_shown(), (80, 24)) if line and line[0][0].strip() == "decode.first"]
    assert [style for _, style in rows[0][-2:]] == [colour_of("decode.first")] * 2
    assert rows[0][-2][0].startswith("░"), "the wait comes first"


def test_rows_of_layers_add_up_to_the_whole() -> None:
    for height in range(14, 40):
        shown = made_shown(errors=(), doubts=())
        drawn = text_of(lines(shown, (80, height))).splitlines()
        if not any(line.startswith("layer ") for line in drawn):
            continue
        first = next(at for at, line in enumerate(drawn) if line.startswith("layer ")) + 1
        cells = [line.split() for line in drawn[first:] if "%" in line and line.startswith(" ")]
        told_ms = sum(float(words[-3] if words[-1].replace(".", "").isdigit() else words[-4]) for words in map(_figures, cells))
        assert told_ms == pytest.approx(made_sampled().p50_ns / NS_PER_MS, abs=0.1), height


def _figures(words: list[str]) -> list[str]:
    """p50, share and tail of a row, behind its name and before its bar."""
    share = next(at for at, word in enumerate(words) if word.endswith("%"))
    return words[share - 1 : share + 2]


def test_time_left_is_said_as_well_as_it_is_known() -> None:
    def head(**changes: Any) -> str:
        shown = made_shown(driven=made_driven(**changes))
        return text_of(lines(shown, (100, 24))[:1])

    assert "0:14 left" in head()
    assert "last start in 0:14" in head(end="starts")
    assert "about 0:14 left" in head(end="estimate")
    assert "no end known" in head(length_ns=None)
    assert "the last answers" in head(elapsed_ns=25 * NS_PER_S)
    assert "1:02:03 left" in head(elapsed_ns=0, length_ns=3723 * NS_PER_S)
    assert "(not counted)" in head(is_warmup=True)


def test_nothing_known_yet_is_no_number() -> None:
    drawn = text_of(lines(Shown(load="", driven=Driven("measured", is_warmup=False, elapsed_ns=0), is_driving=True), (80, 24)))
    assert "nan" not in drawn
    assert "0.0" not in drawn
    nobody = made_shown(driven=made_driven(now=Ttft()), history=made_history(1)[:0])
    assert "nan" not in text_of(lines(nobody, (80, 24)))


# --- bars and charts ----------------------------------------------------------------------------------------------------------------------


def test_a_bar_is_exact_to_an_eighth_and_shows_what_is_not_nothing() -> None:
    assert bar(0.5, 4, BLOCKS) == "██"
    assert bar(0.53125, 4, BLOCKS) == "██▏"
    assert bar(1e-6, 4, BLOCKS) == "▏"
    assert bar(0.0, 4, BLOCKS) == ""
    assert bar(7.0, 4, BLOCKS) == "████"
    assert bar(0.5, 4, ASCII) == "##"


def test_a_chart_begins_at_zero_and_leaves_room_above_what_is_steady() -> None:
    assert chart((8.0,) * 5, 3, 1, BLOCKS) == ("▅▅▅",)
    assert chart((1.0, 1.0, 1.0, 4.0), 4, 1, BLOCKS) == ("▂▂▂█",)
    assert chart((), 4, 1, BLOCKS) == ("",)
    assert chart((math.nan, 0.0), 4, 1, BLOCKS) == ("  ",)


def test_a_chart_of_dots_joins_neighbours_and_not_over_a_gap() -> None:
    def dots(rows: tuple[str, ...]) -> int:
        return sum((ord(cell) - 0x2800).bit_count() for row in rows for cell in row if cell != " ")

    assert chart((0.0, 0.0, 100.0), 2, 2, BLOCKS) == (" ⡇", "⣀⠇")
    assert dots(chart((0.0, 0.0, 100.0), 2, 2, BLOCKS)) == 2 + 7
    assert dots(chart((0.0, 0.0, math.nan, 100.0), 2, 2, BLOCKS)) == 3


@given(st.lists(st.floats(0, 1e9), max_size=30), st.integers(0, 200))
def test_segments_fill_the_bar(parts: list[float], total: int) -> None:
    cells = widths_of(parts, total)
    assert len(cells) == len(parts)
    assert min(cells, default=0) >= 0
    assert sum(cells) == (total if sum(parts) > 0 else 0)
