"""Runs with several workers, as a user starts them: the load is the same, Ctrl-C reaches everyone, and a dead worker is told."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path

import numpy as np
import pytest
from command import FREE_PORTS, Going, latprof, short_run, start
from endpoint import ANSWER, always, serving

from latprof.observations.folder import load

pytestmark = pytest.mark.live

SLOW = ("--request-rate", "30", "--duration", "60s", "--warmup", "0", "--isl", "8", "-q", "--set", "spans.grace=0s", *FREE_PORTS)


async def slow_run(tmp_path: Path, url: str, *arguments: str) -> Going:
    folder = tmp_path / "run"
    going = await start("run", "--url", url, *SLOW, *arguments, "--out", folder, "--json", folder.with_suffix(".json"), folder=folder)
    await going.measuring(at_least_bytes=9_000)
    return going


async def test_three_workers_send_what_one_would(tmp_path: Path) -> None:
    runs = []
    for workers in ("1", "3"):
        (tmp_path / workers).mkdir()
        async with serving(always(ANSWER)) as endpoint:
            flags = ("--num-prompts", "12", "--request-rate", "40", "--workers", workers)
            ended = await short_run(tmp_path / workers, "--url", endpoint.url, *flags)
        assert ended.succeeded(), ended.said
        assert ended.summary["generator"]["workers"] == int(workers)
        assert ended.summary["generator"]["stamps"] == "kernel"
        assert f"kernel stamps, {workers} worker" in ended.out
        runs.append(load(ended.folder))
    one, three = (run.requests.select(np.argsort(run.requests.session)) for run in runs)
    assert one.session.tolist() == three.session.tolist() == list(range(12))
    # The run's own half of a trace id is drawn anew, the other half is not.
    assert [trace[16:] for trace in one.trace_id] == [trace[16:] for trace in three.trace_id]
    assert (one.intended_ns - one.intended_ns[0]).tolist() == (three.intended_ns - three.intended_ns[0]).tolist()
    assert three.worker.tolist() == [number % 3 for number in range(12)]


async def test_ctrl_c_reaches_every_process_and_the_run_still_reports(tmp_path: Path) -> None:
    async with serving(always(ANSWER)) as endpoint:
        going = await slow_run(tmp_path, endpoint.url, "--workers", "2")
        assert len(going.workers()) == 2
        going.kill_group(signal.SIGINT)
        for pid in going.workers():  # they are in sessions of their own; this is someone who means them all the same
            os.kill(pid, signal.SIGINT)
        ended = await going.ended()
    await going.nothing_left()
    assert ended.code == 130
    assert ended.summary["counts"]["ok"] > 0
    assert "worker_died" not in ended.doubts


async def test_a_dead_worker_is_a_fatal_doubt_and_its_rows_stay(tmp_path: Path) -> None:
    async with serving(always(ANSWER)) as endpoint:
        going = await slow_run(tmp_path, endpoint.url, "--workers", "2")
        os.kill(going.workers()[0], signal.SIGKILL)
        ended = await going.ended()
    await going.nothing_left()
    assert ended.code == 4, ended.said
    assert ended.doubts["worker_died"] == "fatal"
    assert ended.summary["run"] == ended.summary["run"] | {"partial": True, "interrupted": False}
    assert ended.summary["generator"]["workers_died"] == 1
    assert "a worker process died, and the load ended with it: worker 0 (process" in " ".join(ended.out.split())
    requests = load(ended.folder).requests
    assert {worker for worker, ok in zip(requests.worker.tolist(), requests.success, strict=True) if ok} == {0, 1}
    again = await latprof("report", ended.folder, tmp_path=tmp_path)
    assert (again.code, again.out) == (4, ended.out)


async def test_nothing_outlives_a_killed_profiler(tmp_path: Path) -> None:
    async with serving(always(ANSWER)) as endpoint:
        going = await slow_run(tmp_path, endpoint.url, "--workers", "2")
        going.send(signal.SIGKILL)
        await going.ended()
        await going.nothing_left()
    run = load(tmp_path / "run")
    assert run.partial
    assert set(run.requests.worker) == {0, 1}


async def test_auto_takes_what_the_load_needs(tmp_path: Path) -> None:
    async with serving(always(ANSWER)) as endpoint:
        ended = await short_run(tmp_path, "--url", endpoint.url, "--workers", "auto")
    assert ended.succeeded(), ended.said
    assert ended.summary["generator"]["workers"] == 1
    meta = json.loads((ended.folder / "run.json").read_text())
    assert meta["workers"]["peak_bytes"] < 150 * 2**20


@pytest.mark.parametrize("workers", ["0", "many", "-1"])
async def test_a_number_of_workers_that_cannot_be_meant(tmp_path: Path, workers: str) -> None:
    ended = await short_run(tmp_path, "--workers", workers)
    assert ended.code == 2
    assert "load.workers (--workers)" in ended.err
