"""The report as JSON: schema ``latprof.summary/1``, every key of it described in ``docs/summary.md``. Nothing is rounded."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from latprof.analysis.laws import Law
from latprof.analysis.quantiles import SHOWN, Distribution
from latprof.analysis.targets import TargetFigures
from latprof.report import injected, presets
from latprof.report.rounding import finite
from latprof.report.values import MEAN, Budget, LayerRow, Report
from latprof.units import MISSING_NS, NS_PER_S, ms

SCHEMA = "latprof.summary/1"
"""Additions keep the number."""

FLAT = ("ttft", "ttft_sent", "ttfo", "tpot", "itl", "e2el", "task", "lateness")
"""Metrics with keys of their own at the top level, in the names peers use."""


def summary(report: Report) -> dict[str, Any]:
    """``report`` as plain values for JSON: times in ms, rates per second, shares as fractions; null where a figure is not known or refused."""
    return {
        "schema": SCHEMA,
        "run": {
            "id": report.run_id,
            "folder": str(report.folder),
            "url": report.url,
            "model": report.model,
            "stub": report.is_stub,
            "simulated": report.is_simulated,
            "seed": report.seed,
            "partial": report.facts.partial,
            "interrupted": report.interrupted,
        },
        "config_hash": report.config_hash,
        "arrival_model": report.arrival_model,
        "valid": report.valid,
        "doubts": [{"id": doubt.id, "level": doubt.level, "text": doubt.text, "remedy": doubt.remedy} for doubt in report.doubts],
        "counts": _counts(report),
        "rate": _rate(report),
        "goodput": _goodput(report),
        **{key: value for metric in FLAT for key, value in _flat(metric, report.metrics[metric]).items()},
        "tasks": _tasks(report),
        "injection": None if report.injection is None else injected.as_json(report.injection),
        "targets": [_target(one) for one in report.targets],
        "tokens_per_chunk": finite(report.tokens_per_chunk),
        "tokens_source": dict(report.tokens_sources),
        "cached_share": finite(report.cached_share),
        "layers": {
            budget.metric: [_layer(budget, row) for row in budget.rows]
            for budget in (report.budget, report.call_budget, None if report.tasks is None else report.tasks.budget)
            if budget is not None
        },
        "generator": {
            "cpu_share": finite(report.facts.cpu_share),
            "p99_loop_lag_ms": _ms(report.facts.loop_lag_p99_ns),
            "p99_wake_lateness_ms": _ms(report.facts.lateness_p99_ns),
            **_instrument(report),
        },
        "stations": [_law(law) for law in report.facts.laws],
        "host": dict(report.host),
        "presets": list(presets.lines(report.presets)),
    }


def _instrument(report: Report) -> dict[str, Any]:
    of_run = report.facts.instrument
    if of_run is None:
        return {}

    def count(name: str) -> int | None:
        value = of_run.figure(name)
        return int(value) if math.isfinite(value) else None

    return {
        "workers": of_run.workers,
        "workers_died": len(of_run.deaths),
        "stamps": of_run.stamps,
        "user_stamp_share": finite(of_run.user_stamp_share),
        "interval_share": finite(of_run.interval_share),
        "starved_share": finite(of_run.figure("starved_share")),
        "stolen_share": finite(of_run.figure("stolen_share")),
        "max_loop_lag_ms": _ms(of_run.figure("loop_lag_max_ns")),
        "stalls": count("stalls"),
        "involuntary_switches": count("involuntary_switches"),
        "gc_pauses": count("gc_pauses"),
        "max_gc_pause_ms": _ms(of_run.figure("gc_pause_max_ns")),
        "max_receive_queue_bytes": count("receive_queue_max_bytes"),
        "waiting_sockets_share": finite(of_run.figure("waiting_sockets_share")),
        "clock_steps": count("clock_steps"),
    }


def _law(law: Law) -> dict[str, Any]:
    return {
        "layer": law.layer,
        "servers": law.servers,
        "utilisation": finite(law.utilisation),
        "rate_per_s": finite(law.rate_per_s),
        "mean_present": finite(law.mean_present),
        "mean_time_ms": _ms(law.mean_time_ns),
        "mean_busy": finite(law.mean_busy),
        "mean_service_ms": _ms(law.mean_service_ns),
    }


def _counts(report: Report) -> dict[str, Any]:
    counts = report.counts
    return {
        "planned": counts.planned if counts.planned != MISSING_NS else None,
        "sent": counts.sent,
        "retries": counts.retries,
        "ok": counts.ok,
        "failed": counts.failed,
        "warmup": counts.warmup,
        "errors": dict(counts.errors),
        "with_spans_share": finite(report.facts.span_coverage),
        "joined_by_answer": report.facts.joined_by_answer,
    }


def _rate(report: Report) -> dict[str, Any]:
    rate = report.rate
    return {
        "intended_per_s": finite(rate.intended_per_s),
        "achieved_per_s": finite(rate.achieved_per_s),
        "intended_cv": finite(rate.intended_cv),
        "achieved_cv": finite(rate.achieved_cv),
        "duration_s": rate.duration_ns / NS_PER_S,
        "completed_per_s": finite(rate.completed_per_s),
        "output_tokens_per_s": finite(rate.output_tokens_per_s),
    }


def _goodput(report: Report) -> dict[str, Any] | None:
    if report.goodput is None:
        return None
    goodput = report.goodput
    return {
        "objectives_ms": dict(goodput.objectives_ms),
        "good": goodput.good,
        "per_s": finite(goodput.per_s),
        "share": finite(goodput.share),
    }


def _tasks(report: Report) -> dict[str, Any] | None:
    tasks = report.tasks
    if tasks is None:
        return None
    return {
        "complete": tasks.complete,
        "incomplete": dict(tasks.incomplete),
        "mean_turns": finite(tasks.turns),
        "mean_turns_on_path": finite(tasks.turns_on_path),
        "mean_steps": finite(tasks.steps),
        "client_per_turn_ms": _ms(tasks.client_ns),
        "hidden_mean_ms": {layer: _ms(hidden_ns) for layer, hidden_ns in tasks.hidden_ns.items()},
    }


def _target(one: TargetFigures) -> dict[str, Any]:
    return {
        "name": one.name,
        "url": one.url,
        "model": one.model,
        "dialect": one.dialect,
        "share": finite(one.share),
        "asked_share": finite(one.asked_share),
        "ok": one.counts.ok,
        "failed": one.counts.failed,
        "errors": dict(one.counts.errors),
        "ttft": _given(one.ttft),
        "e2el": _given(one.e2el),
    }


def _given(found: Distribution) -> dict[str, float | int | None]:
    percentiles = {f"p{100 * p:g}_ms": _ms(value) for p, value in zip(SHOWN, found.given, strict=True)}
    return {"n": found.n, "mean_ms": _ms(found.mean), **percentiles, "tail_mean_ms": _ms(found.tail_mean)}


def _flat(metric: str, found: Distribution) -> dict[str, float | int | None]:
    percentiles = {f"p{100 * p:g}_{metric}_ms": _ms(value) for p, value in zip(SHOWN, found.percentiles, strict=True)}
    hd = {f"p{100 * p:g}_{metric}_hd_ms": _ms(value) for p, value in zip(SHOWN, found.hd, strict=True)}
    return {
        f"mean_{metric}_ms": _ms(found.mean),
        **percentiles,
        **hd,
        f"tail_mean_{metric}_ms": _ms(found.tail_mean),
        f"n_{metric}": found.n,
    }


def _layer(budget: Budget, row: LayerRow) -> dict[str, Any]:
    """A percentile the sample is too small for is null; the tail mean stands in its place."""
    first = budget.columns[0].label
    return {
        "layer": row.layer,
        **{f"p{100 * p:g}_ms": _at(row.total_ns, f"p{100 * p:g}") for p in SHOWN},
        "tail_mean_ms": _at(row.total_ns, "tail mean"),
        "mean_ms": _at(row.total_ns, MEAN),
        "share_p50": row.share if first == "p50" else None,
        **{f"{part}_p{100 * p:g}_ms": _at(values, f"p{100 * p:g}") for part, values in _parts(row).items() for p in SHOWN},
        **{f"{part}_mean_ms": _at(values, MEAN) for part, values in _parts(row).items()},
        "source": row.source,
        "coverage": row.coverage,
    }


def _parts(row: LayerRow) -> Mapping[str, Mapping[str, float]]:
    """Wait and service by column; nothing where they were not told apart, which is not zero."""
    told = [label for label in row.total_ns if row.wait_ns[label] + row.service_ns[label] > 0 or row.total_ns[label] == 0]
    return {
        "wait": {label: row.wait_ns[label] for label in told},
        "service": {label: row.service_ns[label] for label in told},
    }


def _at(values_ns: Mapping[str, float], label: str) -> float | None:
    return _ms(values_ns.get(label, math.nan))


def _ms(value_ns: float) -> float | None:
    return finite(ms(value_ns))
