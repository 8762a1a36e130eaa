"""Loops that answer to a freeze: the stub's gateway stands still for 1.5 s under a closed loop and under partly open sessions.

    python -m harness.frozen_loops [--seconds 10]

What happens follows from the freeze alone. In a closed loop the requests in flight end with it, one for each place, and nothing begins meanwhile: that many
show it, and not as many as an open loop of the same rate would have sent. Partly open sessions go on arriving by the schedule, each in time; within a
session every turn waits for the one before and its think time, so that later turns stop within one think time. (The open loop and its cap are
`harness.omission`.) The control asks of each what holds of the other.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from contextlib import ExitStack
from typing import Any

import numpy as np
import numpy.typing as npt

from harness import verdict
from harness.arms import Arm, quiet_arm
from harness.verdict import Figure
from latprof.analysis.metrics import ttft_ns
from latprof.observations.columns import Requests
from latprof.units import NS_PER_MS, NS_PER_S

SEED = 1
PLACES = 4
SESSIONS_PER_S = 6
TURNS = 3
THINK_NS = 300 * NS_PER_MS
FREEZE_AT_NS = 2 * NS_PER_S
FREEZE_NS = 3 * NS_PER_S // 2
STACK = {"gateway": {"tokenize": "1ms"}, "prefill": {"t0": "5ms", "per_token_ns": 20_000}, "decode": {"t1": "4ms"}}
# A machine that is put aside is this late; what is told apart is farther from each other.
SLACK_NS = 300 * NS_PER_MS
_DISTURBED_MS = 30.0

Mask = npt.NDArray[np.bool_]


def _measured(told: Arm) -> Requests:
    requests = told.observed.requests
    requests = requests.select(requests.measured & requests.success)
    return requests.select(np.lexsort((requests.turn, requests.session)))


def _frozen_ns(requests: Requests) -> tuple[int, int]:
    """When the gateway stood still: the stub counts from its first measured request."""
    begin_ns = int(requests.send_ns.min()) + FREEZE_AT_NS
    return begin_ns, begin_ns + FREEZE_NS


def _within(due_ns: npt.NDArray[np.int64], from_ns: int, to_ns: int) -> Mask:
    return (due_ns >= from_ns) & (due_ns < to_ns)


def closed(told: Arm) -> list[Figure]:
    """One request for each place shows the freeze, and none begins in it."""
    requests = _measured(told)
    begin_ns, end_ns = _frozen_ns(requests)
    took_ns = requests.end_ns - requests.intended_ns
    shows_it = took_ns > FREEZE_NS // 2
    usual_ns = int(np.median(took_ns[requests.end_ns < begin_ns]))
    rate_per_s = int((requests.end_ns < begin_ns).sum()) / (FREEZE_AT_NS / NS_PER_S)
    # A place that became free as the freeze came sends into it.
    inside = _within(requests.intended_ns, begin_ns + SLACK_NS, end_ns - SLACK_NS)
    frozen_ns = int(np.median(took_ns[shows_it])) if shows_it.any() else 0
    return [
        Figure("requests that show it", int(shows_it.sum()), PLACES, PLACES, ""),
        Figure("an open loop of its rate would have had", rate_per_s * FREEZE_NS / NS_PER_S, low=2 * PLACES, unit=""),
        Figure("requests that began in it", int(inside.sum()), 0, 0, ""),
        Figure("their call, p50", frozen_ns / NS_PER_MS, FREEZE_NS / NS_PER_MS, (FREEZE_NS + usual_ns + SLACK_NS) / NS_PER_MS),
        Figure("lateness", int((requests.start_ns - requests.intended_ns).max()) / NS_PER_MS, high=SLACK_NS / NS_PER_MS),
    ]


def partly_open(told: Arm) -> list[Figure]:
    """Sessions begin in the freeze as the schedule says, and wait for its end; later turns wait for the turns before them."""
    requests = _measured(told)
    begin_ns, end_ns = _frozen_ns(requests)
    firsts, laters = requests.turn == 0, requests.turn > 0
    inside = firsts & _within(requests.intended_ns, begin_ns, end_ns)
    due = FREEZE_NS * SESSIONS_PER_S / NS_PER_S
    ttft = ttft_ns(requests)
    usual_ns = int(np.median(ttft[firsts & (requests.end_ns < begin_ns)]))
    off_ns = np.abs(ttft - (end_ns - requests.intended_ns + usual_ns))[inside]
    early = inside & (requests.first_token_ns < end_ns)
    off_ms = float(np.median(off_ns)) / NS_PER_MS if len(off_ns) else 0.0
    follows = laters[1:] & (requests.session[1:] == requests.session[:-1])
    think_ns = (requests.intended_ns[1:] - requests.end_ns[:-1])[follows]
    thought_ns = np.abs(think_ns - THINK_NS)
    stuck = laters & _within(requests.intended_ns, begin_ns + THINK_NS + SLACK_NS, end_ns)
    return [
        Figure("sessions that began in it", int(inside.sum()), due - 1, due + 1, ""),
        Figure("lateness", int((requests.start_ns - requests.intended_ns).max()) / NS_PER_MS, high=SLACK_NS / NS_PER_MS),
        Figure("their first tokens before its end", int(early.sum()), 0, 0, ""),
        Figure("their TTFT, off the computed, p50", off_ms, high=SLACK_NS / NS_PER_MS),
        Figure("later turns", int(follows.sum()), low=2 * due, unit=""),
        Figure("think time, off the asked", int(thought_ns.max(initial=0)) / NS_PER_MS, 0, 0),
        Figure("later turns due in it after a think time", int(stuck.sum()), 0, 0, ""),
    ]


def run_frozen(seconds: float) -> tuple[list[Figure], list[Figure], list[list[Figure]]]:
    """The figures of a closed loop, those of partly open sessions, and the controls: each asked of the other."""
    fault = {"stage": "gateway", "kind": "freeze", "at": f"{FREEZE_AT_NS}ns", "for": f"{FREEZE_NS}ns"}
    load = {"duration": f"{seconds}s", "warmup": "0s", "seed": SEED}
    shared: dict[str, Any] = {"workload": {"prompt_tokens": 64, "output_tokens": 12}, "stub": {**STACK, "faults": [fault]}}
    sessions = {**shared, "workload": {**shared["workload"], "turns": TURNS, "reply_tokens": 16, "think": f"{THINK_NS}ns"}}
    with ExitStack() as stack:
        places = stack.enter_context(quiet_arm("closed", {**shared, "load": {**load, "concurrency": PLACES}}, _DISTURBED_MS))
        arrivals = {**load, "arrival": "constant", "rate_per_s": SESSIONS_PER_S}
        arriving = stack.enter_context(quiet_arm("partly open", {**sessions, "load": arrivals}, _DISTURBED_MS))
        return closed(places), partly_open(arriving), [closed(arriving), partly_open(places)]


def main(arguments: Sequence[str] | None = None) -> None:
    """Run both once and leave with 1 when a figure misses."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=10.0, help="measured time of each run, beyond the freeze at 2 .. 3.5 s")
    options = parser.parse_args(arguments)
    of_places, of_sessions, controls = run_frozen(options.seconds)
    head = f"{options.seconds:g} s, seed {SEED}; frozen {FREEZE_NS / NS_PER_S:g} s; a machine may be {SLACK_NS // NS_PER_MS} ms late"
    passed = verdict.show("a freeze in a closed loop", f"{PLACES} places, {head}", of_places)
    told = f"{SESSIONS_PER_S} sessions/s of {TURNS} turns, {THINK_NS // NS_PER_MS} ms think time, {head}"
    passed &= verdict.show("a freeze under partly open sessions", told, of_sessions)
    passed &= verdict.control("a closed loop's figures, of sessions", controls[0])
    passed &= verdict.control("sessions' figures, of a closed loop", controls[1])
    verdict.end(passed=passed)


if __name__ == "__main__":
    main()
