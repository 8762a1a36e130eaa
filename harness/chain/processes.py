"""Processes that never outlive their owner, and the ports they listen on."""

from __future__ import annotations

import contextlib
import http.client
import os
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Self

LOOPBACK = "127.0.0.1"
Command = Sequence[str | Path]
_POLL_S = 0.05
_STOP_S = 5.0
_LOG_TAIL_BYTES = 4000

# Told one process group per line; when its input ends without it having been killed first, its owner died: so do the groups.
_WATCHER = 'while read -r group; do groups="$groups -$group"; done; [ -z "$groups" ] || kill -s KILL -- $groups'


class StartError(RuntimeError):
    """A component did not come up; carries the end of its log."""


def free_ports(count: int) -> list[int]:
    """Distinct loopback ports that were free a moment ago: all are held before any is given back."""
    with contextlib.ExitStack() as held:
        sockets = [held.enter_context(socket.socket()) for _ in range(count)]
        for each in sockets:
            each.bind((LOOPBACK, 0))
        return [each.getsockname()[1] for each in sockets]


def accepts(port: int) -> bool:
    """Whether something listens on ``port``."""
    with contextlib.suppress(OSError), socket.create_connection((LOOPBACK, port), timeout=1):
        return True
    return False


def answers(port: int, path: str) -> bool:
    """Whether ``GET path`` is answered with 200."""
    connection = http.client.HTTPConnection(LOOPBACK, port, timeout=5)
    try:
        connection.request("GET", path)
        return connection.getresponse().status == http.client.OK
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()


@dataclass
class Process:
    """One component: its process (leader of a group of its own) and its log."""

    name: str
    popen: subprocess.Popen[bytes]
    log: Path

    def wait_until(self, ready: Callable[[], bool], timeout_s: float) -> None:
        """Return once ``ready`` says so.

        Raises:
            StartError: it ended, or was not ready in time.
        """
        deadline = time.monotonic() + timeout_s
        while not ready():
            code = self.popen.poll()
            if code is not None:
                raise StartError(f"{self.name} ended with {code} before it was ready:\n{self.log_tail()}")
            if time.monotonic() > deadline:
                raise StartError(f"{self.name} was not ready after {timeout_s} s:\n{self.log_tail()}")
            time.sleep(_POLL_S)

    def log_tail(self) -> str:
        """The end of what it wrote."""
        return self.log.read_bytes()[-_LOG_TAIL_BYTES:].decode("utf-8", "replace")

    def stop(self) -> None:
        """End the whole group: politely, then not."""
        self._signal(signal.SIGTERM)
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.popen.wait(_STOP_S)
        self._signal(signal.SIGKILL)
        self.popen.wait()

    def _signal(self, number: signal.Signals) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.popen.pid, number)


@dataclass
class Processes:
    """A context manager that stops what was started in it, in reverse order; also when this process is killed outright."""

    folder: Path
    running: list[Process] = field(default_factory=list)
    _watcher: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        self._watcher = subprocess.Popen(["/bin/sh", "-c", _WATCHER], stdin=subprocess.PIPE, start_new_session=True)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        while self.running:
            self.running.pop().stop()
        if self._watcher is not None:
            self._watcher.kill()  # before its input ends: it must not act on groups that are gone
            self._watcher.communicate()

    def start(self, name: str, command: Command, *, env: Mapping[str, str] | None = None, cwd: Path | None = None) -> Process:
        """Start ``command`` in a process group of its own, with its output in ``folder/name.log``."""
        log = self.folder / f"{name}.log"
        with log.open("wb") as output:
            popen = subprocess.Popen(
                [str(part) for part in command],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                env=None if env is None else dict(env),
                cwd=cwd,
                start_new_session=True,
            )
        process = Process(name, popen, log)
        self.running.append(process)
        self._tell_watcher(popen.pid)
        return process

    def _tell_watcher(self, group: int) -> None:
        if self._watcher is None or self._watcher.stdin is None:
            raise RuntimeError("Processes is a context manager: start processes inside `with`")
        self._watcher.stdin.write(f"{group}\n".encode())
        self._watcher.stdin.flush()
