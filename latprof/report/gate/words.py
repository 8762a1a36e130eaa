"""What a gate says of each assertion, in words that the terminal, JUnit and Markdown share."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Final

from latprof.analysis.verdicts.assertions import Verdict
from latprof.analysis.verdicts.compare import Moved
from latprof.report.gate.values import Gated
from latprof.units import ms

HEADS: Final = {
    "pass": "GATE PASSED",
    "fail": "GATE FAILED",
    "inconclusive": "GATE INCONCLUSIVE",
    "invalid": "NOT VALID, no verdict counts",
}
_RANK: Final = {"fail": 0, "inconclusive": 1, "pass": 2}
UNKNOWN: Final = "-"


def ordered(gated: Gated) -> list[Verdict]:
    """The verdicts as they are shown: what broke first, then what is open, each as in the budget file."""
    return sorted(gated.verdicts, key=lambda verdict: (_RANK[verdict.outcome], verdict.claim.level == "warn"))


def head(gated: Gated) -> str:
    """The gate in one line."""
    many = f"{len(gated.verdicts)} assertion{'' if len(gated.verdicts) == 1 else 's'}"
    if gated.word == "invalid":
        return f"{HEADS[gated.word]}: {many} not judged"
    counts = {word: sum(verdict.outcome == word for verdict in gated.verdicts) for word in _RANK}
    told = ", ".join(f"{number} {_PLURAL[word]}" for word, number in counts.items() if number)
    return f"{HEADS[gated.word]}: {told} of {many}"


_PLURAL: Final = {"fail": "failed", "inconclusive": "inconclusive", "pass": "passed"}


def observed(verdict: Verdict) -> str:
    """The figure that was held against the bound, with its unit; a change with its sign. A dash where too few requests make it."""
    if not verdict.is_given:
        return UNKNOWN
    return _figure(verdict.value, verdict, sign=verdict.claim.is_change)


def interval(verdict: Verdict) -> str:
    """The interval without unit, in brackets; empty where there is none."""
    if math.isnan(verdict.low):
        return ""
    return f"[{_bare(verdict.low, verdict)} .. {_bare(verdict.high, verdict)}]"


def slack(verdict: Verdict) -> str:
    """The room that is left; empty where there is no figure."""
    if not verdict.is_given:
        return ""
    room = "left" if verdict.slack >= 0 else "over" if verdict.claim.is_upper else "short"
    return f"{_figure(abs(verdict.slack), verdict)} {room}"


def bound(verdict: Verdict) -> str:
    """The bound, as it was meant."""
    return _figure(verdict.claim.bound, verdict, sign=verdict.claim.is_change)


def detectable(verdict: Verdict) -> str:
    """The least breach that this gate sees four times in five; empty where none can be seen."""
    return "" if math.isnan(verdict.detectable) else _figure(verdict.detectable, verdict)


def sentence(verdict: Verdict, level: str = "95 %") -> str:
    """Observed, bound, interval and minimal detectable effect in one line: what a failure says in CI."""
    parts = [f"observed {observed(verdict)}", f"bound {bound(verdict)}"]
    if interval(verdict):
        parts.append(f"{level} interval {interval(verdict)}")
        parts.append(f"a breach by {detectable(verdict)} (MDE) fails four times in five")
    return "; ".join([*parts, *([verdict.why] if verdict.why else [])])


def moved(one: Moved) -> str:
    """Time that two layers handed to each other."""
    at = "mean" if one.p is None else f"p{100 * one.p:g}"
    return f"{ms(one.moved_ns):.2f} ms moved from {one.lost} to {one.gained} ({one.metric} {at}): together they are unchanged"


def promised(gated: Gated) -> Iterator[tuple[str, str, str, str]]:
    """The latency budget row by row: layer, promised, spent, left; the total last."""
    if gated.spending is None:
        return
    for row in (*gated.spending.rows, gated.spending.total):
        left = "-" if math.isnan(row.left_ns) else f"{abs(ms(row.left_ns)):.2f} ms {'left' if row.left_ns >= 0 else 'over'}"
        yield row.layer, f"{ms(row.promised_ns):.2f}", _ms(row.spent_ns), left


def _figure(value: float, verdict: Verdict, *, sign: bool = False) -> str:
    unit = "%" if verdict.claim.is_share else " ms"
    text = _bare(value, verdict)
    return text if text == UNKNOWN else f"{'+' if sign and value >= 0 else ''}{text}{unit}"


def _bare(value: float, verdict: Verdict) -> str:
    if math.isnan(value):
        return UNKNOWN
    return f"{100 * value:.2f}" if verdict.claim.is_share else _ms(value)


def _ms(value_ns: float) -> str:
    if math.isnan(value_ns):
        return UNKNOWN
    value = ms(value_ns)
    return f"{value:.2f}" if abs(value) < 1_000 else f"{value:.1f}"
