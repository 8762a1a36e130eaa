"""Reasons to distrust a run: one file for each kind, and here the list of them all.

Each doubt is a function of the same `Facts`, which are recomputed from the run folder; `doubts` asks them all. A run with a fatal doubt is not valid.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

from latprof.analysis.validity.doubts import attribution, evidence, generator, load, outcome, sample, stub, tokens
from latprof.analysis.validity.doubts.doubt import Doubt, Level
from latprof.analysis.validity.doubts.facts import UNKNOWN, Facts, StageFacts

__all__ = ["DOUBTS", "OF_SIMULATIONS", "UNKNOWN", "Doubt", "Facts", "Level", "StageFacts", "doubts"]

DOUBTS: tuple[Callable[[Facts], Doubt | None], ...] = (
    outcome.no_success,
    sample.unstable,
    outcome.worker_died,
    outcome.failures,
    outcome.not_sent,
    outcome.stale,
    stub.stub_bound,
    generator.lateness,
    generator.connection_wait,
    generator.generator_cpu,
    generator.starved,
    generator.stolen,
    load.offered_load,
    load.offered_gaps,
    generator.loop_lag,
    generator.clock_step,
    outcome.partial,
    outcome.interrupted,
    sample.small_sample,
    sample.drifted,
    sample.tasks_cut,
    attribution.buffering,
    attribution.undelayed,
    attribution.residual,
    evidence.unknown_spans,
    evidence.span_coverage,
    evidence.port_taken,
    evidence.spans_lost,
    attribution.clock_skew,
    attribution.clock_errors,
    attribution.conflicts,
    tokens.token_counts,
    tokens.reasoning,
    load.cap_held,
    generator.intervals,
    generator.stamped_by_user,
    evidence.spans_missing,
    evidence.spans_of_others,
    evidence.join_refused,
    evidence.joined_by_answer,
    tokens.stream_options,
)
"""Doubts of one level are told in this order: first what makes the rest of the report worth less."""

OF_SIMULATIONS: tuple[Callable[[Facts], Doubt | None], ...] = (
    outcome.no_success,
    stub.laws_broken,
    sample.small_sample,
    sample.drifted,
    sample.tasks_cut,
    stub.assumptions,
    load.cap_held,
)
"""Nothing was generated, stamped or received there: what can be wrong is the simulation itself, and what it was asked."""

_RANK: Mapping[Level, int] = {"fatal": 0, "warning": 1, "note": 2}


def doubts(facts: Facts) -> tuple[Doubt, ...]:
    """Every doubt these facts raise, the gravest first."""
    return tuple(sorted(_raised(facts), key=lambda doubt: _RANK[doubt.level]))


def _raised(facts: Facts) -> Iterator[Doubt]:
    for doubt in OF_SIMULATIONS if facts.is_simulated else DOUBTS:
        raised = doubt(facts)
        if raised is not None:
            yield raised
