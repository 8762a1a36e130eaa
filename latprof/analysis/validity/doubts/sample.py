"""Enough requests, of a steady state."""

from __future__ import annotations

from latprof.analysis.validity.doubts.doubt import Doubt
from latprof.analysis.validity.doubts.facts import UNKNOWN, Facts
from latprof.analysis.validity.doubts.words import all_of, in_ms, percent


def small_sample(facts: Facts) -> Doubt | None:
    """A percentile needs ten independent requests beyond it."""
    if not facts.refused:
        return None
    worth = facts.requests_with_layers / facts.p99_inflation
    told = f" (in the tail worth about {worth:.0f} independent ones)" if facts.p99_inflation > 1 else ""
    upper = [label for label in facts.refused if label != "p50"]
    instead = "the mean of the slowest 5 % is shown instead"
    if len(upper) < len(facts.refused):
        instead = "the mean is shown instead of p50" + (f", the mean of the slowest 5 % instead of {all_of(upper)}" if upper else "")
    text = f"{facts.requests_with_layers} requests{told} are too few for {all_of(facts.refused)}; {instead}"
    return Doubt("small_sample", "warning", text, "run longer (p99 needs 1 000 independent requests), or at a lower rate")


def unstable(facts: Facts) -> Doubt | None:
    """What was foreseen by service times alone. Where TTFT grew as well its percentiles are the length of the run, whatever else they are."""
    if not facts.overloads:
        return None
    worst = max(facts.overloads, key=lambda one: one.utilisation)
    grew = _change(facts) > 0
    effect = "; TTFT grew with it, so its percentiles say how long the run was" if grew else ", and TTFT with it"
    remedy = f"{', '.join(worst.remedies[:-1])}, or {worst.remedies[-1]}"
    return Doubt("unstable", "fatal" if grew else "warning", f"unstable load: {worst.text}{effect}", remedy)


def drifted(facts: Facts) -> Doubt | None:
    """No steady state: the percentiles depend on when the run stopped."""
    change = _change(facts)
    if not change:
        return None
    if change > 0:
        cause, remedy = "a queue that grows", "lower the rate, or run longer"
    else:
        cause, remedy = "a cold start", "lengthen load.warmup, or run longer"
    halves = f"from {in_ms(facts.first_half_p50_ns)} in the first half to {in_ms(facts.second_half_p50_ns)} in the second"
    return Doubt("drift", "warning", f"no steady state: TTFT p50 went {halves}; likely {cause}", remedy)


def tasks_cut(facts: Facts) -> Doubt | None:
    """Of tasks that time ends, the short ones come to their end: the longer one takes, the likelier it is left out."""
    every = facts.tasks + facts.tasks_cut
    share = facts.tasks_cut / every if every else 0.0
    if share <= 0.05 or facts.interrupted or facts.partial:
        return None
    text = (
        f"the end of the load cut {facts.tasks_cut} of {every} tasks short ({percent(share)}), the longer ones rather than the others: figures of"
        " the task are of those that came to their end, and too short"
    )
    remedy = "let a number of sessions end the load (load.num_requests), or make it many times as long as a task"
    return Doubt("tasks_cut", "warning", text, remedy)


def _change(facts: Facts) -> float:
    """By which share TTFT went up (or down, below 0) from the first half to the second; 0 where chance explains it, or it is little."""
    change = facts.second_half_p50_ns / facts.first_half_p50_ns - 1 if facts.first_half_p50_ns else UNKNOWN
    return change if abs(facts.halves_apart) > 3 and abs(change) > 0.05 else 0.0
