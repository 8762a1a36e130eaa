"""The highest load that meets a goodput, in words and as JSON."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from latprof.analysis.sweeps.highest import Highest, Tried
from latprof.report import presets

SCHEMA = "latprof.highest/1"
_UNITS = {"rate": "/s", "concurrency": " places"}


def sentences(found: Highest, axis: str, goal: float, objectives_ms: Mapping[str, float]) -> Iterator[str]:
    """The answer, why it may be off, and every load that was tried."""
    yield from answer(found, axis, goal, objectives_ms)
    for tried in found.tried:
        yield f"  {_load(tried, _UNITS[axis]):>14}  {_share(tried):>8}  {tried.recorded} requests  {_verdict(tried)}"


def answer(found: Highest, axis: str, goal: float, objectives_ms: Mapping[str, float]) -> Iterator[str]:
    """The answer in its first sentence, then why it may be off."""
    unit = _UNITS[axis]
    wanted = f"{' '.join(f'{metric}:{limit:g}' for metric, limit in objectives_ms.items())} on {100 * goal:g} % of the requests"
    if found.met is None:
        yield f"not even {_load(found.missed, unit)} meets {wanted}"
    elif found.missed is None:
        yield f"{_load(found.met, unit)} meets {wanted}, and nothing higher was asked for: the highest {axis} that does lies beyond"
    else:
        why = "missed" if found.missed.trusted else "was not to be trusted"
        yield f"highest {axis} that meets {wanted}: {_load(found.met, unit)} ({found.missed.load:.4g} {why})"
    if found.missed is not None and not found.missed.trusted:
        yield "the load above it could not be measured: its runs have fatal doubts, so the stack may well stand more"
    ends = [tried for tried in (found.met, found.missed) if tried is not None and tried.trusted]
    if not all(tried.is_sure for tried in ends):
        yield "the ends are within chance of the goal: longer runs, or --replications, tell them apart better"


def as_json(
    found: Highest, axis: str, goal: float, objectives_ms: Mapping[str, float], folder: Path, used: presets.Presets = ()
) -> dict[str, Any]:
    """Plain values: ``met`` and ``missed`` are null where there is no such load. ``used`` is what the stack took from presets."""
    return {
        "schema": SCHEMA,
        "folder": str(folder),
        "axis": axis,
        "goal": goal,
        "objectives_ms": dict(objectives_ms),
        "met": None if found.met is None else found.met.load,
        "missed": None if found.missed is None else found.missed.load,
        "tried": [
            {
                "load": tried.load,
                "share": None if math.isnan(tried.share) else tried.share,
                "requests": tried.recorded,
                "met": tried.met,
                "sure": tried.is_sure,
                "trusted": tried.trusted,
            }
            for tried in found.tried
        ],
        "presets": list(presets.lines(used)),
    }


def _load(tried: Tried | None, unit: str) -> str:
    return "-" if tried is None else f"{tried.load:.4g}{unit}"


def _share(tried: Tried) -> str:
    return "-" if math.isnan(tried.share) else f"{100 * tried.share:.2f} %"


def _verdict(tried: Tried) -> str:
    if not tried.trusted:
        return "not to be trusted"
    if not tried.recorded:
        return "missed: more than the stack can do, not even run"
    return f"{'met' if tried.met else 'missed'}{'' if tried.is_sure else ', within chance'}"
