"""What a what-if calls "now" is the run: its own load, and the tasks that its report counts."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from made_record import Simulated, closed_world, record_in, recorded, write_run

from latprof.analysis.quantiles import hd_quantile
from latprof.analysis.task import task_layers
from latprof.analysis.whatif.changes import read_changes
from latprof.analysis.whatif.model import model_of
from latprof.analysis.whatif.prediction import checked, what_if
from latprof.analysis.whatif.replays import recorded_tasks_ns
from latprof.commands.whatif import record_in as record_in_folder
from latprof.config import load_config
from latprof.observations.folder import load as load_run
from latprof.observations.graph import load_steps
from latprof.opening import report_of, tables_of
from latprof.pipeline.simulated import simulate_into_folder
from latprof.queues.courses import Course, Session, Step
from latprof.spans import store

NEAR = 1e-4


def test_another_load_is_held_against_the_run_as_it_was(tmp_path: Path) -> None:
    world = closed_world(1000)
    record = recorded(tmp_path, world)
    answer = what_if(record, (), replace(record.load, places=1))
    truth = Simulated(world)
    for metric, values in (("ttft", truth.ttft_ns), ("e2el", truth.e2el_ns)):
        assert answer.prediction(metric, 0.5).now_ns == pytest.approx(hd_quantile(values, 0.5))  # type: ignore[arg-type]
    alone = Simulated(replace(world, places=1))
    for metric, values in (("ttft", alone.ttft_ns), ("e2el", alone.e2el_ns)):
        assert answer.prediction(metric, 0.5).predicted_ns == pytest.approx(hd_quantile(values, 0.5), rel=NEAR)  # type: ignore[arg-type]
    ttft = answer.prediction("ttft", 0.5)
    assert ttft.predicted_ns < 0.9 * ttft.now_ns
    assert ttft.naive_gap == 0  # no service is changed
    assert answer.use_predicted["decode"].load < 0.2 * answer.use_now["decode"].load
    assert answer.per_s_now == pytest.approx((world.n - 1) / (np.ptp(truth.intended_ns) / 1e9))
    assert math.fsum(line.now_ns[0.5] for line in answer.layers) == pytest.approx(answer.prediction("e2el", 0.5).now_ns)
    now = answer.bottlenecks_now.capacity
    assert now is not None
    assert now.value == pytest.approx(max(use.load for use in answer.use_now.values()))


# --- tasks --------------------------------------------------------------------------------------------------------------------------------

TURNS = {"turns": {"dist": "lognormal", "mean": 3, "cv": 0.8}, "think": "300ms", "prompt_tokens": 200, "output_tokens": 20}


def simulated(tmp_path: Path, **load: object) -> Path:
    """Sessions of one turn and of several, in virtual time."""
    given = {"workload": TURNS, "load": {"warmup_requests": 0, **load}, "spans": {"hops": []}, "out": tmp_path / "run"}
    return simulate_into_folder(load_config(None, given))


@pytest.mark.parametrize("load", [{"rate_per_s": 8, "num_requests": 1100}, {"concurrency": 20, "duration": "60s"}])
def test_the_task_now_is_the_one_that_the_report_counts(tmp_path: Path, load: dict[str, object]) -> None:
    folder = simulated(tmp_path, **load)
    report = report_of(folder)
    assert report.tasks is not None
    assert report.tasks.budget is not None
    record = record_in_folder(folder)
    assert any(len(session.steps) == 1 for session in record.sessions)
    assert all(session.is_whole for session in record.sessions) == ("duration" not in load)
    run = load_run(folder)
    counted = task_layers(tables_of(run, store.load(folder)).e2el, run.requests, load_steps(folder))
    assert sorted(recorded_tasks_ns(record)) == sorted(counted.task_ns)
    _, _, reproduced = checked(model_of(record))
    tasks = {one.p: one for one in reproduced if one.metric == "task"}
    for p in (0.5,) if "duration" in load else (0.5, 0.99):  # of fewer tasks the report gives no p99
        assert tasks[p].recorded_ns == pytest.approx(report.tasks.budget.value_ns(f"p{100 * p:g}"))
    assert max(abs(one.off) for one in tasks.values()) < 0.05


def test_a_session_that_time_cut_has_no_task() -> None:
    course = Course(Session(0, (Step(0), Step(1, (0,), 5))), 0)
    assert course.due(before_ns=12) == [(0, 0)]
    course.ended(0, 10)
    assert course.due(before_ns=12) == []
    assert not course.is_over


def test_a_task_that_is_not_reproduced_is_left_out_with_a_doubt(tmp_path: Path) -> None:
    folder = write_run(tmp_path, Simulated(closed_world(1000, places=1)))
    record = record_in(folder)
    # Ten seconds more between turns than the record knows of; with one place no call meets another, so that calls stay as they were.
    slow = tuple(replace(one, steps=tuple(replace(step, lasts_ns=step.lasts_ns + 10**10) for step in one.steps)) for one in record.sessions)
    answer = what_if(replace(record, sessions=slow), read_changes(("decode=1",), (), ()))
    assert not [one for one in answer.predictions if one.metric == "task"]
    assert "task_missed" in {doubt.id for doubt in answer.doubts}
