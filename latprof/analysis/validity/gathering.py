"""From a run folder to the facts that doubts are made of."""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from latprof.analysis.contributions import Contributions
from latprof.analysis.laws import laws_in
from latprof.analysis.metrics import Counts, Rate, cap_wait_ns, connection_wait_ns, is_unstreamed, present, wake_lateness_ns
from latprof.analysis.quantiles import SHOWN, Distribution, Numbers, percentile
from latprof.analysis.validity.buffering import Buffering, comes_in_a_lump, find_buffering
from latprof.analysis.validity.doubts import UNKNOWN, Facts, StageFacts
from latprof.analysis.validity.drift import drift
from latprof.analysis.validity.instrument import Instrument, instrument
from latprof.analysis.validity.overload import Overload
from latprof.analysis.validity.passage import client_view, passage
from latprof.analysis.validity.served import missing_by_service
from latprof.clock import WallAnchor
from latprof.layers.table import Layers
from latprof.layers.vocabulary import UNATTRIBUTED
from latprof.observations.columns import Requests
from latprof.observations.folder import Run
from latprof.schedule.plan import WARMUP
from latprof.spans.store import Spans
from latprof.units import NS_PER_MS

# Fewer answers at once than this are not the work of a hop that buffers.
_WORTH_A_LOOK = 0.05
_COUNTED = frozenset({"stalls", "gc_pauses", "involuntary_switches", "clock_steps"})


def gather(
    run: Run,
    layers: Layers,
    spans: Spans,
    columns: Sequence[Contributions],
    counted: Counts,
    rates: Rate,
    ttft: Distribution,
    ttft_ns: Numbers,
    itl_p50_ns: float = UNKNOWN,
) -> Facts:
    """Collect every fact of a run. ``ttft_ns`` is in order of intended start; ``columns`` are the budget's, empty without a request."""
    meta, measured = run.meta, run.requests.select(run.requests.measured)
    ok = measured.select(measured.success)
    first = measured.select(measured.attempt == 0)  # a retry's wait is not the generator's fault
    halves = drift(ttft_ns)
    health = measured_phase(meta).get("health", {})
    of_run = instrument(meta, health, measured, run.chunks)
    facts = Facts(
        sent=counted.turns_sent,
        planned=_planned(meta, measured),
        stale_retries=_stale_retries(meta),
        ok=counted.ok,
        failed=counted.failed,
        recovered=counted.recovered,
        errors=counted.errors,
        error_text=_error_text(measured, counted.errors),
        partial=run.partial,
        partial_reason=run.partial_reason,
        interrupted=bool(meta.get("interrupted")),
        ttft_p50_ns=ttft.percentiles[0],
        lateness_p99_ns=percentile(present(wake_lateness_ns(first)), 0.99),
        connection_wait_p99_ns=percentile(present(connection_wait_ns(first)), 0.99),
        asked_per_s=rates.intended_per_s if is_open(meta) else UNKNOWN,
        offered_per_s=rates.achieved_per_s,
        asked_cv=rates.intended_cv if is_open(meta) else UNKNOWN,
        offered_cv=rates.achieved_cv,
        cap_wait_share=_cap_wait_share(measured, meta),
        refused=tuple(f"p{100 * p:g}" for p, value in zip(SHOWN, ttft.hd, strict=True) if np.isnan(value) and ttft.n),
        requests_with_layers=len(layers.rows),
        p99_inflation=ttft.n / ttft.n_eff[-1] if ttft.n else UNKNOWN,
        first_half_p50_ns=halves.first_ns,
        second_half_p50_ns=halves.second_ns,
        halves_apart=halves.standard_errors,
        tokens_not_from_usage=int((ok.tokens_source != "usage").sum()),
        reasoning_unstreamed=int(is_unstreamed(ok, run.chunks).sum()),
        stream_options_dropped=not meta.get("preflight", {}).get("include_usage", True),
        buffering=_buffering(run, layers, spans),
        itl_p50_ns=itl_p50_ns,
        is_simulated=run.is_simulated,
        laws=laws_in(meta),
        assumed=tuple(meta.get("assumed", ())),
        overloads=tuple(Overload(**told) for told in meta.get("unstable", ())),
    )
    return dataclasses.replace(facts, **_generator(of_run), **_spans(meta, ok, spans), **_layers(layers, columns), **_stub(meta))


def _error_text(measured: Requests, errors: Mapping[str, int]) -> str:
    """What the first failure of the most frequent class said, at most a line of it."""
    if not errors:
        return ""
    rows = np.flatnonzero(measured.error_class == max(errors, key=lambda name: errors[name]))
    return " ".join(str(measured.error_text[rows[0]]).split())[:160] if len(rows) else ""


def _planned(meta: Mapping[str, Any], measured: Requests) -> int | None:
    """How many requests the schedule had, where nothing but their number ended it: of sessions of many turns, time may cut the last."""
    load = meta.get("config", {}).get("load", {})
    turns_are_cut = len(measured) and measured.turn.max() > 0 and (load.get("num_requests") is None or load.get("duration") is not None)
    planned = [number for name, number in meta.get("planned", {}).items() if name != WARMUP]
    return None if turns_are_cut or load.get("phases") or not planned or None in planned else sum(planned)


def is_open(meta: Mapping[str, Any]) -> bool:
    """Whether the load was an open loop throughout: its schedule, not the answers, decided when to send."""
    load = meta.get("config", {}).get("load", {})
    return all(part.get("concurrency") is None for part in (load, *(load.get("phases") or ())))


def measured_phase(meta: Mapping[str, Any]) -> Mapping[str, Any]:
    """What ``run.json`` says of the measured phases, as of one: of their health the worst, and counts of all together.

    Empty if the run did not get there.
    """
    measured = [phase for phase in meta.get("phases", ()) if phase.get("name") != WARMUP]
    if len(measured) < 2:
        return measured[0] if measured else {}
    # A phase too short or too quiet for a figure does not have it.
    told: dict[str, list[float]] = {}
    for phase in measured:
        for name, value in phase.get("health", {}).items():
            if isinstance(value, int | float):
                told.setdefault(name, []).append(value)
    together = {name: sum(values) if name in _COUNTED else max(values) for name, values in told.items()}
    return {**measured[0], "end_ns": measured[-1]["end_ns"], "health": together}


def _stale_retries(meta: Mapping[str, Any]) -> int:
    """Of the measured phases; of the whole run where the folder does not tell them apart."""
    told = [phase for phase in meta.get("phases", ()) if "stale_retries" in phase]
    return sum(phase["stale_retries"] for phase in told if phase.get("name") != WARMUP) if told else int(meta.get("stale_retries", 0))


def _generator(of_run: Instrument) -> dict[str, Any]:
    steps = of_run.figure("clock_steps")
    return {
        "loop_lag_p99_ns": of_run.figure("loop_lag_p99_ns"),
        "cpu_share": of_run.figure("cpu_share"),
        "starved_share": of_run.figure("starved_share"),
        "stolen_share": of_run.figure("stolen_share"),
        "clock_steps": 0 if np.isnan(steps) else int(steps),
        "stamps": of_run.stamps,
        "interval_share": of_run.interval_share,
        "worker_deaths": of_run.deaths,
        "instrument": of_run,
    }


def _cap_wait_share(measured: Requests, meta: Mapping[str, Any]) -> float:
    """Requests that waited for a place for more than the millisecond that is nobody's fault."""
    waits_ns = present(cap_wait_ns(measured))
    load = meta.get("config", {}).get("load", {})
    capped = any(part.get("max_concurrency") is not None for part in (load, *(load.get("phases") or ())))
    return float((waits_ns > NS_PER_MS).mean()) if capped and len(waits_ns) else UNKNOWN


def _spans(meta: Mapping[str, Any], ok: Requests, spans: Spans) -> dict[str, Any]:
    receiver = meta.get("receiver", {})
    told = frozenset(spans.trace_ids)
    return {
        "spans": len(spans),
        "services": tuple(sorted(receiver.get("traces_by_service", {}))),
        "span_coverage": sum(trace_id in told for trace_id in ok.trace_id) / len(ok) if len(ok) else UNKNOWN,
        "other_spans": max(0, receiver.get("other_spans", 0) - spans.joined.spans),
        "joined_by_answer": sum(trace_id in spans.joined.traces for trace_id in ok.trace_id) if spans.joined.traces else 0,
        "join_refused": spans.joined.refused,
        "missing_by_service": missing_by_service(ok, spans, receiver.get("missing_by_service", {})),
        "rejected": receiver.get("rejected", {}),
        "span_write_error": receiver.get("write_error", ""),
        "ports_taken": tuple(receiver.get("ports_taken", ())),
    }


def _layers(layers: Layers, columns: Sequence[Contributions]) -> dict[str, Any]:
    facts: dict[str, Any] = {
        "hops": layers.hops,
        "clocks_corrected": {clock.clock: float(clock.offset_ns) for clock in layers.clocks if clock.corrected},
        "clocks_inconsistent": tuple(clock.clock for clock in layers.clocks if not clock.consistent),
        "clock_errors": {
            clock.clock: (float(clock.low_ns - clock.offset_ns), float(clock.high_ns - clock.offset_ns))
            for clock in layers.clocks
            if clock.consistent
        },
        "conflicts": _conflicts(layers),
    }
    if columns and columns[0].value_ns > 0:
        left = {name: float(ns) for name, ns in zip(layers.names, columns[0].total_ns, strict=True) if name.startswith(UNATTRIBUTED)}
        largest_first = sorted((name for name, ns in left.items() if ns > 0), key=lambda name: -left[name])
        facts["unattributed_share_p50"] = sum(left.values()) / columns[0].value_ns
        facts["unattributed"] = tuple(name.removeprefix(UNATTRIBUTED) for name in largest_first)
    return facts


def _conflicts(layers: Layers) -> dict[str, int]:
    requests = Counter(layer for layer, _ in {(conflict.layer, conflict.request) for conflict in layers.conflicts})
    return dict(sorted(requests.items(), key=lambda item: (-item[1], item[0])))


def _stub(meta: Mapping[str, Any]) -> dict[str, Any]:
    """What the stub's stages say of themselves: of several measured phases the one in which they had most to do."""
    stub = meta.get("stub", {})
    after = stub.get("after", {})
    stages = []
    for stage, figures in after.items():
        shares = [_cpu_share(stage, phase) for phase in stub.get("phases", ()) if phase.get("name") != WARMUP]
        stages.append(StageFacts(stage, figures.get("timer_error_p99_ns", UNKNOWN), max(shares, default=UNKNOWN)))
    return {"stages": tuple(stages), "stages_died": stub.get("died", "")}


def _cpu_share(stage: str, phase: Mapping[str, Any]) -> float:
    """CPU of one stage over the length of a phase; not a number where it is not known."""
    used_ns = phase["after"].get(stage, {}).get("cpu_ns", np.nan) - phase["before"].get(stage, {}).get("cpu_ns", np.nan)
    length_ns = phase["end_ns"] - phase["start_ns"]
    return float(used_ns / length_ns) if length_ns > 0 else UNKNOWN


def _buffering(run: Run, layers: Layers, spans: Spans) -> Buffering | None:
    if run.is_simulated:
        return None
    rows = run.requests.select(layers.rows)
    if comes_in_a_lump(client_view(rows, run.chunks)) < _WORTH_A_LOOK:
        return None
    found = passage(run.requests, run.chunks, layers, spans, WallAnchor(**run.meta["anchor"]))
    return find_buffering(found.client, found.hops, found.generation_ns)
