from __future__ import annotations

import asyncio
import contextlib
import io
from dataclasses import dataclass

import pytest

from latprof.report import progress
from latprof.report.progress import Seen, line
from latprof.schedule.plan import OnDemand, Phase, Planned
from latprof.units import NS_PER_MS, NS_PER_S
from latprof.workload.sessions import Session, Turn


@dataclass
class Counted:
    sent: int = 40
    done: int = 30
    failed: int = 0
    in_flight: int = 10
    tokens: int = 480
    last_error: str = ""


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


SESSION = Session(0, (Turn("hello", 1, 4),))
OPEN = Phase("measured", tuple(Planned(SESSION, index * NS_PER_S // 50) for index in range(1_001)), "poisson", rate_per_s=50.0)
BEFORE = [Seen(0, 0, 0), Seen(2 * NS_PER_S, 40, 30)]


def test_the_line_says_where_an_open_loop_stands() -> None:
    shown = line(OPEN, Counted(), 2 * NS_PER_S, BEFORE, [60 * NS_PER_MS, 80 * NS_PER_MS, 70 * NS_PER_MS])
    assert shown == "measured 2/20 s  sent 40/1001  20.0/s  in flight 10  ok 30  failed 0  TTFT p50 70 ms"


def test_failures_name_the_last_error() -> None:
    assert line(OPEN, Counted(failed=3, last_error="timeout"), 0, BEFORE[:1]).endswith("-/s  in flight 10  ok 30  failed 3 (timeout)")


def test_a_closed_loop_has_a_duration_and_no_number_of_requests() -> None:
    sessions = OnDemand(lambda _: SESSION, 0, None)
    phase = Phase("warmup", sessions, "closed", concurrency=4, duration_ns=30 * NS_PER_S)
    assert line(phase, Counted(), 2 * NS_PER_S, BEFORE).startswith("warmup 2/30 s  sent 40  20.0/s")
    counted = Phase("measured", OPEN.planned, "closed", concurrency=4)
    assert line(counted, Counted(), 2 * NS_PER_S, BEFORE).startswith("measured 2 s  sent 40/1001")


async def shown_on(stream: io.StringIO) -> str:
    task = asyncio.create_task(progress.show(OPEN, Counted(), stream))
    await asyncio.sleep(0.6)
    task.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await task
    return stream.getvalue()


async def test_on_a_terminal_one_line_is_redrawn_and_wiped_at_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm")
    written = await shown_on(Terminal())
    assert written.count("\rmeasured") == 2
    assert "\n" not in written
    assert written.endswith("\r\x1b[K")


async def test_elsewhere_whole_lines_come_rarely(monkeypatch: pytest.MonkeyPatch) -> None:
    assert await shown_on(io.StringIO()) == ""
    monkeypatch.setenv("TERM", "dumb")
    assert await shown_on(Terminal()) == ""


async def test_elsewhere_a_line_ends_like_one() -> None:
    before = progress._PRINTED_EVERY_NS
    progress._PRINTED_EVERY_NS = NS_PER_S // 5
    try:
        written = await shown_on(io.StringIO())
    finally:
        progress._PRINTED_EVERY_NS = before
    assert "\r" not in written
    assert written.startswith("measured 0/20 s")
    assert written.endswith("\n")
