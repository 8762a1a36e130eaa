"""The lines while load is driven: one line redrawn on a terminal, one line every five seconds elsewhere."""

from __future__ import annotations

import asyncio
import os
import statistics
import time
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Protocol, TextIO

from latprof.clock import Now
from latprof.schedule.plan import Phase
from latprof.units import NS_PER_S, ms

_REDRAWN_EVERY_NS = NS_PER_S // 4
_PRINTED_EVERY_NS = 5 * NS_PER_S
# The rate shown is that of the last seconds, so that a stall is seen.
_RATE_OVER_NS = 3 * NS_PER_S
_DUMB = frozenset({"dumb", "unknown"})


class Counters(Protocol):
    """Where a run stands; the driver changes it as it goes."""

    sent: int
    done: int
    failed: int
    in_flight: int
    tokens: int
    last_error: str


@dataclass(frozen=True, slots=True)
class Seen:
    """The counters at one instant."""

    at_ns: int
    sent: int
    done: int


async def show(
    phase: Phase, counters: Counters, stream: TextIO, recent_ttft_ns: Collection[int] = (), now: Now = time.monotonic_ns
) -> None:
    """Keep the line up to date until cancelled; then leave the cursor on a clean line.

    ``recent_ttft_ns`` may be a bounded deque that someone appends to while the load goes.
    """
    live = stream.isatty() and os.environ.get("TERM") not in _DUMB
    every_ns = _REDRAWN_EVERY_NS if live else _PRINTED_EVERY_NS
    began_ns = now()
    recent = [Seen(began_ns, counters.sent, counters.done)]
    try:
        while True:
            await asyncio.sleep(every_ns / NS_PER_S)
            recent = [*(seen for seen in recent if now() - seen.at_ns <= _RATE_OVER_NS or seen is recent[-1]), _seen(counters, now())]
            text = line(phase, counters, recent[-1].at_ns - began_ns, recent, recent_ttft_ns)
            stream.write(f"\r{text}\x1b[K" if live else f"{text}\n")
            stream.flush()
    finally:
        if live:
            stream.write("\r\x1b[K")
            stream.flush()


def _seen(counters: Counters, at_ns: int) -> Seen:
    return Seen(at_ns, counters.sent, counters.done)


def line(phase: Phase, counters: Counters, elapsed_ns: int, recent: Sequence[Seen], recent_ttft_ns: Collection[int] = ()) -> str:
    """One line, without a newline, for the state ``elapsed_ns`` into ``phase``; ``recent`` are earlier states, the oldest first."""
    elapsed_s = elapsed_ns / NS_PER_S
    planned_s = _planned_ns(phase) / NS_PER_S
    length = f"{elapsed_s:.0f}/{planned_s:.0f} s" if planned_s else f"{elapsed_s:.0f} s"
    of = f"/{phase.planned_requests}" if phase.planned_requests is not None else ""
    first, last = recent[0], recent[-1]
    over_s = (last.at_ns - first.at_ns) / NS_PER_S
    rate = f"{(last.sent - first.sent) / over_s:.1f}/s" if over_s > 0 else "-/s"
    error = f" ({counters.last_error})" if counters.failed and counters.last_error else ""
    ttft = f"  TTFT p50 {ms(statistics.median(recent_ttft_ns)):.0f} ms" if recent_ttft_ns else ""
    return (
        f"{phase.name} {length}  sent {counters.sent}{of}  {rate}  in flight {counters.in_flight}  "
        f"ok {counters.done}  failed {counters.failed}{error}{ttft}"
    )


def _planned_ns(phase: Phase) -> int:
    """How long the schedule is; 0 where the answers decide."""
    if phase.duration_ns is not None:
        return phase.duration_ns
    if phase.planned_requests and phase.loop == "open":
        return phase.planned[-1].offset_ns or 0
    return 0
