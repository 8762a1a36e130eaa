"""From axes to report: which runs are made, what counts, where layers cross, and what is printed."""

from __future__ import annotations

import io
import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from played import FATAL, MEAN_MS, played, player, table
from rich.console import Console

from latprof.analysis.contributions import contributions_as
from latprof.analysis.sweeps.crossings import NEVER, crossing
from latprof.analysis.sweeps.operational import Loop
from latprof.config import Config
from latprof.errors import ConfigError, RunFailedError
from latprof.report.sweep.lines import Along, Line, lines
from latprof.report.sweep.summary import summary
from latprof.report.sweep.terminal import write
from latprof.report.sweep.values import CALL, Axis, SweepReport
from latprof.sweep.asked import Sweep
from latprof.sweep.axes import config_at
from latprof.sweep.runs import Job
from latprof.sweep.searching import probe_of
from latprof.sweep.sweeping import closer, foretold, sweep

KS = (1.0, 2.0, 4.0, 8.0, 16.0, 32.0)
DECODE = Axis("decode", "speedup", KS)
RATIO = MEAN_MS["decode"] / MEAN_MS["prefill"]


def swept(folder: Path, axes: tuple[Axis, ...] = (DECODE,), run_all: Any = None, **how: Any) -> SweepReport:
    return sweep(Sweep(Config(), axes, **how), folder, run_all or player())


def along(line: Line, label: str, metric: str = CALL) -> Along:
    return next(one for one in line.along if (one.metric, one.column.label) == (metric, label))


def text_of(report: SweepReport) -> str:
    file = io.StringIO()
    write(report, Console(file=file, width=120, highlight=False, markup=False, emoji=False))
    return file.getvalue()


def test_loads_that_the_stack_will_not_keep_up_with_are_told_before_their_runs(tmp_path: Path) -> None:
    said: list[str] = []
    run_all = foretold(player(lambda _: said.append("run") or {}), said.append)  # type: ignore[func-returns-value]
    swept(tmp_path, (Axis("rate", "rate", (20.0, 300.0)),), run_all, replications=2)
    assert [text.partition(" asks")[0] for text in said] == ["rate=300: unstable load: phase measured", *["run"] * 4]
    said.clear()
    list(foretold(player(), said.append)([Job({"rate": 300.0}, 0, Config.model_validate({"target": {"url": "http://127.0.0.1:9"}}))]))
    assert said == [], "nobody knows what a real endpoint can do"


# --- which runs -------------------------------------------------------------------------------------------------------------------------


def test_every_replication_has_seeds_of_its_own_and_every_point_the_same_ones(tmp_path: Path) -> None:
    seen: list[Job] = []
    swept(tmp_path, run_all=player(seen=seen), replications=3)
    assert len(seen) == 18
    by_number = {number: {(job.config.load.seed, job.config.stub.seed) for job in seen if job.number == number} for number in range(3)}
    assert by_number == {0: {(1, 1)}, 1: {(2, 2)}, 2: {(3, 3)}}
    assert {job.config.stub.speedup["decode"] for job in seen} == set(KS)
    assert len({job.config.out for job in seen}) == 18
    assert tmp_path / "decode=4,r2" in {job.config.out for job in seen}


def test_two_axes_are_a_grid_or_side_by_side(tmp_path: Path) -> None:
    axes = (Axis("decode", "speedup", (1, 2)), Axis("gateway.safety", "speedup", (1, 3)))
    grid, zipped = (swept(tmp_path, axes, is_zipped=is_zipped) for is_zipped in (False, True))
    assert [tuple(point.point.setting.values()) for point in grid.points] == [(1, 1), (1, 3), (2, 1), (2, 3)]
    assert [tuple(point.point.setting.values()) for point in zipped.points] == [(1, 1), (2, 3)]
    assert [(line.axis, dict(line.fixed)) for line in lines(grid)] == [
        ("decode", {"gateway.safety": 1}),
        ("decode", {"gateway.safety": 3}),
        ("gateway.safety", {"decode": 1}),
        ("gateway.safety", {"decode": 2}),
    ]
    assert [line.axis for line in lines(zipped)] == ["decode"]


# --- what it says -----------------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> SweepReport:
    return swept(tmp_path_factory.mktemp("sweep"), replications=6)


def true_crossing(*slow: str) -> float:
    """Of the median call, from a sample a hundred times as large."""
    tables = [table(config_at(Config(), {"decode": k}, replication=1_000), 60_000) for k in KS]
    columns = [dict(zip(MEAN_MS, contributions_as(one, 0.5, "percentile").total_ns, strict=True)) for one in tables]
    return crossing(KS, np.array([sum(c[name] for name in slow) for c in columns]), np.array([c["decode"] for c in columns]))


def test_layers_cross_where_their_means_do_and_the_interval_holds_the_truth(report: SweepReport) -> None:
    (line,) = lines(report)
    found = along(line, "p50")
    prefill = next(one for one in found.crossings if one.layer == "prefill").at
    assert prefill.k == pytest.approx(RATIO, rel=0.1)  # some 100 requests lie at the median
    assert prefill.low <= prefill.k <= prefill.high
    assert prefill.low <= RATIO <= prefill.high
    assert 1 < prefill.high / prefill.low < 1.6
    truth = true_crossing("prefill", "gateway.safety")
    assert truth == pytest.approx(MEAN_MS["decode"] / (MEAN_MS["prefill"] + MEAN_MS["gateway.safety"]), rel=0.05)
    assert found.others.at.k == pytest.approx(truth, rel=0.1)
    assert found.others.at.low <= truth <= found.others.at.high
    assert found.diminishing.k == pytest.approx(MEAN_MS["decode"] / 60, rel=0.15)


def test_what_is_not_reached_is_an_answer(report: SweepReport) -> None:
    (line,) = lines(report)
    safety = next(one for one in along(line, "p50").crossings if one.layer == "gateway.safety").at
    assert (safety.k, safety.low, safety.high) == (NEVER, NEVER, NEVER)  # 800 / 15 is 53
    assert "not reached by k=32: gateway.safety" in text_of(report)
    told = next(one for one in summary(report)["lines"][0]["along"] if (one["metric"], one["at"]) == (CALL, "p50"))
    safety_told = next(one for one in told["crossings"] if one["layer"] == "gateway.safety")
    assert (safety_told["reached"], safety_told["k"], safety_told["beyond"]) == (False, None, True)


def test_the_naive_line_is_right_where_nothing_waits(report: SweepReport) -> None:
    (line,) = lines(report)
    for one in line.along:
        assert max(abs(gap) for gap in one.gap) < 1e-6


def test_contributions_add_up_at_every_point(report: SweepReport) -> None:
    for point in report.points:
        for answer in point.answers.values():
            for label, told in answer.contributions.items():
                assert told.total_ns.sum() == pytest.approx(answer.values[label].value, rel=1e-9)
                assert answer.values[label].half > 0


def test_the_report_says_everything_that_is_asked_of_it(report: SweepReport) -> None:
    text = text_of(report)
    for wanted in (
        "TTFT p50, ms",
        "call p99, ms",
        "completed per s",
        "load: open loop, poisson 10/s",
        "6 replications of every point",
        "What each layer contributes to the call at p99, ms",
        "not the gateway's p99",
        "X <= c/D, per s",
        "budget: the largest",
        "capacity: the busiest",
        "all others together are as large as decode at k=7.",
        "prefill is as large as decode at k=",
        "one more doubling saves less than 30 ms from k=1 on",
        "Amdahl",
        "naive line, ms (decode)",
    ):
        assert wanted in text, text
    assert all(len(row) <= 120 for row in text.splitlines())


def test_the_bottleneck_moves_from_decode_to_prefill(report: SweepReport) -> None:
    budgets = [point.answers[CALL].bottlenecks["p50"].budget for point in report.points]
    names = [budget.names if budget is not None else () for budget in budgets]
    assert names[0] == ("decode",)
    assert set(names[3]) == {"decode", "prefill"}  # 100 ms and 100 ms: a tie, not a name
    assert names[4][0] == "prefill"
    assert all(point.answers[CALL].bottlenecks["p50"].leverage is not None for point in report.points)


def test_one_replication_has_no_intervals_and_says_so(tmp_path: Path) -> None:
    told = swept(tmp_path)
    (line,) = lines(told)
    assert math.isnan(along(line, "p50").others.at.low)
    assert math.isnan(told.points[0].answers[CALL].values["p50"].half)
    assert "no intervals" in text_of(told)


def test_other_axes_have_tables_but_no_crossings(tmp_path: Path) -> None:
    told = swept(tmp_path, (Axis("rate", "rate", (10.0, 20.0)),))
    assert not lines(told)
    text = text_of(told)
    assert "load at rate=10: open loop, poisson 10/s" in text
    assert "load at rate=20: open loop, poisson 20/s" in text
    assert "As decode gets faster" not in text


def test_in_a_closed_loop_leverage_is_not_guessed(tmp_path: Path) -> None:
    told = swept(tmp_path, run_all=player(lambda _: {"loop": Loop("closed", 8, 0.0), "asked_per_s": math.nan}))
    assert all(point.answers[CALL].bottlenecks["p50"].leverage is None for point in told.points)
    assert "it takes further runs" in text_of(told)
    assert "X <= N/(D+Z), per s" in text_of(told)


# --- runs that do not count -------------------------------------------------------------------------------------------------------------


def test_a_point_in_fatal_doubt_is_shown_marked_and_no_crossing_rests_on_it(tmp_path: Path) -> None:
    told = swept(tmp_path, run_all=player(lambda job: {"doubts": (FATAL,)} if job.setting["decode"] == 8 else {}))
    line = lines(told)[0]
    assert list(line.ks) == [1, 2, 4, 16, 32]
    text = text_of(told)
    assert " 8 ! " in text
    assert "not to be trusted and left out: decode=8 (replication 0); of the first: requests went late" in text
    assert "no run counts at decode=8 (marked !)" in text
    assert along(line, "p50").others.at.k == pytest.approx(800 / 115, rel=0.1)


def test_one_bad_replication_is_left_out_and_its_point_stays(tmp_path: Path) -> None:
    bad = swept(
        tmp_path, run_all=player(lambda job: {"doubts": (FATAL,)} if job.number == 2 and job.setting["decode"] == 4 else {}), replications=6
    )
    (line,) = lines(bad)
    assert line.ks == KS
    assert [run.number for run in bad.points[2].point.used] == [0, 1, 3, 4, 5]
    found = along(line, "p50").others.at
    assert found.low <= 800 / 115 <= found.high


def test_a_run_that_failed_is_told_and_the_others_stand(tmp_path: Path) -> None:
    told = swept(tmp_path, run_all=player(lambda job: {"failure": "the stub died", "tables": {}} if job.setting["decode"] == 2 else {}))
    assert [doubt.id for doubt in told.doubts] == ["point_failed", "point_missing"]
    assert "no run came of decode=2 (replication 0); the first said: the stub died" in told.doubts[0].text
    assert "2 !" in text_of(told)
    with pytest.raises(RunFailedError, match="not one run of the sweep succeeded; the first said: the stub died"):
        swept(tmp_path, run_all=player(lambda _: {"failure": "the stub died", "tables": {}}))
    with pytest.raises(ConfigError, match="too much"):
        swept(tmp_path, run_all=player(lambda _: {"failure": "too much", "refused": True, "tables": {}}))


def test_a_broken_bound_is_a_fatal_doubt_of_the_sweep(tmp_path: Path) -> None:
    told = swept(
        tmp_path,
        run_all=player(
            lambda job: {"servers": {"prefill": 1}, "completed_per_s": 12.0, "asked_per_s": 9.0} if job.setting["decode"] == 1 else {}
        ),
    )
    assert [(doubt.id, doubt.level) for doubt in told.doubts] == [("operational_bound", "fatal")]
    assert told.doubts[0].text.startswith("decode=1: the figures cannot be: prefill would be 1")


def test_too_few_requests_give_a_tail_mean_at_every_point(tmp_path: Path) -> None:
    def short(job: Job) -> dict[str, Any]:
        run = played(job)
        if job.setting["decode"] != 2:
            return {}
        cut = {metric: _first(table, 200) for metric, table in run.tables.items()}
        return {"tables": cut}

    told = swept(tmp_path, run_all=player(short), replications=2)
    assert [column.label for column in told.columns[CALL]] == ["p50", "tail mean"]


def _first(table: Any, n: int) -> Any:
    from dataclasses import replace

    parts = {name: getattr(table, name)[:n] for name in ("rows", "total_ns", "wait_ns", "service_ns", "present")}
    return replace(table, **parts)


# --- further runs -----------------------------------------------------------------------------------------------------------------------


def test_further_runs_close_in_on_crossings(tmp_path: Path) -> None:
    seen: list[Job] = []
    told = swept(tmp_path, (Axis("decode", "speedup", (1.0, 128.0)),), player(seen=seen), refine=3)
    (line,) = lines(told)
    assert len(line.ks) > 4
    truth = {"prefill": 8.0, "gateway.safety": 800 / 15}
    for one in along(line, "p50").crossings:
        if one.layer in truth:
            assert one.at.k == pytest.approx(truth[one.layer], rel=0.1)
    assert {job.number for job in seen} == {0}


def test_no_run_is_made_where_neighbours_are_close_or_nothing_crosses(tmp_path: Path) -> None:
    close = swept(tmp_path, (Axis("decode", "speedup", (7.9, 8.0, 8.1, 8.2)),))
    assert closer(close) == []
    apart = swept(tmp_path, (Axis("decode", "speedup", (1.0, 2.0)),))
    assert closer(apart) == []


def test_leverage_is_found_by_running_again(tmp_path: Path) -> None:
    seen: list[Job] = []
    told = swept(tmp_path, (Axis("decode", "speedup", (1.0, 4.0)),), player(seen=seen), finds_leverage=True, replications=2)
    assert all(point.leverage_is_measured for point in told.points)
    leader = told.points[0].answers[CALL].bottlenecks["p50"].leverage
    assert leader is not None
    assert leader.names == ("decode",)
    assert leader.value == pytest.approx(800 / 915, rel=0.03)  # no queue: the elasticity is the share
    again = [job for job in seen if job.config.out is not None and job.config.out.parent.name == "leverage"]
    assert len(again) == 2 * 2 * 2 * 3  # points, replications, longer and shorter, three layers
    assert {job.config.stub.seed for job in again} == {1, 2}
    assert "found by running again" in text_of(told)
    kept = json.loads((tmp_path / "sweep.json").read_text())["leverages"]
    assert kept["0"]["p50"]["decode"] == leader.value


# --- kept and read again ----------------------------------------------------------------------------------------------------------------


def test_sweep_json_says_which_runs_there_are(tmp_path: Path) -> None:
    swept(tmp_path, replications=2)
    told = json.loads((tmp_path / "sweep.json").read_text())
    assert (told["schema"], told["status"], len(told["points"])) == ("latprof.sweep/1", "complete", 6)
    assert told["points"][2]["runs"][1] == {"number": 1, "folder": "decode=4,r1", "seed": 2, "used": True, "failure": "", "refused": False}


def test_an_interrupted_sweep_keeps_what_it_has(tmp_path: Path) -> None:
    told = swept(tmp_path, run_all=player(lambda job: {"interrupted": job.setting["decode"] == 32}), refine=3)
    assert told.interrupted
    assert len(told.points) == 6
    assert json.loads((tmp_path / "sweep.json").read_text())["status"] == "running"


def test_the_summary_is_plain_json(report: SweepReport) -> None:
    told = json.loads(json.dumps(summary(report), allow_nan=False))
    assert told["schema"] == "latprof.sweep_summary/1"
    assert len(told["points"]) == 6
    layers = told["points"][0]["metrics"][CALL]["p50"]["layers"]
    assert sum(row["contribution_ms"] for row in layers) == pytest.approx(told["points"][0]["metrics"][CALL]["p50"]["value_ms"], rel=1e-9)


# --- the probe of a search --------------------------------------------------------------------------------------------------------------


def test_a_probe_runs_a_load_and_counts(tmp_path: Path) -> None:
    seen: list[Job] = []
    probe = probe_of(Config(), "rate", tmp_path, player(seen=seen))
    share = probe(20.0, 1)
    assert (share.good, share.recorded, share.trusted) == (590, 600, True)
    assert (seen[0].config.load.rate_per_s, seen[0].config.load.seed) == (20.0, 2)


def test_a_probe_knows_a_bad_answer_from_a_bad_run(tmp_path: Path) -> None:
    assert not probe_of(Config(), "rate", tmp_path, player(lambda _: {"doubts": (FATAL,)}))(5.0, 0).trusted
    overload = FATAL.__class__("failures", "fatal", "half of the requests failed", "lower the rate")
    assert probe_of(Config(), "rate", tmp_path, player(lambda _: {"doubts": (overload,)}))(5.0, 0).trusted
    refused = {"failure": "asks 1.2 times of what prefill can do", "refused": True, "tables": {}, "good": 0, "recorded": 0}
    assert probe_of(Config(), "rate", tmp_path, player(lambda _: refused))(5.0, 0).trusted
    with pytest.raises(RunFailedError, match="no such model"):
        probe_of(Config(), "rate", tmp_path, player(lambda _: {"failure": "no such model", "tables": {}}))(5.0, 0)
    with pytest.raises(KeyboardInterrupt):
        probe_of(Config(), "rate", tmp_path, player(lambda _: {"interrupted": True}))(5.0, 0)


def test_draws_are_shared_between_speeds() -> None:
    one, four = (played(Job({"decode": k}, 0, config_at(Config(), {"decode": k}))).tables[CALL].total_ns for k in (1.0, 4.0))
    assert np.abs(one[:, 2] - 4 * four[:, 2]).max() <= 4
    assert (one[:, :2] == four[:, :2]).all()
