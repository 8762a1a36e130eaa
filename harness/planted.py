"""Planted truth: +40 ms in one layer of the stub at a time must move that layer by 40 ms, and no other.

    python -m harness.planted [--requests 1000] [--only gateway.safety,prefill]

Every arm has the same seed, so the same schedule, prompts and draws, and is held against the median of three base arms; every touched station
is used below 5 %, so that a plant makes no queue. The control plants into one layer and looks for it in another. An arm that the machine
disturbed (a stage's or the generator's own timer more than 3 ms off at p99) is run again, at most twice; each such try is printed.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from contextlib import ExitStack
from statistics import median
from typing import Any

from harness import verdict
from harness.arms import Arm, quiet_arm
from harness.verdict import Figure

PLANT_MS = 40.0
TOLERANCE_MS = 3.0
UNATTRIBUTED_SHARE = 0.02
STALL_MS, STALL_SHARE = 150.0, 0.02
SEED = 1
RATE_PER_S = 40.0
BASES = 3
LAYERS = (
    "gateway.validate",
    "gateway.auth",
    "gateway.ratelimit",
    "gateway.safety",
    "gateway.render",
    "gateway.tokenize",
    "router",
    "prefill",
    "kv.transfer",
    "decode.first",
    "proxy.hold",
)
# 40 requests/s of 40 ms keep 1.6 servers busy: 64 are used at 2.5 %. The tokenizer's plant sleeps in its thread, so it gets as many.
STACK: dict[str, Any] = {
    # A light tail in the safety check: under a heavy one the requests at p99, and so its contribution there, change with every small disturbance.
    "gateway": {"tokenize_workers": 64, "safety": {"service": {"mean": "8ms", "dist": "lognormal", "cv": 0.4}}},
    "prefill": {"workers": 96, "cache_blocks": 0},
    # A short iteration keeps the wait for the batch boundary, which a plant elsewhere shifts about, inside the tolerance.
    "decode": {"slots": 256, "t1": "4ms", "per_sequence_ns": 20_000},
}


def config(requests: int, **stub: Any) -> dict[str, Any]:
    """An arm's configuration: the quickstart's load on a stack wide enough that nothing queues."""
    return {
        "load": {"rate_per_s": RATE_PER_S, "num_requests": requests, "seed": SEED, "warmup": "2s"},
        "workload": {"prompt_tokens": 128, "output_tokens": 8},
        "stub": {**STACK, **stub},
    }


def usual_ms(bases: Sequence[Arm], layer: str, p: float, part: str = "total") -> float:
    """A layer's contribution without a plant: the median over the base arms, for every other arm is held against it."""
    return median(base.contribution_ms(layer, p, part) for base in bases)


def moved(bases: Sequence[Arm], planted: Arm, layer: str) -> list[Figure]:
    """What the plant in ``layer`` did to every layer, at p50 and p99."""
    figures = []
    for p, at in ((0.5, "p50"), (0.99, "p99")):
        service = planted.contribution_ms(layer, p, "service") - usual_ms(bases, layer, p, "service")
        figures.append(Figure(f"{layer} service {at}", service, PLANT_MS - TOLERANCE_MS, PLANT_MS + TOLERANCE_MS))
        others = {
            name: planted.contribution_ms(name, p) - usual_ms(bases, name, p)
            for name in sorted({name for arm in (*bases, planted) for name in arm.layers.names} - {layer})
        }
        worst = max(others, key=lambda name: abs(others[name]))
        figures.append(Figure(f"  largest other move {at}: {worst}", others[worst], -TOLERANCE_MS, TOLERANCE_MS))
    figures.append(Figure("  unattributed share", planted.unattributed_share(), high=UNATTRIBUTED_SHARE, unit=""))
    return figures


def stalled(bases: Sequence[Arm], stall: Arm) -> list[Figure]:
    """A 150 ms stall on 2 % of the gateway's requests: at p99 and not at p50, and as large as the stalls that really happened say."""
    rise = {p: stall.contribution_ms("gateway.safety", p) - usual_ms(bases, "gateway.safety", p) for p in (0.5, 0.99)}
    blame = {name: stall.contribution_ms(name, 0.99) - stall.contribution_ms(name, 0.5) for name in stall.layers.names}
    first = max(blame, key=lambda name: blame[name])
    return [
        Figure("stall: gateway.safety rise p50", rise[0.5], -2.0, 2.0),
        Figure("stall: gateway.safety rise p99", rise[0.99], 0.5 * STALL_MS, 1.05 * STALL_MS),
        Figure(f"stall: tail blame ranks {first} first", float(first == "gateway.safety"), 1.0, 1.0, ""),
    ]


def main(arguments: Sequence[str] | None = None) -> None:
    """Run every arm and leave with 1 when a figure misses."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--requests", type=int, default=1000)
    parser.add_argument("--only", default="", help="layers, separated by commas")
    options = parser.parse_args(arguments)
    layers = options.only.split(",") if options.only else LAYERS
    head = f"n {options.requests} per arm, seed {SEED}, {RATE_PER_S:g}/s Poisson, plant {PLANT_MS:g} ms +- {TOLERANCE_MS:g} ms"
    with ExitStack() as stack:
        bases = [stack.enter_context(quiet_arm(f"base {number}", config(options.requests))) for number in range(1, BASES + 1)]
        share = [Figure("unattributed share", base.unattributed_share(), high=UNATTRIBUTED_SHARE, unit="") for base in bases]
        passed = verdict.show("base arms", head, share)
        wrong: list[Figure] = []
        for layer in layers:
            with quiet_arm(layer, config(options.requests, plant={layer: f"{PLANT_MS}ms"})) as planted:
                passed &= verdict.show(f"+{PLANT_MS:g} ms in {layer}", head, moved(bases, planted, layer))
                wrong = wrong or moved(bases, planted, "router" if layer != "router" else "prefill")
        fault = {"stage": "gateway", "kind": "stall", "layer": "gateway.safety", "share": STALL_SHARE, "for": f"{STALL_MS}ms"}
        with quiet_arm("stall", config(options.requests, faults=[fault])) as stall:
            passed &= verdict.show(f"{STALL_MS:g} ms stall on {STALL_SHARE:.0%} of the gateway's requests", head, stalled(bases, stall))
    passed &= verdict.control(f"planted in {layers[0]}, looked for elsewhere", wrong)
    verdict.end(passed=passed)


if __name__ == "__main__":
    main()
