"""latprof as a user starts it: the console script in a process of its own."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
import time
import uuid
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
LATPROF = Path(sys.executable).with_name("latprof")
# No load that a test needs, no wait that it does not: three small requests at once, free ports, no warm-up.
SHORT = ("--num-prompts", "3", "--warmup", "0", "--request-rate", "inf", "--isl", "8", "--osl", "3", "-q", "--set", "spans.grace=0s")
FREE_PORTS = ("--otlp-grpc-port", "0", "--otlp-http-port", "0")
# What a busy machine alone can make of a run that was driven as asked.
OF_THE_MACHINE = {"lateness", "generator_cpu", "stub_bound", "offered_load", "offered_gaps", "loop_lag", "starved", "stolen"}
_MARK = "LATPROF_TEST_PROCESS"
_PATIENCE_S = 60.0


@dataclass(frozen=True)
class Ended:
    """One command that is over."""

    code: int
    out: str
    err: str
    folder: Path
    json_file: Path

    @property
    def said(self) -> str:
        return self.out + self.err

    @property
    def summary(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self.json_file.read_text())
        return found

    @property
    def doubts(self) -> dict[str, str]:
        return {doubt["id"]: doubt["level"] for doubt in self.summary["doubts"]}

    def succeeded(self) -> bool:
        """Done; or not to be trusted for no other reason than this machine."""
        fatal = {name for name, level in self.doubts.items() if level == "fatal"}
        return self.code == (4 if fatal else 0) and fatal <= OF_THE_MACHINE


class Going:
    """A command that still goes, and the processes it has started."""

    def __init__(self, process: asyncio.subprocess.Process, mark: str, folder: Path) -> None:
        self._process = process
        self._mark = f"{_MARK}={mark}".encode()
        self.folder = folder

    def send(self, number: signal.Signals) -> None:
        self._process.send_signal(number)

    async def ended(self) -> Ended:
        out, err = await asyncio.wait_for(self._process.communicate(), _PATIENCE_S)
        ended = Ended(self._process.returncode or 0, out.decode(), err.decode(), self.folder, self.folder.with_suffix(".json"))
        assert "Traceback" not in ended.said, ended.said
        assert ended.code != 5, ended.said
        return ended

    async def line(self) -> str:
        assert self._process.stdout is not None
        return (await asyncio.wait_for(self._process.stdout.readline(), _PATIENCE_S)).decode()

    async def measuring(self, at_least_bytes: int = 1) -> None:
        """Until measured requests are on disk."""
        written = self.folder / "requests.w0.arrows"
        await self._until(lambda: written.exists() and written.stat().st_size >= at_least_bytes, "no requests were written")

    async def nothing_left(self) -> None:
        """Until no process that this command started is there, which must be soon."""
        await self._until(lambda: not list(self._alive()), f"still there: {list(self._alive())}", patience_s=10.0)

    def workers(self) -> list[int]:
        """Process ids of the workers, by worker: they were started in that order."""
        marked = [int(folder.name) for folder in Path("/proc").iterdir() if folder.name.isdigit() and self._is_marked(folder)]
        return sorted(pid for pid in marked if b"latprof.worker\0" in _read(Path(f"/proc/{pid}/cmdline")))

    def kill_group(self, number: signal.Signals) -> None:
        """What Ctrl-C in a terminal does."""
        os.killpg(self._process.pid, number)

    async def _until(self, is_so: Any, complaint: str, patience_s: float = _PATIENCE_S) -> None:
        deadline = time.monotonic() + patience_s
        while not is_so():
            assert time.monotonic() < deadline, complaint
            await asyncio.sleep(0.02)

    def _alive(self) -> Iterator[str]:
        """Every process with this command's mark in its environment; zombies have none."""
        for folder in Path("/proc").iterdir():
            if folder.name.isdigit() and self._is_marked(folder):
                yield _read(folder / "cmdline").replace(b"\0", b" ").decode()

    def _is_marked(self, folder: Path) -> bool:
        return self._mark in _read(folder / "environ").split(b"\0")


def _read(path: Path) -> bytes:
    """What the kernel tells; nothing of a process that is gone, or not ours."""
    try:
        return path.read_bytes()
    except OSError:
        return b""


async def start(*arguments: str | Path, folder: Path, environment: Mapping[str, str] | None = None, cwd: Path = ROOT) -> Going:
    mark = uuid.uuid4().hex
    process = await asyncio.create_subprocess_exec(
        LATPROF,
        *arguments,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        env={**os.environ, **(environment or {}), _MARK: mark},
        cwd=cwd,
        start_new_session=True,  # a process group of its own, as a shell gives a command
    )
    return Going(process, mark, folder)


async def latprof(*arguments: str | Path, tmp_path: Path, environment: Mapping[str, str] | None = None) -> Ended:
    """Run a command to its end, in ``tmp_path`` as working directory."""
    going = await start(*arguments, folder=tmp_path / "run", environment=environment, cwd=tmp_path)
    return await going.ended()


async def short_run(tmp_path: Path, *arguments: str | Path, environment: Mapping[str, str] | None = None, ports: bool = True) -> Ended:
    """``latprof run`` with a short load, its folder ``tmp_path/run`` and its summary beside it; ``arguments`` override."""
    folder = tmp_path / "run"
    free = FREE_PORTS if ports else ()
    flags = ("--out", folder, "--json", folder.with_suffix(".json"), *SHORT, *free)
    return await latprof("run", *flags, *arguments, tmp_path=tmp_path, environment=environment)


def contents(folder: Path) -> set[Path]:
    """Everything below but ``runs``, the folder of runs that were not given a name: it stays where the first of them made it."""
    return {path for path in folder.rglob("*") if path.name != "runs"}
