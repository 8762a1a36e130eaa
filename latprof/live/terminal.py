"""The terminal: a screen of its own for the view, only what changed written to it, everything given back at the end."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, TextIO

from rich.color import ColorSystem
from rich.console import Console
from rich.style import Style

Segment = tuple[str, str]
"""A text and its style, in rich's words (empty: as the terminal has it)."""

Line = tuple[Segment, ...]

# The alternate screen, no cursor, no wrapping of lines that a shrinking terminal makes too long; and back.
_ENTER: Final = "\x1b[?1049h\x1b[?25l\x1b[?7l\x1b[2J"
_LEAVE: Final = "\x1b[0m\x1b[?7h\x1b[?25h\x1b[?1049l"
# A terminal that knows this shows a frame only when it is whole; others pass over it.
_BEGIN_FRAME, _END_FRAME = "\x1b[?2026h", "\x1b[?2026l"
_DUMB: Final = frozenset({"", "dumb", "unknown"})
_USUAL = (80, 24)
# So often everything is written again: something else may have printed over it.
_WHOLE_EVERY: Final = 40


@dataclass(frozen=True, slots=True)
class Abilities:
    """What a terminal can show. ``colours`` is None for none at all."""

    colours: ColorSystem | None
    has_unicode: bool


def can_be_drawn_on(stream: TextIO, environment: Mapping[str, str] | None = None) -> bool:
    """Whether ``stream`` is a terminal that can place text, and this process is the one in front of it."""
    if sys.platform == "win32" or not stream.isatty():
        return False
    return (os.environ if environment is None else environment).get("TERM", "") not in _DUMB and is_in_front(stream)


def is_in_front(stream: TextIO) -> bool:
    """Whether this process has the terminal: in the background of a shell it would draw over what the shell shows."""
    try:
        return os.tcgetpgrp(stream.fileno()) == os.getpgrp()
    except OSError:  # nobody's terminal in particular
        return True


def abilities(stream: TextIO) -> Abilities:
    """Colours as rich finds them (NO_COLOR, COLORTERM, TERM), and whether its encoding has blocks and lines."""
    console = Console(file=stream)
    known = {"standard": ColorSystem.STANDARD, "256": ColorSystem.EIGHT_BIT, "truecolor": ColorSystem.TRUECOLOR}
    colours = None if console.no_color else known.get(console.color_system or "")
    return Abilities(colours, (stream.encoding or "ascii").lower().startswith("utf"))


class Terminal:
    """One terminal while it is drawn on. Not for two threads at once, save `leave`."""

    def __init__(self, stream: TextIO, can: Abilities) -> None:
        self._stream = stream
        self._styled = styled_for(can.colours)
        self._is_entered = False
        self._painted: list[Line] = []
        self._size = (0, 0)
        self._frames = 0

    @property
    def size(self) -> tuple[int, int]:
        """Columns and rows, as of now: asked anew for every frame, which is how a change of size is noticed."""
        try:
            columns, rows = os.get_terminal_size(self._stream.fileno())
        except OSError:
            return _USUAL
        return columns or _USUAL[0], rows or _USUAL[1]

    def paint(self, lines: Sequence[Line], size: tuple[int, int]) -> None:
        """Show ``lines``, made for ``size``; only those that changed are written.

        Raises:
            OSError: the terminal is gone.
        """
        if not is_in_front(self._stream):
            return
        self._frames += 1
        out = [_BEGIN_FRAME]
        if not self._is_entered:
            self._is_entered = True
            out.append(_ENTER)
            self._painted = []
        if size != self._size or self._frames % _WHOLE_EVERY == 0:
            out.append("\x1b[2J" if size != self._size else "")
            self._size, self._painted = size, []
        rows = size[1]
        for row in range(rows):
            line = lines[row] if row < len(lines) else ()
            if row >= len(self._painted) or self._painted[row] != line:
                # Erased before, not after: at the end of a full line the cursor stands on its last character.
                out.append(f"\x1b[{row + 1};1H\x1b[K{''.join(self._styled(text, style) for text, style in line)}")
        self._painted = [lines[row] if row < len(lines) else () for row in range(rows)]
        if len(out) > 1:
            out.append(_END_FRAME)
            self._write("".join(out))

    def leave(self) -> None:
        """Give the terminal back as it was; it may be painted on again."""
        if self._is_entered:
            self._is_entered = False
            with contextlib.suppress(OSError):
                self._write(_LEAVE)

    def _write(self, text: str) -> None:
        self._stream.write(text)
        self._stream.flush()


def styled_for(colours: ColorSystem | None) -> Callable[[str, str], str]:
    """How a text gets its style on a terminal of that many colours; without colours bold, dim and reverse stay."""
    around: dict[str, tuple[str, str]] = {}

    def styled(text: str, style: str) -> str:
        if not style:
            return text
        if style not in around:
            parsed = Style.parse(style)
            shown = (parsed.without_color if colours is None else parsed).render("\0", color_system=colours or ColorSystem.STANDARD)
            before, _, after = shown.partition("\0")
            around[style] = (before, after)
        before, after = around[style]
        return f"{before}{text}{after}"

    return styled
