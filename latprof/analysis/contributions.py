"""Which layers make up a percentile: contributions that add up to it.

A layer's contribution at p is its mean time among requests whose metric lies at the p-quantile, E[X_l | T = Q_p]. These sum to Q_p; per-layer
p99s do not (in the experiment of the tests they sum to 1.2 times it).

    weight        .            .:|:.          Harrell-Davis weights over the requests sorted by the metric
    request   fast ------------ Q_p --- slow
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Literal

import numpy as np

from latprof.analysis.quantiles import SHOWN, FloatArray, hd_weights, n_eff, rests_on_enough, tail_weights
from latprof.layers.table import IntArray, Layers

DRAWN: Final = (0.50, 0.95, 0.99)
"""The columns of pictures."""

Kind = Literal["percentile", "mean", "tail mean"]
"""What a column of the budget adds up to."""


@dataclass(frozen=True, slots=True)
class Contributions:
    """One column of the budget, in ns. ``total_ns``, ``wait_ns``, ``service_ns`` have shape (L,); ``total_ns`` sums to ``value_ns``.

    ``kind`` is "tail mean" (of the slowest 5 %), or "mean" for the lower half, where the sample is too small for the percentile ``p``.
    """

    p: float
    kind: Kind
    value_ns: float
    total_ns: FloatArray
    wait_ns: FloatArray
    service_ns: FloatArray
    n_eff: float


def contributions(layers: Layers, p: float, intended_ns: IntArray | None = None) -> Contributions:
    """The layers' contributions at the ``p``-quantile, by Harrell-Davis weights on the requests sorted by the metric.

    ``intended_ns`` (n,), aligned with ``layers.rows``, puts the requests in the order that tells how independent they are; without it they
    are taken to be in that order. A percentile with too few requests beyond it (`rests_on_enough`) is refused, and the column says so.

    Raises:
        ValueError: there is no request at all.
    """
    metric_ns = layers.total_ns.sum(axis=1)
    if not len(metric_ns):
        raise ValueError("contributions need at least one request with the metric, got none")
    in_order = metric_ns if intended_ns is None else metric_ns[np.argsort(intended_ns, kind="stable")]
    independent = n_eff(in_order, p)
    kind = kind_at(len(metric_ns), independent, p)
    if kind == "percentile" and not all(rests_on_enough(len(in_order), n_eff(in_order, q), q) for q in SHOWN if 0.5 < q < p):
        kind = "tail mean"  # as in `Distribution`
    return contributions_as(layers, p, kind, independent)


def kind_at(n: int, n_independent: float, p: float) -> Kind:
    """What a column at ``p`` can be for so many requests: the percentile, or what stands for it."""
    return "percentile" if rests_on_enough(n, n_independent, p) else "tail mean" if p > 0.5 else "mean"


def weights_of(n: int, p: float, kind: Kind) -> FloatArray:
    """The weights of the sorted sample that make up a column, shape (n,), sum 1."""
    if kind == "percentile":
        return hd_weights(n, p)
    return tail_weights(n) if kind == "tail mean" else np.full(n, 1.0 / n)


def contributions_as(layers: Layers, p: float, kind: Kind, independent: float = np.nan) -> Contributions:
    """The column of that ``kind``, whatever the sample would allow: for columns that must be of one kind over several runs."""
    metric_ns = layers.total_ns.sum(axis=1)
    return _weighted(layers, metric_ns, weights_of(len(metric_ns), p, kind), p, kind, independent)


def mean_contributions(layers: Layers, p: float = 0.5) -> Contributions:
    """The layers' means, which sum to the metric's mean."""
    return contributions_as(layers, p, "mean", float(len(layers.rows)))


def columns(layers: Layers, intended_ns: IntArray | None = None, percentiles: Sequence[float] = SHOWN) -> tuple[Contributions, ...]:
    """The budget's columns, p50 to p99; one tail mean stands for all the percentiles it replaces."""
    shown: list[Contributions] = []
    for p in percentiles:
        column = contributions(layers, p, intended_ns)
        if column.kind == "percentile" or column.kind not in {other.kind for other in shown}:
            shown.append(column)
    return tuple(shown)


def _weighted(layers: Layers, metric_ns: IntArray, weights: FloatArray, p: float, kind: Kind, independent: float) -> Contributions:
    order = np.argsort(metric_ns, kind="stable")
    spread = _spread_over_ties(metric_ns[order], weights)
    return Contributions(
        p=p,
        kind=kind,
        value_ns=float(spread @ metric_ns[order]),
        total_ns=spread @ layers.total_ns[order],
        wait_ns=spread @ layers.wait_ns[order],
        service_ns=spread @ layers.service_ns[order],
        n_eff=independent,
    )


def _spread_over_ties(ordered: IntArray, weights: FloatArray) -> FloatArray:
    """Requests with the same metric share their weight: the sum stays, and their order, which means nothing, no longer matters."""
    begins = np.flatnonzero(np.r_[True, np.diff(ordered) != 0])
    sizes = np.diff(np.r_[begins, len(ordered)])
    return np.repeat(np.add.reduceat(weights, begins) / sizes, sizes)
