"""The OTLP receiver as the profiler holds it: a process of its own, so that decoding spans never takes the load generator's time.

exporters --gRPC, HTTP--> latprof.spans.listen --> spans.arrows
                               |  ^
                 stats, a line |  | questions, a line each; the end of them ends the process
                               v  |
                            Receiver (here)
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import selectors
import subprocess
import sys
import threading
import time
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, Literal, Self

import orjson

from latprof.errors import LatprofError, UsageError
from latprof.spans.reception import ReceiverStats, is_complete
from latprof.units import NS_PER_S

Transport = Literal["grpc", "http"]
FLAGS: dict[Transport, str] = {"grpc": "--otlp-grpc-port", "http": "--otlp-http-port"}

LOG = "receiver.log"
_START_S = 30.0  # imports take half a second; a machine under load many times that
_ANSWER_S = 15.0  # the child decodes a body of 20 MiB in between, in a second or two
_POLL_S = 0.1
_TRACES_PER_LINE = 20_000
_ANSWERS_PER_LINE = 5_000  # their ids are up to 300 characters long


class PortTakenError(UsageError):
    """Another process listens on an OTLP port."""

    def __init__(self, transport: Transport, host: str, port: int) -> None:
        super().__init__(
            f"{FLAGS[transport]} {port}: {host}:{port} is in use by another process; stop that (a collector, another run?), "
            f"or give {FLAGS[transport]} another port, or 0 for a free one, and point the exporters at it"
        )
        self.transport = transport
        self.port = port


class ReceiverDiedError(LatprofError):
    """The receiver's process ended by itself, or does not answer."""


@dataclass(frozen=True, slots=True)
class Waited:
    """How a wait for late spans ended: with all of them (``complete``), or because the grace was over."""

    stats: ReceiverStats
    complete: bool
    waited_ns: int


class Receiver:
    """A running receiver. Blocking calls take about a millisecond; a busy event loop calls them with ``asyncio.to_thread``."""

    def __init__(self, process: subprocess.Popen[bytes], folder: Path) -> None:
        self._process = process
        self._folder = folder
        self._pipes = _Pipes(process)
        self._turn = threading.Lock()
        self._final: ReceiverStats | None = None
        self.host = ""
        self.grpc_port: int | None = None
        self.http_port: int | None = None
        self.taken: tuple[PortTakenError, ...] = ()

    @classmethod
    def start(
        cls,
        folder: Path,
        run_prefix: str,
        *,
        host: str = "127.0.0.1",
        grpc_port: int | None = 0,
        http_port: int | None = 0,
        tolerate_taken: Collection[Transport] = (),
        pending_limit_spans: int = 50_000,
        write_every_s: float = 0.25,
    ) -> Receiver:
        """Start receiving spans of the traces that begin with ``run_prefix`` (16 hex digits) into ``folder`` (which exists).

        A port of 0 takes a free one (`grpc_port` and `http_port` say which), None does not listen. A taken port is an error unless its
        transport is in ``tolerate_taken``: then it is left out, and stands in `taken`.

        Raises:
            PortTakenError: names the flag and what to do.
            UsageError: the host or the port cannot be listened on for another reason.
            ReceiverDiedError: the process did not come up.
        """
        orders = {
            "folder": str(folder),
            "run_prefix": run_prefix,
            "host": host,
            "grpc_port": grpc_port,
            "http_port": http_port,
            "pending_limit_spans": pending_limit_spans,
            "write_every_s": write_every_s,
        }
        receiver = cls(_spawn(folder, orders), folder)
        try:
            opened = receiver._next_line(_START_S)
            receiver.taken = tuple(_refusals(opened["refused"], host, {"grpc": grpc_port, "http": http_port}))
            fatal = [taken for taken in receiver.taken if taken.transport not in tolerate_taken]
            if fatal:
                raise fatal[0]
        except BaseException:
            receiver.stop()
            raise
        receiver.host = host
        receiver.grpc_port, receiver.http_port = opened["ports"]["grpc"], opened["ports"]["http"]
        return receiver

    def stats(self) -> ReceiverStats:
        """What has come so far; after `stop`, what had come by then.

        Raises:
            ReceiverDiedError: the process is gone or does not answer.
        """
        return self._ask({"ask": "stats"})

    async def wait_complete(
        self,
        expected_traces: Collection[str],
        grace_ns: int,
        *,
        expect_spans: bool = True,
        services: Collection[str] = (),
        answers: Collection[str] = (),
    ) -> Waited:
        """Wait until the spans of ``expected_traces`` (ids of the finished requests) are in, at most ``grace_ns``.

        ``services`` are the service names known to serve every request; without them those seen count, see `is_complete`. With
        ``expect_spans`` False nothing is waited for unless spans of the run have been seen. ``answers`` are the ids of the finished requests'
        answers: awaited where it is other traces that tell of the run.

        Raises:
            ReceiverDiedError: the process is gone or does not answer.
        """
        began_ns = time.monotonic_ns()
        awaited = expect_spans and len(expected_traces) > 0
        stats = await asyncio.to_thread(self._expect, expected_traces)
        is_told_by_others = False
        while True:
            if stats.told_spans > 0 and not is_told_by_others:
                is_told_by_others = True
                stats = await asyncio.to_thread(self._expect, (), answers)
            waited_ns = time.monotonic_ns() - began_ns
            complete = is_complete(stats, time.time_ns(), grace_ns, services)
            if complete or waited_ns >= grace_ns or (stats.spans + stats.told_spans == 0 and not awaited):
                return Waited(stats, complete, waited_ns)
            await asyncio.sleep(min(_POLL_S, (grace_ns - waited_ns) / NS_PER_S))
            stats = await asyncio.to_thread(self.stats)

    def stop(self) -> ReceiverStats:
        """Close the ports, put everything received on disk, end the process. Again: the same answer."""
        if self._final is None:
            with contextlib.suppress(ReceiverDiedError):
                self._final = self._ask({"ask": "stop"})
            self._pipes.close()
            self._end()
            self._final = self._final or ReceiverStats()
        return self._final

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def _expect(self, trace_ids: Iterable[str], answers: Iterable[str] = ()) -> ReceiverStats:
        traces, ids = iter(trace_ids), iter(answers)
        stats: ReceiverStats | None = None
        while True:
            question = {"traces": list(islice(traces, _TRACES_PER_LINE)), "answers": list(islice(ids, _ANSWERS_PER_LINE))}
            if stats is not None and not any(question.values()):
                return stats
            stats = self._ask({"ask": "expect", **question})

    def _ask(self, question: dict[str, Any]) -> ReceiverStats:
        with self._turn:
            if self._final is not None:
                return self._final
            try:
                self._pipes.write(question)
            except OSError:
                raise self._died() from None
            return ReceiverStats(**self._next_line(_ANSWER_S))

    def _next_line(self, timeout_s: float) -> dict[str, Any]:
        line = self._pipes.read_line(timeout_s)
        if not line:
            raise self._died()
        message: dict[str, Any] = orjson.loads(line)
        return message

    def _died(self) -> ReceiverDiedError:
        code = self._process.poll()
        how = "does not answer" if code is None else f"ended with code {code}"
        log = self._folder / LOG
        last = log.read_text(errors="replace").strip().rpartition("\n")[2] if log.exists() else ""
        return ReceiverDiedError(f"the span receiver (process {self._process.pid}) {how}: {last or 'it left no message'}; see {log}")

    def _end(self) -> None:
        try:
            self._process.wait(_ANSWER_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        log = self._folder / LOG
        if log.exists() and not log.stat().st_size:
            log.unlink()


class _Pipes:
    """One JSON object per line to and from the process, with a time limit on reading."""

    def __init__(self, process: subprocess.Popen[bytes]) -> None:
        if process.stdin is None or process.stdout is None:
            raise ValueError("the process must have been started with pipes")
        self._into, self._from = process.stdin, process.stdout
        self._rest = b""

    def write(self, message: dict[str, Any]) -> None:
        self._into.write(orjson.dumps(message) + b"\n")
        self._into.flush()

    def read_line(self, timeout_s: float) -> bytes:
        """The next line; empty at the end of the stream or of the time."""
        deadline = time.monotonic() + timeout_s
        with selectors.DefaultSelector() as selector:
            selector.register(self._from, selectors.EVENT_READ)
            while b"\n" not in self._rest:
                if not selector.select(max(0.0, deadline - time.monotonic())):
                    return b""
                got = os.read(self._from.fileno(), 65536)
                if not got:
                    return b""
                self._rest += got
        line, _, self._rest = self._rest.partition(b"\n")
        return line

    def close(self) -> None:
        with contextlib.suppress(BrokenPipeError):
            self._into.close()
        self._from.close()


def _spawn(folder: Path, orders: dict[str, Any]) -> subprocess.Popen[bytes]:
    with (folder / LOG).open("wb") as log:
        return subprocess.Popen(  # noqa: S603 - our own interpreter and module
            [sys.executable, "-m", "latprof.spans.listen", orjson.dumps(orders).decode()],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=log,
            env={**os.environ, "GRPC_VERBOSITY": "NONE"},
            # Ctrl-C is for the profiler: the spans of an interrupted run are still wanted.
            start_new_session=True,
        )


def _refusals(refused: dict[Transport, Sequence[Any]], host: str, ports: dict[Transport, int | None]) -> Iterator[PortTakenError]:
    for transport, (code, reason) in refused.items():
        port = ports[transport]
        if code != errno.EADDRINUSE or port is None:
            raise UsageError(
                f"--otlp-host {host}, {FLAGS[transport]} {port}: cannot listen there: {reason}; "
                "give an address of this machine (127.0.0.1 for this machine only, 0.0.0.0 for all) and a port from 1024 on, or 0"
            )
        yield PortTakenError(transport, host, port)
