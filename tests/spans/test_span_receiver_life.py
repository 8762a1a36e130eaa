from __future__ import annotations

import asyncio
import http.client
import os
import signal
import socket
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pytest
from otlp_requests import INTERNAL, PREFIX, PROTOBUF, export_request, gone, on_disk, post, trace_id

from latprof.errors import UsageError
from latprof.spans.receiver import LOG, PortTakenError, Receiver, ReceiverDiedError, Transport
from latprof.spans.reception import ReceiverStats, is_complete
from latprof.spans.store import STREAM, load
from latprof.units import NS_PER_MS, NS_PER_S

# --- ports and the life of the process ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("transport", ["grpc", "http"])
def test_a_taken_port_names_the_flag(tmp_path: Path, transport: Transport) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        grpc_port, http_port = (port, 0) if transport == "grpc" else (0, port)
        with pytest.raises(PortTakenError, match=rf"--otlp-{transport}-port {port}: .*0 for a free one") as raised:
            Receiver.start(tmp_path, PREFIX, grpc_port=grpc_port, http_port=http_port)
        assert isinstance(raised.value, UsageError)
        assert not (tmp_path / LOG).exists()
        with Receiver.start(tmp_path, PREFIX, grpc_port=grpc_port, http_port=http_port, tolerate_taken={transport}) as receiver:
            assert [(taken.transport, taken.port) for taken in receiver.taken] == [(transport, port)]
            assert (receiver.grpc_port is None) == (transport == "grpc")
            assert (receiver.http_port is None) == (transport == "http")


def test_two_receivers_do_not_share_a_grpc_port(tmp_path: Path) -> None:
    with Receiver.start(tmp_path, PREFIX, http_port=None) as first:
        assert os.getpgid(first._process.pid) != os.getpgid(0)  # Ctrl-C is not for it
        other = tmp_path / "other"
        other.mkdir()
        with pytest.raises(PortTakenError):
            Receiver.start(other, PREFIX, grpc_port=first.grpc_port, http_port=None)


def test_without_ports_it_listens_nowhere(tmp_path: Path) -> None:
    with Receiver.start(tmp_path, PREFIX, grpc_port=None, http_port=None) as receiver:
        assert (receiver.grpc_port, receiver.http_port, receiver.stats()) == (None, None, ReceiverStats())
    assert len(load(tmp_path)) == 0


@pytest.mark.parametrize("host", ["192.0.2.1", "no-such-host.invalid"])
def test_an_address_that_is_not_here(tmp_path: Path, host: str) -> None:
    with pytest.raises(UsageError, match=f"--otlp-host {host}"):
        Receiver.start(tmp_path, PREFIX, host=host, tolerate_taken={"grpc", "http"})


def test_stopping_leaves_nothing_behind(tmp_path: Path) -> None:
    receiver = Receiver.start(tmp_path, PREFIX, write_every_s=60)
    post(receiver, export_request((trace_id(1), 1)).SerializeToString())
    stats = receiver.stop()
    assert stats.spans == 1
    assert receiver.stop() == receiver.stats() == stats
    assert receiver._process.returncode == 0
    assert [path.name for path in tmp_path.iterdir()] == [STREAM]
    assert len(load(tmp_path)) == 1  # pending spans were written
    for port in (receiver.grpc_port, receiver.http_port):
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(("127.0.0.1", port))


def test_a_killed_receiver_is_reported_and_its_spans_are_kept(tmp_path: Path) -> None:
    with Receiver.start(tmp_path, PREFIX, write_every_s=0.02) as receiver:
        post(receiver, export_request((trace_id(1), 1)).SerializeToString())
        on_disk(receiver, tmp_path, trace_id(1))
        os.kill(receiver._process.pid, signal.SIGKILL)
        with pytest.raises(ReceiverDiedError, match=r"ended with code -9|does not answer"):
            receiver.stats()
    assert len(load(tmp_path)) == 1


def test_it_dies_with_its_parent(tmp_path: Path) -> None:
    program = textwrap.dedent(f"""
        import sys, time
        from pathlib import Path
        from latprof.spans.receiver import Receiver
        receiver = Receiver.start(Path({str(tmp_path)!r}), {PREFIX!r}, write_every_s=60)
        print(receiver._process.pid, receiver.http_port, flush=True)
        time.sleep(60)
    """)
    with subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        pid, port = map(int, parent.stdout.readline().split())
        connection = http.client.HTTPConnection("127.0.0.1", port)
        connection.request("POST", "/v1/traces", export_request((trace_id(1), 1)).SerializeToString(), {"Content-Type": PROTOBUF})
        assert connection.getresponse().status == 200
        connection.close()
        parent.kill()
    until = time.monotonic() + 20
    while not gone(pid):
        assert time.monotonic() < until, "the receiver outlived its parent"
        time.sleep(0.02)
    assert len(load(tmp_path)) == 1  # it wrote what it had before it went


# --- waiting for late spans --------------------------------------------------------------------------------------------------------------


async def test_the_wait_ends_when_every_service_has_served_every_trace(tmp_path: Path) -> None:
    traces = [trace_id(number) for number in range(1, 4)]
    with Receiver.start(tmp_path, PREFIX) as receiver:
        post(receiver, export_request(*((one, 1) for one in traces)).SerializeToString())
        post(receiver, export_request(*((one, 2) for one in traces[:2]), service="engine", parent=1).SerializeToString())
        # Spans inside a service do not make it serve a trace.
        post(receiver, export_request((traces[2], 3), service="engine", kind=INTERNAL, parent=2).SerializeToString())
        waiting = asyncio.create_task(receiver.wait_complete(traces, 60 * NS_PER_S, services=("gateway", "engine")))
        await asyncio.sleep(0.6)
        assert not waiting.done()
        last = export_request((traces[2], 2), service="engine", parent=1).SerializeToString()
        await asyncio.to_thread(post, receiver, last)
        waited = await waiting
    assert waited.complete
    assert waited.stats.late_spans == 1
    assert waited.stats.traces_by_service == {"gateway": 3, "engine": 3}
    assert waited.stats.missing_by_service == {"gateway": 0, "engine": 0}
    assert waited.waited_ns < 30 * NS_PER_S


async def test_the_wait_ends_with_the_grace(tmp_path: Path) -> None:
    with Receiver.start(tmp_path, PREFIX) as receiver:
        nothing = await receiver.wait_complete([trace_id(1)], 300 * NS_PER_MS)
        assert not nothing.complete
        assert 300 * NS_PER_MS <= nothing.waited_ns < 20 * NS_PER_S
        not_expected = await receiver.wait_complete([trace_id(1)], 60 * NS_PER_S, expect_spans=False)
        assert (await receiver.wait_complete([], 60 * NS_PER_S)).stats.spans == 0
        assert not_expected.waited_ns < 30 * NS_PER_S
        post(receiver, export_request((trace_id(2), 1)).SerializeToString())
        one_is_missing = await receiver.wait_complete([trace_id(1), trace_id(2)], 300 * NS_PER_MS)
        assert not one_is_missing.complete
        assert one_is_missing.stats.missing_by_service == {"gateway": 1}


async def test_many_expected_traces_fit_through_the_pipe(tmp_path: Path) -> None:
    traces = [trace_id(number) for number in range(50_000)]
    with Receiver.start(tmp_path, PREFIX) as receiver:
        post(receiver, export_request((traces[-1], 1)).SerializeToString())
        waited = await receiver.wait_complete(traces, 0)
        assert waited.stats.missing_by_service == {"gateway": 49_999}


@pytest.mark.parametrize(
    ("stats", "services", "complete"),
    [
        (ReceiverStats(), (), False),
        (ReceiverStats(spans=1, missing_by_service={"a": 0}, first_received_unix_ns=0, last_received_unix_ns=0), (), True),
        (ReceiverStats(spans=1, missing_by_service={"a": 1}, first_received_unix_ns=0, last_received_unix_ns=0), (), False),
        # A second service may export only every 5 s: too early to say that all have been seen ...
        (ReceiverStats(spans=1, missing_by_service={"a": 0}, first_received_unix_ns=5 * NS_PER_S, last_received_unix_ns=0), (), False),
        # ... unless it is known which there are.
        (ReceiverStats(spans=1, missing_by_service={"a": 0}, first_received_unix_ns=5 * NS_PER_S, last_received_unix_ns=0), ("a",), True),
        (ReceiverStats(spans=1, missing_by_service={"a": 0}, first_received_unix_ns=0, last_received_unix_ns=0), ("a", "b"), False),
        (ReceiverStats(spans=1, missing_by_service={"a": 0, "b": 1}, first_received_unix_ns=0, last_received_unix_ns=0), ("a",), True),
        # Its other spans are still on their way.
        (ReceiverStats(spans=1, missing_by_service={"a": 0}, first_received_unix_ns=0, last_received_unix_ns=10 * NS_PER_S - 1), (), False),
    ],
)
def test_when_a_reception_is_complete(stats: ReceiverStats, services: tuple[str, ...], complete: bool) -> None:
    assert is_complete(stats, 10 * NS_PER_S, 6 * NS_PER_S, services) is complete
