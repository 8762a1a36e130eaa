from __future__ import annotations

import dataclasses
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from made_run import META, MS, NAMES, made_layers, made_report, made_run, made_tasks

from latprof.layers.table import Conflict
from latprof.report.values import build
from latprof.report.words import facts
from latprof.spans.store import Spans
from latprof.units import NS_PER_S


def test_every_column_of_the_budget_adds_up_to_the_harrell_davis_percentile() -> None:
    report = made_report()
    assert report.budget is not None
    for column, hd in zip(report.budget.columns, report.metrics["ttft"].hd, strict=True):
        assert sum(row.total_ns[column.label] for row in report.budget.rows) == pytest.approx(column.value_ns, rel=1e-9)
        assert column.value_ns == pytest.approx(hd, rel=1e-12)
    assert sum(row.share for row in report.budget.rows) == pytest.approx(1)
    assert report.budget.value_ns("mean") == pytest.approx(report.metrics["ttft"].mean)
    assert math.isnan(report.budget.value_ns("tail mean"))


def test_rows_keep_path_order_sources_and_coverage() -> None:
    report = made_report()
    assert report.budget is not None
    assert tuple(row.layer for row in report.budget.rows) == NAMES
    tokenize = report.budget.rows[3]
    assert (tokenize.source, tokenize.coverage) == ("span+header", 1196 / 1200)
    assert tokenize.wait_ns["p50"] + tokenize.service_ns["p50"] == pytest.approx(tokenize.total_ns["p50"], rel=1e-6)


def test_percentiles_are_over_successes_and_counts_over_all() -> None:
    report = made_report()
    assert report.metrics["ttft"].n == 1_200
    assert (report.counts.ok, report.counts.failed) == (1_200, 2)
    assert report.goodput is not None
    assert report.goodput.share < 1_200 / 1_202
    assert report.tokens_per_chunk == 1.0
    assert report.tokens_sources == {"usage": 1_200}
    assert report.valid


@pytest.mark.parametrize(("cut", "is_told"), [(20, False), (60, True)])
def test_tasks_that_the_end_of_the_load_cut_are_missed(cut: int, is_told: bool) -> None:
    report = made_report(tasks=dataclasses.replace(made_tasks(), incomplete={"cut": cut}))
    assert ("tasks_cut" in {doubt.id for doubt in report.doubts}) == is_told


def test_a_folder_with_nothing_in_it_is_a_report_all_the_same() -> None:
    report = made_report(0)
    assert report.budget is None
    assert [doubt.id for doubt in report.doubts] == ["no_success"]
    assert not report.valid


def test_a_run_killed_before_anything_was_written_down_is_understood() -> None:
    run, layers, spans = made_run(30)
    bare = type(run)(Path("x"), {"anchor": META["anchor"], "status": "running"}, run.requests, run.chunks, True, "it was killed")
    report = build(bare, layers, spans)
    assert "partial" in {doubt.id for doubt in report.doubts}
    assert (report.arrival_model, report.goodput) == ("unknown", None)


def test_reasoning_that_was_not_streamed_is_told_and_no_part_of_the_pace() -> None:
    run, layers, spans = made_run()
    thought = np.full(len(run.requests), 1_000)
    requests = dataclasses.replace(run.requests, reasoning_tokens=thought, output_tokens=run.requests.output_tokens + thought)
    report = build(dataclasses.replace(run, requests=requests), layers, spans)
    assert report.tokens_per_chunk == 1.0
    assert report.metrics["tpot"] == made_report().metrics["tpot"]
    assert "reasoning" in {doubt.id for doubt in report.doubts} - {doubt.id for doubt in made_report().doubts}


# --- facts of the folder reach the doubts --------------------------------------------------------------------------------------------------


def raised(**meta: Any) -> set[str]:
    return {doubt.id for doubt in made_report(**meta).doubts}


def measured(**health: Any) -> list[dict[str, Any]]:
    return [{"name": "measured", "start_ns": 0, "end_ns": 10 * NS_PER_S, "health": {"loop_lag_p99_ns": MS, "cpu_share": 0.2} | health}]


def told(name: str, start_s: float, end_s: float, before_s: float, after_s: float) -> dict[str, Any]:
    """A phase as the stub's gateway tells of it: CPU seconds before and after."""
    cpu = {moment: {"gateway": {"cpu_ns": used_s * NS_PER_S}} for moment, used_s in (("before", before_s), ("after", after_s))}
    return {"name": name, "start_ns": start_s * NS_PER_S, "end_ns": end_s * NS_PER_S, **cpu}


def test_connections_that_died_in_the_warm_up_are_no_doubt_about_what_was_measured() -> None:
    first = {"name": "warmup", "start_ns": 0, "end_ns": NS_PER_S, "stale_retries": 5}
    assert "stale_connections" not in raised(phases=[first, measured()[0] | {"stale_retries": 0}], stale_retries=5)
    assert made_report(phases=[first, measured()[0] | {"stale_retries": 2}], stale_retries=7).facts.stale_retries == 2
    assert made_report(stale_retries=7).facts.stale_retries == 7  # a folder that does not tell the phases apart


def test_retries_stand_beside_the_turns_that_were_planned() -> None:
    run, layers, spans = made_run(planned={"measured": 1_202})
    assert dict(facts(build(run, layers, spans)))["requests"].startswith("1202 sent in ")
    again = run.requests.select(np.r_[np.arange(len(run.requests)), -2, -1])
    attempts = np.r_[run.requests.attempt, 1, 1]
    report = build(dataclasses.replace(run, requests=dataclasses.replace(again, attempt=attempts)), layers, spans)
    assert dict(facts(report))["requests"].startswith("1202 and 2 retries sent in ")
    fewer = build(dataclasses.replace(run, meta=run.meta | {"planned": {"measured": 1_250}}), layers, spans)
    assert dict(facts(fewer))["requests"].startswith("1202 of 1250 planned sent in ")


def test_of_several_phases_figures_are_the_worst_and_counts_are_of_all() -> None:
    first = measured(stalls=3, gc_pauses=1, involuntary_switches=7, clock_steps=1)  # too quiet for a share of stolen time
    second = measured(stalls=2, gc_pauses=0, involuntary_switches=5, clock_steps=1, cpu_share=0.4, stolen_share=0.3)
    report = made_report(phases=[*first, *second])
    found = report.facts.instrument
    assert found is not None
    names = ("stalls", "gc_pauses", "involuntary_switches", "clock_steps", "cpu_share", "stolen_share")
    assert [found.figure(name) for name in names] == [5, 1, 12, 2, 0.4, 0.3]
    assert "stolen" in {doubt.id for doubt in report.doubts}


@pytest.mark.parametrize(
    ("meta", "doubt"),
    [
        ({"phases": measured(cpu_share=0.9)}, "generator_cpu"),
        ({"phases": measured(loop_lag_p99_ns=20 * MS)}, "loop_lag"),
        ({"interrupted": True}, "interrupted"),
        ({"preflight": {"include_usage": False}}, "stream_options"),
        ({"receiver": {"ports_taken": ["4317 is taken"]}}, "otlp_port"),
        ({"receiver": {"other_spans": 4}}, "spans_of_others"),
        ({"receiver": {"missing_by_service": {"envoy": 400}}}, "spans_missing"),
        ({"receiver": {"rejected": {"malformed": 1}}}, "spans_lost"),
        ({"receiver": {"write_error": "disk full"}}, "spans_lost"),
        ({"stub": {"died": "router ended with 1"}}, "stub_bound"),
        ({"stub": {"after": {"gateway": {"timer_error_p99_ns": 9 * MS}}}}, "stub_bound"),
        (
            {
                "stub": {
                    "after": {"gateway": {"cpu_ns": 18 * NS_PER_S}},
                    "phases": [
                        told("one", 0, 10, 0, 1),  # busy in one of two phases is busy
                        told("two", 10, 20, 1, 10.5),
                    ],
                }
            },
            "stub_bound",
        ),
    ],
)
def test_what_run_json_says_reaches_the_doubts(meta: dict[str, Any], doubt: str) -> None:
    assert doubt not in raised()
    assert raised(**meta) == {doubt}


def test_a_phase_too_short_to_sample_its_event_loop_says_nothing_about_it() -> None:
    assert raised(phases=measured(loop_lag_p99_ns=-(2**63))) == set()


def test_spans_and_layers_reach_the_doubts() -> None:
    run, layers, spans = made_run(400)
    assert "no_spans" in {doubt.id for doubt in build(run, layers, Spans.of([])).doubts}
    conflicts = tuple(Conflict(index, "prefill", "span", 1, "header", 9 * MS) for index in range(40))
    disputed = type(layers)(**{name: getattr(layers, name) for name in layers.__slots__} | {"conflicts": conflicts})
    assert "conflicts" in {doubt.id for doubt in build(run, disputed, spans).doubts}


def test_time_that_no_layer_claims_reaches_the_doubts() -> None:
    run, layers, spans = made_run(400)
    renamed = made_layers(400)
    renamed = type(renamed)(
        **{name: getattr(renamed, name) for name in renamed.__slots__} | {"names": (*NAMES[:5], "unattributed@engine", *NAMES[6:])}
    )
    (doubt,) = (doubt for doubt in build(run, renamed, spans).doubts if doubt.id == "residual")
    assert "engine and gateway" in doubt.text
    assert "residual" not in {doubt.id for doubt in build(run, layers, spans).doubts}


def test_a_load_that_fell_behind_its_schedule_is_a_doubt() -> None:
    run, layers, spans = made_run()
    requests = run.requests
    behind = np.linspace(0, 2 * NS_PER_S, len(requests)).astype(np.int64)
    late = requests.select(np.arange(len(requests)))
    for name in ("ready_ns", "start_ns", "send_ns"):
        object.__setattr__(late, name, getattr(requests, name) + behind)
    report = build(type(run)(run.folder, run.meta, late, run.chunks), layers, spans)
    assert {"offered_load", "lateness"} <= {doubt.id for doubt in report.doubts}
    assert not report.valid
    closed = run.meta | {"config": {"load": {"concurrency": 4}}}
    report = build(type(run)(run.folder, closed, late, run.chunks), layers, spans)
    assert "offered_load" not in {doubt.id for doubt in report.doubts}


def test_layers_that_are_all_zero_do_not_divide_by_it() -> None:
    run, layers, spans = made_run(30)
    nothing = type(layers)(
        **{name: getattr(layers, name) for name in layers.__slots__}
        | {name: np.zeros_like(layers.total_ns) for name in ("total_ns", "wait_ns", "service_ns")}
    )
    report = build(run, nothing, spans)
    assert report.budget is not None
    assert [row.share for row in report.budget.rows] == [0.0] * len(NAMES)
