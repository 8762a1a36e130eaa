"""Whether the load that was asked for is the load that came, by the word of a server that logs its arrivals.

    python -m harness.offered [--poisson 2500] [--constant 2500] [--starved 4000]

Poisson arrivals at 50/s and constant ones at 100/s through the whole of latprof, held against their own schedules. Stalls are the run's own, as
the worker's health says: ticks of 20 ms on its event loop, and wake-ups of its timer, that the kernel delivered more than 1 ms late. Gaps that touch one are left out of the
coefficient of variation of the constant load, and counted. The send lag is judged by the requests that the machine left alone, by the word of a witness
(`harness.witness`); that of all of them is printed beside it, and beside the witness's own. A run whose generator is starved, by busy loops on its only core, must get a fatal
doubt: 2 000/s, because one that has little to do is let in at once even there. The control sends every tenth request 4 ms late.
"""

from __future__ import annotations

import argparse
import contextlib
import math
import os
import resource
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from harness import verdict
from harness.arrival_log import logging_server, read_log
from harness.verdict import Figure
from harness.witness import Witness, witness
from latprof.analysis.quantiles import percentile
from latprof.config import load_config
from latprof.observations.columns import Requests
from latprof.observations.folder import load
from latprof.pipeline import run
from latprof.schedule.plan import WARMUP_SESSION_BASE
from latprof.units import NS_PER_MS, NS_PER_S

SEED = 1
POISSON_PER_S, CONSTANT_PER_S, STARVED_PER_S = 50.0, 100.0, 2000.0
RATE_TOLERANCE, CV_TOLERANCE = 0.005, 0.05
MOST_CONSTANT_CV = 0.02
MOST_LAG_MS = 1.0
MOST_WORKER_MB = 150.0
# Of the requests: with fewer left alone, nothing is known.
LEAST_LEFT_ALONE = 0.5
# Busy loops that share one core with the worker: a seventh of a core is left to it.
_BUSY_LOOPS = 6
# Of the ticks that tell of stalls at p99: later than this, and it is the machine that is measured.
QUIET_NS = NS_PER_MS
_TRIES = 3

Array = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Offered:
    """One run: its rows in order of intended start, when each came at the server (same order), the stalls (n, 2), and what is fatal about it."""

    requests: Requests
    arrived_ns: Array
    stalls_ns: Array
    fatal: tuple[str, ...]
    tick_p99_ns: int
    witness: Witness = field(default_factory=Witness)
    worker_bytes: int = 0

    @property
    def asked_per_s(self) -> float:
        """The schedule's own rate, which for random arrivals is not the one in the configuration."""
        return _per_s(self.requests.intended_ns)

    @property
    def lag_ns(self) -> Array:
        """Intended start to the first byte, of each request."""
        return np.asarray(self.requests.send_ns - self.requests.intended_ns, np.int64)

    @property
    def lag_p99_ms(self) -> float:
        """Of all requests."""
        return percentile(self.lag_ns, 0.99) / NS_PER_MS

    @property
    def left_alone(self) -> npt.NDArray[np.bool_]:
        """Which requests no standstill of the machine fell on, from a millisecond before their intended start to their first byte."""
        return ~self.witness.touched(self.requests.intended_ns, self.requests.send_ns)


def _per_s(stamps_ns: Array) -> float:
    return (len(stamps_ns) - 1) * NS_PER_S / float(np.ptp(stamps_ns))


def _cv(gaps_ns: Array) -> float:
    return float(gaps_ns.std() / gaps_ns.mean())


def figures(name: str, offered: Offered, *, constant: bool) -> list[Figure]:
    """One run held against what is asked of it."""
    arrived = np.sort(offered.arrived_ns)
    gaps = np.diff(arrived)
    touched = _touched(arrived, offered.stalls_ns)
    asked = offered.asked_per_s
    alone, lag_ns = offered.left_alone, offered.lag_ns
    shown = [
        Figure(f"{name}: arrivals", float(len(arrived)), len(offered.requests), len(offered.requests), ""),
        Figure(f"{name}: the schedule's own rate", asked, unit="/s"),
        Figure(f"{name}: arrivals at the server", _per_s(arrived), asked * (1 - RATE_TOLERANCE), asked * (1 + RATE_TOLERANCE), "/s"),
        Figure(f"{name}: send lag p50", percentile(lag_ns, 0.5) / NS_PER_MS),
        Figure(f"{name}: send lag p99", offered.lag_p99_ms),
        Figure(f"{name}: the witness's own lag p99", offered.witness.late_p99_ns / NS_PER_MS),
        Figure(f"{name}: requests left alone by the machine", float(alone.mean()), low=LEAST_LEFT_ALONE, unit=""),
        Figure(
            f"{name}: send lag p99 of those", percentile(lag_ns[alone], 0.99) / NS_PER_MS if alone.any() else math.nan, high=MOST_LAG_MS
        ),
        Figure(f"{name}: stalls recorded", float(len(offered.stalls_ns)), unit=""),
        Figure(f"{name}: CV of the gaps, all of them", _cv(gaps), unit=""),
        Figure(f"{name}: fatal doubts", float(len(offered.fatal)), high=0, unit=""),
    ]
    if constant:
        quiet = gaps[~touched]
        return [*shown, Figure(f"{name}: CV of the {len(quiet)} gaps outside stalls", _cv(quiet), high=MOST_CONSTANT_CV, unit="")]
    return [*shown[:-2], replace(shown[-2], low=1 - CV_TOLERANCE, high=1 + CV_TOLERANCE), shown[-1]]


def _touched(arrived_ns: Array, stalls_ns: Array) -> npt.NDArray[np.bool_]:
    """Which gaps have an end in a stall; it began before the tick that saw it, and what it held back goes a millisecond after it."""
    stalled = np.zeros(len(arrived_ns), np.bool_)
    for begun_ns, ended_ns in stalls_ns:
        stalled |= (arrived_ns >= begun_ns - (ended_ns - begun_ns)) & (arrived_ns <= ended_ns + NS_PER_MS)
    return np.asarray(stalled[1:] | stalled[:-1])


def control_figures(offered: Offered) -> list[Figure]:
    """The constant load with every tenth arrival 4 ms late."""
    late_ns = np.zeros(len(offered.arrived_ns), np.int64)
    late_ns[::10] = 4 * NS_PER_MS
    requests = replace(offered.requests, send_ns=offered.requests.send_ns + late_ns)
    return figures("constant", replace(offered, arrived_ns=offered.arrived_ns + late_ns, requests=requests), constant=True)


def measure(arrival: str, rate_per_s: float, requests: int, *, starved: bool = False, tries: int = _TRIES) -> Offered:
    """Run it; again while the machine held its ticks up by more than `QUIET_NS`: judged by them alone, never by what is asked."""
    best: Offered | None = None
    for number in range(tries):
        tried = _measure_once(arrival, rate_per_s, requests, starved=starved)
        if best is None or tried.tick_p99_ns < best.tick_p99_ns:
            best = tried
        if starved or best.tick_p99_ns < QUIET_NS:
            break
        print(f"  (try {number + 1} of {arrival}: ticks came {tried.tick_p99_ns / NS_PER_MS:.1f} ms late at p99)", flush=True)
    assert best is not None
    return best


def _measure_once(arrival: str, rate_per_s: float, requests: int, *, starved: bool) -> Offered:
    folder = Path(tempfile.mkdtemp(prefix="latprof-offered-"))
    try:
        with logging_server(folder / "arrivals") as url:
            settings = load_config(
                None,
                {
                    "target": {"url": url},
                    "load": {"arrival": arrival, "rate_per_s": rate_per_s, "num_requests": requests, "warmup": "1s", "seed": SEED},
                    "workload": {"prompt_tokens": 16, "output_tokens": 1},
                    "spans": {"grace": "0s", "grpc_port": 0, "http_port": 0},
                    "out": folder / "run",
                },
            )

            with _busy_core() if starved else contextlib.nullcontext(), witness() as seen:
                outcome = run(settings)
        observed = load(outcome.folder)
        fatal = tuple(doubt.id for doubt in outcome.report.doubts if doubt.level == "fatal")
        rows = observed.requests.select(observed.requests.measured)
        rows = rows.select(np.argsort(rows.session))
        sessions, at_ns = read_log(folder / "arrivals")
        measured = (sessions >= 0) & (sessions < WARMUP_SESSION_BASE)
        arrived_ns = at_ns[measured][np.argsort(sessions[measured], kind="stable")]
        health = [phase["health"] for phase in observed.meta["phases"]][-1]
        return Offered(
            rows, arrived_ns, _stalls(observed.meta), fatal, health["loop_lag_p99_ns"], seen, observed.meta["workers"]["peak_bytes"]
        )
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _stalls(meta: Mapping[str, Any]) -> Array:
    """(due, came) of every tick that came late, shape (n, 2)."""
    workers = meta["phases"][-1]["workers"]
    late = np.array([stall for worker in workers for stall in worker["health"]["stalls"]], np.int64).reshape(-1, 2)
    return np.cumsum(late, axis=1)


@contextlib.contextmanager
def _busy_core() -> Iterator[None]:
    """This process, and all that it starts, on one core, which others keep busy."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {max(before)})
    busy = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(_BUSY_LOOPS)]
    try:
        yield
    finally:
        for process in busy:
            process.kill()
            process.wait()
        os.sched_setaffinity(0, before)


def memory_figures(offered: Offered) -> list[Figure]:
    """Of the process that sends, and of this one, which planned the load and made the report."""
    own_bytes = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    return [
        Figure("the worker", offered.worker_bytes / 1e6, low=1, high=MOST_WORKER_MB, unit="MB"),
        Figure("the profiler", own_bytes / 1e6, unit="MB"),
    ]


def starved_figures(offered: Offered) -> list[Figure]:
    """A generator that cannot keep up must say so."""
    return [
        Figure("starved: send lag p99", offered.lag_p99_ms),
        Figure(f"starved: fatal doubts ({', '.join(offered.fatal) or 'none'})", float(len(offered.fatal)), low=1, unit=""),
    ]


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the three loads and leave with 1 when a figure misses."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--poisson", type=int, default=2500)
    parser.add_argument("--constant", type=int, default=2500)
    parser.add_argument("--starved", type=int, default=4000)
    options = parser.parse_args(arguments)
    head = f"seed {SEED}; tolerance of the rate {RATE_TOLERANCE:.1%}, of the Poisson CV {CV_TOLERANCE:g}; Python {sys.version.split()[0]}"
    poisson = measure("poisson", POISSON_PER_S, options.poisson)
    passed = verdict.show(f"Poisson {POISSON_PER_S:g}/s", f"n {options.poisson}, {head}", figures("poisson", poisson, constant=False))
    constant = measure("constant", CONSTANT_PER_S, options.constant)
    passed &= verdict.show(f"constant {CONSTANT_PER_S:g}/s", f"n {options.constant}, {head}", figures("constant", constant, constant=True))
    passed &= verdict.control("every tenth request 4 ms late", control_figures(constant))
    passed &= verdict.show("peak memory", f"n {options.constant}, {head}", memory_figures(constant))
    starved = measure("constant", STARVED_PER_S, options.starved, starved=True)
    passed &= verdict.show(f"a generator on one core with {_BUSY_LOOPS} busy loops", f"n {options.starved}", starved_figures(starved))
    passed &= verdict.control("the same load with nothing in its way", starved_figures(constant))
    verdict.end(passed=passed)


if __name__ == "__main__":
    main()
