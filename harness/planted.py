"""Planted truth: +40 ms in one layer of the stub at a time must move that layer by 40 ms, and no other.

    python -m harness.planted [--requests 1200] [--only gateway.safety,prefill]

Every arm has the same seed, so the same schedule, prompts and draws; every touched station is used below 5 %, so that a plant makes no queue. Held
against each other are the same requests with the plant and without it, those that the machine left alone in both (`harness.left_alone`: by the truth
files and the client's stamps, not by the layers that are asked about). An arm is run again until there are enough of them. The control plants
into one layer and looks for it in another.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from contextlib import ExitStack
from typing import Any

from harness import verdict
from harness.left_alone import Calm, pair, runs
from harness.verdict import Figure

PLANT_MS = 40.0
TOLERANCE_MS = 3.0
UNATTRIBUTED_SHARE = 0.02
STALL_MS, STALL_SHARE = 150.0, 0.02
SEED = 1
RATE_PER_S = 40.0
ASKED = 1000
"""So many requests are wanted in every comparison."""
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
    # Tokenization takes a planned time: how long the machine really needs for it is not the same in two runs.
    "gateway": {"tokenize_workers": 64, "tokenize": "2ms", "safety": {"service": {"mean": "8ms", "dist": "lognormal", "cv": 0.4}}},
    "prefill": {"workers": 96, "cache_blocks": 0},
    # A short iteration keeps the wait for the batch boundary, which a plant elsewhere shifts about, inside the tolerance.
    "decode": {"slots": 256, "t1": "2ms", "per_sequence_ns": 20_000},
}


def config(requests: int, **stub: Any) -> dict[str, Any]:
    """An arm's configuration: the quickstart's load on a stack wide enough that nothing queues."""
    return {
        "load": {"rate_per_s": RATE_PER_S, "num_requests": requests, "seed": SEED, "warmup": "2s"},
        "workload": {"prompt_tokens": 128, "output_tokens": 8},
        "stub": {**STACK, **stub},
    }


def moved(before: Calm, after: Calm, layer: str) -> list[Figure]:
    """What the plant in ``layer`` did to every layer, at p50 and p99."""
    figures = [Figure("requests left alone", len(after), low=ASKED, unit="")]
    for p, at in ((0.5, "p50"), (0.99, "p99")):
        service = after.contribution_ms(layer, p, "service") - before.contribution_ms(layer, p, "service")
        figures.append(Figure(f"{layer} service {at}", service, PLANT_MS - TOLERANCE_MS, PLANT_MS + TOLERANCE_MS))
        others = {
            name: after.contribution_ms(name, p) - before.contribution_ms(name, p)
            for name in sorted({*before.names, *after.names} - {layer})
        }
        worst = max(others, key=lambda name: abs(others[name]))
        figures.append(Figure(f"  largest other move {at}: {worst}", others[worst], -TOLERANCE_MS, TOLERANCE_MS))
    figures.append(Figure("  unattributed share", after.unattributed_share(), high=UNATTRIBUTED_SHARE, unit=""))
    return figures


def stalled(before: Calm, after: Calm) -> list[Figure]:
    """A 150 ms stall on 2 % of the gateway's requests: at p99 and not at p50, and as large as the stalls that really happened say."""
    rise = {p: after.contribution_ms("gateway.safety", p) - before.contribution_ms("gateway.safety", p) for p in (0.5, 0.99)}
    blame = {name: after.contribution_ms(name, 0.99) - after.contribution_ms(name, 0.5) for name in after.names}
    first = max(blame, key=lambda name: blame[name])
    return [
        Figure("requests left alone", len(after), low=ASKED, unit=""),
        Figure("stall: gateway.safety rise p50", rise[0.5], -2.0, 2.0),
        Figure("stall: gateway.safety rise p99", rise[0.99], 0.5 * STALL_MS, 1.05 * STALL_MS),
        Figure(f"stall: tail blame ranks {first} first", float(first == "gateway.safety"), 1.0, 1.0, ""),
    ]


def _enough(requests: int) -> int:
    return int(0.9 * requests)


def main(arguments: Sequence[str] | None = None) -> None:
    """Run every arm and leave with 1 when a figure misses."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--requests", type=int, default=1200)
    parser.add_argument("--only", default="", help="layers, separated by commas")
    options = parser.parse_args(arguments)
    layers = options.only.split(",") if options.only else LAYERS
    head = f"n {options.requests} per arm, seed {SEED}, {RATE_PER_S:g}/s Poisson, plant {PLANT_MS:g} ms +- {TOLERANCE_MS:g} ms"
    with ExitStack() as stack:
        bases = runs(stack, "base", config(options.requests, truth=True), int(0.98 * options.requests))
        share = [Figure("unattributed share", base.unattributed_share(), high=UNATTRIBUTED_SHARE, unit="") for base in bases]
        passed = verdict.show("base arms", head, share)
        wrong: list[Figure] = []
        for layer in layers:
            with ExitStack() as of_layer:
                arms = runs(
                    of_layer, layer, config(options.requests, truth=True, plant={layer: f"{PLANT_MS}ms"}), _enough(options.requests)
                )
                before, after = pair(bases, arms)
                passed &= verdict.show(f"+{PLANT_MS:g} ms in {layer}", head, moved(before, after, layer))
                wrong = wrong or moved(before, after, "router" if layer != "router" else "prefill")
        fault = {"stage": "gateway", "kind": "stall", "layer": "gateway.safety", "share": STALL_SHARE, "for": f"{STALL_MS}ms"}
        with ExitStack() as of_stall:
            arms = runs(of_stall, "stall", config(options.requests, truth=True, faults=[fault]), _enough(options.requests))
            title = f"{STALL_MS:g} ms stall on {STALL_SHARE:.0%} of the gateway's requests"
            passed &= verdict.show(title, head, stalled(*pair(bases, arms)))
    passed &= verdict.control(f"planted in {layers[0]}, looked for elsewhere", wrong)
    verdict.end(passed=passed)


if __name__ == "__main__":
    main()
