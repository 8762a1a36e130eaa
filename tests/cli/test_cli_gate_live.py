"""``latprof run --budget`` on the live stack: replications, and a generator that is starved of its core."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from latprof.pipeline import keep_stub_up_during

# On a machine with other work, starting three processes on a starved core takes a minute.
pytestmark = [pytest.mark.live, pytest.mark.timeout(240)]

QUICK = ("-q", "--warmup", "0", "--osl", "3", "--otlp-grpc-port", "0", "--otlp-http-port", "0", "--set", "spans.grace=0s")


def latprof(folder: Path, *arguments: str, on_core: int | None = None) -> subprocess.CompletedProcess[str]:
    pinned = ["taskset", "-c", str(on_core)] if on_core is not None else []
    return subprocess.run(
        [*pinned, sys.executable, "-m", "latprof", *arguments], cwd=folder, capture_output=True, text=True, timeout=200, check=False
    )


@contextmanager
def busy(core: int, loops: int) -> Iterator[None]:
    """Processes that do nothing, as fast as they can, on one core."""
    processes = [subprocess.Popen(["taskset", "-c", str(core), sys.executable, "-c", "while True: pass"]) for _ in range(loops)]
    try:
        yield
    finally:
        for process in processes:
            process.kill()
            process.wait()


def test_replications_have_seeds_and_folders_of_their_own(tmp_path: Path) -> None:
    (tmp_path / "b.yaml").write_text("budgets: [errors < 50%]")
    done = latprof(
        tmp_path,
        "run",
        "--budget",
        "b.yaml",
        "-R",
        "3",
        "--num-prompts",
        "20",
        "--request-rate",
        "20",
        "--out",
        "out",
        "--json",
        "g.json",
        *QUICK,
    )
    assert done.returncode in {0, 4}, done.stderr  # 4: this machine is busy
    told = json.loads((tmp_path / "g.json").read_text())
    runs = [tmp_path / run["folder"] for run in told["runs"]]
    metas = [json.loads((run / "run.json").read_text()) for run in runs]
    assert [meta["seed"] for meta in metas] == list(range(1, len(runs) + 1))
    assert [meta["config"]["stub"]["seed"] for meta in metas] == list(range(1, len(runs) + 1))
    assert len(runs) == 3 or told["verdict"] == "invalid"  # nothing is gained by going on after a run that cannot be trusted
    again = latprof(tmp_path, "gate", "out", "--budget", "b.yaml")
    assert again.returncode == done.returncode


@pytest.mark.slow
@pytest.mark.skipif(len(os.sched_getaffinity(0)) < 2, reason="the stack needs a core that the busy loops leave alone")
def test_a_starved_generator_is_not_valid_whatever_the_figures(tmp_path: Path) -> None:
    (tmp_path / "b.yaml").write_text("budgets: [ttft p50 < 100s, errors < 99%]")
    core = max(os.sched_getaffinity(0))
    with keep_stub_up_during() as url, busy(core, loops=8):
        done = latprof(
            tmp_path, "run", "--url", url, "--budget", "b.yaml", *QUICK, "--num-prompts", "300", "--request-rate", "100", "--osl", "12", "--json", "g.json",
            on_core=core,
        )  # fmt: skip
    assert done.returncode == 4, done.stdout + done.stderr
    told = json.loads((tmp_path / "g.json").read_text())
    assert told["verdict"] == "invalid"
    fatal = {doubt["id"] for doubt in told["doubts"] if doubt["level"] == "fatal"}
    assert fatal & {"lateness", "starved", "loop_lag", "offered_gaps", "offered_load", "generator_cpu"}, told["doubts"]
    # Errors are far below their bound, and it does not help.
    assert {one["name"]: one["outcome"] for one in told["assertions"]}["errors < 99%"] == "pass"
