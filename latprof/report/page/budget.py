"""The budget as pictures: the layers stacked at every column, and what the last column has that the first has not."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from latprof.report.colours import colour_of
from latprof.report.values import Budget, LayerRow
from latprof.units import ms

_FEW = 12
# Less than a nanosecond is what adding up leaves, no time of a layer.
_NOTHING_NS = 1.0


def stacked(budget: Budget, limits_ms: Mapping[str, float] | None = None) -> dict[str, Any]:
    """The layers at every drawn column, wait told apart where it is known; ``limits_ms`` by column are budget ticks."""
    columns = budget.drawn or budget.columns
    return {
        "metric": budget.metric,
        "requests": budget.requests,
        "columns": [{"label": column.label, "value_ms": ms(column.value_ns)} for column in columns],
        "layers": [
            {
                "layer": row.layer,
                "colour": colour_of(row.layer),
                "total_ms": [ms(row.total_ns[column.label]) for column in columns],
                "wait_ms": [ms(row.wait_ns[column.label]) for column in columns],
                "share": row.share,
                "source": row.source,
                "coverage": row.coverage,
            }
            for row in budget.rows
            if any(row.total_ns[column.label] for column in columns)
        ],
        "limits_ms": dict(limits_ms or {}),
    }


def tail(budget: Budget) -> dict[str, Any] | None:
    """Layer by layer, what the last column has more (or less) than the first, the largest first; None with one column only."""
    if len(budget.columns) < 2:
        return None
    first, last = budget.columns[0], budget.columns[-1]

    def more_ns(row: LayerRow) -> float:
        return row.total_ns[last.label] - row.total_ns[first.label]

    ranked = sorted((row for row in budget.rows if abs(more_ns(row)) >= _NOTHING_NS), key=lambda row: -abs(more_ns(row)))
    shown, rest = ranked[:_FEW], ranked[_FEW:]
    return {
        "metric": budget.metric,
        "first": first.label,
        "last": last.label,
        "more_ms": ms(last.value_ns - first.value_ns),
        "layers": [
            {
                "layer": row.layer,
                "colour": colour_of(row.layer),
                "first_ms": ms(row.total_ns[first.label]),
                "last_ms": ms(row.total_ns[last.label]),
                "more_ms": ms(more_ns(row)),
            }
            for row in shown
        ],
        "rest": {"layers": len(rest), "more_ms": ms(sum(more_ns(row) for row in rest))} if rest else None,
    }
