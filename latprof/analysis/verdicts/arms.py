"""One side of a comparison: its figures on demand, the seeds that made them, and under what conditions.

An arm is made of replications (`arm_of`) or of what a baseline kept of them (`latprof.gates.baseline`): whoever compares need not know which.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Final, NamedTuple

import numpy as np

from latprof.analysis.quantiles import Numbers
from latprof.analysis.validity.doubts import Doubt
from latprof.analysis.verdicts.conditions import Conditions, conditions, differences
from latprof.analysis.verdicts.estimates import Estimate, without_interval
from latprof.analysis.verdicts.replications import DECOMPOSED, ERRORS, GOODPUT, SHARES, Replication, Selector, estimate, layer_names
from latprof.analysis.verdicts.steady import Steady
from latprof.analysis.verdicts.trust import about_layers, check_once, doubts_of
from latprof.errors import UsageError

PERCENTILES: Final = (0.50, 0.90, 0.95, 0.99)
"""Of the metrics that are compared."""
LAYER_PERCENTILES: Final = (0.50, 0.95, 0.99)
"""Of the layers' contributions: fewer, because every figure more makes all of them harder to tell from chance."""
COMPARED: Final = ("ttft", "ttfo", "tpot", "itl", "e2el", "task")
"""The metrics in ns that are compared."""


class Key(NamedTuple):
    """One figure: of a metric or a layer, at a percentile; a share has none."""

    selector: Selector
    p: float | None

    def __str__(self) -> str:
        """As a person names it: ``ttft p95``, ``gateway.auth p50``, ``errors``."""
        if self.selector.metric in SHARES:
            return str(self.selector)
        return f"{self.selector} {'mean' if self.p is None else f'p{100 * self.p:g}'}"


@dataclass(frozen=True, slots=True, eq=False)
class Counted:
    """What counts of one run: ``requests``, failures included, from its ``steady`` state on, and the samples of its metrics as in its figures.

    ``cached_share`` is of its prompt tokens, those that a cache knew; NaN where no server tells.
    """

    requests: int
    steady: Steady
    values_ns: Mapping[str, Numbers]
    cached_share: float = math.nan


@dataclass(frozen=True, slots=True, eq=False)
class Arm:
    """``figure`` gives any figure of the arm; ``seeds`` are those of its replications, in order, as are the figures of every estimate.

    ``metrics`` are those it has values of, ``layers`` the layers that its decomposed metrics are made of, in path order. ``presets`` are what its
    stack took from presets, as run.json holds it; None of a baseline, which does not keep it. ``runs`` are in the order of ``seeds``, and
    likewise none of a baseline.
    """

    name: str
    seeds: tuple[int, ...]
    metrics: tuple[str, ...]
    layers: Mapping[str, tuple[str, ...]]
    figure: Callable[[Key], Estimate]
    conditions: Conditions
    doubts: tuple[Doubt, ...] = ()
    presets: tuple[Mapping[str, Any], ...] | None = None
    runs: tuple[Counted, ...] = ()

    @property
    def cached_share(self) -> float:
        """Of the prompt tokens those that a cache knew, in the mean of the runs that tell; NaN where none does."""
        told = [run.cached_share for run in self.runs if not math.isnan(run.cached_share)]
        return sum(told) / len(told) if told else math.nan

    @property
    def valid(self) -> bool:
        """Whether every run of it can be trusted."""
        return not any(doubt.level == "fatal" for doubt in self.doubts)

    def metric_keys(self) -> tuple[Key, ...]:
        """The end-to-end figures it has, shares last."""
        timed = [Key(Selector(metric), p) for metric in self.metrics if metric not in SHARES for p in PERCENTILES]
        return (*timed, *(Key(Selector(metric), None) for metric in self.metrics if metric in SHARES))

    def layer_keys(self, metric: str) -> tuple[Key, ...]:
        """The contributions to ``metric``, layer by layer."""
        return tuple(Key(Selector(metric, layer), p) for layer in self.layers.get(metric, ()) for p in LAYER_PERCENTILES)


def arm_of(name: str, replications: Sequence[Replication]) -> Arm:
    """Runs that repeat one experiment, as one side of a comparison.

    Raises:
        UsageError: there are none, one is there twice, or they do not repeat the same thing.
    """
    check_once(name, replications)
    ordered = sorted(replications, key=lambda one: (one.seed, str(one.folder)))
    found = [conditions(one.meta) for one in ordered]
    for one, its in zip(ordered, found, strict=True):
        apart = differences(found[0], its)
        if apart.asked or apart.system or apart.place:
            what = "; ".join((*apart.asked, *apart.system, *apart.place)[:3])
            raise UsageError(
                f"{name}: replications repeat one experiment, but {ordered[0].folder} and {one.folder} differ in {what};"
                " name the runs of one configuration on one machine, seeds apart"
            )
    doubts = doubts_of(ordered)
    return Arm(
        name=name,
        seeds=tuple(one.seed for one in ordered),
        metrics=_metrics(ordered),
        layers={metric: layer_names(ordered, metric) for metric in DECOMPOSED if any(metric in one.layers for one in ordered)},
        figure=lru_cache(maxsize=None)(lambda key: _figure(ordered, key, about_layers(doubts))),
        conditions=found[0],
        doubts=doubts,
        presets=tuple(ordered[0].meta.get("presets", ())),
        runs=tuple(Counted(len(one.failed), one.steady, one.values_ns, one.cached_share) for one in ordered),
    )


def _figure(replications: Sequence[Replication], key: Key, doubt: Doubt | None) -> Estimate:
    """The figure; that of a layer without its interval where layers are in doubt."""
    found = estimate(replications, key.selector, key.p)
    if doubt is None or not key.selector.layer or not found.has_interval:
        return found
    return without_interval(found.together, found.replications, found.n, doubt.text, found.n_eff)


def _metrics(replications: Sequence[Replication]) -> tuple[str, ...]:
    timed = [metric for metric in COMPARED if any(len(one.values_ns.get(metric, ())) for one in replications)]
    if all(np.array_equal(one.values_ns.get("ttfo", ()), one.values_ns.get("ttft", ())) for one in replications):
        timed = [metric for metric in timed if metric != "ttfo"]  # the first token was one of the answer: the same figures once more
    has_goal = all(one.good is not None for one in replications)
    return (*timed, *([GOODPUT] if has_goal else []), ERRORS)
