"""A million requests in virtual time: how long it takes on one core, how much memory, and whether a request costs the same among a million as among 10 000.

    python -m harness.scale [--requests 10000,100000,1000000]

64 colocated replicas with chunked prefill and a prefix cache; prompts of 1 000 tokens in the mean (a tenth of each a beginning that all share) and, one
in a thousand, of 400 000; answers of 200 tokens. Every size runs in a process of its own, whose processor time (all threads) and peak memory are
read when its folder is written; the report on it is timed apart. The control holds every chunk for a time of its own draw: a cost that grows with
tokens, which the bound on a request's cost must catch.
"""

from __future__ import annotations

import argparse
import json
import math
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import NormalDist
from typing import Any

from harness import verdict
from harness.verdict import Figure

SEED = 1
REPLICAS = 64
RATE_PER_S = 500.0
LONG_TOKENS, ONE_IN = 400_000, 1000
MEAN_IN, MEAN_OUT, CV = 1000, 200, 0.5
SHARED = 0.1
MOST_S, MOST_GB = 180.0, 2.0
FLAT = 0.15
# The control makes 200 draws a request; a tenth of that would be enough to show.
CONTROL_TIMES = 2.0


@dataclass(frozen=True, slots=True)
class Cost:
    """What one size took: processor and wall time of the simulation, peak memory by then, and the processor time of the report."""

    requests: int
    cpu_s: float
    wall_s: float
    peak_gb: float
    report_s: float

    @property
    def us(self) -> float:
        """Processor time of one request."""
        return self.cpu_s / self.requests * 1e6


def prompt_lengths() -> list[int]:
    """999 quantiles of a lognormal law, and a long one: drawn from alike, one in a thousand is long."""
    sigma = math.sqrt(math.log1p(CV**2))
    law = NormalDist(math.log(MEAN_IN) - sigma**2 / 2, sigma)
    return [max(1, round(math.exp(law.inv_cdf((i + 0.5) / (ONE_IN - 1))))) for i in range(ONE_IN - 1)] + [LONG_TOKENS]


def config(requests: int, out: Path, *, holds: bool = False) -> dict[str, Any]:
    """The stack and its load; ``holds`` makes it the control."""
    return {
        "out": out,
        "load": {"rate_per_s": RATE_PER_S, "num_requests": requests, "seed": SEED, "warmup_requests": 100},
        "workload": {
            "prompt_tokens": {"dist": "empirical", "values": prompt_lengths()},
            "output_tokens": {"dist": "lognormal", "mean": MEAN_OUT, "cv": CV},
            "cached_share": SHARED,
        },
        "stub": {
            "gateway": {"tokenize": "1ms", "per_chunk": {"dist": "exponential", "mean": "1us"} if holds else "0ms"},
            "router": {"policy": "least_outstanding"},
            "engine": {"mode": "colocated", "replicas": REPLICAS, "token_budget": 2048},
            "prefill": {"t0": "2ms", "per_token_ns": 20_000, "per_token_pair_ns": 0.05, "cache_block_tokens": 32, "cache_blocks": 4096},
            "decode": {"t1": "8ms", "per_sequence_ns": 20_000},
        },
    }


def measure(requests: int, *, holds: bool) -> Cost:
    """Here and now; the process must be fresh."""
    from latprof.config import load_config
    from latprof.opening import report_of
    from latprof.pipeline.simulated import simulate_into_folder

    folder = Path(tempfile.mkdtemp(prefix="latprof-scale-"))
    try:
        simulate_into_folder(load_config(None, config(100, folder / "first")))  # what is imported on the way is not the cost of requests
        settings = load_config(None, config(requests, folder / "run", holds=holds))
        cpu_s, wall_s = time.process_time(), time.perf_counter()
        run = simulate_into_folder(settings)
        cpu_s, wall_s = time.process_time() - cpu_s, time.perf_counter() - wall_s
        peak_gb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e9
        report_s = time.process_time()
        report = report_of(run)
        report_s = time.process_time() - report_s
        assert report.counts.ok == requests
        assert report.valid, report.doubts
        return Cost(requests, cpu_s, wall_s, peak_gb, report_s)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def in_own_process(requests: int, *, holds: bool = False) -> Cost:
    """`measure` in a process that has done nothing else."""
    command = [sys.executable, "-m", "harness.scale", "--measure", str(requests), *(["--holds"] if holds else [])]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    return Cost(**json.loads(done.stdout.splitlines()[-1]))


def figures(costs: Sequence[Cost]) -> list[Figure]:
    """Every size, the largest against its bounds, and all against the smallest."""
    first, last = costs[0], costs[-1]
    found = []
    for cost in costs:
        name = f"{cost.requests:,} requests"
        found.append(Figure(f"{name}: processor time of one", cost.us, unit="µs"))
        found.append(Figure("  wall time in all", cost.wall_s, unit="s"))
        found.append(Figure("  peak memory", cost.peak_gb, high=MOST_GB, unit="GB"))
        found.append(Figure("  the report, apart", cost.report_s, unit="s"))
    found.append(Figure(f"processor time of {last.requests:,} in all", last.cpu_s, high=MOST_S * last.requests / 1e6, unit="s"))
    found += [
        Figure(f"cost of one among {cost.requests:,}, times that among {first.requests:,}", cost.us / first.us, 1 - 2 * FLAT, 1 + FLAT, "")
        for cost in costs[1:]
    ]
    return found


def main(arguments: Sequence[str] | None = None) -> None:
    """Run every size and leave with 1 when a figure misses."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--requests", default="10000,100000,1000000")
    parser.add_argument("--measure", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--holds", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    if options.measure:
        cost = measure(options.measure, holds=options.holds)
        print(json.dumps({name: getattr(cost, name) for name in Cost.__slots__}))
        return
    costs = [in_own_process(int(requests)) for requests in options.requests.split(",")]
    head = (
        f"seed {SEED}, {REPLICAS} replicas, Poisson {RATE_PER_S:g}/s; in lognormal mean {MEAN_IN} cv {CV}, {SHARED:.0%} shared, 1 in {ONE_IN} of"
        f" {LONG_TOKENS:,}; out mean {MEAN_OUT}; asked: {MOST_S:g} s per million on one core, {MOST_GB:g} GB, flat to +{FLAT:.0%}"
    )
    passed = verdict.show("a simulated stack at scale", head, figures(costs))
    small = costs[0]
    grown = in_own_process(small.requests, holds=True)
    passed &= verdict.control(
        "a draw for every chunk", [Figure(f"{grown.us:.0f} µs instead of {small.us:.0f}", grown.us / small.us, high=CONTROL_TIMES, unit="")]
    )
    verdict.end(passed=passed)


if __name__ == "__main__":
    main()
