"""Single requests to look at: the one nearest to each percentile. An example, never a summary: its layers are those of one request."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from latprof.analysis.contributions import contributions
from latprof.layers.table import IntArray, Layers

EXEMPLARY = (0.50, 0.95, 0.99)


@dataclass(frozen=True, slots=True)
class Exemplar:
    """One request and what it is an example of.

    ``label`` is the column it stands for: ``p95``, or ``mean`` and ``tail mean`` where the sample is too small for the percentile. ``row`` is the
    request's in the run's `Requests`, ``own_ns`` its metric, ``value_ns`` that of the column.
    """

    label: str
    value_ns: float
    row: int
    own_ns: int


def exemplars(layers: Layers, percentiles: Sequence[float] = EXEMPLARY, intended_ns: IntArray | None = None) -> tuple[Exemplar, ...]:
    """The requests whose metric is nearest to those percentiles (Harrell-Davis, as the budget has them); none without a single request.

    ``intended_ns`` (n,) is aligned with ``layers.rows``, as for `contributions`. One request may be the nearest to several; columns that would be
    the same are given once.
    """
    if not len(layers.rows):
        return ()
    metric_ns = layers.total_ns.sum(axis=1)
    found: dict[str, Exemplar] = {}
    for p in percentiles:
        column = contributions(layers, p, intended_ns)
        label = f"p{100 * p:g}" if column.kind == "percentile" else column.kind
        nearest = int(np.argmin(np.abs(metric_ns - column.value_ns)))
        found.setdefault(label, Exemplar(label, column.value_ns, int(layers.rows[nearest]), int(metric_ns[nearest])))
    return tuple(found.values())
