"""The receiver's process: ``python -m latprof.spans.listen '{...}'``, started by `latprof.spans.receiver` and spoken to over its pipes.

One JSON object per line each way. First, unasked: ``{"ports": {"grpc": 4317, "http": null}, "refused": {"http": [98, "Address already in use"]}}``.
Then one answer per question: ``{"ask": "stats"}``, ``{"ask": "expect", "traces": [...], "answers": [...]}``, ``{"ask": "stop"}`` are all answered
with the stats.
It ends on ``stop``, at the end of its input (its parent has gone), or when it is orphaned.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sys
from collections.abc import Awaitable, Callable
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import IO, Any

import orjson

from latprof.spans.grpc_in import serve_grpc
from latprof.spans.http_in import serve_http
from latprof.spans.intake import Intake
from latprof.spans.store import OTHERS_STREAM, SpanWriter

_LINE_LIMIT_BYTES = 4 * 1024 * 1024
Close = Callable[[], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class Orders:
    """What the parent asks for. A port of None is not listened on."""

    folder: str
    run_prefix: str
    host: str
    grpc_port: int | None
    http_port: int | None
    pending_limit_spans: int
    write_every_s: float


async def listen(orders: Orders, control: IO[bytes]) -> None:
    """Receive until told to stop; everything received is on disk when this returns."""
    parent = os.getppid()
    folder = Path(orders.folder)
    intake = Intake(orders.run_prefix, partial(SpanWriter, folder), partial(SpanWriter, folder, OTHERS_STREAM), orders.pending_limit_spans)
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGHUP):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    opened, closers = await _open(intake, orders)
    _say(control, opened)
    questions = asyncio.create_task(_answer(intake, control, stop))
    try:
        while not stop.is_set():
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(stop.wait(), orders.write_every_s)
            await intake.flush()
            if os.getppid() != parent:
                stop.set()
    finally:
        questions.cancel()
        await asyncio.gather(*(close() for close in closers))
        await intake.flush()
        intake.close()
        with contextlib.suppress(BrokenPipeError):
            _say(control, asdict(intake.stats()))


async def _open(intake: Intake, orders: Orders) -> tuple[dict[str, Any], list[Close]]:
    """Bind what is asked for; say what came of it."""
    ports: dict[str, int | None] = {"grpc": None, "http": None}
    refused: dict[str, tuple[int, str]] = {}
    closers: list[Close] = []
    if orders.grpc_port is not None:
        try:
            server, ports["grpc"] = await serve_grpc(intake, orders.host, orders.grpc_port)
            closers.append(lambda: server.stop(grace=0.5))
        except OSError as error:
            refused["grpc"] = (error.errno or 0, error.strerror or str(error))
    if orders.http_port is not None:
        try:
            runner, ports["http"] = await serve_http(intake, orders.host, orders.http_port)
            closers.append(runner.cleanup)
        except OSError as error:
            refused["http"] = (error.errno or 0, error.strerror or str(error))
    return {"ports": ports, "refused": refused}, closers


async def _answer(intake: Intake, control: IO[bytes], stop: asyncio.Event) -> None:
    reader = asyncio.StreamReader(limit=_LINE_LIMIT_BYTES)
    await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    try:
        while line := await reader.readline():
            question = orjson.loads(line)
            if question["ask"] == "stop":
                break
            if question["ask"] == "expect":
                intake.expect(question["traces"])
                intake.expect_answers(question["answers"])
            _say(control, asdict(intake.stats()))
    finally:
        stop.set()


def _say(control: IO[bytes], message: dict[str, Any]) -> None:
    control.write(orjson.dumps(message) + b"\n")
    control.flush()


def main() -> None:
    """Run by the parent only."""
    orders = Orders(**orjson.loads(sys.argv[1]))
    # Standard output is the control pipe: whatever a library prints goes to the log instead.
    control = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    with control:
        asyncio.run(listen(orders, control))


if __name__ == "__main__":
    main()
