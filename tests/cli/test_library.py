"""latprof as a library: light to import, and the same run."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import pytest
from endpoint import ANSWER, always, serving

import latprof

PROGRAM = """
import sys
import threading
import latprof
from latprof import load_config, run
from latprof.errors import UsageError

target = {"target": {"url": sys.argv[1]}, "load": {"rate_per_s": "inf", "num_requests": 3, "warmup": "0s"},
          "workload": {"prompt_tokens": 8}, "spans": {"grpc_port": 0, "http_port": 0, "grace": "0s"}}

def once(name):
    outcome = run(load_config(None, {**target, "out": sys.argv[2] + "/" + name}))
    print(name, outcome.report.counts.ok, outcome.folder.name, outcome.exit_code.name, outcome.report.budget.metric)
    again = latprof.report_of(outcome.folder)
    assert again.counts == outcome.report.counts and again.doubts == outcome.report.doubts

once("main")
thread = threading.Thread(target=once, args=("thread",))  # where no signal can be handled
thread.start()
thread.join()
try:
    run(load_config(None, {**target, "out": sys.argv[2] + "/main"}))
except UsageError as error:
    print(error)
"""


@pytest.mark.live
async def test_a_program_runs_latprof(tmp_path: Path) -> None:
    async with serving(always(ANSWER)) as endpoint:
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-c", PROGRAM, endpoint.url, tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE
        )
        out, err = await process.communicate()
    main, thread, refused = out.decode().splitlines()
    assert err == b""
    assert main.split()[:3] == ["main", "3", "main"]
    assert thread.split()[:3] == ["thread", "3", "thread"]
    assert {main.split()[3], thread.split()[3]} <= {"DONE", "UNTRUSTED"}  # the latter when the machine was too busy
    assert refused.startswith(f"{tmp_path}/main: holds a run already")


def test_importing_it_costs_nothing() -> None:
    told = subprocess.run(
        [sys.executable, "-c", "import sys, latprof; latprof.__version__; print(*sorted(sys.modules))"],
        capture_output=True,
        text=True,
        check=True,
    ).stdout.split()
    heavy = {"numpy", "pyarrow", "aiohttp", "pydantic", "typer", "yaml", "asyncio", "latprof.pipeline", "latprof.config"}
    assert heavy.isdisjoint(told)


def test_what_it_offers_is_there() -> None:
    assert all(hasattr(latprof, name) for name in latprof.__all__)
    assert dir(latprof) == latprof.__all__ == sorted(latprof.__all__, key=lambda name: (name.islower(), name))
    assert latprof.__version__ == version("latprof")
    with pytest.raises(AttributeError, match="module 'latprof' has no attribute 'reprot_of'"):
        latprof.reprot_of  # noqa: B018 - the look-up is the test
