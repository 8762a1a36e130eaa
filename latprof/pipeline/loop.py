"""The event loop of a run, and the signals that end it."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import sys
import threading
from collections.abc import Callable, Coroutine, Iterator, Sequence
from typing import Any, TypeVar

T = TypeVar("T")

ENDING_SIGNALS = (signal.SIGINT, signal.SIGTERM)


def new_runner() -> asyncio.Runner:
    """A runner on uvloop, which latprof's figures are for; on the plain loop where there is no uvloop."""
    if sys.platform == "win32":
        return asyncio.Runner()
    import uvloop

    return asyncio.Runner(loop_factory=uvloop.new_event_loop)


async def until_interrupted(run: Callable[[asyncio.Event], Coroutine[Any, Any, T]]) -> T:
    """``run``, given what tells it to stop. The first Ctrl-C sets that; a second one ends everything at once.

    Raises:
        KeyboardInterrupt: there was a second one.
    """
    stop = asyncio.Event()
    running = asyncio.ensure_future(run(stop))

    def interrupt() -> None:
        if stop.is_set():
            running.cancel()
        stop.set()

    try:
        with on_signals(ENDING_SIGNALS, interrupt):
            return await running
    except asyncio.CancelledError:
        raise KeyboardInterrupt from None


@contextlib.contextmanager
def on_signals(numbers: Sequence[signal.Signals], handler: Callable[[], None]) -> Iterator[None]:
    """``handler`` for the length of a ``with``. As a library latprof may be in a thread, where there are no signals to handle."""
    if threading.current_thread() is not threading.main_thread() or sys.platform == "win32":
        yield
        return
    loop = asyncio.get_running_loop()
    for number in numbers:
        loop.add_signal_handler(number, handler)
    try:
        yield
    finally:
        for number in numbers:
            loop.remove_signal_handler(number)
