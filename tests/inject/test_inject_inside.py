"""The hop inside a stack that the run did not start: a gateway of the test's own is pointed at it, the stack in a box stands behind."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from latprof.config import load_config
from latprof.errors import RunFailedError, UsageError
from latprof.opening import Opened, open_run
from latprof.pipeline import keep_stub_up_during, run
from latprof.report.injected import design
from latprof.report.summary import summary

pytestmark = pytest.mark.live

STEADY = load_config(None, {"stub": {"gateway": {"safety": "2ms"}, "prefill": {"t0": "20ms"}}})


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])


@contextlib.contextmanager
def gateway(upstream: int, drops: bytes = b"") -> Iterator[str]:
    """A gateway that passes everything on to ``upstream``, but a header called ``drops``; its URL."""

    async def pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            while data := await reader.read(1 << 16):
                writer.write(data.replace(drops, b"x" * len(drops)) if drops else data)
        writer.close()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            there = await asyncio.open_connection("127.0.0.1", upstream)
        except OSError:
            writer.close()
            return
        await asyncio.gather(pump(reader, there[1]), pump(there[0], writer))

    loop = asyncio.new_event_loop()
    server = loop.run_until_complete(asyncio.start_server(serve, "127.0.0.1", 0))
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        server.close()
        for task in asyncio.all_tasks(loop):
            task.cancel()
        loop.run_until_complete(asyncio.sleep(0))
        loop.close()


def ran(folder: Path, url: str, listen: int, upstream: str, **overrides: Any) -> Opened:
    config = {
        "target": {"url": url},
        "load": {"rate_per_s": 25, "num_requests": 12, "warmup": "0s", "seed": 5},
        "workload": {"prompt_tokens": 16, "output_tokens": 2},
        "inject": {"before": "engine", "delays": "0,20ms", "per": "request", "listen": listen, "upstream": upstream},
        "out": folder / "run",
    }
    return open_run(run(load_config(None, config | overrides)).folder)


@pytest.mark.slow
def test_what_stands_behind_a_gateway_is_delayed_and_waited_for(tmp_path: Path) -> None:
    """One request at a time, so that no queue is in it; again where the machine was too busy to tell a slope to 0.1."""
    listen, otlp = free_port(), free_port()
    one_by_one = {"concurrency": 1, "num_requests": 200, "warmup": "0s", "seed": 5}
    with keep_stub_up_during(f"http://127.0.0.1:{otlp}", STEADY) as stub, gateway(listen) as url:
        for attempt in range(3):
            opened = ran(tmp_path / str(attempt), url, listen, stub, load=one_by_one, spans={"grpc_port": 0, "http_port": otlp})
            half = check_placed(opened, listen, stub)
            if half < 0.1:
                return
    pytest.skip(f"the machine is too busy for a slope: +-{half:.2f}")


def check_placed(opened: Opened, listen: int, stub: str) -> float:
    """What must hold of the run however busy the machine; half the interval of its slope."""
    ttft, requests, told = opened.tables.ttft, opened.observed.requests, opened.report.injection
    assert (ttft.total_ns.sum(axis=1) == (requests.first_token_ns - requests.intended_ns)[ttft.rows]).all()
    assert told is not None
    assert (told.before, told.missed, told.not_as_drawn, told.again) == ("engine", 0, 0, 0)
    slope = told.ttft.per_request
    assert slope is not None
    half = (slope.high - slope.low) / 2
    assert slope.value == pytest.approx(1, abs=max(0.1, 2 * half))
    # The stack in a box tells that all of it began later by the delay; the gateway in front tells nothing.
    assert told.site is not None
    assert (told.site.in_front, set(told.site.behind), told.site.untold) == ((), {"gateway", "router", "prefill", "decode"}, ())
    assert ttft.hops[0] == "inject.engine"
    assert {"injected", "net.request+server", "gateway.safety", "prefill"} <= set(ttft.names)
    assert f"127.0.0.1:{listen} -> {stub}" in design(told)
    assert summary(opened.report)["injection"]["site"]["others"] == 0
    return half


def test_a_gateway_that_is_not_pointed_at_the_hop_is_said_before_the_load(tmp_path: Path) -> None:
    listen = free_port()
    with (
        keep_stub_up_during() as stub,
        gateway(int(stub.rpartition(":")[2])) as url,
        pytest.raises(
            RunFailedError, match=rf"did not pass the hop at 127\.0\.0\.1:{listen}: nothing has come there; point the gateway's upstream"
        ),
    ):
        ran(tmp_path, url, listen, stub, spans={"grpc_port": 0, "http_port": 0})
    assert not (tmp_path / "run").exists()


def test_a_gateway_that_keeps_the_trace_to_itself_is_said_before_the_load(tmp_path: Path) -> None:
    listen = free_port()
    with (
        keep_stub_up_during() as stub,
        gateway(listen, drops=b"traceparent") as url,
        pytest.raises(RunFailedError, match=r"1 other requests came, without its trace; let the gateway hand the header traceparent on"),
    ):
        ran(tmp_path, url, listen, stub, spans={"grpc_port": 0, "http_port": 0})


def test_addresses_that_cannot_be_used_are_said_and_nothing_is_sent(tmp_path: Path) -> None:
    taken, nobody = free_port(), free_port()
    with socket.create_server(("127.0.0.1", taken)):
        with pytest.raises(
            UsageError, match=rf"inject\.listen \(--inject-listen\) 127\.0\.0\.1:{taken}: cannot be listened at \(Address already"
        ):
            ran(tmp_path, "http://127.0.0.1:9", taken, f"http://127.0.0.1:{nobody}", spans={"grpc_port": 0, "http_port": 0})
        with pytest.raises(UsageError, match=rf"inject\.upstream .* http://127\.0\.0\.1:{nobody}: there is no connection to it"):
            ran(tmp_path, "http://127.0.0.1:9", free_port(), f"http://127.0.0.1:{nobody}", spans={"grpc_port": 0, "http_port": 0})
    assert not (tmp_path / "run").exists()
