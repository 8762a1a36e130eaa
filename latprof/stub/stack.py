"""Bring the stack in a box up and down: one process per stage, and the scribe when spans are wanted."""

from __future__ import annotations

import asyncio
import contextlib
import os
import select
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from types import TracebackType
from typing import IO, Self, cast

import orjson

from latprof.config import BUNDLED_TOKENIZER, STAGES, Stage, Stub
from latprof.errors import ConfigError, LatprofError, UsageError
from latprof.stub.filling import filled
from latprof.stub.models.stages import check
from latprof.stub.orders import READY, ScribeOrder, StageOrder

HOST = "127.0.0.1"
Between = Callable[[Mapping[Stage, str]], Awaitable[Mapping[Stage, str]]]
_START_S = 30.0
_STOP_S = 3.0
_FLUSH_S = 5.0  # the scribe exports what is left
_STDERR_TAIL = 2000
_SCRIBE = "spans"


class StubStartError(LatprofError):
    """A stage of the stack in a box did not come up."""


@dataclass(slots=True)
class _Process:
    """A child, and where its complaints go. Its stdin is kept open: the end of it ends the child."""

    name: str
    popen: subprocess.Popen[bytes]
    stdin: IO[bytes]
    stdout: IO[bytes]
    stderr: IO[bytes]

    def complaint(self) -> str:
        """The tail of what it wrote to stderr."""
        size = os.fstat(self.stderr.fileno()).st_size
        # pread: the child shares the file's position.
        tail = os.pread(self.stderr.fileno(), _STDERR_TAIL, max(0, size - _STDERR_TAIL))
        return tail.decode(errors="replace").strip() or "it wrote nothing to stderr"


@dataclass(slots=True)
class RunningStub:
    """The stack, up and accepting. ``async with`` stops it; ``url`` is the gateway's."""

    url: str
    ports: Mapping[Stage, int]
    pids: Mapping[str, int]
    """Process ids by stage, and ``spans`` for the scribe, which works at low priority and is no part of the stack."""
    _processes: list[_Process] = field(repr=False)

    def urls(self) -> dict[Stage, str]:
        """The base URL of every stage; each has /metrics and /health."""
        return {stage: _url(port) for stage, port in self.ports.items()}

    def died(self) -> str:
        """Which processes have ended by themselves and what they said last; empty while all is well."""
        dead = [process for process in self._processes if process.popen.poll() is not None]
        return "; ".join(f"{process.name} ended with {process.popen.returncode}: {process.complaint()}" for process in dead)

    async def stop(self) -> None:
        """End every process and wait for it: the stages first, so that the scribe sees the last of their spans. Safe to call twice."""
        processes = self._processes.copy()
        self._processes.clear()  # from here on an end is no surprise
        await asyncio.to_thread(_stop, processes)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        await self.stop()


async def start(
    stub: Stub,
    otlp_http_endpoint: str | None = None,
    truth: Path | None = None,
    ports: Mapping[Stage, int] | None = None,
    tokenizer: Path | None = None,
    between: Between | None = None,
) -> RunningStub:
    """Start the four stages and wait until each serves.

    ``otlp_http_endpoint`` is a base URL such as ``http://127.0.0.1:4318`` (or ends in ``/v1/traces``); None exports no spans. ``truth`` is a
    folder for the stages' truth files (``<stage>.jsonl``), made when absent. ``ports`` asks for ports; a stage left out, or 0, takes a free
    one. ``tokenizer`` is a tokenizer.json; the bundled one when None. ``between`` may put something in front of stages: it is told where they are,
    and gives where the stages that call them shall go.

    Raises:
        UsageError: a port that was asked for is taken.
        ConfigError: the configuration names what the stack has not, or the tokenizer cannot be read.
        StubStartError: a stage did not come up; with the tail of its stderr.
    """
    check(stub)
    sockets = _listen(ports or {})
    upstream = {stage: _url(listener.getsockname()[1]) for stage, listener in sockets.items()}
    processes: list[_Process] = []
    try:
        called = upstream if between is None else await between(upstream)
        orders = _orders(stub, sockets, called, truth, tokenizer or BUNDLED_TOKENIZER)
        _spawn_all(orders, _traces_url(otlp_http_endpoint), processes)
        await asyncio.to_thread(_await_ready, [process for process in processes if process.name != _SCRIBE])
    except BaseException:
        await asyncio.to_thread(_stop, processes)
        raise
    finally:
        listening: dict[Stage, int] = {stage: listener.getsockname()[1] for stage, listener in sockets.items()}
        for listener in sockets.values():
            listener.close()  # the stages have it now; with them it goes
    return RunningStub(upstream["gateway"], listening, {process.name: process.popen.pid for process in processes}, processes)


def _url(port: int) -> str:
    return f"http://{HOST}:{port}"


def _traces_url(endpoint: str | None) -> str | None:
    if endpoint is None or endpoint.endswith("/v1/traces"):
        return endpoint
    return endpoint.rstrip("/") + "/v1/traces"


def _listen(ports: Mapping[Stage, int]) -> dict[Stage, socket.socket]:
    """A listening socket per stage, made here: a taken port is found before anything is started, and callers never find a stage deaf."""
    sockets: dict[Stage, socket.socket] = {}
    for stage in STAGES:
        listener = socket.socket()
        sockets[stage] = listener
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind((HOST, ports.get(stage, 0)))
            listener.listen(1024)
        except OSError as error:
            for opened in sockets.values():
                opened.close()
            wanted = f"port {ports.get(stage, 0)} for the stub's {stage}"
            raise UsageError(f"{wanted} cannot be used ({error.strerror}); give another with --port, or 0 for a free one") from None
    return sockets


def _orders(
    stub: Stub, sockets: Mapping[Stage, socket.socket], upstream: Mapping[Stage, str], truth: Path | None, tokenizer: Path
) -> list[StageOrder]:
    if not tokenizer.is_file():
        raise ConfigError(f"{tokenizer}: no such file; the gateway needs a tokenizer.json")
    if truth is not None:
        try:
            truth.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise UsageError(f"{truth}: cannot be made a folder for truth files ({error.strerror}); name another with --truth") from None
    return [
        StageOrder(
            stage=stage,
            stub=filled(stub).model_dump(mode="json", by_alias=True),
            socket_fd=sockets[stage].fileno(),
            upstream=upstream,
            tokenizer=str(tokenizer.resolve()),
            truth=None if truth is None else str(truth.resolve() / f"{stage}.jsonl"),
            spans_fd=None,
        )
        for stage in STAGES
    ]


def _spawn_all(orders: Sequence[StageOrder], traces_url: str | None, processes: list[_Process]) -> None:
    """Start every process; those started are in ``processes`` even when a later one fails."""
    pipes = {order.stage: os.pipe() for order in orders if traces_url is not None}
    try:
        for order in orders:
            write_fd = pipes[order.stage][1] if pipes else None
            fds = [order.socket_fd, *([] if write_fd is None else [write_fd])]
            processes.append(_spawn(order.stage, "latprof.stub.server", replace(order, spans_fd=write_fd), fds))
        if traces_url is not None:
            readers = {order.stage: (pipes[order.stage][0], process.popen.pid) for order, process in zip(orders, processes, strict=True)}
            told = ScribeOrder(traces_url, readers)
            processes.append(_spawn(_SCRIBE, "latprof.stub.scribe", told, [fd for fd, _ in readers.values()]))
    finally:
        for fds_of_pipe in pipes.values():
            for fd in fds_of_pipe:
                os.close(fd)  # only the children hold them: a stage's end is then the end of its pipe


def _spawn(name: str, module: str, order: StageOrder | ScribeOrder, fds: Sequence[int]) -> _Process:
    stderr = tempfile.TemporaryFile()  # noqa: SIM115 - closed by _stop
    popen = subprocess.Popen(  # noqa: S603 - our own module
        [sys.executable, "-m", module, *([] if name == _SCRIBE else [name])],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=stderr,
        pass_fds=fds,
        env=_environment(),
        start_new_session=True,  # a Ctrl-C in the terminal reaches the parent alone
    )
    process = _Process(name, popen, cast("IO[bytes]", popen.stdin), cast("IO[bytes]", popen.stdout), stderr)
    with contextlib.suppress(BrokenPipeError):  # it is dead already; _await_ready says why
        process.stdin.write(orjson.dumps(asdict(order), option=orjson.OPT_APPEND_NEWLINE))
        process.stdin.flush()
    return process


def _environment() -> dict[str, str]:
    """The parent's, without what would bend the exporter: OTEL_* settings of the user's own program, a proxy for loopback."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("OTEL_")}
    for name in ("NO_PROXY", "no_proxy"):
        kept[name] = ",".join(filter(None, (kept.get(name), HOST, "localhost")))
    return kept


def _await_ready(processes: Sequence[_Process]) -> None:
    deadline_s = time.monotonic() + _START_S
    for process in processes:
        came, _, _ = select.select([process.stdout], [], [], max(0.0, deadline_s - time.monotonic()))
        if came and process.stdout.readline() == READY:
            continue
        went = f"ended with {process.popen.wait(1)}" if came else f"was not ready within {_START_S:g} s"
        raise StubStartError(f"the stub's {process.name} {went}:\n{process.complaint()}")


def _stop(processes: Sequence[_Process]) -> None:
    stages_first = sorted(processes, key=lambda process: process.name == _SCRIBE)
    for process in stages_first:
        if process.name != _SCRIBE and process.popen.poll() is None:
            process.popen.send_signal(signal.SIGTERM)
    for process in stages_first:
        try:
            process.popen.wait(_FLUSH_S if process.name == _SCRIBE else _STOP_S)
        except subprocess.TimeoutExpired:
            process.popen.kill()
            process.popen.wait()
        process.stdin.close()
        process.stdout.close()
