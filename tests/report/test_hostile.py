"""Whatever a stranger wrote is shown and never obeyed: on the terminal, in the trace, in folded stacks, in messages."""

from __future__ import annotations

import io
import json
import re
import unicodedata
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from hostile_words import ALL, HOSTILE, hostile_run, spoiled
from hypothesis import given
from hypothesis import strategies as st
from made_courses import MadeCourses
from made_run import made_report, made_tasks
from rich.console import Console

from latprof.errors import ConfigError
from latprof.report.elsewhere import folded, perfetto
from latprof.report.inert import harmless, plain
from latprof.report.summary import summary
from latprof.report.terminal import write
from latprof.report.values import Report, build

# What rich itself writes for colour and weight.
_OWN_STYLE = re.compile(r"\x1b\[[0-9;]*m")
# Format characters that writing needs: the joiners of emoji and several scripts, Arabic and Kaithi number signs, joiners of hieroglyphs.
_WRITTEN = set("\u200c\u200d\u0600\u0601\u0602\u0603\u0604\u0605\u06dd\u070f\u0890\u0891\u08e2\U000110bd\U000110cd")
_WRITTEN |= {chr(code) for code in range(0x13430, 0x13440)}


def active(text: str) -> set[str]:
    """The characters that act: controls, format characters, separators of lines, halves of pairs. By Unicode's own tables."""
    return {c for c in text if unicodedata.category(c) in {"Cc", "Cf", "Cs", "Zl", "Zp"} and c not in _WRITTEN}


def shown(report: Report, width: int = 120, **options: Any) -> str:
    stream = io.StringIO()
    write(report, Console(file=stream, width=width, highlight=False, markup=False, emoji=False, **options))
    return stream.getvalue()


# --- the words themselves -----------------------------------------------------------------------------------------------------------------


@given(st.text(st.characters(), max_size=40))
def test_nothing_active_is_left_and_nothing_else_is_changed(text: str) -> None:
    cleaned = plain(text)
    assert active(cleaned) == set()
    if not active(text) and text.isascii():
        assert cleaned == text
    assert plain(cleaned) == cleaned


def test_every_character_there_is() -> None:
    everything = "".join(map(chr, range(0x110000)))
    assert active(plain(everything)) == set()
    shown_ones = [chr(code) for code in range(0x110000) if unicodedata.category(chr(code))[0] in "LNPS" and chr(code) not in _INVISIBLE]
    assert "".join(shown_ones) == plain("".join(shown_ones))


# Letters to Unicode, and nothing to the eye: fillers that make two names look the same.
_INVISIBLE = {"\u115f", "\u1160", "\u3164", "\uffa0"}


def test_what_was_there_can_still_be_read() -> None:
    assert plain("\x1b[2J") == r"\x1b[2J"
    assert plain("a\nb\u202ec\U000e0041") == r"a\x0ab\u202ec\U000e0041"
    assert plain("a\nb\x07", keep="\n") == "a\nb\\x07"
    assert plain("日本語 naïve 👩‍👩‍👧 [bold]") == "日本語 naïve 👩‍👩‍👧 [bold]"


class Pair(NamedTuple):
    one: str
    other: int


@dataclass(frozen=True, slots=True)
class Held:
    name: str
    pairs: tuple[Pair, ...]
    words: dict[str, list[str]]
    folder: Path
    number: float = 1.5


def test_values_are_cleaned_however_deep_and_kept_as_they_are_where_nothing_is_wrong() -> None:
    clean = Held("a", (Pair("b", 1),), {"c": ["d"]}, Path("e"))
    assert harmless(clean) is clean
    dirty = Held("a\x07", (Pair("b\x1b", 1),), {"c\x00": ["d\r"]}, Path("e\x1b"))
    assert harmless(dirty) == Held(r"a\x07", (Pair(r"b\x1b", 1),), {r"c\x00": [r"d\x0d"]}, Path(r"e\x1b"))


# --- the terminal -------------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("width", [80, 120])
def test_the_report_obeys_nothing(width: int) -> None:
    report = spoiled(made_report(1_200, tasks=made_tasks()))
    assert active(report.model)
    text = shown(report, width)
    assert active(text) == {"\n"}
    assert r"\x1b[2J" in text
    assert "[bold red]markup[/bold red] :smile:" in re.sub(r"\s+", " ", text)


def test_colours_are_our_own_alone() -> None:
    text = shown(spoiled(made_report(300)), force_terminal=True, color_system="standard")
    assert active(_OWN_STYLE.sub("", text)) == {"\n"}
    # Each of rich's styles ends where it began: none that a server sent is among them.
    assert "\x1b[2J" not in text
    assert "\x1b[31mred" not in text


def test_lines_keep_to_the_width_of_the_terminal() -> None:
    report = replace(made_report(300), model=ALL, url=ALL, arrival_model=ALL)
    assert max(map(len, shown(report, 100).splitlines())) <= 100


def test_a_run_of_a_hostile_server() -> None:
    report = build(*hostile_run())
    assert active(shown(report)) == {"\n"}
    assert active(shown(report, force_terminal=True, color_system=None)) == {"\n"}


def test_the_summary_is_json_and_says_it_as_it_was() -> None:
    import orjson

    words = tuple(word.replace("\ud83d", "") for word in HOSTILE)  # which no file of a run can hold
    written = orjson.dumps(summary(build(*hostile_run(words=words)))).decode()
    assert not re.search(r"[\x00-\x1f]", written)
    assert json.loads(written)["run"]["model"] == f"model {' '.join(words)}"


def test_messages_to_the_user(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    from latprof.cli import main

    def fail() -> None:
        raise ConfigError(f"--url: the server says {ALL}\nsecond line")

    monkeypatch.setattr("latprof.cli.program.app", fail)
    with pytest.raises(SystemExit):
        main()
    said = capsys.readouterr().err
    assert active(said) == {"\n"}
    assert r"\x1b[2J" in said


# --- files for other tools ----------------------------------------------------------------------------------------------------------------


def test_the_trace_is_json_without_a_character_that_acts() -> None:
    run, layers, _ = hostile_run()
    file = io.BytesIO()
    perfetto.write(file, run, perfetto.choose(run, layers), MadeCourses(run, layers))
    trace = json.loads(file.getvalue())

    def texts(value: Any) -> list[str]:
        if isinstance(value, dict):
            return [text for key, held in value.items() for text in (key, *texts(held))]
        if isinstance(value, list):
            return [text for held in value for text in texts(held)]
        return [value] if isinstance(value, str) else []

    found = texts(trace)
    assert active("".join(found)) == set()
    assert any(r"\x1b[2J" in text for text in found)
    assert any("<script>" in text for text in found)  # a viewer shows texts as texts
    assert not re.search(rb"[\x00-\x09\x0b-\x1f]", file.getvalue())


def test_folded_stacks_have_a_line_a_stack_whatever_the_layers_are_called() -> None:
    run, layers, _ = hostile_run()
    label, column = folded.column_at(layers, run.requests.intended_ns[layers.rows], "p50")
    lines = list(folded.lines(layers, column, label))
    assert active("".join(lines)) == set()
    for line in lines:
        frames, _, weight = line.rpartition(" ")
        assert weight.isdigit()
        assert len(frames.split(";")) <= 3
    assert sum(int(line.rpartition(" ")[2]) for line in lines) == round(column.value_ns)
    assert len(HOSTILE) > len(layers.names)
