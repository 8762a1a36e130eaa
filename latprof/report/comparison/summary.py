"""A comparison as JSON: schema ``latprof.comparison/1``, every key of it described in ``docs/comparing.md``. Nothing is rounded."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from latprof.analysis.verdicts.arms import Arm
from latprof.analysis.verdicts.compare import Change, Comparison, Moved
from latprof.analysis.verdicts.replications import SHARES
from latprof.report import presets
from latprof.report.comparison.terminal import headline
from latprof.units import NS_PER_MS

SCHEMA = "latprof.comparison/1"
"""Additions keep the number."""


def summary(told: Comparison, refused: Sequence[str] = ()) -> dict[str, Any]:
    """``told`` as plain values: times in ms, shares as fractions; null where a figure is not known."""
    return {
        "schema": SCHEMA,
        "answer": headline(told, refused),
        "valid": told.valid,
        "refused": list(refused),
        "paired": told.is_paired,
        "tolerance": {"share": told.tolerance.share, "least_ms": told.tolerance.least_ns / NS_PER_MS},
        "arms": {"a": _arm(told.a), "b": _arm(told.b)},
        "differ_in": {"asked": list(told.apart.asked), "system": list(told.apart.system), "place": list(told.apart.place)},
        "end_to_end": [_change(change) for change in told.end_to_end],
        "layers": {told.metric: [_change(change) for change in told.layers]},
        "moved": [_moved(one) for one in told.moved],
    }


def _arm(arm: Arm) -> dict[str, Any]:
    return {
        "name": arm.name,
        "seeds": list(arm.seeds),
        "valid": arm.valid,
        "doubts": [{"id": doubt.id, "level": doubt.level, "text": doubt.text} for doubt in arm.doubts],
        "arrival_model": arm.conditions.arrival_model,
        "simulated": arm.conditions.is_simulated,
        "runs": [
            {"seed": seed, "requests": one.requests, "cut_requests": one.steady.cut_requests, "steady": one.steady.words}
            for seed, one in zip(arm.seeds, arm.runs, strict=False)  # a baseline keeps none
        ],
        "presets": None if arm.presets is None else list(presets.lines(arm.presets)),
    }


def _change(change: Change) -> dict[str, Any]:
    is_share = change.key.selector.metric in SHARES
    unit, per = ("", 1.0) if is_share else ("_ms", float(NS_PER_MS))

    def told(value: float) -> float | None:
        return value / per if math.isfinite(value) and change.is_given else None

    low, high = change.shift.interval() if change.shift is not None else (math.nan, math.nan)
    return {
        "metric": change.key.selector.metric,
        "layer": change.key.selector.layer or None,
        "at": None if change.key.p is None else f"p{100 * change.key.p:g}",
        f"a{unit}": told(change.a.value),
        f"b{unit}": told(change.b.value),
        f"change{unit}": told(change.value),
        f"low{unit}": told(low),
        f"high{unit}": told(high),
        f"margin{unit}": told(change.margin),
        f"found_from{unit}": told(change.detectable),
        f"rank_shift{unit}": told(change.rank_shift),
        "rank_p": change.rank_p if math.isfinite(change.rank_p) else None,
        "verdict": change.verdict,
        "why": change.why or None,
    }


def _moved(one: Moved) -> dict[str, Any]:
    low, high = one.together.interval()
    return {
        "metric": one.metric,
        "at": None if one.p is None else f"p{100 * one.p:g}",
        "from": one.lost,
        "to": one.gained,
        "moved_ms": one.moved_ns / NS_PER_MS,
        "together_ms": one.together.value / NS_PER_MS,
        "low_ms": low / NS_PER_MS,
        "high_ms": high / NS_PER_MS,
    }
