"""What is written to a terminal, seen as a person would see it."""

from __future__ import annotations

import contextlib
import io
import os
import pty
import termios
import threading
import time
from collections.abc import Iterator

import pytest
from made_shown import made_driven, made_shown
from rich.color import ColorSystem
from seen_screen import Screen

from latprof.live import terminal, view
from latprof.live.drawing import lines
from latprof.live.terminal import Abilities, Terminal, can_be_drawn_on, styled_for
from latprof.live.values import Shown
from latprof.live.view import View

PLAIN = Abilities(None, has_unicode=True)
COLOURED = Abilities(ColorSystem.TRUECOLOR, has_unicode=True)


def written(stream: io.StringIO) -> str:
    text = stream.getvalue()
    stream.seek(0)
    stream.truncate()
    return text


@pytest.mark.parametrize("can", [PLAIN, COLOURED], ids=["plain", "coloured"])
def test_frame_by_frame_the_screen_shows_what_was_drawn(can: Abilities) -> None:
    stream, screen = io.StringIO(), Screen(80, 24)
    shown_on = Terminal(stream, can)
    for number in range(100):
        size = (80, 24) if number < 30 else (120, 40) if number < 60 else (50, 10)
        if size != (screen.columns, screen.rows):
            screen.resize(*size)
        drawn = lines(made_shown(driven=made_driven(sent=500 + number, elapsed_ns=number * 10**8)), size)
        shown_on.paint(drawn, size)
        screen.feed(written(stream))
        expected = ["".join(text for text, _ in line).rstrip() for line in drawn]
        assert screen.lines == expected + [""] * (size[1] - len(expected))
        assert screen.modes == {"1049": True, "25": False, "7": False, "2026": False}
    shown_on.leave()
    screen.feed(written(stream))
    assert screen.modes == {"1049": False, "25": True, "7": True, "2026": False}
    assert screen.printed == ""


def test_only_what_changed_is_written() -> None:
    stream = io.StringIO()
    shown_on = Terminal(stream, COLOURED)
    shown_on.paint(lines(made_shown(), (200, 50)), (200, 50))
    whole = len(written(stream))
    shown_on.paint(lines(made_shown(), (200, 50)), (200, 50))
    assert written(stream) == ""
    shown_on.paint(lines(made_shown(driven=made_driven(in_flight=13)), (200, 50)), (200, 50))
    assert 0 < len(written(stream)) < whole / 10


def test_a_screen_that_was_left_is_drawn_anew() -> None:
    stream, screen = io.StringIO(), Screen(80, 24)
    shown_on = Terminal(stream, PLAIN)
    drawn = lines(made_shown(), (80, 24))
    shown_on.paint(drawn, (80, 24))
    shown_on.leave()
    shown_on.leave()
    assert written(stream).count("\x1b[?1049l") == 1
    shown_on.paint(drawn, (80, 24))
    screen.feed(written(stream))
    assert screen.lines[0].startswith(" measured")


def test_without_colour_weight_and_bars_remain() -> None:
    plain, coloured = styled_for(None), styled_for(ColorSystem.TRUECOLOR)
    assert plain("x", "#e69f00") == "x"
    assert plain("x", "bold red") == "\x1b[1mx\x1b[0m"
    assert plain("x", "reverse #e69f00 on black") == "\x1b[7mx\x1b[0m"
    assert "38;2;230;159;0" in coloured("x", "reverse #e69f00 on black")
    assert styled_for(ColorSystem.EIGHT_BIT)("x", "#e69f00").startswith("\x1b[38;5;")
    assert coloured("x", "") == "x"


# --- which terminals --------------------------------------------------------------------------------------------------------------------------


@contextlib.contextmanager
def pseudo_terminal(columns: int = 80, rows: int = 24) -> Iterator[tuple[int, io.TextIOWrapper]]:
    """The far end's descriptor, and the near end as a text stream."""
    far, near = pty.openpty()
    termios.tcsetwinsize(near, (rows, columns))
    stream = os.fdopen(near, "w", encoding="utf-8")
    try:
        yield far, stream
    finally:
        stream.close()
        os.close(far)


def test_lines_are_for_everything_that_cannot_place_text() -> None:
    with pseudo_terminal() as (_, stream):
        assert can_be_drawn_on(stream, {"TERM": "xterm-256color"})
        assert not can_be_drawn_on(stream, {"TERM": "dumb"})
        assert not can_be_drawn_on(stream, {})
    assert not can_be_drawn_on(io.StringIO(), {"TERM": "xterm"})


def test_in_the_background_nothing_is_drawn(monkeypatch: pytest.MonkeyPatch) -> None:
    with pseudo_terminal() as (_, stream):
        monkeypatch.setattr(os, "tcgetpgrp", lambda _: os.getpgrp() + 1)
        assert not can_be_drawn_on(stream, {"TERM": "xterm"})
    out = io.StringIO()
    monkeypatch.setattr(terminal, "is_in_front", lambda _: False)
    Terminal(out, PLAIN).paint(lines(made_shown(), (80, 24)), (80, 24))
    assert out.getvalue() == ""


def test_a_terminal_that_does_not_know_its_size_has_the_usual_one() -> None:
    with pseudo_terminal(0, 0) as (_, stream):
        assert Terminal(stream, PLAIN).size == (80, 24)
    assert Terminal(io.StringIO(), PLAIN).size == (80, 24)


# --- the thread that draws --------------------------------------------------------------------------------------------------------------------


def drained(far: int, into: list[str], until: threading.Event) -> threading.Thread:
    def drain() -> None:
        os.set_blocking(far, False)
        while not until.is_set():
            with contextlib.suppress(BlockingIOError, OSError):
                into.append(os.read(far, 65536).decode(errors="replace"))
            time.sleep(0.005)

    thread = threading.Thread(target=drain, daemon=True)
    thread.start()
    return thread


def test_the_view_comes_up_follows_the_size_and_gives_the_terminal_back() -> None:
    texts: list[str] = []
    over = threading.Event()
    with pseudo_terminal(80, 24) as (far, stream):
        reader = drained(far, texts, over)
        with View(made_shown, stream, PLAIN):
            _until(lambda: "Ctrl-C" in "".join(texts))
            first = "".join(texts)
            termios.tcsetwinsize(stream.fileno(), (50, 200))
            _until(lambda: "without a token" in "".join(texts))
        _until(lambda: "\x1b[?1049l" in "".join(texts))
        over.set()
        reader.join()
    screen = Screen(80, 24)
    screen.feed(first.rpartition("\x1b[?2026l")[0])
    assert screen.lines == ["".join(text for text, _ in line).rstrip() for line in lines(made_shown(), (80, 24))]
    assert "".join(texts).endswith("\x1b[0m\x1b[?7h\x1b[?25h\x1b[?1049l")


def test_what_goes_wrong_with_the_view_is_told_and_goes_no_further() -> None:
    def look() -> Shown:
        raise RuntimeError("broken \x1b[2J")

    out = io.StringIO()
    with View(look, out, PLAIN) as broken:
        broken._thread.join(5)
    assert out.getvalue() == "the live view ended early (RuntimeError: broken \\x1b[2J); the run was not touched by that\n"


def test_a_run_that_ends_at_once_never_takes_the_screen() -> None:
    out = io.StringIO()
    with View(made_shown, out, PLAIN):
        pass
    assert out.getvalue() == ""


def test_the_thread_draws_no_more_often_than_it_says(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(view, "REDRAWN_EVERY_S", 0.1)
    looks: list[float] = []

    def look() -> Shown:
        looks.append(time.monotonic())
        return made_shown()

    with View(look, io.StringIO(), PLAIN):
        time.sleep(0.55)
    assert 2 <= len(looks) <= 5


def _until(is_so: object, patience_s: float = 10.0) -> None:
    assert callable(is_so)
    deadline = time.monotonic() + patience_s
    while not is_so():
        assert time.monotonic() < deadline, "it never came"
        time.sleep(0.01)
