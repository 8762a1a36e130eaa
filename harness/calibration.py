"""Do intervals hold the truth as often as they say, do gates fail equals as rarely, and find what they claim to find as often?

    python -m harness.calibration [--trials 200] [--live 5]

1. Coverage: 95 % intervals of R = 5 runs of 10 000 requests of an M/M/1 stack at utilisation 0.6, whose quantiles and contributions are known
   exactly. Control: the interval that takes requests for independent (order statistics), on the same rows.
2. Gates and comparisons of equals (A/A) and of a stack 10 % slower (A/B), at utilisation 0.5: five runs of each arm, seeds apart. A gate of six
   assertions must fail equals at most 16 times in 200, also if it may stop early, and an effect as large as it prints must fail at least 150 times.
   Control: a test that takes requests for independent must fail equals more often than that.
3. ``--live`` interleaved comparisons of the stack in a box with itself, two minutes each, which must call nothing better or worse (0 leaves them out).
"""

from __future__ import annotations

import argparse
import math
import multiprocessing
import shutil
import tempfile
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np

from harness import verdict
from harness.queue_runs import replication, truth_ms
from harness.verdict import Figure
from latprof.analysis.beta import regularised_beta
from latprof.analysis.verdicts.arms import arm_of
from latprof.analysis.verdicts.compare import Comparison, compare
from latprof.analysis.verdicts.differences import ALPHA
from latprof.analysis.verdicts.replications import FEW, Replication, Selector, estimate
from latprof.analysis.verdicts.sequential import alpha_of_look
from latprof.gates.arms import arm_of_runs
from latprof.gates.baseline import Baseline
from latprof.gates.budget import Budget, read_budget
from latprof.gates.gate import gate
from latprof.report.gate.values import Gated
from latprof.units import NS_PER_MS

SEED = 1
R = 5
TRIALS = 200
COVERED = (0.91, 0.98)
# Of 200: one gate in 20 may fail by chance, and 16 is where the chance of more is one in 50; 150 is as far below four in five.
MOST_ALARMS, LEAST_FOUND = 0.08, 0.75
SLOWER = 1.10

_WORTH_A_POOL = 50

COVERAGE_AT, COVERAGE_N = 0.6, 10_000
GATES_AT, GATES_N = 0.5, 2_000


# --- coverage -----------------------------------------------------------------------------------------------------------------------------

_COVERED = tuple((layer, p) for layer in ("", "gateway.auth", "prefill") for p in (0.50, 0.99))


def _holds(trial: int, truths: dict[float, dict[str, float]], n: int) -> list[bool]:
    """Whether each interval holds the truth; after those of `_COVERED` the control's two."""
    runs = [replication((SEED, 12, trial, number), COVERAGE_AT, n) for number in range(R)]
    found = []
    for layer, p in _COVERED:
        one = estimate(runs, Selector("ttft", layer), p)
        found.append(one.low <= truths[p][layer or "ttft"] * NS_PER_MS <= one.high)
    rows = np.sort(np.concatenate([run.values_ns["ttft"] for run in runs]))
    for p in (0.50, 0.99):
        low, high = _order_statistics(len(rows), p)
        found.append(bool(rows[low] <= truths[p]["ttft"] * NS_PER_MS <= rows[high]))
    return found


def _order_statistics(n: int, p: float) -> tuple[int, int]:
    """The ranks whose values hold the quantile of independent rows in 95 % of samples (David and Nagaraja 2003, section 7.1), by the normal law."""
    half = 1.959964 * math.sqrt(n * p * (1 - p))
    return max(0, math.floor(n * p - half)), min(n - 1, math.ceil(n * p + half))


def coverage(trials: int, n: int = COVERAGE_N) -> tuple[list[Figure], list[Figure]]:
    """How often each interval holds the truth; and the control's."""
    truths = {p: truth_ms(COVERAGE_AT, p) for p in (0.50, 0.99)}
    shares = np.mean(_each(partial(_holds, truths=truths, n=n), trials), axis=0)
    names = [f"{layer or 'ttft'} p{100 * p:g} inside its interval" for layer, p in _COVERED]
    asked = [Figure(name, float(share), *COVERED, "") for name, share in zip(names, shares, strict=False)]
    control = [Figure(f"ttft p{100 * p:g} inside", float(shares[len(names) + at]), *COVERED, "") for at, p in enumerate((0.50, 0.99))]
    return asked, control


# --- gates and comparisons ----------------------------------------------------------------------------------------------------------------

_RULES = (
    {"metric": "ttft", "at": "p50"},
    {"metric": "ttft", "at": "p95"},
    {"metric": "ttft", "at": "p99"},
    {"layer": "*", "at": "p50"},
)


@dataclass(frozen=True, slots=True)
class Trial:
    """What one pair of arms came to. ``exact``: no tolerance; ``early``: looked at after 3, 4 and 5 runs. ``found``: effects as large as was printed."""

    gate_of_equals: bool
    exact_gate_of_equals: bool
    early_gate_of_equals: bool
    compared_whole: bool
    compared_layers: bool
    naive: bool
    gate_of_slower: bool
    found_whole: bool
    found_layer: bool


def _budget(tolerance: str) -> Budget:
    return read_budget({"budgets": [{**rule, "kind": "regression", "tolerance": tolerance} for rule in _RULES]})


def _gated(a: Sequence[Replication], b: Sequence[Replication], tolerance: str, alpha: float = ALPHA) -> Gated:
    return gate("b", b, _budget(tolerance), Baseline(Path("a"), arm_of("a", a), {}), alpha=alpha)


def _printed(gated: Gated, name: str) -> float:
    """The minimal detectable effect that an assertion prints, in ms: the tolerance, and what must lie beyond it."""
    one = next(one for one in gated.verdicts if one.claim.name.startswith(name))
    return float(one.claim.bound + one.detectable) / NS_PER_MS


def _fails(gated: Gated, name: str) -> bool:
    return next(one for one in gated.verdicts if one.claim.name.startswith(name)).outcome == "fail"


def _trial(trial: int, n: int) -> Trial:
    def runs(arm: int, **other: object) -> list[Replication]:
        return [replication((SEED, 14, trial, arm, number), GATES_AT, n, **other) for number in range(R)]  # type: ignore[arg-type]

    a, b = runs(0), runs(1)
    equals = _gated(a, b, "5%")
    compared: Comparison = compare(arm_of("a", a), arm_of("b", b))
    whole = runs(1, plant_ms={"prefill": _printed(equals, "ttft p50")})
    layer = runs(1, plant_ms={"gateway.auth": _printed(equals, "gateway.auth p50")})
    return Trial(
        gate_of_equals=equals.word == "fail",
        exact_gate_of_equals=_gated(a, b, "0%").word == "fail",
        early_gate_of_equals=any(_gated(a, b[:runs], "0%", alpha_of_look(runs, R)).word == "fail" for runs in range(FEW, R + 1)),
        compared_whole=any(one.verdict in {"better", "worse"} for one in compared.end_to_end),
        compared_layers=any(one.verdict in {"better", "worse"} for one in compared.layers),
        naive=_naive(a, b),
        gate_of_slower=_gated(a, runs(1, scale=SLOWER), "5%").word == "fail",
        found_whole=_fails(_gated(a, whole, "5%"), "ttft p50"),
        found_layer=_fails(_gated(a, layer, "5%"), "gateway.auth p50"),
    )


def _naive(a: Sequence[Replication], b: Sequence[Replication]) -> bool:
    """Whether B's mean is worse by a z test that takes every request for independent, one side of 5 %."""
    rows = [np.concatenate([run.values_ns["ttft"] for run in runs]).astype(np.float64) for runs in (a, b)]
    error = math.sqrt(sum(float(one.var()) / len(one) for one in rows))
    return float(rows[1].mean() - rows[0].mean()) > 1.959964 * error


def gates(trials: int, n: int = GATES_N) -> tuple[list[Figure], list[Figure]]:
    """How often gates and comparisons of equals raise an alarm, and find what they print; and the control's alarms."""
    found: list[Trial] = _each(partial(_trial, n=n), trials)

    def share(name: str) -> float:
        return sum(bool(getattr(one, name)) for one in found) / len(found)

    asked = [
        Figure("equals: gate of 6 assertions, tolerance 5 %, fails", share("gate_of_equals"), high=MOST_ALARMS, unit=""),
        Figure("equals: the same without tolerance fails", share("exact_gate_of_equals"), high=MOST_ALARMS, unit=""),
        Figure("equals: the same, looked at after 3, 4 and 5 runs, fails", share("early_gate_of_equals"), high=MOST_ALARMS, unit=""),
        Figure("equals: comparison calls an end-to-end figure better or worse", share("compared_whole"), high=MOST_ALARMS, unit=""),
        Figure("equals: comparison calls a layer better or worse", share("compared_layers"), high=MOST_ALARMS, unit=""),
        Figure("ttft p50 slower by what its assertion prints: it fails", share("found_whole"), low=LEAST_FOUND, unit=""),
        Figure("gateway.auth p50 slower by what its assertion prints: it fails", share("found_layer"), low=LEAST_FOUND, unit=""),
        Figure("everything 10 % slower: gate, tolerance 5 %, fails", share("gate_of_slower"), unit=""),
    ]
    return asked, [Figure("equals: alarm", share("naive"), high=MOST_ALARMS, unit="")]


# --- live ---------------------------------------------------------------------------------------------------------------------------------


def live(comparisons: int, requests: int = 150, pairs: int = 4) -> list[Figure]:
    """Interleaved comparisons of the stack in a box with itself."""
    from latprof.config import load_config
    from latprof.pipeline import run
    from latprof.pipeline.interleave import blocks, measure

    alarms = 0
    for number in range(comparisons):
        config = load_config(None, {"load": {"num_requests": requests, "seed": 100 * number + 1}, "stub": {"seed": 100 * number + 1}})
        folder = Path(tempfile.mkdtemp(prefix="latprof-calibration-"))
        try:
            made = measure(blocks(config, config, pairs, folder), run, lambda _: None)
            told = compare(arm_of_runs(made.a), arm_of_runs(made.b))
        finally:
            shutil.rmtree(folder, ignore_errors=True)
        called = [f"{one.key} {one.verdict}" for one in (*told.end_to_end, *told.layers) if one.verdict in {"better", "worse"}]
        alarms += bool(called)
        print(f"  live {number + 1} of {comparisons}: {', '.join(called) or 'nothing called'}; {told.end_to_end[0].key} found from"
              f" {told.end_to_end[0].detectable / NS_PER_MS:.1f} ms", flush=True)  # fmt: skip
    # Two tables of 5 % each: so many alarms in so few comparisons come by chance at most once in a hundred.
    return [Figure("equals, live and interleaved: comparisons with an alarm", alarms, high=_most(comparisons, 0.10), unit="")]


def _most(trials: int, share: float) -> int:
    """The least count that is exceeded by chance at most once in a hundred, were the share of alarms ``share``."""
    return next(k for k in range(trials + 1) if k == trials or float(regularised_beta(np.array([share]), k + 1, trials - k)[0]) <= 0.01)


# --- the whole ----------------------------------------------------------------------------------------------------------------------------


def _each(of: Callable[[int], object], trials: int) -> list:  # type: ignore[type-arg]
    if trials < _WORTH_A_POOL:
        return [of(trial) for trial in range(trials)]
    with ProcessPoolExecutor(mp_context=multiprocessing.get_context("spawn")) as pool:
        return list(pool.map(of, range(trials), chunksize=4))


def main(arguments: Sequence[str] | None = None) -> None:
    """Run all of it and leave with 1 when a figure misses."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trials", type=int, default=TRIALS)
    parser.add_argument("--live", type=int, default=5, metavar="N", help="interleaved comparisons of the stack in a box with itself")
    options = parser.parse_args(arguments)
    asked, control = coverage(options.trials)
    head = f"{options.trials} trials of R {R} runs of n {COVERAGE_N}, M/M/1 at {COVERAGE_AT}, seed {SEED}; shares, asked {COVERED[0]} .. {COVERED[1]}"
    passed = verdict.show("95 % intervals", head, asked)
    passed &= verdict.control("the interval that takes requests for independent", control)
    asked, control = gates(options.trials)
    head = f"{options.trials} pairs of arms of R {R} runs of n {GATES_N}, M/M/1 at {GATES_AT}, seed {SEED}; shares"
    passed &= verdict.show("gates and comparisons", f"{head}, asked: alarms <= {MOST_ALARMS}, found >= {LEAST_FOUND}", asked)
    passed &= verdict.control("a test that takes requests for independent", control)
    if options.live:
        passed &= verdict.show("live", f"{options.live} comparisons, 4 pairs of 150 requests", live(options.live))
    verdict.end(passed=passed)


if __name__ == "__main__":
    main()
