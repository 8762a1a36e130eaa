"""The page of a comparison: what changed end to end, in which layers, and how the two distributions lie to each other."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from latprof.analysis.quantiles import Numbers
from latprof.analysis.verdicts.arms import Arm, Key
from latprof.analysis.verdicts.compare import Change, Comparison, layer_keys
from latprof.analysis.verdicts.replications import SHARES, Selector
from latprof.report.colours import colour_of
from latprof.report.comparison.summary import summary
from latprof.report.comparison.terminal import arms, footnotes, headline, moved_words
from latprof.report.page import made as page_made
from latprof.report.page.distribution import tails, tails_words
from latprof.report.page.document import document
from latprof.report.page.made import Made
from latprof.report.rounding import finite
from latprof.units import ms

UNTOLD = "not told apart"
"""The part of a bar whose layers that side does not tell."""

Samples = Mapping[str, Sequence[Mapping[str, Numbers]]]
"""Arm name (``A``, ``B``) -> its runs -> metric -> the sample, in ns and in order of intended start."""


def page(told: Comparison, refused: Sequence[str], samples: Samples, repeat: str, made: Mapping[str, Made] | None = None) -> str:
    """The page as HTML; ``samples`` are empty where an arm is a baseline, which keeps none. ``made`` by arm name is of its first run."""
    drawn, summed = pictures(told, samples), summary(told, refused)
    is_worse = any(change.verdict == "worse" for change in (*told.end_to_end, *told.layers))
    mood = "bad" if not told.valid or is_worse else "warn" if refused or not told.says_something else "good"
    return document(
        "comparison.html.j2",
        {
            "title": "latprof compare",
            "subtitle": f"{told.a.name} against {told.b.name}",
            "summary": summed,
            "end_to_end": summed["end_to_end"],
            "layers": summed["layers"][told.metric],
            "pictures": drawn,
            "verdict": {"text": headline(told, refused), "mood": mood},
            "doubts_found": [
                {"level": doubt.level, "text": doubt.text, "remedy": doubt.remedy}
                for doubt in {doubt.id: doubt for doubt in (*told.a.doubts, *told.b.doubts)}.values()
            ],
            "arms": list(arms(told)),
            "moved": [moved_words(one) for one in told.moved],
            "left_out": _left_out(told),
            "tails_words": tails_words(drawn["tails"]),
            "tails": [(metric, one["name"]) for metric, one in drawn["tails"].items()],
            "forests": [(name, one["title"]) for name, one in drawn["forest"].items()],
            "notes": list(footnotes(told)),
            "metric": told.metric,
            "repeat": repeat,
            "sides": _sides(made or {}),
        },
    )


def _sides(made: Mapping[str, Made]) -> list[tuple[str, dict[str, Any]]]:
    """Each arm's name and what it was made from, beside the other's."""
    return [(name, page_made.told(one, next((other for at, other in made.items() if at != name), None))) for name, one in made.items()]


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
    drawn = [change for change in changes if math.isfinite(change.value) and (change.a.value or change.b.value)]
    return {"title": title, "rows": [_row(change) for change in drawn if change.is_given]}


def _row(change: Change) -> dict[str, Any]:
    low, high = change.shift.interval() if change.shift is not None else (math.nan, math.nan)
    selector = change.key.selector
    return {
        "name": selector.layer or str(change.key),
        "a_ms": ms(change.a.value),
        "b_ms": ms(change.b.value),
        "change_ms": ms(change.value),
        "low_ms": finite(ms(low)),
        "high_ms": finite(ms(high)),
        "margin_ms": ms(change.margin),
        "verdict": change.verdict,
        "why": change.why,
    }


def _stacked(told: Comparison) -> dict[str, Any] | None:
    """Both arms' layers at every percentile that is compared and rests on enough requests in both, one above the other; None without one.

    A bar is made of what its own side tells apart: a layer that is missing there is no 0 but part of another, of the neighbours it is merged with, or
    of what some of its runs do not tell.
    """
    layers = list(dict.fromkeys(key.selector.layer for key in layer_keys(told.a, told.b, told.metric)))
    drawn = [p for p in _percentiles(told) if _is_enough(told, p)]
    sides = [(f"{name} p{100 * p:g}", _bar_ms(arm, told.metric, p)) for p in drawn for name, arm in (("A", told.a), ("B", told.b))]
    if not sides or not layers:
        return None
    return {
        "metric": told.metric,
        "requests": 0,
        "columns": [{"label": label, "value_ms": math.fsum(bar.values())} for label, bar in sides],
        "layers": [
            {
                "layer": layer,
                "colour": colour_of(layer),
                "total_ms": [bar.get(layer, 0.0) for _, bar in sides],
                "wait_ms": [0.0] * len(sides),
            }
            for layer in (*layers, UNTOLD)
            if any(bar.get(layer) for _, bar in sides)
        ],
        "limits_ms": {},
    }


def _bar_ms(arm: Arm, metric: str, p: float) -> dict[str, float]:
    """Layer -> its part of the bar, of all requests together; what lacks to the metric, where some runs do not tell of a layer, is `UNTOLD`."""
    parts = {layer: ms(arm.figure(Key(Selector(metric, layer), p)).together) for layer in arm.layers.get(metric, ())}
    found = {layer: value for layer, value in parts.items() if math.isfinite(value)}
    lacking = ms(arm.figure(Key(Selector(metric), p)).value) - math.fsum(found.values())
    return found if parts and len(found) == len(parts) else found | {UNTOLD: max(0.0, lacking)}


def _percentiles(told: Comparison) -> list[float]:
    return sorted({change.key.p for change in told.layers if change.key.p is not None})


def _is_enough(told: Comparison, p: float) -> bool:
    return all(arm.figure(Key(Selector(told.metric), p)).is_given(p) for arm in (told.a, told.b))


def _left_out(told: Comparison) -> str:
    """Which percentiles are not drawn, in a sentence; empty where all are."""
    refused = [f"p{100 * p:g}" for p in _percentiles(told) if not _is_enough(told, p)]
    return f"Not drawn for want of requests: {', '.join(refused)}." if refused else ""
