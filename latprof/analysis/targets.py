"""The targets of a run beside each other, where it has several."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from latprof.analysis.metrics import Counts, counts, e2el_ns, in_intended_order, present, ttft_ns
from latprof.analysis.quantiles import Distribution, distribution
from latprof.observations.columns import Requests


@dataclass(frozen=True, slots=True)
class TargetFigures:
    """One target. ``share`` is that of the measured requests, ``asked_share`` its weight among the weights (NaN where nothing tells).

    Sessions are drawn by weight, so the shares of requests differ from the weights by chance and by how many turns sessions have.
    """

    name: str
    url: str
    model: str
    dialect: str
    share: float
    asked_share: float
    counts: Counts
    ttft: Distribution
    e2el: Distribution


def by_target(requests: Requests, told: Sequence[Mapping[str, Any]]) -> tuple[TargetFigures, ...]:
    """The figures of every target, in the order of the configuration; empty where there are not several.

    ``told`` is what ``run.json`` says of each: ``name``, ``url``, ``model``, ``dialect``, ``weight``. A target no session was drawn to is there, too.
    """
    known = {str(one["name"]): one for one in told}
    names = [*known, *sorted({str(name) for name in requests.target} - known.keys())]
    if len(names) < 2:
        return ()
    measured = requests.select(requests.measured)
    ordered = measured.select(in_intended_order(measured))
    weights = sum(float(one.get("weight", np.nan)) for one in told)
    return tuple(_figures(ordered, name, known.get(name, {}), weights) for name in names)


def _figures(ordered: Requests, name: str, told: Mapping[str, Any], weights: float) -> TargetFigures:
    mine = ordered.select(ordered.target == name)
    ok = mine.select(mine.success)
    return TargetFigures(
        name=name,
        url=str(told.get("url", "")),
        model=str(told.get("model", "")),
        dialect=str(told.get("dialect", "")),
        share=len(mine) / len(ordered) if len(ordered) else np.nan,
        asked_share=float(told.get("weight", np.nan)) / weights if weights else np.nan,
        counts=counts(mine),
        ttft=distribution(present(ttft_ns(ok))),
        e2el=distribution(present(e2el_ns(ok))),
    )
