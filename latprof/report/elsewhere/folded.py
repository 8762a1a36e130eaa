"""The TTFT budget as folded stacks, for flame graph tools (flamegraph.pl, inferno, speedscope): one line per stack, its weight in ns.

    TTFT p99;gateway;gateway.tokenize;wait 4120337
    TTFT p99;prefill;service 61022841

The weights are the layers' contributions and sum to the percentile itself, so a frame is as wide as what it adds to it.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator

import numpy as np

from latprof.analysis.contributions import Contributions, contributions, mean_contributions
from latprof.errors import UsageError
from latprof.layers.table import IntArray, Layers
from latprof.report.inert import plain
from latprof.report.rounding import rounded_to_sum

# What weighting leaves of a cell that is all wait and service.
_NOISE = 1e-9
_PERCENTILE = re.compile(r"p(?P<percent>\d{1,2}(?:\.\d+)?)")


def column_at(ttft: Layers, intended_ns: IntArray, at: str) -> tuple[str, Contributions]:
    """The column ``at`` names (``p99``, ``p99.9``, ``mean``), and its label; ``intended_ns`` (n,) is aligned with ``ttft.rows``.

    Raises:
        UsageError: it is no percentile, there is no request, or too few for that percentile.
    """
    match = _PERCENTILE.fullmatch(at)
    p = float(match["percent"]) / 100 if match else math.nan
    if at != "mean" and not 0 < p < 1:
        raise UsageError(f"--at must be mean or a percentile such as p50 or p99, got {plain(at)!r}")
    if not len(ttft.rows):
        raise UsageError("--folded: this run has no successful request, so no layers; latprof report without it says why")
    if at == "mean":
        return at, mean_contributions(ttft)
    column = contributions(ttft, p, intended_ns)
    if column.kind != "percentile":
        raise UsageError(
            f"--at {at}: {len(ttft.rows)} requests ({column.n_eff:.0f} independent) are too few for it; give --at a lower percentile, or mean"
        )
    return f"p{100 * p:g}", column


def lines(ttft: Layers, column: Contributions, label: str) -> Iterator[str]:
    """The stacks of ``column``, which is one of ``ttft``'s, in path order; parts of no weight are left out."""
    untold_ns = column.total_ns - column.wait_ns - column.service_ns
    parts = {
        "wait": column.wait_ns,
        "service": column.service_ns,
        "": np.where(untold_ns > _NOISE * column.total_ns, untold_ns, 0.0),  # the layer itself
    }
    stacks = [(index, part) for index in range(len(ttft.names)) for part in parts]
    weights = rounded_to_sum([float(parts[part][index]) for index, part in stacks], 1.0, round(column.value_ns))
    root = f"{ttft.metric.upper()} {label}"
    for (index, part), weight in zip(stacks, weights, strict=True):
        if weight > 0:
            frames = [root, *_frames(ttft.names[index]), *([part] if part else [])]
            yield f"{';'.join(_frame(frame) for frame in frames)} {weight}"


def _frames(layer: str) -> list[str]:
    """A layer below the prefix it is a part of, so that a gateway's layers stand on one frame; time of several prefixes stands alone."""
    prefixes = {part.split(".", 1)[0] for part in layer.split("+")}
    prefix = prefixes.pop()
    return [layer] if prefixes or prefix == layer or "@" in layer else [prefix, layer]


def _frame(name: str) -> str:
    """``;`` ends a frame in this format, and the last blank begins the weight."""
    return plain(name).replace(";", ",")
