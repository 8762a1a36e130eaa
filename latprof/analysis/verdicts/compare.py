"""Two arms against each other: what changed, by how much, how surely, and what a change would have had to be to be seen.

    1. pair     replications with the same seeds belong together: what the schedule did to both cancels
    2. subtract every figure of B less that of A, with an interval over replications (`latprof.analysis.verdicts.differences`)
    3. judge    Holm's procedure over all figures of a family, so that the 5 % are for the family and not for each line
    4. look for layers that only handed time to each other

Families: the end-to-end figures are one, the layers of one metric another.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np

from latprof.analysis.quantiles import FloatArray
from latprof.analysis.verdicts.absence import figure_beside
from latprof.analysis.verdicts.arms import Arm, Key
from latprof.analysis.verdicts.conditions import Apart, differences
from latprof.analysis.verdicts.differences import (
    ALPHA,
    Shift,
    Verdict,
    hodges_lehmann,
    holm,
    mann_whitney,
    paired,
    signed_ranks,
    unpaired,
    verdict,
)
from latprof.analysis.verdicts.estimates import Estimate, without_interval
from latprof.analysis.verdicts.replications import SHARES
from latprof.analysis.verdicts.told import NEGLIGIBLE
from latprof.layers.vocabulary import path_order

# Time counts as moved when what two layers changed together surely stays below this share of what either changed.
_LEFT_BEHIND = 0.5


@dataclass(frozen=True, slots=True)
class Tolerance:
    """What nobody minds: a change up to ``share`` of A's figure, or up to ``least_ns``; a change must exceed both to count."""

    share: float = 0.0
    least_ns: float = 0.0

    def margin(self, key: Key, a: float) -> float:
        """In the unit of the figure; of shares (errors, goodput) any change counts."""
        return 0.0 if key.selector.metric in SHARES else max(self.share * abs(a), self.least_ns)


@dataclass(frozen=True, slots=True)
class Change:
    """One figure in both arms, in ns (or a share). ``shift`` is None where nothing can be said, and ``why`` says why not.

    ``detectable`` is the least true change that this comparison calls better or worse four times in five, tolerance and all; ``rank_p`` the p-value of a
    test by ranks (Mann-Whitney, or Wilcoxon's for pairs), a second opinion that no single wild replication sways; ``rank_shift`` the shift by ranks.
    """

    key: Key
    a: Estimate
    b: Estimate
    margin: float
    shift: Shift | None = None
    why: str = ""
    detectable: float = math.nan
    verdict: Verdict = "unknown"
    rank_p: float = math.nan
    rank_shift: float = math.nan

    @property
    def value(self) -> float:
        """B less A; NaN where one of them has no such figure."""
        return self.b.value - self.a.value

    @property
    def is_given(self) -> bool:
        """Whether both arms have requests enough for their figures to be shown; a difference of two that have not is noise."""
        return self.shift is not None or (self.a.is_given(self.key.p) and self.b.is_given(self.key.p))

    @property
    def estimate(self) -> Estimate:
        """B less A as an estimate, to be held against a bound like any other."""
        replications, n = min(self.a.replications, self.b.replications), min(self.a.n, self.b.n)
        worth = min(self.a.n_eff, self.b.n_eff)
        if self.shift is None:
            return without_interval(self.value, replications, n, self.why, worth)
        low, high = self.shift.interval()
        found = Estimate(self.value, low, high, replications, n, error=self.shift.error, freedom=self.shift.freedom)
        return replace(found, n_eff=worth)


@dataclass(frozen=True, slots=True)
class Moved:
    """Time that one layer lost and another gained, at one percentile; ``together`` is what is left of it when both are one layer."""

    metric: str
    p: float | None
    lost: str
    gained: str
    moved_ns: float
    together: Shift


@dataclass(frozen=True, slots=True)
class Comparison:
    """B against A. ``layers`` are the contributions to ``metric``; ``moved`` names pairs of them that handed time to each other."""

    a: Arm
    b: Arm
    metric: str
    tolerance: Tolerance
    is_paired: bool
    end_to_end: tuple[Change, ...]
    layers: tuple[Change, ...]
    moved: tuple[Moved, ...]
    apart: Apart

    @property
    def valid(self) -> bool:
        """Whether both arms can be trusted."""
        return self.a.valid and self.b.valid

    @property
    def says_something(self) -> bool:
        """Whether there is a verdict on any end-to-end time: that errors are as few as before is no answer about latency."""
        return any(change.shift is not None for change in self.end_to_end if change.key.selector.metric not in SHARES)

    def of_layer(self, layer: str) -> tuple[Change, ...]:
        """The changes of one layer, by percentile."""
        return tuple(change for change in self.layers if change.key.selector.layer == layer)


def compare(a: Arm, b: Arm, metric: str = "ttft", tolerance: Tolerance | None = None) -> Comparison:
    """Hold ``b`` against ``a``: every end-to-end figure, and the layers of ``metric``."""
    minded = tolerance or Tolerance()
    pairs = are_pairs(a, b)
    mine = [
        key for key in _union(a.metric_keys(), b.metric_keys()) if key.selector.metric in a.metrics and key.selector.metric in b.metrics
    ]
    end_to_end = _judged([change(a, b, key, minded) for key in mine])
    parts = compare_layers(a, b, metric, minded)
    return Comparison(
        a, b, metric, minded, pairs, end_to_end, parts, tuple(moved(parts, paired_arms=pairs)), differences(a.conditions, b.conditions)
    )


def compare_layers(a: Arm, b: Arm, metric: str = "ttft", tolerance: Tolerance | None = None) -> tuple[Change, ...]:
    """The layers of ``metric`` alone, a family by themselves."""
    minded = tolerance or Tolerance()
    return _judged(_worth_testing([change(a, b, key, minded) for key in layer_keys(a, b, metric)], a, b))


def are_pairs(a: Arm, b: Arm) -> bool:
    """Whether the replications of both arms have the same seeds, each its own, and were asked the same: then each has its partner."""
    return a.seeds == b.seeds and len(set(a.seeds)) == len(a.seeds) and not differences(a.conditions, b.conditions).asked


def layer_keys(a: Arm, b: Arm, metric: str) -> tuple[Key, ...]:
    """The contributions to ``metric`` that either arm knows of, in path order."""
    keys = _union(a.layer_keys(metric), b.layer_keys(metric))
    return tuple(sorted(keys, key=lambda key: path_order(key.selector.layer)))


def _union(first: Sequence[Key], second: Sequence[Key]) -> list[Key]:
    return list(dict.fromkeys((*first, *second)))


# --- one figure ---------------------------------------------------------------------------------------------------------------------------


def change(a: Arm, b: Arm, key: Key, tolerance: Tolerance) -> Change:
    """One figure of ``b`` less that of ``a``, not yet judged among others.

    A layer that an arm does not know at all contributes 0 to it: a request that passes no gateway spends no time there. Unless it may be there
    unseen, without a span.
    """
    of_a, of_b = figure_beside(a, b, key), figure_beside(b, a, key)
    if why := _counted_otherwise(a, b, key):
        return Change(key, of_a, of_b, tolerance.margin(key, of_a.value), why=why)
    return between(key, of_a, of_b, tolerance.margin(key, of_a.value), pairs=are_pairs(a, b))


def _counted_otherwise(a: Arm, b: Arm, key: Key) -> str:
    """Why times per token cannot be compared: one side counts tokens, the other chunks, of which each may hold several."""
    told = [name for name, arm in (("A", a), ("B", b)) if any(doubt.id == "token_counts" for doubt in arm.doubts)]
    if key.selector.metric != "tpot" or len(told) != 1 or not (a.runs and b.runs):
        return ""
    return f"{told[0]}: not all of its answers have usage, so its time per token may be one per chunk, and that of the other side is not"


def between(key: Key, a: Estimate, b: Estimate, margin: float, *, pairs: bool) -> Change:
    """The change from ``a`` to ``b``: paired where the arms are and their figures match one to one."""
    why = next((f"{name}: {one.why}" for name, one in (("A", a), ("B", b)) if not one.has_interval), "")
    if why:
        return Change(key, a, b, margin, why=why)
    of_a, of_b = np.array(a.figures), np.array(b.figures)
    matched = pairs and len(of_a) == len(of_b)
    shift = (paired if matched else unpaired)(of_a, of_b, b.value - a.value)
    least = math.hypot(_counting_error(a), _counting_error(b))
    return Change(
        key=key,
        a=a,
        b=b,
        margin=margin,
        shift=replace(shift, error=max(shift.error, least)),
        rank_p=signed_ranks(of_a, of_b) if matched else mann_whitney(of_a, of_b),
        rank_shift=hodges_lehmann(of_a, of_b, pairs=matched),
    )


def _counting_error(one: Estimate) -> float:
    """Of a share: what counting so many requests leaves open, however equal the replications came out (Agresti and Coull 1998); else 0."""
    if one.counted is None:
        return 0.0
    hits, of = one.counted
    share = (hits + 2) / (of + 4)
    return math.sqrt(share * (1 - share) / (of + 4))


# --- many figures -------------------------------------------------------------------------------------------------------------------------


def _judged(changes: Sequence[Change]) -> tuple[Change, ...]:
    """Every change with its verdict in the family of those that can be tested."""
    tested = [one for one in changes if one.shift is not None]
    rejected = holm([one.shift.p_beyond(one.margin) for one in tested if one.shift is not None])
    words = {one.key: is_rejected for one, is_rejected in zip(tested, rejected, strict=True)}
    return tuple(_with_verdict(one, words.get(one.key, False), len(tested)) for one in changes)


def _with_verdict(one: Change, is_rejected: bool, family: int) -> Change:
    if one.shift is None:
        return one
    word = verdict(one.shift, one.margin, rejected=is_rejected)
    if one.key.selector.metric == "goodput":  # more of it is better
        word = _OPPOSITE.get(word, word)
    return replace(one, verdict=word, detectable=one.shift.detectable(one.margin, family))


_OPPOSITE: dict[Verdict, Verdict] = {"better": "worse", "worse": "better"}


def _worth_testing(changes: Sequence[Change], a: Arm, b: Arm) -> list[Change]:
    def share(one: Change) -> float:
        whole = Key(replace(one.key.selector, layer=""), one.key.p)
        total = a.figure(whole).value + b.figure(whole).value
        return (one.a.value + one.b.value) / total if total > 0 else 1.0

    # What is negligible in the mean of both arms would only cost the others. That mean does not tell which arm is larger, so leaving figures out by it
    # favours no verdict (Bourgon, Gentleman and Huber 2010).
    kept = {one.key.selector.layer for one in changes if not share(one) < NEGLIGIBLE}  # a figure that is not a number is told, not hidden
    return [one for one in changes if one.key.selector.layer in kept]


# --- time that only moved -----------------------------------------------------------------------------------------------------------------


def moved(layers: Sequence[Change], *, paired_arms: bool) -> Iterator[Moved]:
    """Pairs of layers of which one lost about what the other gained: the larger first, every layer in one pair at each percentile.

    One of the two must be sure in its family, the other by itself; and the two taken as one layer must not have changed: the interval of their sum
    holds zero, and stays within half of what either of them changed.
    """
    for p in dict.fromkeys(one.key.p for one in layers):
        seen = [one for one in layers if one.key.p == p and one.shift is not None and one.shift.p_beyond(one.margin) <= ALPHA]
        lost, gained = [one for one in seen if one.value < 0], [one for one in seen if one.value > 0]
        candidates = [found for one in lost for other in gained if (found := _pair(one, other, paired_arms)) is not None]
        taken: set[str] = set()
        for found in sorted(candidates, key=lambda found: abs(found.together.value)):
            if not {found.lost, found.gained} & taken:
                taken |= {found.lost, found.gained}
                yield found


def _pair(lost: Change, gained: Change, paired_arms: bool) -> Moved | None:
    if "unknown" == lost.verdict == gained.verdict:
        return None
    a, b = (_sum(getattr(lost, arm).figures, getattr(gained, arm).figures) for arm in ("a", "b"))
    value = lost.value + gained.value
    value = (
        value if abs(value) >= 1 else 0.0
    )  # stamps are whole ns: less is floating point, which a simulation without spread would take for a change
    together = paired(a, b, value) if paired_arms and len(a) == len(b) else unpaired(a, b, value)
    low, high = together.interval()
    amount = min(-lost.value, gained.value)
    if not low <= 0 <= high or max(-low, high) > _LEFT_BEHIND * amount:
        return None
    return Moved(lost.key.selector.metric, lost.key.p, lost.key.selector.layer, gained.key.selector.layer, amount, together)


def _sum(first: Sequence[float], second: Sequence[float]) -> FloatArray:
    return np.asarray(np.array(first) + np.array(second))
