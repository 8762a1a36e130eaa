"""Verdicts of a gate: figures held against bounds by whole intervals, so that the 5 % are for the gate and not for each assertion.

            bound
    |---o---| .            pass           the whole interval is inside
         |--.--o----|      inconclusive   it holds the bound
            . |---o---|    fail           the whole interval is beyond, and by Holm's procedure still is among all assertions of the gate

A gate that should pass fails by chance at most once in 40 (Holm 1979, one side of 5 %). One that should fail passes at most once in 40, too: for that
every broken assertion would have to pass (an intersection-union test), so passing needs no correction.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final, Literal

from latprof.analysis.verdicts.differences import ALPHA, POWER, holm
from latprof.analysis.verdicts.estimates import Estimate
from latprof.analysis.verdicts.power import reach

Outcome = Literal["pass", "fail", "inconclusive"]
Weight = Literal["error", "warn"]
Aggregate = Literal["pooled", "median", "optimistic", "pessimistic"]

# The standard error of a median is at most that of the mean times this, for figures that scatter normally.
_OF_MEDIAN: Final = math.sqrt(math.pi / 2)
# Beyond so many replications more of them is no advice.
_MOST_REPLICATIONS = 50


@dataclass(frozen=True, slots=True)
class Claim:
    """What is asserted: ``estimate`` is below ``bound`` (above it, unless ``is_upper``), in ns or, if ``is_share``, as a share.

    ``is_change``: it is a difference from a baseline, whose bound is the rise that is tolerated. ``p`` is the percentile it is of, None for a mean
    or a share.
    """

    name: str
    estimate: Estimate
    bound: float
    is_upper: bool = True
    level: Weight = "error"
    aggregate: Aggregate = "pooled"
    is_share: bool = False
    is_change: bool = False
    p: float | None = None


@dataclass(frozen=True, slots=True)
class Verdict:
    """A claim, judged. ``slack`` is the room left to the bound, negative beyond it; ``detectable`` the least true breach that fails four times in five.

    ``low`` and ``high`` are the 95 % interval; ``why`` says what is missing for a verdict, empty for one.
    """

    claim: Claim
    outcome: Outcome
    value: float
    low: float
    high: float
    slack: float
    detectable: float
    why: str = ""

    @property
    def is_given(self) -> bool:
        """Whether there is a figure to be shown: too few requests beyond a percentile make none."""
        return not math.isnan(self.value) and self.claim.estimate.is_given(self.claim.p)

    @property
    def breaks_the_gate(self) -> bool:
        """Whether the gate fails by it."""
        return self.outcome == "fail" and self.claim.level == "error"


def judge(claims: Sequence[Claim], alpha: float = ALPHA) -> tuple[Verdict, ...]:
    """Every claim with its verdict, in order. Errors are one family, warnings, which break nothing, another; ``alpha`` is shared by each."""
    verdicts: dict[int, Verdict] = {}
    for level in ("error", "warn"):
        family = [index for index, claim in enumerate(claims) if claim.level == level]
        verdicts |= dict(zip(family, _family([claims[index] for index in family], alpha), strict=True))
    return tuple(verdicts[index] for index in range(len(claims)))


def _family(claims: Sequence[Claim], alpha: float) -> list[Verdict]:
    estimates = [_aggregated(claim) for claim in claims]
    # What has no interval cannot fail, and takes no part.
    tested = [index for index, found in enumerate(estimates) if found.has_interval]
    p_values = [_p_beyond(claims[index], estimates[index]) for index in tested]
    rejected = dict(zip(tested, holm(p_values, alpha / 2), strict=True))
    return [
        _verdict(claim, found, alpha, len(tested), is_rejected=rejected.get(index, False))
        for index, (claim, found) in enumerate(zip(claims, estimates, strict=True))
    ]


def _aggregated(claim: Claim) -> Estimate:
    found = claim.estimate
    if claim.aggregate != "median" or not found.has_interval:
        return found
    ordered = sorted(found.figures)
    middle = (ordered[(len(ordered) - 1) // 2] + ordered[len(ordered) // 2]) / 2
    widened = replace(found, value=middle, error=_OF_MEDIAN * found.error)
    low, high = widened.interval(1 - ALPHA)
    return replace(widened, low=low, high=high)


def _p_beyond(claim: Claim, found: Estimate) -> float:
    return found.p_above(claim.bound) if claim.is_upper else found.p_below(claim.bound)


def _p_within(claim: Claim, found: Estimate) -> float:
    return found.p_below(claim.bound) if claim.is_upper else found.p_above(claim.bound)


def _verdict(claim: Claim, found: Estimate, alpha: float, family: int, *, is_rejected: bool) -> Verdict:
    slack = claim.bound - found.value if claim.is_upper else found.value - claim.bound
    outcome, why = _outcome(claim, found, alpha, family, is_rejected=is_rejected)
    low, high = found.interval(1 - alpha)
    return Verdict(claim, outcome, found.value, low, high, slack, detectable(found, alpha, family), why)


def _outcome(claim: Claim, found: Estimate, alpha: float, family: int, *, is_rejected: bool) -> tuple[Outcome, str]:
    if not found.has_interval:
        return "inconclusive", f"{found.why}{_too_few(claim, found)}"
    if claim.is_change and found.error == 0 and found.value == claim.bound:
        return "pass", ""  # a rise up to the bound is tolerated, and equal runs (of a simulation) leave nothing to chance
    each = found.figures if len(found.figures) == found.replications else ()  # time batches are no replications
    beyond = [(figure > claim.bound) == claim.is_upper and figure != claim.bound for figure in each]
    if is_rejected:
        if claim.aggregate == "optimistic" and not all(beyond):
            return "inconclusive", f"{len(beyond) - sum(beyond)} of {len(beyond)} replications keep the bound, and the rule is optimistic"
        return "fail", ""
    if _p_within(claim, found) <= alpha / 2:
        if claim.aggregate == "pessimistic" and any(beyond):
            return "inconclusive", f"{sum(beyond)} of {len(beyond)} replications break the bound, and the rule is pessimistic"
        return "pass", ""
    if _p_beyond(claim, found) <= alpha / 2:
        return "inconclusive", f"beyond the bound by itself, but among {family} assertions one is by chance; more replications would tell"
    return "inconclusive", f"the interval holds the bound{_more(claim, found)}"


def _too_few(claim: Claim, found: Estimate) -> str:
    """Why the figure is not even shown, where it is not."""
    if not found.n or math.isnan(found.value) or found.is_given(claim.p):
        return ""
    return f"; no figure is shown, for too few of {found.n} requests lie beyond the percentile"


def _more(claim: Claim, found: Estimate) -> str:
    """How many replications such a difference would take, where it is a number that can be had."""
    distance, half = abs(found.value - claim.bound), (found.high - found.low) / 2
    if found.replications < 2 or distance <= 0:
        return ""
    wanted = math.ceil(found.replications * (half / distance) ** 2)
    return f"; about {wanted} replications would tell" if found.replications < wanted <= _MOST_REPLICATIONS else ""


def detectable(found: Estimate, alpha: float, family: int) -> float:
    """How far beyond the bound the truth must lie to fail with `POWER`, at the first of ``family`` steps of Holm's procedure; NaN if nothing can."""
    if not found.has_interval:
        return math.nan
    error = found.error
    if found.counted is not None:
        hits, of = found.counted
        near = (hits + 2) / (of + 4)  # Agresti and Coull 1998
        error = max(error, math.sqrt(near * (1 - near) / (of + 4)))
    return reach(found.freedom, 1 - alpha / family, POWER) * error
