"""A latency budget held against a run: per layer what was promised, spent, and is left."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from latprof.analysis.verdicts.estimates import Estimate, without_interval
from latprof.analysis.verdicts.replications import Replication, Selector, estimate
from latprof.units import ms

OTHERS: Final = "all others"
"""The row of the layers to which nothing was promised."""


@dataclass(frozen=True, slots=True)
class Row:
    """One layer, or the total: what was promised and spent, in ns. What is spent is of all requests together, so that layers add up to the total."""

    layer: str
    promised_ns: float
    spent: Estimate

    @property
    def left_ns(self) -> float:
        """What is left of the promise; negative when it is over. Not a number where nothing was seen."""
        return self.promised_ns - self.spent_ns

    @property
    def spent_ns(self) -> float:
        """What was spent; not a number where nothing was seen."""
        return self.spent.together


@dataclass(frozen=True, slots=True)
class Spending:
    """The budget as spent, at percentile ``p`` of ``metric``: ``rows`` sum to ``total``, promised and spent alike."""

    metric: str
    p: float | None
    rows: tuple[Row, ...]
    total: Row

    @property
    def note(self) -> str:
        """Why nothing is shown; or that the runs differ, where what they tell of by themselves is not what all requests together do; else empty."""
        found = self.total.spent
        if math.isnan(self.total.spent_ns):
            return f"What is spent is not known: {found.why}."
        if not found.is_uneven:
            return ""
        return (
            f"The {found.made_of} differ: {self.metric} {self.at} is {ms(found.together):.2f} ms of all requests together, which the rows add up to, and"
            f" {ms(found.mean_of_figures):.2f} ms in the mean of the {found.made_of}, which assertions about layers rest on."
        )

    @property
    def at(self) -> str:
        """The statistic: ``p95``, ``mean``."""
        return "mean" if self.p is None else f"p{100 * self.p:g}"

    def as_json(self) -> dict[str, Any]:
        """Plain values in ms by layer, the same keys in the same order every time: made to be kept and compared by line."""
        return {
            "metric": self.metric,
            "at": self.at,
            "layers": {row.layer: _json(row) for row in self.rows},
            "total": _json(self.total),
            "note": self.note,
        }


def _json(row: Row) -> dict[str, float | None]:
    return {"promised_ms": round(ms(row.promised_ns), 3), "spent_ms": _rounded(row.spent_ns), "left_ms": _rounded(row.left_ns)}


def _rounded(value_ns: float) -> float | None:
    return None if math.isnan(value_ns) else round(ms(value_ns), 3)


def spend(replications: Sequence[Replication], metric: str, p: float | None, total_ns: int, layers_ns: Mapping[str, int]) -> Spending:
    """Hold promises against replications: ``total_ns`` in all, ``layers_ns`` by layer. Of a percentile that too few requests lie beyond nothing is told."""
    whole = estimate(replications, Selector(metric), p)
    few = (
        f"too few of {whole.n} requests lie beyond p{100 * p:g}; run longer" if p is not None and whole.n and not whole.is_given(p) else ""
    )

    def told_of(layer: str) -> Estimate:
        found = estimate(replications, Selector(metric, layer), p) if layer else whole
        return without_interval(math.nan, found.replications, found.n, few, found.n_eff) if few else found

    total = Row(metric, total_ns, told_of(""))
    rows = [Row(layer, promised, told_of(layer)) for layer, promised in layers_ns.items()]
    told = [row.spent_ns for row in rows if not math.isnan(row.spent_ns)]
    rest = without_interval(total.spent_ns - sum(told), len(replications), total.spent.n, "what is left of the total")
    return Spending(metric, p, (*rows, Row(OTHERS, total_ns - sum(layers_ns.values()), rest)), total)
