"""``latprof run`` in a terminal of its own: the view comes up, follows the size, and gives the terminal back whatever ends the run."""

from __future__ import annotations

import asyncio
import contextlib
import os
import pty
import re
import signal
import subprocess
import termios
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from command import FREE_PORTS, LATPROF
from endpoint import ANSWER, NEVER, always, in_turn, plain, serving

pytestmark = pytest.mark.live

_ENTER, _LEAVE = "\x1b[?1049h", "\x1b[?1049l"
_PATIENCE_S = 60.0
LOAD = ("--request-rate", "10", "--duration", "40s", "--warmup", "0", "--isl", "8", "--osl", "3", "--set", "spans.grace=0s")


class InTerminal:
    """A command whose terminal is ours to read, write and resize; it is the one in front, as a shell would have it."""

    def __init__(self, *arguments: str, cwd: Path, **environment: str) -> None:
        self._far, near = pty.openpty()
        self.near = near
        self.resize(80, 24)
        self.modes = termios.tcgetattr(near)
        self._read = ""
        inherited = {name: value for name, value in os.environ.items() if name not in {"NO_COLOR", "COLUMNS", "LINES"}}
        self._process = subprocess.Popen(
            # The first terminal that a session without one opens becomes its own: then Ctrl-C typed into it is a signal.
            ["/bin/sh", "-c", 'exec "$@" <>"$0" >&0 2>&0', os.ttyname(near), LATPROF, *arguments],
            cwd=cwd,
            env={**inherited, "TERM": "xterm-256color", **environment},
            start_new_session=True,
        )
        os.set_blocking(self._far, False)

    def resize(self, columns: int, rows: int) -> None:
        termios.tcsetwinsize(self.near, (rows, columns))

    def type(self, keys: bytes) -> None:
        os.write(self._far, keys)

    def send(self, number: signal.Signals) -> None:
        self._process.send_signal(number)

    @property
    def text(self) -> str:
        with contextlib.suppress(BlockingIOError, OSError):
            while got := os.read(self._far, 65536):
                self._read += got.decode(errors="replace")
        return self._read

    async def shows(self, word: str, *, after: int = 0) -> int:
        """Until ``word`` is written behind ``after`` characters; where it ends."""
        deadline = time.monotonic() + _PATIENCE_S
        while (at := self.text.find(word, after)) < 0:
            assert time.monotonic() < deadline, f"no {word!r} in {self._read[-3000:]!r}"
            assert self._process.poll() is None or word in self.text, f"it ended: {self._read[-3000:]!r}"
            await asyncio.sleep(0.05)
        return at + len(word)

    async def ended(self) -> int:
        deadline = time.monotonic() + _PATIENCE_S
        while self._process.poll() is None:
            assert self.text is not None
            assert time.monotonic() < deadline, self._read[-3000:]
            await asyncio.sleep(0.05)
        assert "Traceback" not in self.text
        return self._process.returncode

    def close(self) -> None:
        if self._process.poll() is None:
            self._process.kill()
        self._process.wait()
        os.close(self.near)
        os.close(self._far)


@contextlib.contextmanager
def in_terminal(tmp_path: Path, url: str, *arguments: str, **environment: str) -> Iterator[InTerminal]:
    asked = ("run", "--url", url, "--model", "m", *LOAD, *FREE_PORTS, "--out", str(tmp_path / "run"), *arguments)
    going = InTerminal(*asked, cwd=tmp_path, **environment)
    try:
        yield going
    finally:
        going.close()


async def test_it_comes_up_is_resized_and_gives_the_terminal_back_at_ctrl_c(tmp_path: Path) -> None:
    async with serving(always(ANSWER)) as endpoint:
        with in_terminal(tmp_path, endpoint.url) as going:
            entered = await going.shows(_ENTER)
            await going.shows(" measured ", after=entered)
            at = await going.shows("TTFT p50 now")
            assert _widest(going.text[entered:at]) <= 80
            before = len(going.text)
            going.resize(200, 50)
            await going.shows("\x1b[50;1H", after=before)
            await going.shows("longest", after=before)
            going.type(b"\x03")
            left = await going.shows(_LEAVE, after=before)
            assert await going.ended() == 130
            assert going.text.count(_ENTER) == going.text.count(_LEAVE) == 1
            assert "\x1b[?25h" in going.text[before:left], "the cursor is there again"
            assert "TTFT budget in ms" in going.text[left:]
            assert "the run was interrupted" in going.text[left:]
            assert termios.tcgetattr(going.near) == going.modes


def _widest(text: str) -> int:
    """The longest line that was placed."""
    placed = re.split(r"\x1b\[\d+;1H\x1b\[K", text)[1:]
    return max(len(re.sub(r"\x1b\[[\d;?]*[a-zA-Z]", "", line)) for line in placed)


async def test_a_run_that_ends_by_itself_leaves_the_report_alone_on_the_screen(tmp_path: Path) -> None:
    async with serving(always(ANSWER)) as endpoint:
        with in_terminal(tmp_path, endpoint.url, "--duration", "2s") as going:
            left = await going.shows(_LEAVE)
            assert await going.ended() in {0, 4}
            assert "TTFT budget in ms" in going.text[left:]
            assert "[?" not in going.text[left:]


async def test_ctrl_z_gives_the_terminal_to_the_shell(tmp_path: Path) -> None:
    async with serving(always(ANSWER)) as endpoint:
        with in_terminal(tmp_path, endpoint.url) as going:
            entered = await going.shows("TTFT p50 now")
            going.type(b"\x1a")
            left = await going.shows(_LEAVE, after=entered)
            left = await going.shows("the load goes on; fg shows it again", after=left)
            await asyncio.sleep(0.6)
            assert len(going.text.rstrip()) <= left + len(", and Ctrl-C there ends it"), "nothing is drawn while it is stopped"
            going.send(signal.SIGCONT)
            await going.shows(_ENTER, after=left)
            going.type(b"\x03")
            assert await going.ended() == 130


async def test_an_endpoint_that_says_no_is_told_on_the_real_screen(tmp_path: Path) -> None:
    async with serving(always(plain("401 Unauthorized", b'{"error":{"message":"no such key"}}'))) as endpoint:
        with in_terminal(tmp_path, endpoint.url) as going:
            assert await going.ended() in {2, 4}
            text = going.text
            assert "401" in text[text.rfind(_LEAVE) + 1 :]
            assert text.count(_ENTER) == text.count(_LEAVE)


async def test_an_endpoint_that_is_silent_is_waited_for_in_sight(tmp_path: Path) -> None:
    async with serving(in_turn(NEVER)) as endpoint:
        with in_terminal(tmp_path, endpoint.url) as going:
            await going.shows("asking once before the load")
            going.type(b"\x03")
            await going.ended()
            assert going.text.count(_ENTER) == going.text.count(_LEAVE) == 1


@pytest.mark.parametrize(("arguments", "environment"), [(("--no-live",), {}), ((), {"TERM": "dumb"})], ids=["--no-live", "TERM=dumb"])
async def test_plain_lines_where_they_are_wanted_or_needed(tmp_path: Path, arguments: tuple[str, ...], environment: dict[str, str]) -> None:
    async with serving(always(ANSWER)) as endpoint:
        with in_terminal(tmp_path, endpoint.url, *arguments, **environment) as going:
            await going.shows("in flight")
            told = going.text
            going.type(b"\x03")
            await going.ended()
            assert _ENTER not in going.text
            assert "measured" in told
            assert ("\x1b" in told) == ("TERM" not in environment)


async def test_without_colour_nothing_is_coloured(tmp_path: Path) -> None:
    async with serving(always(ANSWER)) as endpoint:
        with in_terminal(tmp_path, endpoint.url, "--duration", "3s", NO_COLOR="1") as going:
            await going.ended()
            assert _ENTER in going.text
            colours = [code for codes in re.findall(r"\x1b\[([\d;]+)m", going.text) for code in codes.split(";")]
            assert set(colours) <= {"0", "1", "2", "3", "7"}
            assert {"1", "2", "7"} <= set(colours)
