"""The thread that draws: a few times a second, at a lower priority than everything the run does."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import threading
from collections.abc import Callable
from types import TracebackType
from typing import Self, TextIO

from latprof.live.drawing import lines
from latprof.live.marks import ASCII, BLOCKS
from latprof.live.terminal import Abilities, Terminal, abilities
from latprof.live.values import Shown
from latprof.report.inert import plain

REDRAWN_EVERY_S = 0.4
_PATIENCE_S = 2.0
_SUSPENDED = "the load goes on; fg shows it again, and Ctrl-C there ends it\n"


class View:
    """A view of a run on a terminal, for the length of a ``with``. What goes wrong with it is told at the end, and is never the run's matter.

    ``look`` says what is to be shown; nothing is drawn at first, so that what fails at once just says so.
    """

    def __init__(self, look: Callable[[], Shown], stream: TextIO, can: Abilities | None = None) -> None:
        self._look = look
        self._stream = stream
        self._can = can or abilities(stream)
        self._terminal = Terminal(stream, self._can)
        self._over = threading.Event()
        self._fault = ""
        self._drawing = threading.Lock()
        self._thread = threading.Thread(target=self._work, name="latprof-view", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._over.set()
        self._thread.join(_PATIENCE_S)  # a terminal that takes nothing (Ctrl-S) must not hold the report up for longer
        self._terminal.leave()
        if self._fault:
            self._stream.write(f"the live view ended early ({plain(self._fault)}); the run was not touched by that\n")

    def suspend(self) -> None:
        """Ctrl-Z: give the terminal back, and stop; the next frame after that is drawn anew."""
        held = self._drawing.acquire(timeout=_PATIENCE_S)
        try:
            self._terminal.leave()
            # To stop the processes that send would make everything late that an open loop has due meanwhile.
            with contextlib.suppress(OSError):
                self._stream.write(_SUSPENDED)
                self._stream.flush()
            os.kill(os.getpid(), signal.SIGSTOP)
        finally:
            if held:
                self._drawing.release()

    def _work(self) -> None:
        _stand_back()
        marks = BLOCKS if self._can.has_unicode else ASCII
        try:
            while not self._over.wait(REDRAWN_EVERY_S):
                size = self._terminal.size
                drawn = lines(self._look(), size, marks)
                with self._drawing:
                    self._terminal.paint(drawn, size)
        except Exception as error:  # noqa: BLE001 - whatever it is: the run goes on without being watched
            self._fault = f"{type(error).__name__}: {error}"
            self._terminal.leave()


def _stand_back() -> None:
    """Let everything else go first where it wants a core: Linux gives each thread a niceness of its own."""
    if sys.platform == "linux":
        with contextlib.suppress(OSError):
            os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), 10)
