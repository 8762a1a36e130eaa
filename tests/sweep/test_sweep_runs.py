"""How the runs of a sweep are made: in which order, in how many processes, and what becomes of one that fails."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from played import played

from latprof.config import Config, load_config
from latprof.errors import ConfigError, RunFailedError, UsageError
from latprof.report.sweep.values import SweptRun
from latprof.sweep import runs
from latprof.sweep.axes import config_at, key_axis, settings, speedup_axis
from latprof.sweep.runs import Job, in_processes, live
from latprof.units import NS_PER_S


def jobs(ks: tuple[float, ...] = (1.0, 2.0, 4.0, 8.0), replications: int = 3) -> list[Job]:
    return [
        Job({"decode": k}, number, config_at(Config(), {"decode": k}, number, Path(f"{k}-{number}")))
        for k in ks
        for number in range(replications)
    ]


def where(job: Job) -> SweptRun:
    return played(job, seed=os.getpid())


def test_simulated_runs_go_to_processes_of_their_own() -> None:
    done = list(in_processes(jobs(), where, processes=2))
    assert sorted((job.setting["decode"], job.number) for job, _ in done) == sorted((job.setting["decode"], job.number) for job in jobs())
    assert os.getpid() not in {run.seed for _, run in done}
    assert all(run.number == job.number for job, run in done)
    assert {run.seed for _, run in in_processes(jobs(), where, processes=1)} == {os.getpid()}


def test_what_goes_wrong_in_a_process_is_raised_here() -> None:
    with pytest.raises(UsageError, match="cannot be written"):
        list(in_processes(jobs(), cannot_write, processes=2))


def cannot_write(job: Job) -> SweptRun:
    raise UsageError(f"{job.config.out}: cannot be written")


def test_live_runs_go_replication_by_replication_in_a_drawn_order(monkeypatch: pytest.MonkeyPatch) -> None:
    order: list[tuple[int, float]] = []
    monkeypatch.setattr(runs, "_made", lambda _, job: order.append((job.number, job.setting["decode"])) or played(job))  # type: ignore[func-returns-value]
    list(live(jobs(), seed=3))
    first = list(order)
    assert [number for number, _ in first] == [0] * 4 + [1] * 4 + [2] * 4
    assert all(sorted(k for number, k in first if number == block) == [1, 2, 4, 8] for block in range(3))
    assert [k for _, k in first] != [1, 2, 4, 8] * 3
    order.clear()
    list(live(jobs(), seed=3))
    assert order == first


def test_after_an_interruption_no_live_run_is_begun(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runs, "_made", lambda _, job: played(job, interrupted=True))
    assert len(list(live(jobs()))) == 1


def test_a_run_that_fails_is_missing_and_one_that_cannot_be_used_ends_the_sweep() -> None:
    (job, *_) = jobs()

    def fails(error: Exception) -> SweptRun:
        def run(_: Config) -> Path:
            raise error

        return runs._made(run, job)

    failed, refused = fails(RunFailedError("401 wrong key\nmore")), fails(ConfigError("asks 1.2 times of what prefill can do"))
    assert (failed.failure, failed.refused, failed.is_used) == ("401 wrong key", False, False)
    assert (refused.failure, refused.refused) == ("asks 1.2 times of what prefill can do", True)
    with pytest.raises(UsageError, match="holds a run already"):
        fails(UsageError("folder: holds a run already"))


# --- the configuration of a point ---------------------------------------------------------------------------------------------------------


def test_a_setting_is_laid_over_the_configuration_and_nothing_else_changes() -> None:
    config = load_config(
        None, {"load": {"concurrency": 4, "num_requests": 50}, "stub": {"speedup": {"prefill": 2}}, "goodput": {"ttft": 100}}
    )
    at = config_at(config, {"decode": 4.0, "rate": 20.0}, replication=2, out=Path("here"))
    assert (at.load.rate_per_s, at.load.concurrency, at.load.num_requests, at.load.seed) == (20.0, None, 50, 3)
    assert (at.stub.speedup, at.stub.seed, at.out, at.goodput) == ({"prefill": 2, "decode": 4.0}, 3, Path("here"), {"ttft": 100})
    closed = config_at(config, {"concurrency": 8.0})
    assert (closed.load.concurrency, closed.load.rate_per_s) == (8, None)
    assert config_at(config, {}).stub.speedup == {"prefill": 2}


def test_phases_give_way_to_a_swept_load() -> None:
    config = load_config(None, {"load": {"phases": [{"name": "a", "duration": "1s", "rate_per_s": 5}]}})
    assert config_at(config, {"rate": 20.0}).load.phases is None


def test_any_key_that_holds_a_number_is_varied_and_what_was_not_said_stays_unsaid() -> None:
    config = load_config(None, {"stub": {"prefill": {"t0": "12ms"}}})
    at = config_at(config, {"stub.prefill.replicas": 3.0, "stub.gateway.validate.workers": 2.0, "load.warmup": 4.0})
    assert (at.stub.prefill.replicas, at.stub.prefill.t0_ns, at.stub.gateway.validate_.workers) == (3, 12_000_000, 2)
    assert at.load.warmup_ns == 4 * NS_PER_S
    assert at.stub.prefill.model_fields_set == {"t0_ns", "replicas"}
    assert at.stub.decode == config.stub.decode


def test_axes_are_read_as_they_are_written() -> None:
    assert speedup_axis("gateway.safety = 1, 2.5").values == (1, 2.5)
    assert key_axis("stub.prefill.replicas=1,2").kind == "key"
    zipped = settings((speedup_axis("decode=1,2"), speedup_axis("prefill=1,3")), is_zipped=True)
    assert list(zipped) == [{"decode": 1, "prefill": 1}, {"decode": 2, "prefill": 3}]
