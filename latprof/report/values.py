"""The report as a value: what every renderer shares, computed from raw observations and nothing else."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from latprof.analysis.causal.injection import Injection
from latprof.analysis.contributions import DRAWN, Contributions, Kind, columns, mean_contributions
from latprof.analysis.gaps import distribution_of, gaps_of
from latprof.analysis.metrics import Counts, Goodput, Rate, cached_share, counts, goodput, rate, samples, streamed_tokens
from latprof.analysis.quantiles import Distribution, Numbers, distribution
from latprof.analysis.targets import TargetFigures, by_target
from latprof.analysis.task import METRIC as TASK
from latprof.analysis.task import Tasks
from latprof.analysis.validity.doubts import Doubt, Facts, doubts
from latprof.analysis.validity.gathering import gather
from latprof.layers.table import IntArray, Layers
from latprof.layers.vocabulary import belongs_to
from latprof.observations.columns import known
from latprof.observations.folder import Run
from latprof.schedule.plan import WARMUP
from latprof.spans.store import Spans
from latprof.units import MISSING_NS

MEAN = "mean"
"""The label of the column of means, which is always there."""


@dataclass(frozen=True, slots=True)
class Column:
    """One column of the budget: its label (``p50``, ``tail mean``), and what its layers add up to."""

    label: str
    kind: Kind
    p: float
    value_ns: float


@dataclass(frozen=True, slots=True)
class LayerRow:
    """One layer: its contribution to every column by label, and what of it was wait or service where that was told apart; ns, unrounded.

    ``share`` is that of the first column; ``coverage`` the share of the requests with evidence for the layer.
    """

    layer: str
    total_ns: Mapping[str, float]
    wait_ns: Mapping[str, float]
    service_ns: Mapping[str, float]
    share: float
    source: str
    coverage: float


@dataclass(frozen=True, slots=True)
class Budget:
    """The table that adds up: for every column the rows sum to its value. ``columns`` are shown; the mean stands beside them in every row.

    ``drawn`` are those of pictures, which reach further into the tail: p50, p95 and p99, or what stands for them.
    """

    metric: str
    requests: int
    columns: tuple[Column, ...]
    mean: Column
    rows: tuple[LayerRow, ...]
    drawn: tuple[Column, ...] = ()

    def value_ns(self, label: str) -> float:
        """What the column of that label adds up to; NaN where it is not there."""
        return next((column.value_ns for column in (*self.columns, self.mean) if column.label == label), math.nan)


@dataclass(frozen=True, slots=True)
class TaskFigures:
    """The tasks of a run whose sessions have several steps. ``budget`` is None where not one came to its end.

    Means over the tasks: ``turns``, ``turns_on_path``, ``steps``; ``client_ns`` is what the client cost per turn on the path; ``hidden_ns`` by
    layer is work beside the path, that nobody waited for. ``incomplete`` counts by reason (`latprof.analysis.task.Incomplete`).
    """

    budget: Budget | None
    complete: int
    incomplete: Mapping[str, int]
    turns: float
    turns_on_path: float
    steps: float
    client_ns: float
    hidden_ns: Mapping[str, float]


@dataclass(frozen=True, slots=True)
class Report:
    """A run, understood. ``budget`` is the TTFT's, ``call_budget`` the call's; None without a single successful request.

    ``tasks`` is None where every session is one call.
    """

    folder: Path
    run_id: str
    config_hash: str
    seed: int
    url: str
    is_stub: bool
    is_simulated: bool
    model: str
    arrival_model: str
    counts: Counts
    rate: Rate
    metrics: Mapping[str, Distribution]
    goodput: Goodput | None
    tokens_per_chunk: float
    tokens_sources: Mapping[str, int]
    cached_share: float
    budget: Budget | None
    call_budget: Budget | None
    tasks: TaskFigures | None
    injection: Injection | None
    facts: Facts
    doubts: tuple[Doubt, ...]
    host: Mapping[str, Any]
    targets: tuple[TargetFigures, ...]
    """Each of several targets by itself; empty where there is but one."""
    presets: tuple[Mapping[str, Any], ...]
    """What the stack in a box took from presets: as `run.json` holds it."""

    @property
    def valid(self) -> bool:
        """Whether the run can be trusted: no fatal doubt."""
        return not any(doubt.level == "fatal" for doubt in self.doubts)

    @property
    def interrupted(self) -> bool:
        """Whether someone ended the run early."""
        return self.facts.interrupted


def build(
    run: Run, layers: Layers, spans: Spans, call: Layers | None = None, tasks: Tasks | None = None, injection: Injection | None = None
) -> Report:
    """Understand a run, whose layers reach to the first token, (``call``) to the last, and (``tasks``) over whole sessions.

    Percentiles are over the successes of the measured phase, rates and failures over all its rows.
    """
    meta = run.meta
    measured = run.requests.select(run.requests.measured)
    ok = measured.select(measured.success)
    planned = [number for phase, number in meta.get("planned", {}).items() if phase != WARMUP]
    counted = counts(run.requests, sum(planned) if planned and None not in planned else MISSING_NS)
    rates = rate(measured)
    sampled = samples(run.requests, run.chunks)
    several = tasks if tasks is not None and tasks.have_several_steps else None
    sampled[TASK] = np.zeros(0, np.int64) if several is None else several.task_ns
    metrics = {metric: distribution(values) for metric, values in sampled.items()}
    if run.segments is not None:
        metrics["itl"] = distribution_of(gaps_of(ok, run.segments))
    shown = _shown(run, layers)
    facts = gather(run, layers, spans, shown, counted, rates, metrics["ttft"], sampled["ttft"], metrics["itl"].percentiles[0])
    if injection is not None:
        facts = replace(facts, delayed=injection.requests + injection.failed, undelayed=injection.missed)
    if several is not None:
        facts = replace(facts, tasks=len(several.session), tasks_cut=several.incomplete.get("cut", 0))
    objectives = meta.get("config", {}).get("goodput") or {}
    tokens = streamed_tokens(ok, run.chunks)
    has_tokens = known(tokens) & (ok.token_chunks > 0)
    token_chunks = int(ok.token_chunks[has_tokens].sum())
    target = meta.get("target", {})
    return Report(
        folder=run.folder,
        run_id=str(meta.get("run_id", "")),
        config_hash=str(meta.get("config_hash", "")),
        seed=int(meta.get("seed", 0)),
        url=str(target.get("url", "")),
        is_stub=bool(target.get("is_stub", False)),
        is_simulated=run.is_simulated,
        model=str(target.get("model") or meta.get("config", {}).get("target", {}).get("model", "")),
        arrival_model=str(meta.get("arrival_model", "unknown")),
        counts=counted,
        rate=rates,
        metrics=metrics,
        goodput=goodput(measured, run.chunks, objectives) if objectives else None,
        tokens_per_chunk=int(tokens[has_tokens].sum()) / token_chunks if token_chunks else math.nan,
        tokens_sources=dict(Counter(str(source) or "none" for source in ok.tokens_source).most_common()),
        cached_share=cached_share(ok),
        budget=_budget(layers, shown, _intended_ns(run, layers)) if shown else None,
        call_budget=_budget(call, _shown(run, call), _intended_ns(run, call)) if call is not None and len(call.rows) else None,
        tasks=None if several is None else _tasks(run, several),
        injection=injection,
        facts=facts,
        doubts=doubts(facts),
        host=meta.get("host", {}),
        targets=by_target(run.requests, meta.get("targets", ())),
        presets=tuple(meta.get("presets", ())),
    )


def _shown(run: Run, layers: Layers) -> tuple[Contributions, ...]:
    return columns(layers, _intended_ns(run, layers)) if len(layers.rows) else ()


def _intended_ns(run: Run, layers: Layers) -> IntArray:
    return run.requests.intended_ns[layers.rows]


def _tasks(run: Run, tasks: Tasks) -> TaskFigures:
    shown = _shown(run, tasks.layers)
    mean_ns = tasks.layers.total_ns.mean(axis=0) if len(tasks.session) else np.zeros(len(tasks.layers.names))
    of_client = [index for index, name in enumerate(tasks.layers.names) if belongs_to(name, "client")]
    hidden_ns = tasks.hidden_ns.mean(axis=0) if len(tasks.session) else mean_ns
    turns = _mean(tasks.turns_on_path)
    return TaskFigures(
        budget=_budget(tasks.layers, shown, _intended_ns(run, tasks.layers)) if shown else None,
        complete=len(tasks.session),
        incomplete={str(reason): number for reason, number in tasks.incomplete.items()},
        turns=_mean(tasks.turns),
        turns_on_path=turns,
        steps=_mean(tasks.steps),
        client_ns=float(mean_ns[of_client].sum()) / turns if turns else math.nan,
        hidden_ns={name: float(value) for name, value in zip(tasks.layers.names, hidden_ns, strict=True) if value > 0},
    )


def _mean(values: Numbers) -> float:
    return float(values.mean()) if len(values) else math.nan


def _budget(layers: Layers, shown: Sequence[Contributions], intended_ns: IntArray | None = None) -> Budget:
    mean = mean_contributions(layers)
    drawn = columns(layers, intended_ns, DRAWN)
    labelled = {_label(column): column for column in (*drawn, *shown, mean)}
    coverage = layers.coverage()
    first = shown[0]
    rows = tuple(
        LayerRow(
            layer=layer,
            total_ns={label: float(column.total_ns[index]) for label, column in labelled.items()},
            wait_ns={label: float(column.wait_ns[index]) for label, column in labelled.items()},
            service_ns={label: float(column.service_ns[index]) for label, column in labelled.items()},
            share=float(first.total_ns[index]) / first.value_ns if first.value_ns else 0.0,
            source="+".join(layers.sources[index]),
            coverage=float(coverage[index]),
        )
        for index, layer in enumerate(layers.names)
    )
    told = tuple(Column(_label(column), column.kind, column.p, column.value_ns) for column in shown)
    bars = tuple(Column(_label(column), column.kind, column.p, column.value_ns) for column in drawn)
    return Budget(layers.metric, len(layers.rows), told, Column(MEAN, "mean", 0.5, mean.value_ns), rows, bars)


def _label(column: Contributions) -> str:
    return f"p{100 * column.p:g}" if column.kind == "percentile" else column.kind
