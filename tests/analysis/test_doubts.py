from __future__ import annotations

import dataclasses
from typing import Any

import pytest

from latprof.analysis.validity.buffering import Buffering
from latprof.analysis.validity.doubts import DOUBTS, Facts, StageFacts, doubts
from latprof.analysis.validity.overload import Overload
from latprof.units import NS_PER_MS as MS

CLEAN = Facts(
    sent=1_000,
    ok=1_000,
    ttft_p50_ns=200.0 * MS,
    lateness_p99_ns=0.5 * MS,
    loop_lag_p99_ns=1.0 * MS,
    cpu_share=0.3,
    asked_per_s=50.0,
    offered_per_s=50.1,
    asked_cv=1.0,
    offered_cv=1.02,
    requests_with_layers=1_000,
    p99_inflation=1.0,
    first_half_p50_ns=200.0 * MS,
    second_half_p50_ns=202.0 * MS,
    halves_apart=0.4,
    spans=12_000,
    hops=("gateway", "router"),
    span_coverage=0.99,
    unattributed_share_p50=0.03,
    unattributed=("gateway",),
    stages=(StageFacts("gateway", timer_error_p99_ns=0.3 * MS, cpu_share=0.2),),
)

TOO_MUCH = (Overload("measured", "prefill", 1.25, 40.0), Overload("late", "router", 2.5, 20.0))

# What changes, the doubt it raises, its level, and what its text must say.
CASES: list[tuple[dict[str, Any], str, str, str]] = [
    ({"connection_wait_p99_ns": 30 * MS}, "connection_wait", "warning", "waited 30 ms at p99 for a connection"),
    ({"connection_wait_p99_ns": 150 * MS}, "connection_wait", "fatal", "client.build"),
    ({"hops": (), "services": ("vllm",)}, "unknown_spans", "warning", "came in from vllm, and no source understands them"),
    ({"ok": 0, "failed": 1_000, "errors": {"auth": 1_000}}, "no_success", "fatal", "auth 1000"),
    ({"ok": 985, "failed": 15, "errors": {"timeout": 15}}, "failures", "warning", "1.5 %"),
    ({"ok": 995, "failed": 5, "errors": {"timeout": 5}}, "failures", "note", "p99 would be the p98.5 of all"),
    ({"ok": 900, "failed": 100, "errors": {"server": 100}}, "failures", "fatal", "server 100"),
    ({"ok": 900, "failed": 100, "recovered": 80, "errors": {"server": 100}}, "failures", "warning", "80 of them were made good by a retry"),
    ({"overloads": TOO_MUCH}, "unstable", "warning", "phase late asks 2.50 times of what router can do"),
    ({"lateness_p99_ns": 2.1 * MS}, "lateness", "warning", "2.10 ms at p99"),
    ({"lateness_p99_ns": 21.0 * MS}, "lateness", "fatal", "21 ms"),
    ({"loop_lag_p99_ns": 6.0 * MS}, "loop_lag", "warning", "6.00 ms"),
    ({"cpu_share": 0.85}, "generator_cpu", "warning", "85 %"),
    ({"cpu_share": 0.97}, "generator_cpu", "fatal", "97 %"),
    ({"loop_lag_p99_ns": 60.0 * MS}, "loop_lag", "fatal", "60 ms"),
    ({"stamps": "user"}, "user_stamps", "note", "not by the kernel"),
    ({"loop_lag_p99_ns": 12.0 * MS, "stamps": "kernel", "itl_p50_ns": 10.0 * MS}, "loop_lag", "warning", "chunks were read together"),
    ({"stolen_share": 0.12}, "stolen", "warning", "refused 12 % of the processor time it asked for (steal)"),
    ({"starved_share": 0.4, "lateness_p99_ns": 1.5 * MS}, "starved", "warning", "ready to run for 40 % of the time and had to wait"),
    ({"starved_share": 0.7, "lateness_p99_ns": 1.5 * MS}, "starved", "fatal", "70 %"),
    ({"worker_deaths": ("worker 1 (process 9) ended with code -9: it left no message",)}, "worker_died", "fatal", "process 9"),
    ({"interval_share": 0.12}, "intervals", "note", "12 % of the chunks"),
    ({"clock_steps": 2}, "clock_step", "warning", "jumped 2 times by more than 1 ms"),
    ({"offered_per_s": 49.0}, "offered_load", "warning", "2.0 % off"),
    ({"offered_per_s": 40.0}, "offered_load", "fatal", "40/s where the schedule has 50/s"),
    ({"offered_cv": 1.25}, "offered_gaps", "warning", "1.25 of their mean where the schedule has 1.00"),
    ({"offered_cv": 3.0}, "offered_gaps", "fatal", "3.00 of their mean"),
    ({"planned": 1020, "failed": 2, "errors": {"timeout": 2}}, "not_sent", "warning", "20 of 1020 planned requests (2.0 %)"),
    ({"planned": 1200, "failed": 2, "errors": {"timeout": 2}}, "not_sent", "fatal", "200 of 1200"),
    ({"stale_retries": 5}, "stale_connections", "note", "5 requests"),
    ({"stale_retries": 50}, "stale_connections", "warning", "50 requests"),
    ({"refused": ("p99",), "requests_with_layers": 500}, "small_sample", "warning", "500 requests are too few for p99"),
    ({"refused": ("p90", "p99"), "p99_inflation": 4.0}, "small_sample", "warning", "about 250 independent"),
    ({"refused": ("p50", "p90", "p99")}, "small_sample", "warning", "instead of p50, the mean of the slowest 5 % instead of p90 and p99"),
    ({"second_half_p50_ns": 260.0 * MS, "halves_apart": 5.0}, "drift", "warning", "a queue that grows"),
    ({"second_half_p50_ns": 160.0 * MS, "halves_apart": -5.0}, "drift", "warning", "a cold start"),
    ({"tasks": 30, "tasks_cut": 10}, "tasks_cut", "warning", "cut 10 of 40 tasks short (25 %)"),
    ({"partial": True, "partial_reason": "it was killed"}, "partial", "warning", "it was killed"),
    ({"interrupted": True}, "interrupted", "warning", "interrupted"),
    ({"stream_options_dropped": True}, "stream_options", "note", "stream_options"),
    ({"tokens_not_from_usage": 7}, "token_counts", "warning", "7 of 1000"),
    ({"reasoning_unstreamed": 7}, "reasoning", "note", "usage counts reasoning in 7 of 1000 answers"),
    ({"ports_taken": ("port 4317 is taken",)}, "otlp_port", "warning", "port 4317 is taken"),
    ({"spans": 0, "span_coverage": 0.0}, "no_spans", "note", "no spans"),
    ({"span_coverage": 0.5}, "span_coverage", "warning", "only 50 %"),
    ({"rejected": {"too_large": 3}}, "spans_lost", "warning", "too_large 3"),
    ({"span_write_error": "disk full"}, "spans_lost", "warning", "disk full"),
    ({"missing_by_service": {"envoy": 3}}, "spans_missing", "note", "envoy 3"),
    ({"missing_by_service": {"envoy": 300}}, "spans_missing", "warning", "envoy 300"),
    ({"other_spans": 12}, "spans_of_others", "note", "12 spans"),
    ({"joined_by_answer": 400}, "joined_by_answer", "note", "400 of 1000 requests"),
    ({"join_refused": {"told of in several traces": 3}}, "join_refused", "note", "3 more requests"),
    ({"join_refused": {"contradicted by the times of its spans": 300}}, "join_refused", "warning", "times of its spans 300"),
    ({"unattributed_share_p50": 0.08}, "residual", "warning", "inside gateway"),
    ({"unattributed_share_p50": 0.3}, "residual", "warning", "tells too little"),
    ({"clocks_corrected": {"host.name=b": 250.0 * MS}}, "clock_skew", "note", "host.name=b +250.00 ms"),
    ({"clocks_inconsistent": ("host.name=b",)}, "clock_skew", "warning", "no single offset"),
    ({"clock_errors": {"host.name=b": (-1.9 * MS, 497.0 * MS)}}, "clock_errors", "note", "host.name=b by -1.90 to +497.00 ms"),
    ({"conflicts": {"prefill": 10}}, "conflicts", "note", "prefill 10"),
    ({"conflicts": {"prefill": 100}}, "conflicts", "warning", "prefill 100"),
    ({"buffering": Buffering("haproxy", 1.0, 480.0 * MS, 300)}, "buffering", "warning", "haproxy holds streams for 480 ms"),
    ({"cap_wait_share": 0.2}, "cap_held", "note", "20 %"),
    ({"undelayed": 300}, "undelayed", "fatal", "there is no slope"),
    ({"delayed": 96, "undelayed": 4}, "undelayed", "warning", "4 of 100 requests (4.0 %) did not pass the injecting hop"),
    ({"stages": (StageFacts("gateway", 12.0 * MS, 0.2),)}, "stub_bound", "fatal", "gateway (12 ms off"),
    ({"stages": (StageFacts("decode", 0.1 * MS, 0.9),)}, "stub_bound", "fatal", "decode"),
    ({"stages_died": "gateway ended with 1: oops"}, "stub_bound", "fatal", "oops"),
]


def test_a_clean_run_raises_no_doubt() -> None:
    assert doubts(CLEAN) == ()


@pytest.mark.parametrize(("change", "name", "level", "says"), CASES, ids=[f"{case[1]}-{index}" for index, case in enumerate(CASES)])
def test_each_fact_raises_its_doubt_and_no_other(change: dict[str, Any], name: str, level: str, says: str) -> None:
    (raised,) = doubts(dataclasses.replace(CLEAN, **change))
    assert (raised.id, raised.level) == (name, level)
    assert says in raised.text
    assert raised.remedy


def test_a_share_of_the_mean_is_not_said_to_be_one_at_p50() -> None:
    few = dataclasses.replace(CLEAN, unattributed_share_p50=0.3, refused=("p50", "p90", "p99"))
    (said,) = [doubt.text for doubt in doubts(few) if doubt.id == "residual"]
    assert "30 % of TTFT in the mean is inside" in said


# Just inside every limit.
@pytest.mark.parametrize(
    "change",
    [
        {"ok": 998, "failed": 2, "errors": {"timeout": 2}},
        {"ok": 990, "failed": 10, "recovered": 9, "errors": {"rate_limited": 10}},
        {"lateness_p99_ns": 2.0 * MS},  # 1 % of TTFT
        {"ttft_p50_ns": 20.0 * MS, "lateness_p99_ns": 1.0 * MS},  # 1 ms whatever TTFT is
        {"loop_lag_p99_ns": 5.0 * MS},
        {"cpu_share": 0.8},
        {"offered_per_s": 49.76},
        {"offered_per_s": 40.0, "sent": 19, "ok": 19},  # three requests late, or chance
        {"second_half_p50_ns": 208.0 * MS, "halves_apart": 9.0},  # sure, and too small to matter
        {"second_half_p50_ns": 260.0 * MS, "halves_apart": 2.0},  # large, and chance
        {"span_coverage": 0.95},
        {"tasks": 95, "tasks_cut": 5},
        {"delayed": 99, "undelayed": 1},
        {"unattributed_share_p50": 0.05},
        {"buffering": Buffering("haproxy", 0.1, 480.0 * MS, 3)},
        {"cap_wait_share": 0.01},
        {"stages": (StageFacts("gateway", 10.0 * MS, 0.8),)},
        {"stages": (StageFacts("gateway"),)},
        {"rejected": {"busy": 0}},
        {"missing_by_service": {"envoy": 0}},
        {"clock_errors": {"host.name=b": (-4.0 * MS, 6.0 * MS)}},
        {"ttft_p50_ns": 10.0 * MS, "lateness_p99_ns": 0.1 * MS, "clock_errors": {"host.name=b": (0.0, 1.0 * MS)}},
    ],
)
def test_inside_the_limits_there_is_no_doubt(change: dict[str, Any]) -> None:
    assert doubts(dataclasses.replace(CLEAN, **change)) == ()


def test_every_doubt_has_a_case() -> None:
    cases = [dataclasses.replace(CLEAN, **change) for change, *_ in CASES]
    assert [doubt for doubt in DOUBTS if all(doubt(facts) is None for facts in cases)] == []


def test_nothing_known_is_no_reason_to_doubt_but_nothing_done_is() -> None:
    assert [doubt.id for doubt in doubts(Facts())] == ["no_success"]
    assert doubts(Facts(ok=10)) == (doubts(dataclasses.replace(CLEAN, spans=0))[0],)  # only the note on spans


def test_a_run_ended_before_its_load_is_not_sent_to_look_for_errors() -> None:
    nothing = next(doubt for doubt in doubts(Facts(interrupted=True)) if doubt.id == "no_success")
    assert nothing.level == "fatal"
    assert "before its load began" in nothing.text
    assert "error" not in nothing.remedy
    failed = next(doubt for doubt in doubts(Facts(interrupted=True, failed=3, errors={"interrupted": 3})) if doubt.id == "no_success")
    assert "error_text" in failed.remedy, "where there are errors they are the thing to look at"


def test_an_interrupted_run_is_not_blamed_for_its_rate() -> None:
    raised = doubts(dataclasses.replace(CLEAN, interrupted=True, offered_per_s=30.0))
    assert [doubt.id for doubt in raised] == ["interrupted"]


def test_a_loop_that_lags_by_more_than_the_gap_between_chunks_spoils_stamps_of_its_own() -> None:
    raised = doubts(dataclasses.replace(CLEAN, loop_lag_p99_ns=12.0 * MS, stamps="user", itl_p50_ns=10.0 * MS))
    assert [(doubt.id, doubt.level) for doubt in raised] == [("loop_lag", "fatal"), ("user_stamps", "note")]
    assert "stamps may be late by as much" in raised[0].text


def test_a_load_that_was_known_to_be_too_much_is_fatal_where_the_run_shows_it() -> None:
    grown = dataclasses.replace(CLEAN, overloads=TOO_MUCH, second_half_p50_ns=900.0 * MS, halves_apart=12.0)
    assert [(doubt.id, doubt.level) for doubt in doubts(grown)] == [("unstable", "fatal"), ("drift", "warning")]
    assert "lower the rate below 20/s, give router more servers" in doubts(grown)[0].remedy
    fallen = dataclasses.replace(grown, second_half_p50_ns=100.0 * MS, halves_apart=-12.0)
    assert [(doubt.id, doubt.level) for doubt in doubts(fallen)] == [("unstable", "warning"), ("drift", "warning")]


def test_the_gravest_come_first() -> None:
    raised = doubts(dataclasses.replace(CLEAN, other_spans=1, cpu_share=0.99, loop_lag_p99_ns=50.0 * MS))
    assert [doubt.level for doubt in raised] == ["fatal", "warning", "note"]
