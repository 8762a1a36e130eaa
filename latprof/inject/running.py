"""The injecting hop as the profiler holds it: started, asked for its port, ended."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import sys
import tempfile
from dataclasses import dataclass, field, replace
from types import TracebackType
from typing import IO, Self

import orjson

from latprof.errors import LatprofError, UsageError
from latprof.inject.order import Counts, HopOrder

_START_S = 30.0
_STOP_S = 5.0
_ANSWER_S = 5.0
_STDERR_TAIL = 2000


class HopStartError(LatprofError):
    """The hop did not come up."""


@dataclass(slots=True)
class RunningHop:
    """The hop, up and accepting; ``async with`` ends it, and then all of its record is written."""

    host: str
    port: int
    _process: asyncio.subprocess.Process = field(repr=False)
    _stderr: IO[bytes] = field(repr=False)

    @property
    def url(self) -> str:
        """Where it listens."""
        return f"http://{self.host}:{self.port}"

    def died(self) -> str:
        """How it ended by itself and what it said last; empty while all is well."""
        code = self._process.returncode
        return "" if code is None else f"the injecting hop ended with {code}: {_tail(self._stderr)}"

    async def counts(self) -> Counts | None:
        """How many requests it has had; None where it does not answer."""
        told, asked = self._process.stdout, self._process.stdin
        if told is None or asked is None or self._process.returncode is not None:
            return None
        try:
            asked.write(b"\n")
            return Counts(**orjson.loads(await asyncio.wait_for(told.readline(), _ANSWER_S)))
        except (OSError, TimeoutError, ValueError):
            return None

    async def stop(self) -> None:
        """End it and wait for it. Safe to call twice."""
        if self._process.returncode is None:
            if self._process.stdin is not None:
                self._process.stdin.close()
            try:
                await asyncio.wait_for(self._process.wait(), _STOP_S)
            except TimeoutError:
                with contextlib.suppress(ProcessLookupError):
                    self._process.kill()
                await self._process.wait()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        await self.stop()
        self._stderr.close()


def listen(host: str, port: int) -> socket.socket:
    """A socket that waits at this address.

    Raises:
        UsageError: it cannot be had.
    """
    try:
        family, *_ = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        return socket.create_server((host, port), family=family)
    except OSError as error:
        raise UsageError(
            f"inject.listen (--inject-listen) {host}:{port}: cannot be listened at ({error.strerror or error}); say a free port of this"
            " machine, and point the gateway at it"
        ) from None


async def start(order: HopOrder, listening: socket.socket | None = None) -> RunningHop:
    """Start the hop and wait until it listens: at a free port, or with ``listening``, which is closed here.

    Raises:
        HopStartError: it did not come up; with the tail of its stderr.
    """
    if listening is not None:
        order = replace(order, listen_fd=listening.fileno())
    stderr = tempfile.TemporaryFile()  # noqa: SIM115 - closed when the hop has ended
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "latprof.inject.hop",
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=stderr,
        start_new_session=True,  # a Ctrl-C in the terminal reaches the parent alone
        pass_fds=() if listening is None else (listening.fileno(),),
    )
    if listening is not None:
        listening.close()
    if process.stdin is None or process.stdout is None:
        raise HopStartError("the injecting hop must be started with pipes")
    process.stdin.write(orjson.dumps(order.as_json(), option=orjson.OPT_APPEND_NEWLINE))
    try:
        said = await asyncio.wait_for(process.stdout.readline(), _START_S)
        port = int(said)
    except (TimeoutError, ValueError):
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        await process.wait()
        raise HopStartError(f"the injecting hop did not come up:\n{_tail(stderr)}") from None
    return RunningHop("127.0.0.1", port, process, stderr)


def _tail(stderr: IO[bytes]) -> str:
    stderr.seek(0, 2)
    stderr.seek(max(0, stderr.tell() - _STDERR_TAIL))
    return stderr.read().decode(errors="replace").strip() or "it wrote nothing to stderr"
