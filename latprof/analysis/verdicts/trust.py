"""Whether several runs can be trusted together: a report says a doubt beside its figures, a verdict cannot, so here some doubts are graver."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace

from latprof.analysis.validity.doubts import Doubt
from latprof.analysis.verdicts.replications import Replication
from latprof.errors import UsageError

# A generator that waits for its core measures that wait.
_FATAL = ("starved", "generator_cpu")
# Layers that do not add up, or of too few requests, cannot keep a promise or break it.
_FATAL_FOR_LAYERS = ("residual", "span_coverage", "unknown_spans", "spans_lost")
_RANK = {"fatal": 0, "warning": 1, "note": 2}


def check_once(name: str, replications: Sequence[Replication]) -> None:
    """See that every run is there once: taken twice it would make the intervals narrower than they are.

    Raises:
        UsageError: one is there several times, or there are none.
    """
    if not replications:
        raise UsageError(f"{name}: at least one run is needed, got none; name a run folder")
    counts = Counter(_identity(one) for one in replications)
    twice = [str(one.folder) for one in replications if counts[_identity(one)] > 1]
    if twice:
        raise UsageError(f"{name}: {' and '.join(dict.fromkeys(twice))} hold the same run; name every run once")


def _identity(one: Replication) -> str:
    return str(one.meta.get("run_id") or one.folder)


def doubts_of(replications: Sequence[Replication], *, names_layers: bool = False) -> tuple[Doubt, ...]:
    """Every doubt once, as grave as it is anywhere, the gravest first; those about the generator are fatal, with ``names_layers`` those about layers."""
    found: dict[str, list[Doubt]] = {}
    for one in replications:
        unsteady = one.steady.doubt()
        for doubt in (*one.doubts, *([unsteady] if unsteady is not None else [])):
            # Halves are asked about after the cut, by `Steady`; what the sample is too small for is told by every assertion.
            if doubt.id not in {"drift", "small_sample"}:
                is_fatal = doubt.id in _FATAL or (names_layers and doubt.id in _FATAL_FOR_LAYERS)
                found.setdefault(doubt.id, []).append(replace(doubt, level="fatal") if is_fatal else doubt)
    gravest = [_of_several(same, len(replications)) for same in found.values()]
    return tuple(sorted([*gravest, *_same_seed(replications)], key=lambda doubt: _RANK[doubt.level]))


def about_layers(doubts: Sequence[Doubt]) -> Doubt | None:
    """The doubt for which no verdict on a layer counts; None if there is none."""
    return next((doubt for doubt in doubts if doubt.id in _FATAL_FOR_LAYERS), None)


def _of_several(same: Sequence[Doubt], runs: int) -> Doubt:
    gravest = min(same, key=lambda doubt: _RANK[doubt.level])
    return gravest if runs == 1 else replace(gravest, text=f"{gravest.text} (in {len(same)} of {runs} runs; this is one of them)")


def _same_seed(replications: Sequence[Replication]) -> list[Doubt]:
    seeds = [one.seed for one in replications]
    if len(set(seeds)) == len(seeds):
        return []
    is_simulated = all(one.meta.get("is_simulated") for one in replications)
    text = "replications have the same seed: they repeat one schedule, and their spread tells of the machine alone"
    return [
        Doubt(
            "same_seed",
            "fatal" if is_simulated else "warning",
            text,
            "give each run a --seed of its own, as latprof run --replications does",
        )
    ]
