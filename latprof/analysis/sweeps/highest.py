"""The highest load that meets a goodput: a bracket, then bisection on the logarithm of the load.

met      met          ?        missed                 missed
5/s ---- 32/s ------- 36/s --- 40/s ----------------- 200/s
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

_Z = 1.959964  # of 95 %
# A load whose share lies so near the goal that chance decides is tried again with other seeds, so often at most.
_MOST_TRIES = 3
_MOST_DOUBLINGS = 20


@dataclass(frozen=True, slots=True)
class Share:
    """What one run says: so many of the recorded requests met the objectives; ``trusted`` unless the run itself is in fatal doubt.

    Nothing recorded is a miss for sure: a load that could not even be run.
    """

    good: int
    recorded: int
    trusted: bool = True


Probe = Callable[[float, int], Share]
"""Runs a load for the n-th time (from 0), each time with seeds of its own."""


@dataclass(frozen=True, slots=True)
class Tried:
    """A load and all that its runs say. ``is_sure``: chance alone does not explain on which side of the goal it lies."""

    load: float
    good: int
    recorded: int
    met: bool
    is_sure: bool
    trusted: bool

    @property
    def share(self) -> float:
        """Of the recorded requests, those that met the objectives; NaN without one."""
        return self.good / self.recorded if self.recorded else math.nan


@dataclass(frozen=True, slots=True)
class Highest:
    """What was found: ``met`` is None if the lowest load missed, ``missed`` if the highest met. ``tried`` is in order of load."""

    met: Tried | None
    missed: Tried | None
    tried: tuple[Tried, ...]


@dataclass(frozen=True, slots=True)
class Search:
    """What is searched: the highest load on ``axis`` (rate, concurrency) with a share of ``goal`` that meets ``objectives_ms`` by metric.

    From ``low`` to ``high``, or as far up as it takes; with so many ``replications`` of every load.
    """

    axis: str
    low: float
    high: float | None
    goal: float
    objectives_ms: Mapping[str, float]
    replications: int = 1

    def among(self, probe: Probe) -> Highest:
        """Look for it; equal answers of ``probe`` lead the same way."""
        return highest(probe, self.low, self.high, self.goal, is_whole=self.axis == "concurrency", replications=self.replications)


@dataclass(frozen=True, slots=True)
class Searched:
    """A search that is over."""

    asked: Search
    found: Highest

    @property
    def is_sound(self) -> bool:
        """Whether there is an answer, or at least no load failed for the sake of its run."""
        return self.found.met is not None or all(tried.trusted for tried in self.found.tried)


def highest(
    probe: Probe, low: float, high: float | None, goal: float, *, within: float = 0.03, is_whole: bool = False, replications: int = 1
) -> Highest:
    """The highest load with a share of at least ``goal``, to a factor of 1 + ``within`` (whole numbers: to the next one).

    It takes shares to fall with the load. ``high`` None: doubled from ``low`` until one misses. A run that is not to be trusted counts as a miss.

    Raises:
        ValueError: ``low`` is not above 0, or not below ``high``; ``goal`` is not in (0, 1].
    """
    if not 0 < low < (math.inf if high is None else high) or not 0 < goal <= 1:
        raise ValueError(f"wants 0 < low < high and a goal in (0, 1], got {low}, {high} and {goal}")
    tried: dict[float, Tried] = {}

    def at(load: float) -> Tried:
        tried[load] = _decided(probe, load, goal, replications)
        return tried[load]

    met, missed = _bracketed(at, low, high)
    while met is not None and missed is not None:
        middle = math.sqrt(met.load * missed.load)
        middle = round(middle) if is_whole else middle
        if not met.load < middle < missed.load or (not is_whole and missed.load <= met.load * (1 + within)):
            break
        found = at(float(f"{middle:.3g}") if _between(met.load, float(f"{middle:.3g}"), missed.load) else middle)
        met, missed = (found, missed) if found.met else (met, found)
    return Highest(met, missed, tuple(tried[load] for load in sorted(tried)))


def _between(low: float, value: float, high: float) -> bool:
    return low < value < high


def _bracketed(at: Callable[[float], Tried], low: float, high: float | None) -> tuple[Tried | None, Tried | None]:
    """A load that meets the goal and a higher one that misses it; None for the one there is not."""
    met = at(low)
    if not met.met:
        return None, met
    if high is not None:
        top = at(high)
        return (top, None) if top.met else (met, top)
    for _ in range(_MOST_DOUBLINGS):
        top = at(2 * met.load)
        if not top.met:
            return met, top
        met = top
    return met, None


def _decided(probe: Probe, load: float, goal: float, replications: int) -> Tried:
    good = recorded = runs = 0
    trusted = True
    while True:
        share = probe(load, runs)
        runs += 1
        good, recorded, trusted = good + share.good, recorded + share.recorded, trusted and share.trusted
        low, high = wilson(good, recorded)
        is_sure = not low < goal <= high or share.recorded == 0
        if not trusted or share.recorded == 0 or (runs >= replications and (is_sure or runs >= _MOST_TRIES)):
            met = trusted and recorded > 0 and good >= goal * recorded
            return Tried(load, good, recorded, met, is_sure, trusted)


def wilson(good: int, recorded: int) -> tuple[float, float]:
    """The 95 % score interval of a share (Wilson 1927); (0, 1) without a single request.

    For independent requests: under load they are not, and the true interval is wider. Here it only says when to try again.
    """
    if recorded <= 0:
        return 0.0, 1.0
    share, z2 = good / recorded, _Z * _Z
    centre = (share + z2 / (2 * recorded)) / (1 + z2 / recorded)
    half = _Z * math.sqrt(share * (1 - share) / recorded + z2 / (4 * recorded * recorded)) / (1 + z2 / recorded)
    return centre - half, centre + half
