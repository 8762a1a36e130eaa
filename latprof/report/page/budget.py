"""The budget as pictures: the layers stacked at every column, and what the last column has that the first has not."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from latprof.report.colours import colour_of
from latprof.report.values import Budget, LayerRow
from latprof.units import ms

_FEW = 12
# A share of less than a hundredth of the whole is a share of noise, and of nothing it is infinite.
_WORTH_SHARES = 0.01
# Less than a nanosecond is what adding up leaves, no time of a layer.
_NOTHING_NS = 1.0


def stacked(budget: Budget, limits_ms: Mapping[str, float] | None = None) -> dict[str, Any]:
    """The layers at every drawn column, wait told apart where it is known.

    ``limits_ms`` by column are promises: ticks where the column is drawn, in ``unplaced_ms`` where it is not.
    """
    columns = budget.drawn or budget.columns
    promised = limits_ms or {}
    labels = {column.label for column in columns}
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
        "limits_ms": {label: limit for label, limit in promised.items() if label in labels},
        "unplaced_ms": {label: limit for label, limit in promised.items() if label not in labels},
    }


def promises(metric: str, drawn: Mapping[str, Any]) -> str:
    """What a caption says of the promises of a stacked picture; empty where nothing is promised."""
    tick = f"The tick is the budget of the {metric}, where times are shown and not shares." if drawn["limits_ms"] else ""
    rest = " and ".join(f"{label} ≤ {limit:,g} ms" for label, limit in drawn["unplaced_ms"].items())
    without = f"Promised of the {metric} without a column to draw it at: {rest}." if rest else ""
    return f"{tick} {without}".strip()


def tail_words(budget: Budget | None, drawn: Mapping[str, Any] | None) -> str:
    """What is drawn as `tail`, or why nothing is."""
    if budget is None:
        return "No request succeeded."
    if drawn is None and len(budget.columns) < 2:
        return "There are no two columns to hold against each other; see the doubts."
    first, last = (budget.columns[at].label for at in (0, -1))
    if drawn is None:
        return f"{last} and {first} are the same, layer by layer: nothing is to blame."
    rest = f" The largest; {drawn['rest']['layers']} more layers are not shown." if drawn["rest"] else ""
    shares = "" if drawn["has_shares"] else f" In ms only: the two differ by less than {_WORTH_SHARES:.0%} of {first}."
    return f"Contributions to {the(last)} less those to {the(first)}, layer by layer: {drawn['more_ms']:,.1f} ms.{rest}{shares}"


def the(label: str) -> str:
    """A column as a sentence names it: p50, the mean."""
    return f"the {label}" if label.endswith("mean") else label


def tail(budget: Budget) -> dict[str, Any] | None:
    """Layer by layer, what the last column has more (or less) than the first, the largest first.

    None where there is nothing to tell: one column only, or two that are the same. Shares of the difference are None where it is less than 1 % of
    the first column.
    """
    if len(budget.columns) < 2:
        return None
    first, last = budget.columns[0], budget.columns[-1]

    def more_ns(row: LayerRow) -> float:
        return row.total_ns[last.label] - row.total_ns[first.label]

    ranked = sorted((row for row in budget.rows if abs(more_ns(row)) >= _NOTHING_NS), key=lambda row: -abs(more_ns(row)))
    if not ranked:
        return None
    shown, rest = ranked[:_FEW], ranked[_FEW:]
    more_in_all_ns = last.value_ns - first.value_ns
    has_shares = abs(more_in_all_ns) >= _WORTH_SHARES * first.value_ns
    return {
        "metric": budget.metric,
        "first": first.label,
        "last": last.label,
        "more_ms": ms(more_in_all_ns),
        "has_shares": has_shares,
        "layers": [
            {
                "layer": row.layer,
                "colour": colour_of(row.layer),
                "first_ms": ms(row.total_ns[first.label]),
                "last_ms": ms(row.total_ns[last.label]),
                "more_ms": ms(more_ns(row)),
                "share": more_ns(row) / more_in_all_ns if has_shares else None,
            }
            for row in shown
        ],
        "rest": {"layers": len(rest), "more_ms": ms(sum(more_ns(row) for row in rest))} if rest else None,
    }
