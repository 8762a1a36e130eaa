"""The causal check on the stack in a box, where the truth is known: slopes of TTFT, and of a task, on delays put in on purpose (V16).

    python -m harness.inject [--seconds 60] [--only serial,hidden,closed,held]

serial   in front of everything, open loop, at three loads: 1.00 +- 0.05 at each
hidden   a call beside a longer tool: a task's slope on that call's delay is about 0, on those of the calls before and after it 1
closed   a closed loop around a busy prefill pool: delaying everybody takes load off it, so the slope by blocks is below 1
held     behind a gateway that works on four requests at once and holds its place while it waits, used at 0.7: above 1, and within 10 % of two replays of
         those places: with the arrivals and the rest of the way of a run without delays (same seed, so the same draws), and with its own

The control gives every request another's delay: its slope must not be 1. An arm that the machine disturbed (a stage's or the generator's own
timer more than 3 ms off at p99) is run again, at most twice.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from harness import verdict
from harness.arms import Arm, quiet_arm
from harness.held_places import at_gateway, injected_of, replayed, rows, twins, without_delays
from harness.verdict import Figure
from latprof.analysis.causal.injection import Injection, injection_of
from latprof.analysis.causal.slopes import Slope, slope_within, slopes_within
from latprof.analysis.task import task_layers
from latprof.observations.graph import load_steps
from latprof.observations.injected import rows_of
from latprof.opening import layers_of

SEED = 1
TOLERANCE = 0.05
REPLAY_SHARE = 0.1
CLOSED_BELOW = 0.9
PLACES = 4
# Laws without a tail, and prefill by the prompt's constant alone: what is left in TTFT is queues, which are what the experiment is about.
CALM: dict[str, Any] = {
    "gateway": {"safety": "4ms", "auth": "1ms", "tokenize": "1ms"},
    "router": {"route": "1ms"},
    "decode": {"t1": "5ms", "per_sequence_ns": 20_000},
}
# Prefill: 2 workers of 40 ms, 50 prompts a second at most.
POOL: dict[str, Any] = {**CALM, "prefill": {"workers": 2, "t0": "40ms", "per_token_ns": 0, "per_token_pair_ns": 0, "cache_blocks": 0}}
LOADS = {"low": 10.0, "middle": 25.0, "high": 37.5}
WIDE = ["0ms", "40ms", "80ms", "160ms"]
# Behind the held place: short beside the 110 ms that it is held for, so that no block is overloaded.
NARROW_MS = (0, 10, 20, 30)
NARROW = [f"{delay}ms" for delay in NARROW_MS]
NOTHING = ["0ms", "1us"]
HELD: dict[str, Any] = {
    **CALM,
    "gateway": {**CALM["gateway"], "max_in_flight": PLACES},
    "prefill": {"workers": 64, "t0": "85ms", "per_token_ns": 0, "per_token_pair_ns": 0, "cache_blocks": 0},
}
USED = 0.7


def config(rate_per_s: float, seconds: float, stub: Mapping[str, Any], inject: Mapping[str, Any]) -> dict[str, Any]:
    """An open-loop arm."""
    return {
        "load": {"rate_per_s": rate_per_s, "duration": f"{seconds:g}s", "seed": SEED, "warmup": "3s"},
        "workload": {"prompt_tokens": 32, "output_tokens": 2},
        "stub": stub,
        "inject": inject,
    }


def injection(arm: Arm) -> Injection:
    """What latprof itself says of an arm."""
    found = injection_of(arm.observed)
    if found is None:
        raise RuntimeError(f"{arm.name}: nothing was injected")
    return found


def told(name: str, slope: Slope | None, low: float | None = None, high: float | None = None) -> Figure:
    """A slope as a figure, its interval in the name; one that is not there misses."""
    if slope is None:
        return Figure(f"{name}: too little to tell", np.nan, low, high, "")
    return Figure(f"{name} [{slope.low:.2f}, {slope.high:.2f}]", slope.value, low, high, "")


# --- serial -------------------------------------------------------------------------------------------------------------------------------


def serial(seconds: float) -> Iterator[tuple[str, str, list[Figure], list[Figure]]]:
    """Every load: a table, and the control."""
    for name, rate_per_s in LOADS.items():
        inject = {"before": "gateway", "delays": WIDE, "per": "request", "block": "2s"}
        with quiet_arm(f"serial {name}", config(rate_per_s, seconds, POOL, inject)) as arm:
            found = injection(arm)
            figures = [
                Figure("requests", float(found.requests), low=10, unit=""),
                Figure("delays not as the seed draws", float(found.not_as_drawn), 0, 0, ""),
                told("TTFT per request", found.ttft.per_request, 1 - TOLERANCE, 1 + TOLERANCE),
                *(told(f"TTFT p{100 * p:g} (shown)", slope) for p, slope in found.ttft.at_quantiles),
            ]
            mine = rows(arm)
            shuffled = np.random.default_rng(SEED).permutation(mine.drawn)
            wrong = slope_within(mine.ttft, shuffled, mine.block)
            yield (
                f"in front of everything, {name} load",
                f"{rate_per_s:g}/s of 50/s, {_delays(WIDE)}",
                figures,
                [told("TTFT on another's delay", wrong, 1 - TOLERANCE, 1 + TOLERANCE)],
            )


# --- hidden -------------------------------------------------------------------------------------------------------------------------------

# 0 call, then 1 call beside a tool of 700 ms, then 3 call: 1 takes about 60 ms and its delay.
STEPS: list[dict[str, Any]] = [
    {"id": "ask", "prompt_tokens": 32, "output_tokens": 2},
    {"id": "side", "prompt_tokens": 32, "output_tokens": 2, "after": ["ask"]},
    {"id": "tool", "tool": "search", "takes": "700ms", "after": ["ask"]},
    {"prompt_tokens": 32, "output_tokens": 2, "after": ["side", "tool"]},
]


def hidden(seconds: float, rate_per_s: float = 6.0) -> tuple[str, str, list[Figure], list[Figure]]:
    """A task's slope on the delay of each of its calls."""
    inject = {"before": "gateway", "delays": WIDE, "per": "request", "block": "4s"}
    with tempfile.TemporaryDirectory() as folder:
        trace = Path(folder) / "tasks.jsonl"
        trace.write_text("".join(json.dumps({"id": f"t{n}", "steps": STEPS}) + "\n" for n in range(round(rate_per_s * seconds * 4))))
        wide = {**CALM, "prefill": {"workers": 64, "t0": "40ms", "per_token_ns": 0, "per_token_pair_ns": 0, "cache_blocks": 0}}
        asked = config(rate_per_s, 2 * seconds, wide, inject)
        with quiet_arm("hidden", {**asked, "workload": {"trace": trace, "trace_format": "native", "trace_times": False}}) as arm:
            return _hidden(arm, rate_per_s)


def _hidden(arm: Arm, rate_per_s: float) -> tuple[str, str, list[Figure], list[Figure]]:
    requests, injected = arm.observed.requests, injected_of(arm)
    tasks = task_layers(layers_of(arm.observed, arm.spans, "e2el"), requests, load_steps(arm.observed.folder))
    at = rows_of(injected, requests.trace_id)
    row = {(s, t): r for s, t, r in zip(requests.session.tolist(), requests.turn.tolist(), at.tolist(), strict=True)}
    calls = [number for number, step in enumerate(STEPS) if "tool" not in step]
    where = np.array([[row[session, call] for call in calls] for session in tasks.session.tolist()], np.int64)
    drawn = injected.delay_ns[where].astype(np.float64)
    became = (injected.forwarded_ns - injected.received_ns)[where].astype(np.float64)
    block = injected.block[where[:, 0]]
    slopes = slopes_within(tasks.task_ns.astype(np.float64), became, block, drawn) or (None, None, None)
    asked = {"before": 1.0, "beside a longer tool": 0.0, "after": 1.0}
    figures = [Figure("tasks", float(len(tasks.session)), low=10, unit="")]
    figures += [
        told(f"task on the delay of the call {name}", slope, wanted - TOLERANCE, wanted + TOLERANCE)
        for (name, wanted), slope in zip(asked.items(), slopes, strict=True)
    ]
    own = np.flatnonzero([name == "tool" for name in tasks.layers.names])
    figures.append(Figure("tool on the path of a task", float(np.median(tasks.layers.total_ns[:, own])) / 1e6, 700, 700))
    swapped = slopes_within(tasks.task_ns.astype(np.float64), became[:, [1, 0, 2]], block, drawn[:, [1, 0, 2]]) or (None, None, None)
    wrong = [told("task on the delay of the call before, which it is not", swapped[0], 1 - TOLERANCE, 1 + TOLERANCE)]
    return "beside a longer branch", f"{rate_per_s:g} tasks/s, {_delays(WIDE)}, a tool of 700 ms", figures, wrong


# --- closed -------------------------------------------------------------------------------------------------------------------------------


def closed(seconds: float, concurrency: int = 12) -> tuple[str, str, list[Figure]]:
    """Twelve callers around two prefill workers: always busy, unless a delay keeps enough of the callers away."""
    inject = {"before": "gateway", "delays": WIDE, "per": "both", "block": "3s"}
    load = {"concurrency": concurrency, "duration": f"{2 * seconds:g}s", "seed": SEED, "warmup": "3s"}
    with quiet_arm("closed", {**config(1, seconds, POOL, inject), "load": load}) as arm:
        found = injection(arm).ttft
        by_block = found.per_block
        return (
            "around a closed loop",
            f"concurrency {concurrency}, {_delays(WIDE)}, blocks of either kind",
            [
                told("TTFT per request (shown)", found.per_request),
                told("TTFT per block", by_block, high=CLOSED_BELOW),
                Figure("  upper end of its interval", np.nan if by_block is None else by_block.high, high=1.0, unit=""),
                told("queue feedback", found.feedback, high=0.0),
            ],
        )


# --- held ---------------------------------------------------------------------------------------------------------------------------------


def held(seconds: float) -> tuple[str, str, list[Figure], list[Figure]]:
    """The slope by blocks behind four places, against the replay of a run without delays. How long a place is held sets the rate: tried first."""
    inject = {"before": "router", "delays": NARROW, "per": "block", "block": "4s"}
    calmly = {**inject, "delays": NOTHING, "per": "request"}
    with quiet_arm("held, tried", config(10.0, max(10.0, seconds / 4), HELD, calmly)) as tried:
        held_s = float(np.mean([one.held_ns for one in at_gateway(tried).values()])) / 1e9 + float(np.mean(NARROW_MS)) / 1e3
    rate_per_s = USED * PLACES / held_s
    with (
        quiet_arm("held, no delays", config(rate_per_s, 4 * seconds, HELD, calmly)) as base,
        quiet_arm("held", config(rate_per_s, 4 * seconds, HELD, inject)) as arm,
    ):
        figures, wrong = _held(base, arm)
    return (
        "behind a place that is held",
        f"{PLACES} places, {rate_per_s:.3g}/s, {_delays(NARROW)} before the router, blocks of 4 s",
        figures,
        wrong,
    )


def _held(base: Arm, arm: Arm) -> tuple[list[Figure], list[Figure]]:
    """Slopes of what each request lost against its own twin in the run without delays: what both met alike is no noise then."""
    calm, itself, delayed = at_gateway(base), at_gateway(arm), rows(arm)
    steady = delayed.among(calm.keys() & itself.keys(), delayed.settled)
    lost_ns = steady.ttft - twins(calm, steady)
    replay_ns, used = replayed(calm, delayed, PLACES)
    own_ns, _ = replayed(without_delays(itself, delayed, PLACES), delayed, PLACES)
    measured, predicted, of_itself = (steady.slope(column) for column in (lost_ns, steady.of(replay_ns), steady.of(own_ns)))
    within = (1 - REPLAY_SHARE, 1 + REPLAY_SHARE)
    figures = [
        Figure("use of the places", used, 0.6, 0.8, ""),
        told("TTFT per block, against the same requests without delays", measured),
        Figure("  lower end of its interval", np.nan if measured is None else measured.low, low=1.0, unit=""),
        told("what the replay of the run without delays says (shown)", predicted),
        Figure("measured over that", _ratio(measured, predicted), *within, ""),
        Figure("measured over the replay of the run itself", _ratio(measured, of_itself), *within, ""),
    ]
    naive = steady.slope(steady.became)
    return figures, [Figure("measured over the delay alone, every wait left as it was", _ratio(measured, naive), *within, "")]


def _ratio(one: Slope | None, other: Slope | None) -> float:
    return np.nan if one is None or other is None else one.value / other.value


# --- all --------------------------------------------------------------------------------------------------------------------------------


def _delays(delays: Sequence[str]) -> str:
    return f"delays of {', '.join(delays)}"


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the experiments and leave with 1 when a figure misses or a control is not caught."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=60.0, help="of the shortest arm")
    parser.add_argument("--only", default="serial,hidden,closed,held")
    options = parser.parse_args(arguments)
    wanted = options.only.split(",")
    head = f"n: {options.seconds:g} s an arm and more, seed {SEED}, slopes in ms per ms, tolerance {TOLERANCE:g}"
    passed = True
    if "serial" in wanted:
        for title, how, figures, wrong in serial(options.seconds):
            passed &= verdict.show(title, f"{head}; {how}", figures)
            passed &= verdict.control("every request given another's delay", wrong)
    if "hidden" in wanted:
        title, how, figures, wrong = hidden(options.seconds)
        passed &= verdict.show(title, f"{head}; {how}", figures)
        passed &= verdict.control("the hidden call taken for the one before it", wrong)
    if "closed" in wanted:
        title, how, figures = closed(options.seconds)
        passed &= verdict.show(title, f"{head}; {how}", figures)
    if "held" in wanted:
        title, how, figures, wrong = held(options.seconds)
        passed &= verdict.show(title, f"{head}, {REPLAY_SHARE:.0%} of the replay's; {how}", figures)
        passed &= verdict.control("the delay added, and every wait left as it was", wrong)
    verdict.end(passed=passed)


if __name__ == "__main__":
    main()
