"""The page of a comparison: what changed end to end, in which layers, and how the two distributions lie to each other."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from latprof.analysis.quantiles import Numbers
from latprof.analysis.verdicts.arms import Arm, Key
from latprof.analysis.verdicts.compare import Change, Comparison
from latprof.analysis.verdicts.replications import SHARES, Selector
from latprof.report.colours import colour_of
from latprof.report.comparison import arms, footnotes, headline, moved_words
from latprof.report.comparison_summary import summary
from latprof.report.page.distribution import tails
from latprof.report.page.document import document
from latprof.units import ms

Samples = Mapping[str, Sequence[Mapping[str, Numbers]]]
"""Arm name (``A``, ``B``) -> its runs -> metric -> the sample, in ns and in order of intended start."""


def page(told: Comparison, refused: Sequence[str], samples: Samples, repeat: str) -> str:
    """The page as HTML; ``samples`` are empty where an arm is a baseline, which keeps none."""
    drawn = pictures(told, samples)
    is_worse = any(change.verdict == "worse" for change in (*told.end_to_end, *told.layers))
    mood = "bad" if not told.valid or is_worse else "warn" if refused or not told.says_something else "good"
    return document(
        "comparison.html.j2",
        {
            "title": "latprof compare",
            "subtitle": f"{told.a.name} against {told.b.name}",
            "summary": summary(told, refused),
            "pictures": drawn,
            "verdict": {"text": headline(told, refused), "mood": mood},
            "doubts_found": [
                {"level": doubt.level, "text": doubt.text, "remedy": doubt.remedy}
                for doubt in {doubt.id: doubt for doubt in (*told.a.doubts, *told.b.doubts)}.values()
            ],
            "arms": list(arms(told)),
            "moved": [moved_words(one) for one in told.moved],
            "tails": [(metric, one["name"]) for metric, one in drawn["tails"].items()],
            "forests": [(name, one["title"]) for name, one in drawn["forest"].items()],
            "notes": list(footnotes(told)),
            "metric": told.metric,
            "repeat": repeat,
        },
    )


def pictures(told: Comparison, samples: Samples) -> dict[str, Any]:
    """Every picture of a comparison by name."""
    timed = [change for change in told.end_to_end if change.key.selector.metric not in SHARES]
    drawn = tails(samples) if all(samples.get(arm) for arm in ("A", "B")) else {}
    forests = {
        "end to end": _forest("end to end", timed),
        **{f"layers {at}": _forest(f"layers at {at}", changes) for at, changes in _by_percentile(told.layers).items()},
    }
    return {
        "forest": {name: one for name, one in forests.items() if one["rows"]},
        "budget": _stacked(told),
        "tails": {metric: one for metric, one in drawn.items() if len(one["arms"]) > 1},
    }


def _by_percentile(changes: Sequence[Change]) -> dict[str, list[Change]]:
    found: dict[str, list[Change]] = {}
    for change in changes:
        found.setdefault(_at(change), []).append(change)
    return found


def _at(change: Change) -> str:
    return "mean" if change.key.p is None else f"p{100 * change.key.p:g}"


def _forest(title: str, changes: Sequence[Change]) -> dict[str, Any]:
    return {
        "title": title,
        "rows": [_row(change) for change in changes if math.isfinite(change.value) and (change.a.value or change.b.value)],
    }


def _row(change: Change) -> dict[str, Any]:
    low, high = change.shift.interval() if change.shift is not None else (math.nan, math.nan)
    selector = change.key.selector
    return {
        "name": selector.layer or str(change.key),
        "a_ms": ms(change.a.value),
        "b_ms": ms(change.b.value),
        "change_ms": ms(change.value),
        "low_ms": _known(ms(low)),
        "high_ms": _known(ms(high)),
        "margin_ms": ms(change.margin),
        "verdict": change.verdict,
        "why": change.why,
    }


def _stacked(told: Comparison) -> dict[str, Any] | None:
    """Both arms' layers at every percentile that is compared, one above the other."""
    percentiles = sorted({change.key.p for change in told.layers if change.key.p is not None})
    layers = list(dict.fromkeys(change.key.selector.layer for change in told.layers))
    if not percentiles or not layers:
        return None

    def value_ms(arm: Arm, layer: str, p: float) -> float:
        value = arm.figure(Key(Selector(told.metric, layer), p)).value
        return ms(value) if math.isfinite(value) else 0.0

    sides = [(f"{name} p{100 * p:g}", arm, p) for p in percentiles for name, arm in (("A", told.a), ("B", told.b))]
    total_ms = {layer: [value_ms(arm, layer, p) for _, arm, p in sides] for layer in layers}
    return {
        "metric": told.metric,
        "requests": 0,
        "columns": [{"label": label, "value_ms": sum(total_ms[layer][at] for layer in layers)} for at, (label, _, _) in enumerate(sides)],
        "layers": [
            {"layer": layer, "colour": colour_of(layer), "total_ms": total_ms[layer], "wait_ms": [0.0] * len(sides)}
            for layer in layers
            if any(total_ms[layer])
        ],
        "limits_ms": {},
    }


def _known(value: float) -> float | None:
    return float(value) if math.isfinite(value) else None
