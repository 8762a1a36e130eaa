"""What the live view costs: the same run with it and without, in a terminal of 200x50, the profiler and what sends told apart.

    python -m harness.live_view

Runs of the stack in a box take turns, with the view and with nothing drawn (``--quiet``), which of the two first changing from pair to pair. CPU
time is that of the processes themselves between the beginning and the end of the measured load, in nanoseconds by the scheduler, over
its length: the process that draws, and the one that sends. What is asked is of one core, and asked of the upper end of a 95 % interval over
the pairs, so that a busy machine cannot make the view look cheap: there it takes more pairs until the interval is narrow. The control redraws 60 times a second.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import math
import os
import pty
import statistics
import subprocess
import sys
import tempfile
import termios
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from harness.verdict import Figure, control, end, show
from latprof.analysis.student import quantile
from latprof.units import NS_PER_S

if TYPE_CHECKING:
    from latprof.client.driver import Counters, Driven
    from latprof.live.terminal import Line

PAIRS, MOST_PAIRS, SECONDS, SEED = 5, 16, 20, 1
ENOUGH_PERCENT = 0.5  # half the width of the interval with which there are pairs enough: its width alone decides, never where it lies
COLUMNS, ROWS = 200, 50
MOST_PERCENT = 2.0  # of one core, of all processes of the run together
LEAST_FRAMES_PER_S = 2.0
CONTROL_EVERY_S = 1 / 60
RATE_PER_S = 50
_LOAD = ("--request-rate", str(RATE_PER_S), "--duration", f"{SECONDS}s", "--warmup", "2s", "--seed", str(SEED))


@dataclass(frozen=True, slots=True)
class Used:
    """CPU time over the length of the measured load, in percent of a core; frames are those that were written to the terminal meanwhile."""

    profiler: float
    senders: float
    frames_per_s: float


def main() -> None:
    """Print the table; exit 1 when the view costs more than it may, was not drawn, or the control is not caught."""
    pairs = [_pair(number) for number in range(PAIRS)]
    while len(pairs) < MOST_PAIRS and _half_width(_together(pairs)) > ENOUGH_PERCENT:
        pairs.append(_pair(len(pairs)))
    figures = judged(pairs)
    head = f"n = {len(pairs)} pairs of {SECONDS} s at {RATE_PER_S}/s, in turns; seed {SEED}; tolerance {MOST_PERCENT:g} % of one core; {COLUMNS}x{ROWS}"
    passed = show("CPU time of a run with the live view, less that of one without", head, figures)
    often = [(used(CONTROL_EVERY_S), without) for _, without in pairs[:2]]
    caught = control("a view that is redrawn 60 times a second", judged(often))
    end(passed=passed and caught)


def _pair(number: int) -> tuple[Used, Used]:
    """With the view, and without."""
    first, second = (used(None), used(0.0)) if number % 2 else (used(0.0), used(None))
    with_, without = (second, first) if number % 2 else (first, second)
    print(
        f"  pair {number + 1}: profiler {with_.profiler:.2f} and {without.profiler:.2f} %,"
        f" sender {with_.senders:.2f} and {without.senders:.2f} % of a core",
        flush=True,
    )
    return with_, without


def judged(pairs: Sequence[tuple[Used, Used]]) -> list[Figure]:
    """The differences over the pairs."""
    profiler = [with_.profiler - without.profiler for with_, without in pairs]
    senders = [with_.senders - without.senders for with_, without in pairs]
    both = _together(pairs)
    return [
        Figure("profiler, which draws: mean", statistics.fmean(profiler), unit="%"),
        Figure("sender: mean", statistics.fmean(senders), unit="%"),
        Figure("sender: upper end", _upper(senders), high=MOST_PERCENT, unit="%"),
        Figure("both together: mean", statistics.fmean(both), unit="%"),
        Figure("both together: upper end", _upper(both), high=MOST_PERCENT, unit="%"),
        Figure("frames drawn", min(with_.frames_per_s for with_, _ in pairs), low=LEAST_FRAMES_PER_S, unit="/s"),
        Figure("frames drawn without it", max(without.frames_per_s for _, without in pairs), high=0.0, unit="/s"),
    ]


def _together(pairs: Sequence[tuple[Used, Used]]) -> list[float]:
    """What the view cost both processes, pair by pair."""
    return [with_.profiler - without.profiler + with_.senders - without.senders for with_, without in pairs]


def _upper(differences: Sequence[float]) -> float:
    """The upper end of the two-sided 95 % interval of the mean."""
    return statistics.fmean(differences) + _half_width(differences)


def _half_width(differences: Sequence[float]) -> float:
    return quantile(len(differences) - 1, 0.95) * statistics.stdev(differences) / math.sqrt(len(differences))


# --- one run ------------------------------------------------------------------------------------------------------------------------------


def used(every_s: float | None) -> Used:
    """One run in a terminal of its own: redrawn every so often, as usual for 0, and not shown at all for None."""
    with tempfile.TemporaryDirectory(prefix="latprof-live-") as folder:
        told = Path(folder) / "told.json"
        arguments = ["run", *_LOAD, "--no-html", "--set", "spans.grace=0s", "--out", f"{folder}/run"]
        arguments += ["--quiet"] if every_s is None else []
        command = [sys.executable, "-m", "harness.live_view", "--child", str(told), str(every_s or 0.0), *arguments]
        _in_terminal(command)
        measured: dict[str, int] = json.loads(told.read_text())
    profiler, senders = (100 * measured[who] / measured["wall_ns"] for who in ("profiler_ns", "senders_ns"))
    return Used(profiler, senders, measured["frames"] * NS_PER_S / measured["wall_ns"])


def _in_terminal(command: Sequence[str]) -> None:
    """Run it in a terminal of its own, which somebody reads."""
    far, near = pty.openpty()
    termios.tcsetwinsize(near, (ROWS, COLUMNS))
    environment = {name: value for name, value in os.environ.items() if name != "NO_COLOR"} | {
        "TERM": "xterm-256color",
        "COLORTERM": "truecolor",
    }
    process = subprocess.Popen(command, stdin=near, stdout=near, stderr=near, env=environment, start_new_session=True)
    os.close(near)
    read: list[bytes] = []
    reader = threading.Thread(target=_drain, args=(far, read), daemon=True)
    reader.start()
    code = process.wait()
    reader.join(5)
    os.close(far)
    if code not in {0, 4}:  # 4: a machine too busy to trust the run; its CPU time is what it is
        raise RuntimeError(f"the run ended with {code}: {b''.join(read)[-2000:].decode(errors='replace')}")


def _drain(far: int, into: list[bytes]) -> None:
    with contextlib.suppress(OSError):  # how a terminal says that nobody is left
        while got := os.read(far, 1 << 20):
            into.append(got)


# --- inside of it -------------------------------------------------------------------------------------------------------------------------


def child(told: Path, every_s: float, arguments: Sequence[str]) -> None:
    """``latprof`` in this process, with its CPU time over the last phase written to ``told``."""
    from latprof import cli
    from latprof.client.workers import Workers
    from latprof.live import view
    from latprof.live.terminal import Terminal

    if every_s:
        view.REDRAWN_EVERY_S = every_s
    drive, paint = Workers.drive, Terminal.paint
    frames = 0
    spent: list[list[int]] = []

    def painted(self: Terminal, lines: Sequence[Line], size: tuple[int, int]) -> None:
        nonlocal frames
        frames += 1
        paint(self, lines, size)

    def now(pids: Sequence[int]) -> tuple[int, int, int, int]:
        return time.monotonic_ns(), time.process_time_ns(), _cpu_ns(pids), frames

    async def driven(self: Workers, counters: Counters, stop: asyncio.Event) -> list[Driven | None]:
        before = now(self.pids)
        try:
            return await drive(self, counters, stop)
        finally:
            spent.append([late - early for late, early in zip(now(self.pids), before, strict=True)])

    setattr(Workers, "drive", driven)  # noqa: B010 - mypy would not have a method replaced
    setattr(Terminal, "paint", painted)  # noqa: B010 - the same
    sys.argv = ["latprof", *arguments]
    try:
        cli.main()
    finally:
        told.write_text(json.dumps(dict(zip(("wall_ns", "profiler_ns", "senders_ns", "frames"), spent[-1], strict=True))))


def _cpu_ns(pids: Sequence[int]) -> int:
    """CPU time of all threads of these processes, by the scheduler: exact where ticks are 10 ms."""
    return sum(int(file.read_text().split()[0]) for pid in pids for file in Path(f"/proc/{pid}/task").glob("*/schedstat"))


if __name__ == "__main__":
    if sys.argv[1:2] == ["--child"]:
        child(Path(sys.argv[2]), float(sys.argv[3]), sys.argv[4:])
    else:
        main()
