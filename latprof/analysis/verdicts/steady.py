r"""Where the steady state of a run begins, and whether it has one: MSER-5 with guards, then the two halves of what is left.

    TTFT  \
           \____ _ ___ ____ _ ____ _ ___ __ _
          | cut |   first half   |  second   |
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from latprof.analysis.quantiles import FloatArray, percentile
from latprof.analysis.validity.doubts import Doubt
from latprof.analysis.validity.drift import Drift, drift
from latprof.observations.columns import IntArray
from latprof.schedule.plan import WARMUP
from latprof.units import NS_PER_S

_BATCH = 5
_MIN_BATCHES = 20
# Warm-up in all: the lesser of these, however quiet the beginning looks.
_GUARD_NS = 30 * NS_PER_S
_GUARD_P99S = 5
# A cut that moves the median by less is chance: MSER finds a minimum in stationary noise, too.
_WORTH_CUTTING = 0.05
_APART = 3.0


@dataclass(frozen=True, slots=True)
class Steady:
    """What was found of one run. ``from_ns`` is the intended start from which rows count; ``warmup_ns`` was sent before the measured load.

    ``cut_requests`` and ``cut_ns`` are what of the measured load was left out. ``reason`` is empty when the rest is steady; ``is_asked`` is
    false for a load that is not meant to be (phases, traces): nothing is cut there.
    """

    from_ns: int
    cut_requests: int = 0
    cut_ns: int = 0
    warmup_ns: int = 0
    halves: Drift | None = None
    reason: str = ""
    is_asked: bool = True

    def doubt(self) -> Doubt | None:
        """The fatal doubt that a gate has about a run without a steady state."""
        if not self.reason:
            return None
        return Doubt("no_steady_state", "fatal", f"no steady state: {self.reason}", "lengthen load.warmup, lower the rate, or run longer")

    @property
    def words(self) -> str:
        """The cut in a sentence."""
        if not self.is_asked:
            return "the load changes by plan: nothing was cut, and no steady state is asked for"
        before = f"{self.warmup_ns / NS_PER_S:.1f} s of warm-up"
        return f"{before}, and {self.cut_requests} requests ({self.cut_ns / NS_PER_S:.1f} s) of the measured load cut"


def in_all(runs: Sequence[Steady]) -> str:
    """The cuts of several runs in a sentence."""
    if len(runs) == 1 or not any(one.is_asked for one in runs):
        return runs[0].words
    sums = {name: sum(getattr(one, name) for one in runs) for name in ("cut_requests", "cut_ns", "warmup_ns")}
    return f"{Steady(0, **sums).words}, in all"


def steady(intended_ns: IntArray, ttft_ns: IntArray, warmup_ns: int = 0) -> Steady:
    """Cut the beginning of a run whose TTFTs (n,) are in order of their intended start (n,).

    The cut is that of MSER-5 (White 1997) where it moves the median of the rest by 5 % or more, and at least so long that warm-up and cut come to the lesser of
    30 s and five times the p99. A run is not steady if the cut would reach its middle, or if its halves differ afterwards.
    """
    if not len(ttft_ns):
        return Steady(from_ns=0, warmup_ns=warmup_ns)
    begin_ns = int(intended_ns[0])
    guard_ns = max(0, min(_GUARD_NS, round(_GUARD_P99S * percentile(ttft_ns, 0.99))) - warmup_ns)
    by_guard = int(np.searchsorted(intended_ns, begin_ns + guard_ns)) if guard_ns else 0
    by_mser = mser_5(ttft_ns)
    if by_mser and not _moves(ttft_ns, by_mser):
        by_mser = 0
    cut = max(by_guard, by_mser)
    if cut > len(ttft_ns) // 2:
        length_s = (int(intended_ns[-1]) - begin_ns) / NS_PER_S
        reason = f"of {length_s:.1f} s of load, {guard_ns / NS_PER_S:.1f} s would be its warm-up (the lesser of 30 s and 5 x p99)"
        return Steady(begin_ns, warmup_ns=warmup_ns, reason=reason)
    from_ns = int(intended_ns[cut])
    halves = drift(ttft_ns[cut:])
    reason = _reason(halves) or ("TTFT still settles in the middle of the run" if by_mser >= len(ttft_ns) // 2 - _BATCH else "")
    return Steady(from_ns, cut, from_ns - begin_ns if cut else 0, warmup_ns, halves, reason)


def mser_5(values: IntArray) -> int:
    """How many values MSER-5 cuts off the beginning: means of five, the cut d <= n/2 with the least s^2(d) / (n - d).

    0 for fewer than 100 values.
    """
    batches = len(values) // _BATCH
    if batches < _MIN_BATCHES:
        return 0
    means = values[: batches * _BATCH].reshape(batches, _BATCH).mean(axis=1)
    return _BATCH * int(np.argmin(_marginal_error(means)[: batches // 2 + 1]))


def _marginal_error(means: FloatArray) -> FloatArray:
    """Sum of squares about the mean of means[d:], over (n - d)^2, for every d."""
    centred = means - means.mean()  # large sums of squares would lose the small ones
    left = np.arange(len(means), 0, -1)
    sums = np.cumsum(centred[::-1])[::-1]
    squares = np.cumsum((centred * centred)[::-1])[::-1]
    return np.asarray(np.maximum(squares - sums * sums / left, 0.0) / left.astype(np.float64) ** 2)


def _moves(values: IntArray, cut: int) -> bool:
    rest = float(np.median(values[cut:]))
    return rest > 0 and abs(float(np.median(values[:cut])) / rest - 1) > _WORTH_CUTTING


def _reason(halves: Drift) -> str:
    if not (abs(halves.standard_errors) > _APART and abs(halves.share) > _WORTH_CUTTING):
        return ""
    return f"TTFT p50 went from {halves.first_ns / 1e6:.1f} ms in the first half to {halves.second_ns / 1e6:.1f} ms in the second"


def is_asked(meta: Mapping[str, Any]) -> bool:
    """Whether the load was meant to be the same from its beginning to its end: not for phases, nor for the arrivals of a trace."""
    config = meta.get("config", {})
    load, workload = config.get("load", {}), config.get("workload", {})
    follows_trace = load.get("arrival") == "trace" or (workload.get("trace") and workload.get("trace_times", True))
    return not load.get("phases") and not follows_trace


def warmup_ns(meta: Mapping[str, Any]) -> int:
    """How long the warm-up before the measured load took."""
    return sum(phase["end_ns"] - phase["start_ns"] for phase in meta.get("phases", ()) if phase.get("name") == WARMUP)
