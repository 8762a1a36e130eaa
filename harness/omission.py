"""Coordinated omission: the stub's gateway stands still for 2 s under an open load with a cap on what is in flight.

    python -m harness.omission [--requests 1200]

From the intended start every request that should have gone during the freeze waits for its end, so the slowest TTFTs form a ramp that can be computed
from the schedule alone. From the actual send only the few in flight when it froze show it: the rest wait in the generator, unseen. The control measures
the asked figure from the actual send, which must miss.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from harness import verdict
from harness.arms import Arm, arm
from harness.verdict import Figure
from latprof.analysis.metrics import ttft_ns, ttft_sent_ns
from latprof.analysis.quantiles import percentile
from latprof.units import NS_PER_MS, NS_PER_S

SEED = 1
RATE_PER_S = 50.0
# One or two in flight on average without the freeze. Those in flight when it comes see it from their send as well: few enough to stay beyond p99.
CAP = 4
STACK = {"prefill": {"t0": "5ms", "per_token_ns": 20_000}, "decode": {"t1": "4ms"}}
FREEZE_NS = 2 * NS_PER_S
FREEZE_AT_NS = 8 * NS_PER_S
# The backlog leaves CAP at a time; its drain is part of the prediction, the stub's own jitter is not.
TOLERANCE = 0.10

Array = npt.NDArray[np.int64]


def predicted_ns(intended_ns: Array, served_ns: Array, freeze_ns: tuple[int, int], cap: int) -> Array:
    """TTFT from the intended start, first come first served through ``cap`` places, none of which moves during the freeze.

    ``served_ns`` (n,) is how long each request holds its place when nothing is frozen; a request in flight at the freeze gets its length added.
    """
    begin_ns, end_ns = freeze_ns
    free = np.zeros(cap, np.int64)
    out = np.empty(len(intended_ns), np.int64)
    for index, asked_ns in enumerate(intended_ns):
        place = int(free.argmin())
        start_ns = max(int(asked_ns), int(free[place]))
        done_ns = start_ns + int(served_ns[index])
        if start_ns < end_ns and done_ns > begin_ns:
            done_ns += end_ns - max(begin_ns, start_ns)
        free[place] = done_ns
        out[index] = start_ns
    return out


def frozen(told: Arm) -> tuple[int, int]:
    """When the gateway stood still: the stub counts from its first measured request."""
    requests = told.observed.requests
    first_ns = int(requests.send_ns[requests.measured].min())
    return first_ns + FREEZE_AT_NS, first_ns + FREEZE_AT_NS + FREEZE_NS


def figures(told: Arm, *, from_send: bool = False) -> list[Figure]:
    """Measured against computed, both from the same schedule."""
    requests = told.observed.requests.select(told.observed.requests.measured)
    requests = requests.select(np.argsort(requests.intended_ns))
    freeze = frozen(told)
    quiet = requests.end_ns < freeze[0]
    call_ns = int(np.median((requests.end_ns - requests.start_ns)[quiet]))
    first_ns = int(np.median((requests.first_token_ns - requests.start_ns)[quiet]))
    starts_ns = predicted_ns(requests.intended_ns, np.full(len(requests), call_ns), freeze, CAP)
    token_ns = starts_ns + first_ns
    stuck = (starts_ns < freeze[1]) & (token_ns > freeze[0])
    token_ns = np.where(stuck, token_ns + freeze[1] - np.maximum(freeze[0], starts_ns), token_ns)
    computed_ms = percentile(token_ns - requests.intended_ns, 0.99) / NS_PER_MS
    intended_ms = percentile(ttft_ns(requests), 0.99) / NS_PER_MS
    sent_ms = percentile(ttft_sent_ns(requests), 0.99) / NS_PER_MS
    shown = sent_ms if from_send else intended_ms
    return [
        Figure("p99 TTFT from the intended start, computed", computed_ms),
        Figure("p99 TTFT from the intended start, measured", shown, computed_ms * (1 - TOLERANCE), computed_ms * (1 + TOLERANCE)),
        Figure("p99 TTFT from the actual send", sent_ms, high=0.5 * computed_ms),
        Figure("client.cap_wait p99 contribution", told.contribution_ms("client.cap_wait", 0.99), low=0.5 * computed_ms),
    ]


def run_frozen(requests: int) -> tuple[list[Figure], list[Figure]]:
    """The figures of one run, and those of the control."""
    fault = {"stage": "gateway", "kind": "freeze", "at": f"{FREEZE_AT_NS}ns", "for": f"{FREEZE_NS}ns"}
    overrides = {
        "load": {"rate_per_s": RATE_PER_S, "num_requests": requests, "max_concurrency": CAP, "seed": SEED},
        "workload": {"prompt_tokens": 64, "output_tokens": 2},
        "stub": {**STACK, "faults": [fault]},
    }
    with arm("frozen", overrides) as told:
        return figures(told), figures(told, from_send=True)


def main(arguments: Sequence[str] | None = None) -> None:
    """Run it once and leave with 1 when a figure misses."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--requests", type=int, default=1200)
    options = parser.parse_args(arguments)
    head = f"n {options.requests}, {RATE_PER_S:g}/s Poisson, at most {CAP} in flight, seed {SEED}; frozen {FREEZE_NS / NS_PER_S:g} s"
    measured, wrong = run_frozen(options.requests)
    passed = verdict.show("a frozen server", f"{head}; tolerance {TOLERANCE:.0%}", measured)
    passed &= verdict.control("the same figure from the actual send", wrong)
    verdict.end(passed=passed)


if __name__ == "__main__":
    main()
