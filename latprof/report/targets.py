"""The targets of a run in a table: the same cells on a terminal and on a page."""

from __future__ import annotations

import math
from typing import Final

from latprof.analysis.targets import TargetFigures
from latprof.report.words import in_ms

TARGET_HEAD: Final = ("target", "share", "asked", "ok", "failed", "TTFT p50", "TTFT p99", "tail mean", "call p50")
TARGET_NOTE: Final = (
    "Times in ms; - where the sample is too small; tail mean: of the slowest 5 % of TTFT. share is that of the requests, asked that of the"
    " weights, by which sessions are drawn."
)


def target_cells(one: TargetFigures) -> tuple[str, ...]:
    """A line of the table, under `TARGET_HEAD`."""
    p50_ns, *_, p99_ns = one.ttft.given
    times_ns = (p50_ns, p99_ns, one.ttft.tail_mean, one.e2el.given[0])
    return (one.name, _percent(one.share), _percent(one.asked_share), str(one.counts.ok), str(one.counts.failed), *map(in_ms, times_ns))


def _percent(share: float) -> str:
    return "-" if math.isnan(share) else f"{100 * share:.1f} %"
