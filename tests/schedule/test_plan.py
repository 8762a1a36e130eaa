from __future__ import annotations

from itertools import islice
from pathlib import Path
from typing import Any

import pytest

from latprof.config import Config, load_config
from latprof.errors import ConfigError, UsageError
from latprof.schedule.build import build_plan
from latprof.schedule.plan import WARMUP_SESSION_BASE, OnDemand, Phase
from latprof.schedule.resolve import resolve_load
from latprof.schedule.size import plan_size
from latprof.units import NS_PER_S

URL = {"target": {"url": "http://127.0.0.1:1"}}
SHORT = {"workload": {"prompt_tokens": 4}}


def settings(load: dict[str, Any] | None = None, **sections: Any) -> Config:
    return load_config(None, {"load": load or {}, **sections})


def phases(load: dict[str, Any] | None = None, **sections: Any) -> dict[str, Phase]:
    return {phase.name: phase for phase in build_plan(settings(load, **{**SHORT, **sections})).phases}


def offsets_ns(phase: Phase) -> list[int]:
    return [planned.offset_ns for planned in phase.planned if planned.offset_ns is not None]


@pytest.fixture
def trace(tmp_path: Path) -> Path:
    file = tmp_path / "trace.csv"
    rows = [f"2023-11-16 18:00:{second:02},{10 + second},{second}" for second in range(0, 60, 2)]
    file.write_text("\n".join(["TIMESTAMP,ContextTokens,GeneratedTokens", *rows]))
    return file


# --- what is left open --------------------------------------------------------------------------------------------------------------------


def test_the_quickstart() -> None:
    plan = build_plan(Config())
    warmup, measured = plan.phases
    assert (measured.name, measured.arrival, measured.rate_per_s, len(measured.planned), measured.loop) == (
        "measured", "poisson", 50, 1250, "open",
    )  # fmt: skip
    assert measured.planned[-1].offset_ns == pytest.approx(25 * NS_PER_S, rel=0.1)
    assert (warmup.name, warmup.duration_ns) == ("warmup", 2 * NS_PER_S)
    assert 60 < len(warmup.planned) < 140
    assert max(offsets_ns(warmup)) < 2 * NS_PER_S
    assert plan == build_plan(Config())


@pytest.mark.parametrize(
    ("load", "target", "rate_per_s", "count", "seconds"),
    [
        ({}, {}, 50, 1250, None),
        ({}, URL, 5, None, 60),
        ({"rate_per_s": 10}, {}, 10, 250, None),
        ({"rate_per_s": 10}, URL, 10, None, 60),
        ({"num_requests": 7}, {}, 50, 7, None),
        ({"num_requests": 7}, URL, 5, 7, None),
        ({"duration": "3s"}, {}, 50, None, 3),
        ({"duration": "3s", "num_requests": 7}, URL, 5, 7, 3),
        ({"concurrency": 4}, {}, None, None, 25),
        ({"concurrency": 4}, URL, None, None, 60),
        ({"concurrency": 4, "num_requests": 9}, {}, None, 9, None),
    ],
)
def test_what_is_left_open_is_filled(
    load: dict[str, Any], target: dict[str, Any], rate_per_s: float | None, count: int | None, seconds: int | None
) -> None:
    resolved = resolve_load(settings(load, **target))
    assert (resolved.rate_per_s, resolved.num_requests) == (rate_per_s, count)
    assert resolved.duration_ns == (None if seconds is None else seconds * NS_PER_S)


def test_burstiness_means_gamma() -> None:
    assert resolve_load(settings({"burstiness": 0.5})).arrival == "gamma"
    assert resolve_load(settings({"burstiness": 1})).arrival == "poisson"
    assert phases({"burstiness": 0.5, "num_requests": 5})["measured"].arrival == "gamma"


# --- what cannot be meant together --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("load", "said"),
    [
        ({"arrival": "trace"}, r"load\.arrival trace needs workload\.trace"),
        ({"burstiness": 2, "arrival": "constant"}, r"load\.burstiness 2 and load\.arrival constant exclude"),
        ({"burstiness": "inf"}, r"load\.burstiness must be a finite number, got inf"),
        ({"concurrency": 2, "arrival": "gamma"}, r"load\.arrival gamma and load\.concurrency exclude"),
        ({"concurrency": 2, "burstiness": 2}, r"load\.burstiness and load\.concurrency exclude"),
        ({"concurrency": 2, "max_concurrency": 2}, r"load\.max_concurrency and load\.concurrency exclude"),
        ({"rate_per_s": "inf"}, r"load\.rate_per_s inf .* needs load\.num_requests"),
        ({"rate_per_s": "inf", "duration": "1s"}, r"load\.rate_per_s inf .* needs load\.num_requests"),
        ({"rate_per_s": 1e9, "duration": "60s"}, r"load asks for 6e\+10 requests, more than the 10,000,000"),
        ({"concurrency": 2, "num_requests": 10**9}, r"load asks for 1e\+09 requests"),
        ({"rate_per_s": "inf", "num_requests": 10**9}, r"load asks for 1e\+09 requests"),
        ({"duration": "0s"}, r"load\.duration must be above 0"),
        ({"rate_per_s": 0.01, "duration": "1ms"}, r"load\.duration 0\.001s is over before the first request"),
        ({"max_requests": 5, "warmup_requests": 5}, r"load\.max_requests 5 leaves nothing to measure"),
    ],
)
def test_contradictions_are_named(load: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        build_plan(settings(load, **SHORT))


@pytest.mark.parametrize("key", ["trace_window", "time_scale"])
def test_trace_keys_need_a_trace(key: str) -> None:
    with pytest.raises(ConfigError, match=rf"workload\.{key} means nothing without workload\.trace"):
        resolve_load(settings(workload={key: "5"}))


@pytest.mark.parametrize(
    ("section", "key", "value"),
    [
        ("load", "rate_per_s", 5),
        ("load", "concurrency", 5),
        ("load", "burstiness", 0.5),
        ("load", "arrival", "constant"),
        ("workload", "prompt_tokens", 100),
        ("workload", "output_tokens", 100),
    ],
)
def test_a_trace_says_when_and_how_long(trace: Path, section: str, key: str, value: object) -> None:
    given: dict[str, dict[str, Any]] = {"load": {}, "workload": {"trace": trace}}
    given[section][key] = value
    with pytest.raises(ConfigError, match=rf"{section}\.{key} .*and workload\.trace exclude each other"):
        resolve_load(load_config(None, given))


def test_a_tokenizer_that_is_none_is_a_usage_error(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"workload\.tokenizer"):
        build_plan(settings(workload={"tokenizer": tmp_path / "nothing.json"}))


# --- open loop ----------------------------------------------------------------------------------------------------------------------------


def test_the_length_of_the_warmup_shifts_nothing_that_is_measured() -> None:
    without, long = (phases({"num_requests": 20, "warmup": warmup})["measured"] for warmup in ("0s", "5s"))
    assert without == long


def test_the_warmup_is_no_rehearsal_of_what_is_measured() -> None:
    both = phases({"num_requests": 5, "warmup_requests": 5})
    assert offsets_ns(both["warmup"]) != offsets_ns(both["measured"])
    assert both["warmup"].planned[0].session.turns != both["measured"].planned[0].session.turns


def test_a_longer_plan_begins_with_the_shorter_one() -> None:
    law = {"workload": {"prompt_tokens": {"dist": "lognormal", "mean": 20}}}
    short, long = (phases({"num_requests": count}, **law)["measured"].planned for count in (20, 60))
    assert long[:20] == short


def test_a_warmup_that_nobody_asked_for_is_no_larger_than_what_is_measured() -> None:
    fast = {"rate_per_s": 1_000_000, "num_requests": 20}
    assert len(phases(fast)["warmup"].planned) == 20
    assert len(phases(fast | {"warmup": "1ms"})["warmup"].planned) > 500
    closed = phases({"concurrency": 4, "num_requests": 20})["warmup"].planned
    assert isinstance(closed, OnDemand)
    assert closed.limit == 20


def test_warmup_by_number() -> None:
    both = phases({"num_requests": 3, "warmup_requests": 4})
    assert [planned.session.session for planned in both["warmup"].planned] == [WARMUP_SESSION_BASE + index for index in range(4)]
    assert [planned.session.session for planned in both["measured"].planned] == [0, 1, 2]
    assert both["warmup"].rate_per_s == 50
    assert "warmup" not in phases({"num_requests": 3, "warmup": "0s"})


def test_the_cap_on_all_requests_counts_the_warmup_first() -> None:
    capped = phases({"warmup_requests": 4, "num_requests": 100, "max_requests": 10})
    assert (len(capped["warmup"].planned), len(capped["measured"].planned)) == (4, 6)


def test_the_cap_on_requests_in_flight_is_handed_on() -> None:
    assert phases({"max_concurrency": 3, "num_requests": 3})["measured"].max_concurrency == 3


def test_everything_at_once() -> None:
    plan = phases({"rate_per_s": "inf", "num_requests": 10})
    assert offsets_ns(plan["measured"]) == [0] * 10
    assert (plan["measured"].arrival, plan["measured"].rate_per_s) == ("at once", None)
    assert plan["warmup"].rate_per_s == 20


def test_a_trace_is_replayed_row_by_row(trace: Path) -> None:
    plan = phases(workload={"trace": trace, "time_scale": 4})
    measured = plan["measured"]
    assert offsets_ns(measured) == [second * NS_PER_S // 4 for second in range(0, 60, 2)]
    assert [planned.session.turns[0].prompt_tokens for planned in measured.planned] == list(range(10, 70, 2))
    assert [planned.session.turns[0].output_tokens for planned in measured.planned] == [1, *range(2, 60, 2)]
    assert (measured.arrival, measured.rate_per_s) == ("trace", 2)
    assert (plan["warmup"].arrival, plan["warmup"].rate_per_s) == ("poisson", 2)
    assert phases(workload={"trace": trace, "time_scale": 1000})["warmup"].rate_per_s == 20


@pytest.mark.parametrize("time_scale", [0.01, 0.1, 1, 3, 7.77, 1000, 1e6])
def test_a_replay_keeps_relative_times_at_any_time_scale(trace: Path, time_scale: float) -> None:
    starts_ns = offsets_ns(phases(workload={"trace": trace, "time_scale": time_scale})["measured"])
    wanted_ns = [second * NS_PER_S / time_scale for second in range(0, 60, 2)]
    assert starts_ns == pytest.approx(wanted_ns, abs=1)


@pytest.mark.parametrize(("load", "number"), [({"num_requests": 4}, 4), ({"duration": "10s"}, 5), ({"max_requests": 3, "warmup": "0s"}, 3)])
def test_a_trace_can_be_ended_early(trace: Path, load: dict[str, Any], number: int) -> None:
    assert len(phases(load, workload={"trace": trace})["measured"].planned) == number


# --- closed loop --------------------------------------------------------------------------------------------------------------------------


def test_a_closed_loop_by_number_is_made_beforehand() -> None:
    measured = phases({"concurrency": 4, "num_requests": 9})["measured"]
    assert isinstance(measured.planned, tuple)
    assert [planned.session.session for planned in measured.planned] == list(range(9))
    assert {planned.offset_ns for planned in measured.planned} == {None}
    assert (measured.loop, measured.concurrency, measured.duration_ns, measured.planned_requests) == ("closed", 4, None, 9)


def test_a_closed_loop_by_time_never_runs_out() -> None:
    both = phases({"concurrency": 4, "duration": "5s"})
    measured, warmup = both["measured"], both["warmup"]
    assert isinstance(measured.planned, OnDemand)
    assert measured.planned_requests is None
    assert len(measured.planned) == WARMUP_SESSION_BASE
    assert (measured.duration_ns, warmup.duration_ns, warmup.concurrency) == (5 * NS_PER_S, 2 * NS_PER_S, 4)
    assert [planned.session.session for planned in islice(measured.planned, 3)] == [0, 1, 2]
    assert measured.planned[10**8].session.session == 10**8
    assert warmup.planned[0].session.session == WARMUP_SESSION_BASE
    assert measured.planned[:5] == phases({"concurrency": 4, "num_requests": 5})["measured"].planned


def test_sessions_on_demand_keep_the_cap() -> None:
    both = phases({"concurrency": 4, "duration": "5s", "max_requests": 50})
    assert (len(both["warmup"].planned), len(both["measured"].planned)) == (5, 45)
    assert len(list(both["measured"].planned)) == 45
    with pytest.raises(IndexError):
        both["measured"].planned[45]


# --- how much it is -----------------------------------------------------------------------------------------------------------------------


def test_the_size_of_an_open_plan() -> None:
    size = plan_size(build_plan(settings({"num_requests": 90, "warmup_requests": 10}, workload={"prompt_tokens": 30})))
    assert (size.requests, size.prompt_tokens, size.output_tokens) == (100, 3000, 800)
    said = size.sentence("https://staging.example")
    assert said.startswith("plan for https://staging.example: warmup 10 requests over ")
    assert said.endswith("in all 100 requests, about 3,000 prompt and at most 800 output tokens")


def test_the_size_of_a_plan_that_time_ends() -> None:
    size = plan_size(build_plan(settings({"concurrency": 8, "duration": "5s", "max_requests": 500}, workload={"prompt_tokens": 30})))
    assert (size.requests, size.prompt_tokens, size.output_tokens) == (None, 30, 8)
    assert size.sentence("x") == (
        "plan for x: warmup 8 always in flight for 2 s, at most 50 requests, then measured 8 always in flight for 5 s, at most 450 requests;"
        " each about 30 prompt and at most 8 output tokens"
    )


def test_the_size_of_everything_at_once() -> None:
    said = plan_size(build_plan(settings({"rate_per_s": "inf", "num_requests": 10, "warmup": "0s"}, **SHORT))).sentence("x")
    assert "measured 10 requests at once;" in said


def test_the_size_counts_what_is_sent_context_included() -> None:
    laws = {"prompt_tokens": 100, "reply_tokens": 20, "output_tokens": 7, "turns": 3}
    size = plan_size(build_plan(settings({"num_requests": 5, "warmup": "0s"}, workload=laws)))
    assert (size.requests, size.prompt_tokens, size.output_tokens) == (15, 5 * (100 + 127 + 154), 5 * 3 * 7)
