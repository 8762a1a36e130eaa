"""The closed-loop surprise: decode made eight times faster makes TTFT worse, for agents return sooner, and prefill is what throughput ends at.

    python -m harness.closed_loop [--seconds 60]

Thirty agents that think for half a second between turns (the closed network of methods §1.2 at half its times; at most about 1 000 chunks/s).
Shown three ways: measured live at k = 1 and k = 8, replayed from the live run at k = 1 alone, and simulated. The control asks the same of the same
stack at a fixed rate, where nobody returns sooner.
"""

from __future__ import annotations

import argparse
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from harness import verdict
from harness.arms import quiet_arm
from harness.verdict import Figure
from harness.whatif import AGENTS, SEED, config
from latprof.analysis.quantiles import hd_quantile
from latprof.analysis.sweeps.operational import stations
from latprof.analysis.whatif.replays import Played
from latprof.commands.whatif import Question, answer_of, record_in
from latprof.config import load_config
from latprof.pipeline import simulate

SPEED = 8
WORSE = 1.5
"""TTFT at the median grows at least by this factor; methods §1.2 has six on a network without anything around it."""
BUSY = 0.85
_DISTURBED_MS = 8.0


def seen(folder: Path) -> tuple[float, str, float, int]:
    """TTFT p50 in ms, the busiest station and its utilisation, and the requests of a run folder."""
    record = record_in(folder)
    played = Played(record.call, record.intended_ns, record.intended_ns, record.intended_ns[:0], {}, 0.0)
    per_s = (len(record) - 1) / ((record.intended_ns[-1] - record.intended_ns[0]) / 1e9)
    busiest = max(stations(record.call, record.stations, float(per_s)), key=lambda station: station.utilisation)
    return hd_quantile(played.ttft_ns, 0.5) / 1e6, busiest.name, busiest.utilisation, len(record)


def figures(how: str, ttft_ms: tuple[float, float], busiest: str, utilisation: float) -> list[Figure]:
    """What is claimed."""
    return [
        Figure(f"{how}: TTFT p50 {ttft_ms[0]:.0f} -> {ttft_ms[1]:.0f} ms, times", ttft_ms[1] / ttft_ms[0], low=WORSE, unit=""),
        Figure(f"{how}: busiest at k={SPEED} is {busiest}", float(busiest == "prefill"), 1.0, 1.0, ""),
        Figure(f"{how}: its utilisation", utilisation, low=BUSY, unit=""),
    ]


def simulated(settings: Sequence[Mapping[str, Any]]) -> list[Figure]:
    """In virtual time."""
    folder = Path(tempfile.mkdtemp(prefix="latprof-closed-loop-"))
    try:
        at = [seen(simulate(load_config(None, {**one, "out": folder / str(i)})).folder) for i, one in enumerate(settings)]
        return figures("simulated", (at[0][0], at[1][0]), at[1][1], at[1][2])
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def main(arguments: Sequence[str] | None = None) -> None:
    """Run it three ways and leave with 1 when a figure misses."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=60.0, help="measured time of each run")
    options = parser.parse_args(arguments)
    closed = [config("closed", options.seconds, speed) for speed in (1, SPEED)]
    with ExitStack() as stack:
        slow, fast = (
            stack.enter_context(quiet_arm(f"k={speed}", one, _DISTURBED_MS)) for speed, one in zip((1, SPEED), closed, strict=True)
        )
        at = [seen(arm.observed.folder) for arm in (slow, fast)]
        answer = answer_of(slow.observed.folder, Question(speedup=(f"decode={SPEED}",)))
        middle, busiest = answer.prediction("ttft", 0.5), answer.bottlenecks.capacity
        replayed = figures(
            "replayed from k=1",
            (middle.now_ns / 1e6, middle.predicted_ns / 1e6),
            busiest.names[0] if busiest else "unknown",
            busiest.value if busiest else 0.0,
        )
        head = f"n {at[0][3]} and {at[1][3]}, seed {SEED}, {AGENTS} agents, {options.seconds:g} s, TTFT p50 at least {WORSE:g} times, busy {BUSY:g}"
        live = figures("live", (at[0][0], at[1][0]), at[1][1], at[1][2])
        passed = verdict.show(f"decode {SPEED} times faster in a closed loop", head, [*live, *replayed, *simulated(closed)])
        rate_per_s = 0.9 * at[0][3] / options.seconds / 5  # sessions, of five turns each
        opened = [{**one, "load": {**one["load"], "concurrency": None, "rate_per_s": rate_per_s}} for one in closed]
        passed &= verdict.control("the same at a fixed rate of sessions", simulated(opened))
    verdict.end(passed=passed)


if __name__ == "__main__":
    main()
