"""A command while no processor goes to sleep: its own exit code, and nothing left behind."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from harness.awake import awake

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="the kernel's idle class, and /proc")


def loops_of(parent: int) -> list[int]:
    return [int(pid) for task in Path(f"/proc/{parent}/task").iterdir() for pid in (task / "children").read_text().split()]


def policy_of(pid: int) -> int:
    return os.sched_getscheduler(pid)


def test_every_processor_has_its_loop_which_gives_way_and_ends() -> None:
    before = set(loops_of(os.getpid()))
    with awake() as processors:
        assert processors == len(os.sched_getaffinity(0))
        loops = set(loops_of(os.getpid())) - before
        assert len(loops) == processors
        end = time.monotonic() + 20
        while any(policy_of(loop) != os.SCHED_IDLE for loop in loops) and time.monotonic() < end:
            time.sleep(0.02)
        assert {policy_of(loop) for loop in loops} == {os.SCHED_IDLE}
        assert sorted(min(os.sched_getaffinity(loop)) for loop in loops) == sorted(os.sched_getaffinity(0))
    assert not set(loops_of(os.getpid())) - before


def test_the_exit_code_is_the_command_s() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "harness.awake", sys.executable, "-c", "print('run'); raise SystemExit(3)"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 3
    assert "run\n" in done.stdout
    assert "processors were kept awake; their host refused" in done.stdout


def test_no_command_is_refused() -> None:
    done = subprocess.run([sys.executable, "-m", "harness.awake"], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "wants a command" in done.stderr
