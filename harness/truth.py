"""Attribution against the stages' own truth files: what latprof says each layer took, request by request, and what it really took.

    python -m harness.truth [--requests 1000]

The quickstart with the truth written. A layer of a request agrees when it is within 1 ms + 2 % of the truth; 99 % of the requests must agree in
every layer. The control shuffles the spans between traces, which must be caught.
"""

from __future__ import annotations

import argparse
import json
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from harness import verdict
from harness.arms import Arm, arm, read
from harness.verdict import Figure
from latprof.spans.store import Spans
from latprof.units import NS_PER_MS

ALLOWED_NS = NS_PER_MS
ALLOWED_SHARE = 0.02
AGREE = 0.99
UNATTRIBUTED_SHARE = 0.05
SEED = 1

Truth = Mapping[str, Mapping[str, int]]
"""Trace id -> layer -> ns that it really took on the way to the first token."""


def truth_of(folder: Path) -> Truth:
    """The truth files of every stage; a layer that two stages have (the hold on the way back) is summed."""
    taken: dict[str, dict[str, int]] = defaultdict(lambda: defaultdict(int))
    for path in sorted(folder.glob("*.jsonl")):
        for line in path.read_text().splitlines():
            entry = json.loads(line)
            taken[entry["trace_id"]][entry["layer"]] += entry["wait_ns"] + entry["service_ns"]
    return taken


def agreeing(run: Arm, truth: Truth) -> Iterator[tuple[str, float]]:
    """Per layer the share of requests whose time agrees with the truth; a request without truth does not agree."""
    rows = run.layers.rows
    traces = [str(run.observed.requests.trace_id[row]) for row in rows]
    layers = sorted({layer for taken in truth.values() for layer in taken})
    together = np.ones(len(rows), np.bool_)
    for layer in layers:
        real = np.array([truth.get(trace, {}).get(layer, -(10**12)) for trace in traces], np.int64)
        column = run.layers.total_ns[:, run.layers.names.index(layer)] if layer in run.layers.names else np.zeros(len(rows), np.int64)
        agree = np.abs(column - real) <= ALLOWED_NS + ALLOWED_SHARE * np.abs(real)
        together &= agree
        yield layer, float(agree.mean())
    yield "every layer at once", float(together.mean())


def figures(run: Arm, truth: Truth, asked: float = AGREE) -> list[Figure]:
    """The table of one run; ``asked`` of the requests must agree."""
    shares = [Figure(layer, share, low=asked, unit="") for layer, share in agreeing(run, truth)]
    exact = np.array_equal(
        run.layers.total_ns.sum(axis=1),
        run.observed.requests.first_token_ns[run.layers.rows] - run.observed.requests.intended_ns[run.layers.rows],
    )
    return [
        *shares,
        Figure("unattributed share of TTFT", run.unattributed_share(), high=UNATTRIBUTED_SHARE, unit=""),
        Figure("layers sum to TTFT in ns", float(exact), 1.0, 1.0, ""),
        Figure("smallest layer time", float(run.layers.total_ns.min()), low=0.0, unit="ns"),
    ]


def shuffled(spans: Spans) -> Spans:
    """Every trace's spans under the next trace's id."""
    traces = list(spans.trace_ids)
    following = dict(zip(traces, [*traces[1:], traces[0]], strict=True))
    return Spans.of([replace(span, trace_id=following[trace]) for trace in traces for span in spans.for_trace(trace)])


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the quickstart once and leave with 1 when a figure misses or the control is not caught."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--requests", type=int, default=1000)
    options = parser.parse_args(arguments)
    head = (
        f"n {options.requests}, seed {SEED}; agreement is within {ALLOWED_NS / NS_PER_MS:g} ms + {ALLOWED_SHARE:.0%}, asked of {AGREE:.0%}"
    )
    with arm("quickstart", {"load": {"num_requests": options.requests, "seed": SEED}, "stub": {"truth": True}}) as quickstart:
        truth = truth_of(quickstart.truth)
        passed = verdict.show("share of requests that agree with the truth", head, figures(quickstart, truth))
        wrong = read("shuffled", quickstart.observed.folder, shuffled(quickstart.spans))
        passed &= verdict.control("spans shuffled between traces", figures(wrong, truth)[:-3])
    verdict.end(passed=passed)


if __name__ == "__main__":
    main()
