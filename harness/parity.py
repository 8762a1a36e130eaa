"""One configuration live and simulated: every layer's p50 must agree within 3 % + 2 ms, and the prompts the prefix cache knew must be the same.

    python -m harness.parity [--requests 1000] [--only low,agents]

The draws are shared, so that what differs is the network, the processor, and the model itself. Tokenization has a planned time, for the machine's own
is not the simulator's to know. The control simulates a stack with 10 ms more in one layer. An arm that the machine disturbed is run again
(`harness.arms.quiet_arm`).
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from harness import verdict
from harness.arms import Arm, quiet_arm
from harness.verdict import Figure
from latprof.config import load_config
from latprof.observations.folder import load
from latprof.opening import tables_of
from latprof.pipeline import simulate
from latprof.spans import store
from latprof.units import NS_PER_MS

SEED = 1
SHARE, OFF_MS = 0.03, 2.0
CONTROL_MS = 10.0
STUB: dict[str, Any] = {
    "gateway": {"tokenize": "2ms", "safety": {"service": {"dist": "lognormal", "mean": "10ms", "cv": 0.8}}},
    "prefill": {"workers": 8, "cache_block_tokens": 64},
    "decode": {"slots": 64, "t1": "14ms"},
}
TURN: dict[str, Any] = {"prompt_tokens": 256, "cached_share": 0.3, "output_tokens": 8}
AGENTS: dict[str, Any] = {
    "prompt_tokens": 300,
    "calls": 3,
    "tool_time": "200ms",
    "tool_tokens": 64,
    "output_tokens": 12,
    "cached_share": 0.5,
}
COLOCATED: dict[str, Any] = {
    **STUB,
    "engine": {"mode": "colocated", "replicas": 2, "token_budget": 512, "max_sequences": 64},
    "prefill": {"t0": "5ms", "per_token_ns": 60_000, "cache_block_tokens": 64},
}
ARMS: dict[str, dict[str, Any]] = {
    "low": {"load": {"rate_per_s": 5}, "workload": TURN, "stub": STUB},
    "moderate": {"load": {"rate_per_s": 50}, "workload": TURN, "stub": STUB},
    "agents": {"load": {"concurrency": 6}, "workload": AGENTS, "stub": STUB},
    "colocated": {"load": {"rate_per_s": 25}, "workload": TURN, "stub": COLOCATED},
}


def config(arm: str, requests: int) -> dict[str, Any]:
    """An arm with its number of requests: sessions, of which an agent's has three; at a low rate there are fewer."""
    chosen = ARMS[arm]
    sessions = {"low": requests // 4, "agents": requests // 3}.get(arm, requests)
    return {**chosen, "load": {**chosen["load"], "num_requests": sessions, "warmup_requests": 20, "seed": SEED}}


def simulated(name: str, overrides: dict[str, Any], folder: Path) -> Arm:
    """The same in virtual time."""
    run = load(simulate(load_config(None, {**overrides, "out": folder})).folder)
    spans = store.load(run.folder)
    return Arm(name, run, spans, tables_of(run, spans).ttft, run.folder)


def figures(live: Arm, played: Arm) -> list[Figure]:
    """Layer by layer, then the whole, then what the cache knew."""
    found = []
    for layer in played.layers.names:
        wanted = median_ms(played, layer)
        bound = SHARE * wanted + OFF_MS
        found.append(Figure(f"{layer} p50, simulated {wanted:.2f}", median_ms(live, layer), wanted - bound, wanted + bound))
    rest = [median_ms(live, layer) for layer in live.layers.names if layer not in played.layers.names]
    found.append(Figure("what only the live run has (network, client, unattributed)", sum(rest)))
    return [*found, Figure("prompts with other cached tokens", _cached_apart(live, played), high=0.02, unit="")]


def median_ms(arm: Arm, layer: str) -> float:
    """The median of a layer's own time over the requests; 0 for a layer that never was."""
    if layer not in arm.layers.names:
        return 0.0
    return float(np.median(arm.layers.total_ns[:, arm.layers.names.index(layer)])) / NS_PER_MS


def _cached_apart(live: Arm, played: Arm) -> float:
    """Share of the turns that the two runs' caches knew different beginnings of; two that came together may have swapped."""
    told = []
    for arm in (live, played):
        rows = arm.observed.requests.select(arm.observed.requests.measured)
        order = np.lexsort((rows.turn, rows.session))
        told.append((rows.session[order], rows.turn[order], rows.prompt_tokens[order], rows.cached_tokens[order]))
    assert all((ours == theirs).all() for ours, theirs in zip(told[0][:3], told[1][:3], strict=True)), "the same turns and lengths"
    return float((told[0][3] != told[1][3]).mean())


def main(arguments: Sequence[str] | None = None) -> None:
    """Run every arm and leave with 1 when a figure misses."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--requests", type=int, default=1000)
    parser.add_argument("--only", default="", help="arms, separated by commas")
    options = parser.parse_args(arguments)
    passed, wrong = True, list[Figure]()
    with tempfile.TemporaryDirectory(prefix="latprof-parity-") as folder:
        for name in options.only.split(",") if options.only else ARMS:
            overrides = config(name, options.requests)
            played = simulated(name, overrides, Path(folder) / name)
            with quiet_arm(name, overrides) as live:
                requests = len(live.layers.rows)
                head = (
                    f"n {requests}, seed {SEED}, {played.observed.meta['arrival_model']}; asked: simulated +- ({SHARE:.0%} + {OFF_MS:g} ms)"
                )
                passed &= verdict.show(f"{name}: live against simulated", head, figures(live, played))
                if not wrong:
                    planted = {**overrides, "stub": {**overrides["stub"], "plant": {"router": f"{CONTROL_MS}ms"}}}
                    wrong = figures(live, simulated("control", planted, Path(folder) / "control"))
    passed &= verdict.control(f"{CONTROL_MS:g} ms more in the simulated router", wrong)
    verdict.end(passed=passed)


if __name__ == "__main__":
    main()
