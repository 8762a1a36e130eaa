"""A run that ends before its time: Ctrl-C, a second Ctrl-C, SIGTERM, kill -9. And a report that is made from the folder alone."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
from pathlib import Path
from typing import Any

import pytest
from command import FREE_PORTS, LATPROF, ROOT, Going, contents, latprof, short_run, start
from endpoint import ANSWER, NEVER, Endpoint, always, in_turn, serving

from latprof.observations.folder import load

pytestmark = pytest.mark.live

# The stack in a box at a rate that two busy cores can hold.
STEADY = ("--request-rate", "20", "--duration", "10s", "--warmup", "0", "--isl", "16", "--osl", "4", "-q", "--set", "spans.grace=1s")


async def steady_run(tmp_path: Path) -> Going:
    folder = tmp_path / "run"
    going = await start("run", *STEADY, "--out", folder, "--json", folder.with_suffix(".json"), folder=folder)
    await going.measuring(at_least_bytes=8_000)
    return going


def meta(folder: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((folder / "run.json").read_text())
    return found


async def test_ctrl_c_ends_the_load_and_still_reports(tmp_path: Path) -> None:
    going = await steady_run(tmp_path)
    going.send(signal.SIGINT)
    ended = await going.ended()
    await going.nothing_left()
    assert ended.code == 130
    assert ended.err == ""
    assert "the run was interrupted before its load was over" in ended.out
    assert "TTFT budget in ms" in ended.out
    assert ended.summary["run"]["interrupted"] is True
    assert ended.summary["run"]["partial"] is False
    assert 0 < ended.summary["counts"]["ok"] < ended.summary["counts"]["planned"]
    assert meta(ended.folder)["status"] == "interrupted"
    observed = {"run.json", "requests.parquet", "chunks.parquet", "spans.parquet"}
    assert {path.name for path in contents(ended.folder)} == observed | {"report.html", "config.yaml"}
    # The report again, from the folder alone.
    again = await latprof("report", ended.folder, "--json", tmp_path / "again.json", tmp_path=tmp_path)
    assert (again.code, again.out) == (130, ended.out)
    assert (tmp_path / "again.json").read_bytes() == ended.json_file.read_bytes()
    assert unread_report(ended.folder) == (130, b"")


async def test_a_killed_run_leaves_a_report_and_nothing_else(tmp_path: Path) -> None:
    going = await steady_run(tmp_path)
    going.send(signal.SIGKILL)
    killed = await going.ended()
    await going.nothing_left()
    assert killed.code == -signal.SIGKILL
    assert meta(killed.folder)["status"] == "running"
    again = await latprof("report", killed.folder, "--json", killed.json_file, tmp_path=tmp_path)
    assert "this run is partial: it was killed, or is still going" in " ".join(again.out.split())
    assert "TTFT budget in ms" in again.out
    assert again.summary["run"]["partial"] is True
    assert again.summary["counts"]["ok"] > 0


async def test_sigterm_is_like_ctrl_c(tmp_path: Path) -> None:
    async with serving(always(ANSWER)) as endpoint:
        going = await start_slow(tmp_path, endpoint.url)
        await going.measuring()
        going.send(signal.SIGTERM)
        ended = await going.ended()
    await going.nothing_left()
    assert ended.code == 130
    assert ended.summary["run"]["interrupted"] is True
    assert ended.summary["counts"]["ok"] > 0


async def test_a_second_ctrl_c_gives_up_at_once(tmp_path: Path) -> None:
    async with serving(in_turn(ANSWER, NEVER)) as endpoint:
        going = await start_slow(tmp_path, endpoint.url)
        await asked_for(endpoint, 3)
        going.send(signal.SIGINT)
        await asyncio.sleep(0.3)  # what is in flight has 2 s from now
        began_s = asyncio.get_running_loop().time()
        going.send(signal.SIGINT)
        ended = await going.ended()
        assert asyncio.get_running_loop().time() - began_s < 1.6
    await going.nothing_left()
    assert (ended.code, ended.said) == (130, "")
    again = await latprof("report", ended.folder, "--json", ended.json_file, tmp_path=tmp_path)
    assert again.summary["run"]["partial"] is True
    assert again.summary["counts"]["errors"].keys() <= {"interrupted", "unfinished"}


async def test_ctrl_c_while_the_first_request_is_not_answered(tmp_path: Path) -> None:
    async with serving(always(NEVER)) as endpoint:
        going = await start_slow(tmp_path, endpoint.url)
        await asked_for(endpoint, 1)
        going.send(signal.SIGINT)
        ended = await going.ended()
        assert len(endpoint.asked) == 1
    await going.nothing_left()
    assert ended.code == 130
    assert "the run was interrupted before its load was over" in ended.out
    assert ended.summary["counts"]["sent"] == 0


def unread_report(folder: Path) -> tuple[int, bytes]:
    """``latprof report RUN | head -0``: an exit code of 1 would say that a gate has failed."""
    reading, writing = os.pipe()
    os.close(reading)
    done = subprocess.run([LATPROF, "report", folder], stdout=writing, stderr=subprocess.PIPE, check=False)
    os.close(writing)
    return done.returncode, done.stderr


async def test_the_stack_in_a_box_is_kept_up_until_ctrl_c(tmp_path: Path) -> None:
    going = await start("stub", "up", "--port", "0", folder=tmp_path / "run")
    said = await going.line()
    assert said.startswith("the stack in a box answers at http://127.0.0.1:")
    url = next(word for word in said.split() if word.startswith("http"))
    ended = await short_run(tmp_path, ROOT / "configs" / "staging.yaml", "--url", url, environment={"OPENAI_API_KEY": "any"})
    going.send(signal.SIGINT)
    up = await going.ended()
    await going.nothing_left()
    assert (up.code, up.said) == (0, "")
    assert ended.succeeded(), ended.said
    assert len(load(ended.folder).requests) == ended.summary["counts"]["ok"] == 3


async def start_slow(tmp_path: Path, url: str) -> Going:
    """20 requests/s for longer than any test lasts."""
    folder = tmp_path / "run"
    slow = ("--request-rate", "20", "--duration", "60s", "--warmup", "0", "--isl", "8", "-q", "--set", "spans.grace=0s", *FREE_PORTS)
    return await start("run", "--url", url, *slow, "--out", folder, "--json", folder.with_suffix(".json"), folder=folder)


async def asked_for(endpoint: Endpoint, requests: int) -> None:
    """Until the endpoint has got so many."""
    for _ in range(3_000):
        if len(endpoint.asked) >= requests:
            return
        await asyncio.sleep(0.01)
    raise AssertionError(f"only {len(endpoint.asked)} of {requests} requests came")
