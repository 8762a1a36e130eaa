"""What-if against reality: decode made 2, 4 and 8 times faster, predicted from the live run at k = 1 alone, then run live at those speeds.

    python -m harness.whatif [--seconds 60] [--only open,closed]

Open: Poisson sessions of one turn on a stack whose decode slots are used at 0.7. Closed: agents that think for half a second between turns; faster
decode brings them back sooner, and prefill becomes what throughput ends at. All runs share every draw (seed, session, turn, layer). Beside each
prediction stand the naive line's error, the anchored figure's, and how far two equal live runs lie apart. The control predicts for the wrong
layer. A run that the machine disturbed is run again, at most twice; each such try is printed.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any, Literal

from harness import verdict
from harness.arms import Arm, quiet_arm
from harness.verdict import Figure
from latprof.analysis.contributions import contributions_as
from latprof.analysis.quantiles import hd_quantile
from latprof.analysis.sweeps.operational import station_of
from latprof.analysis.whatif.answer import AT, NAMES, Answer, Metric
from latprof.analysis.whatif.replays import Played
from latprof.commands.whatif import Question, answer_of, record_in
from latprof.errors import InconclusiveError
from latprof.layers.table import IntArray

Loop = Literal["open", "closed"]

SPEEDS = (2, 4, 8)
TOLERANCE = {0.50: 8.0, 0.99: 15.0}
SEED = 4
AGENTS = 30
RATE_PER_S = 11.0
_DISTURBED_MS = 8.0

# Long enough that the few ms which the machine itself takes are little of them: prefill of 120 ms on average, used at a third; answers of 16 tokens
# with a tail, which hold 11 of 16 slots.
_OPEN: dict[str, Any] = {
    "workload": {
        "prompt_tokens": {"dist": "lognormal", "mean": 128, "cv": 0.6, "max": 1000},
        "output_tokens": {"dist": "lognormal", "mean": 16, "cv": 0.4, "max": 60},
    },
    "stub": {
        "gateway": {
            "tokenize": {"service": "2ms", "workers": 8},
            "safety": {"service": {"dist": "lognormal", "mean": "20ms", "cv": 0.5}, "workers": 8},
        },
        "prefill": {"workers": 4, "t0": "20ms", "per_token_ns": 800_000, "cache_blocks": 0},
        "decode": {"slots": 16, "t1": "40ms", "per_sequence_ns": 2_000_000},
    },
}
# The closed network of the methods at half its times: gateway 15 ms on one server, prefill 40 ms on two, decode 3 s, thinking half a second.
_CLOSED: dict[str, Any] = {
    "workload": {
        "prompt_tokens": {"dist": "lognormal", "mean": 128, "cv": 0.6, "max": 1000},
        "restart_share": 1.0,
        "output_tokens": {"dist": "lognormal", "mean": 20, "cv": 0.4, "max": 60},
        "turns": 5,
        "think": {"dist": "exponential", "mean": "500ms"},
    },
    "stub": {
        "gateway": {
            "tokenize": {"service": "2ms", "workers": 8},
            "safety": {"service": {"dist": "exponential", "mean": "15ms"}, "workers": 1},
        },
        "prefill": {"workers": 2, "t0": "15ms", "per_token_ns": 500_000, "cache_blocks": 0},
        "decode": {"slots": 32, "t1": "80ms", "per_sequence_ns": 2_000_000},
    },
}


def config(loop: Loop, seconds: float, speed: float) -> dict[str, Any]:
    """A run's configuration."""
    base, load = (_OPEN, {"rate_per_s": RATE_PER_S}) if loop == "open" else (_CLOSED, {"concurrency": AGENTS})
    stub = {**base["stub"], "speedup": {"decode": float(speed)}}
    return {"load": {**load, "duration": f"{seconds:g}s", "seed": SEED, "warmup": "3s"}, "workload": base["workload"], "stub": stub}


@dataclass(frozen=True, slots=True)
class Live:
    """What a live run was: percentiles of both metrics in ns, and the station that is the largest part of the call's p50."""

    ns: Mapping[tuple[Metric, float], float]
    budget: str
    requests: int
    per_s: float


def live(arm: Arm) -> Live:
    """Read a run."""
    record = record_in(arm.observed.folder)
    seen = Played(record.call, record.intended_ns, record.intended_ns, record.intended_ns[:0], {}, 0.0)
    column = contributions_as(record.call, 0.5, "percentile")
    budget: dict[str, float] = {}
    for name, part_ns in zip(record.call.names, column.total_ns.tolist(), strict=True):
        budget[station_of(name)] = budget.get(station_of(name), 0.0) + part_ns
    per_s = (len(record) - 1) / ((record.intended_ns[-1] - record.intended_ns[0]) / 1e9)
    of: dict[Metric, IntArray] = {"ttft": seen.ttft_ns, "e2el": seen.e2el_ns}
    ns = {(metric, p): hd_quantile(values, p) for metric, values in of.items() for p in AT}
    return Live(ns, max(budget, key=lambda name: budget[name]), len(record), float(per_s))


def predicted(answer: Answer, was: Live, speed: float) -> Iterator[Figure]:
    """The prediction's misses, and the bottleneck's."""
    for one in answer.predictions:
        if one.metric != "task":
            real_ns = was.ns[one.metric, one.p]
            off = 100 * (one.predicted_ns / real_ns - 1)
            name = f"k={speed:g} {NAMES[one.metric]} p{100 * one.p:g}: {one.predicted_ns / 1e6:.1f} for {real_ns / 1e6:.1f} ms"
            yield Figure(name, off, -TOLERANCE[one.p], TOLERANCE[one.p], "%")
    budget = answer.bottlenecks.budget
    named = budget.names[0] if budget else "nothing"
    yield Figure(f"k={speed:g} largest part of the call: {named} for {was.budget}", float(named == was.budget), 1.0, 1.0, "")


def beside(answer: Answer, was: Live, speed: float) -> Iterator[Figure]:
    """What is shown and asked nothing of: the naive line, and the anchored figures."""
    for one in answer.predictions:
        if one.naive_ns is not None:
            real_ns = was.ns[one.metric, one.p]
            where = f"k={speed:g} {NAMES[one.metric]} p{100 * one.p:g}"
            yield Figure(f"{where}: naive", 100 * (one.naive_ns / real_ns - 1), unit="%")
            yield Figure(f"{where}: anchored", 100 * (one.anchored_ns / real_ns - 1), unit="%")


def spread(first: Live, second: Live) -> list[Figure]:
    """How far two equal live runs lie apart."""
    return [
        Figure(f"two equal live runs, {NAMES[metric]} p{100 * p:g}", 100 * (second.ns[metric, p] / ns - 1), unit="%")
        for (metric, p), ns in first.ns.items()
    ]


def experiment(loop: Loop, seconds: float) -> bool:
    """One loop through all speeds."""
    with ExitStack() as stack:

        def run(name: str, speed: float) -> Arm:
            return stack.enter_context(quiet_arm(f"{loop} {name}", config(loop, seconds, speed), _DISTURBED_MS))

        base, again = run("k=1", 1), run("k=1 again", 1)
        folder = base.observed.folder
        answers = {speed: answer_of(folder, Question(speedup=(f"decode={speed}",))) for speed in SPEEDS}
        was = {speed: live(run(f"k={speed}", speed)) for speed in SPEEDS}
        first = live(base)
        head = (
            f"n {first.requests} at k=1 ({first.per_s:.3g}/s), seed {SEED}, {seconds:g} s, off by at most {TOLERANCE[0.5]:g} % at p50 and"
            f" {TOLERANCE[0.99]:g} % at p99"
        )
        off = [
            Figure(f"replayed without change, {NAMES[one.metric]} p{100 * one.p:g}", 100 * one.off, -10.0, 10.0, "%")
            for one in answers[SPEEDS[0]].reproduced
            if one.metric != "task"
        ]
        figures = [figure for speed in SPEEDS for figure in predicted(answers[speed], was[speed], speed)]
        passed = verdict.show(f"{loop} loop: predicted from k=1, run live", head, [*off, *figures])
        shown = [figure for speed in SPEEDS for figure in beside(answers[speed], was[speed], speed)]
        verdict.show(f"{loop} loop: beside it", head, [*spread(first, live(again)), *shown])
        wrong = answer_of(folder, Question(speedup=(f"prefill={SPEEDS[-1]}",)))
        passed &= verdict.control("predicted for prefill, run with faster decode", list(predicted(wrong, was[SPEEDS[-1]], SPEEDS[-1])))
    return passed


def main(arguments: Sequence[str] | None = None) -> None:
    """Run both loops and leave with 1 when a figure misses."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=60.0, help="measured time of each run")
    parser.add_argument("--only", default="open,closed", help="open or closed")
    options = parser.parse_args(arguments)
    every: tuple[Loop, ...] = ("open", "closed")
    passed = True
    for loop in every:
        if loop in options.only.split(","):
            try:
                passed &= experiment(loop, options.seconds)
            except InconclusiveError as refused:  # it would not predict from this run, and says why
                print(f"\n{loop} loop: MISS  {refused}", flush=True)
                passed = False
    verdict.end(passed=passed)


if __name__ == "__main__":
    main()
