from __future__ import annotations

import asyncio
import gzip
import http.server
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from tokenizers import Tokenizer

from latprof.config import STAGES, Stub
from latprof.errors import ConfigError, UsageError
from latprof.stub.models.draws import Key
from latprof.stub.models.faults import WARMUP_SESSION_BASE, answer_fault
from latprof.stub.stack import RunningStub, StubStartError, start

pytestmark = pytest.mark.live

MS = 1_000_000
PROMPT = "the quick brown fox jumps over the lazy dog " * 40
PLANTS = {"gateway.auth": "20ms", "gateway.tokenize": "15ms", "prefill": "30ms", "decode.first": "25ms", "proxy.hold": "10ms"}
PATH = ["gateway.validate", "gateway.auth", "gateway.ratelimit", "gateway.safety", "gateway.render", "gateway.tokenize", "router"]
LAYERS = [*PATH, "engine.queue", "prefill", "kv.transfer", "decode.first", "proxy.hold"]


class Sink:
    """A minimal OTLP/HTTP receiver: every span with its service's name."""

    def __init__(self) -> None:
        self.spans: list[tuple[str, Any]] = []
        sink = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                sink.take(gzip.decompress(body) if self.headers.get("Content-Encoding") == "gzip" else body)
                self.send_response(200)
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, *_: object) -> None:
                return

        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._thread = threading.Thread(target=self._server.serve_forever)
        self._thread.start()
        self.url = f"http://127.0.0.1:{self._server.server_port}"

    def take(self, body: bytes) -> None:
        for resource in ExportTraceServiceRequest.FromString(body).resource_spans:
            attributes = {item.key: item.value for item in resource.resource.attributes}
            assert {"service.name", "service.instance.id", "host.name", "process.pid"} <= set(attributes)
            for scope in resource.scope_spans:
                assert scope.scope.name == "latprof.stub"
                self.spans += [(attributes["service.name"].string_value.removeprefix("latprof-stub-"), span) for span in scope.spans]

    def of_trace(self, trace_id: str, at_least: int, patience_s: float = 8.0) -> list[tuple[str, Any]]:
        deadline = time.monotonic() + patience_s
        while True:
            found = [(stage, span) for stage, span in self.spans.copy() if span.trace_id.hex() == trace_id]
            if len(found) >= at_least or time.monotonic() > deadline:
                return found
            time.sleep(0.02)

    def close(self) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


@pytest.fixture(scope="module")
def sink() -> Iterator[Sink]:
    sink = Sink()
    yield sink
    sink.close()


def bring_up(stub: dict[str, Any], tokenizer_file: Path, **more: Any) -> RunningStub:
    return asyncio.run(start(Stub.model_validate(stub), tokenizer=tokenizer_file, **more))


@pytest.fixture(scope="module")
def truth(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("truth")


@pytest.fixture(scope="module")
def stack(sink: Sink, truth: Path, tokenizer_file: Path) -> Iterator[RunningStub]:
    running = bring_up({"plant": PLANTS}, tokenizer_file, otlp_http_endpoint=sink.url, truth=truth)
    yield running
    asyncio.run(running.stop())


def trace_id(session: int) -> str:
    return f"{session + 1:032x}"


async def chat(url: str, session: int = 0, flags: str = "01", **body: Any) -> tuple[int, Any, bytes]:
    """Status, headers and the whole body."""
    headers = {"traceparent": f"00-{trace_id(session)}-00f067aa0ba902b7-{flags}", "tracestate": f"latprof={session}.0"}
    asked = {"model": "any", "messages": [{"role": "user", "content": PROMPT}]} | body
    timeout = aiohttp.ClientTimeout(total=10)
    async with (
        aiohttp.ClientSession(timeout=timeout) as client,
        client.post(f"{url}/v1/chat/completions", json=asked, headers=headers) as answer,
    ):
        return answer.status, answer.headers, await answer.read()


def events(body: bytes) -> list[Any]:
    """The JSON of every event before the end mark, which must be there."""
    *events, done, rest = body.split(b"\n\n")
    assert (done, rest) == (b"data: [DONE]", b"")
    return [json.loads(event.removeprefix(b"data: ")) for event in events]


def truth_lines(folder: Path, trace: str, expected: int) -> list[dict[str, Any]]:
    deadline = time.monotonic() + 5
    while True:
        lines = [json.loads(line) for file in folder.glob("*.jsonl") for line in file.read_text().splitlines()]
        found = [line for line in lines if line["trace_id"] == trace]
        if len(found) >= expected or time.monotonic() > deadline:
            return found
        time.sleep(0.05)


async def test_a_streamed_answer_has_exactly_what_was_asked_for(stack: RunningStub, tokenizer_file: Path) -> None:
    status, headers, body = await chat(stack.url, 1, stream=True, max_completion_tokens=5, stream_options={"include_usage": True})
    assert status == 200
    assert headers["Content-Type"].startswith("text/event-stream")
    assert [part.split(";")[0] for part in headers["Server-Timing"].split(", ")] == PATH
    chunks = events(body)
    assert [bool(chunk["choices"] and "content" in chunk["choices"][0]["delta"]) for chunk in chunks] == [True] * 5 + [False] * 2
    assert chunks[0]["choices"][0]["delta"]["role"] == "assistant"
    prompt_tokens = len(Tokenizer.from_file(str(tokenizer_file)).encode(PROMPT, add_special_tokens=False).ids)
    usage = chunks[-1]["usage"]
    assert (usage["prompt_tokens"], usage["completion_tokens"]) == (prompt_tokens, 5)


async def test_a_whole_answer_and_the_default_length_and_the_cache(stack: RunningStub) -> None:
    await chat(stack.url, 2, max_tokens=1)
    status, _, body = await chat(stack.url, 3)
    answer = json.loads(body)
    assert status == 200
    assert answer["object"] == "chat.completion"
    assert len(answer["choices"][0]["message"]["content"].split()) == 16 == answer["usage"]["completion_tokens"]
    assert answer["usage"]["prompt_tokens_details"]["cached_tokens"] >= 128


async def test_headers_come_long_before_the_first_token(stack: RunningStub) -> None:
    asked = {"model": "m", "stream": True, "messages": [{"role": "user", "content": "hi"}]}
    async with aiohttp.ClientSession() as client, client.post(f"{stack.url}/v1/chat/completions", json=asked) as answer:
        headers_s = time.monotonic()
        await answer.content.readany()
        assert time.monotonic() - headers_s > 0.05  # prefill and first iteration with their plants: 96 ms at least


@pytest.mark.parametrize(
    ("method", "path", "body", "status", "names"),
    [
        ("POST", "/v1/chat/completions", b"{", 400, "not JSON"),
        ("POST", "/v1/chat/completions", b'{"model": "m"}', 400, "messages must be"),
        ("GET", "/v1/chat/completions", b"", 405, "takes POST"),
        ("POST", "/v1/nothing", b"{}", 404, "/v1/chat/completions"),
    ],
)
async def test_a_bad_request_is_told_why(stack: RunningStub, method: str, path: str, body: bytes, status: int, names: str) -> None:
    async with aiohttp.ClientSession() as client, client.request(method, stack.url + path, data=body) as answer:
        assert answer.status == status
        assert names in (await answer.json())["error"]["message"]


async def test_every_stage_tells_its_figures(stack: RunningStub) -> None:
    await chat(stack.url, 4, max_tokens=1)
    async with aiohttp.ClientSession() as client:
        for stage, url in stack.urls().items():
            async with client.get(f"{url}/metrics") as answer:
                text = await answer.text()
            assert f'latprof_stub_requests_total{{stage="{stage}",status="200"}}' in text
            assert f'latprof_stub_timer_error_seconds{{stage="{stage}",quantile="0.99"}}' in text
            assert f'latprof_stub_process_cpu_seconds_total{{stage="{stage}"}}' in text
        async with client.get(f"{stack.url}/v1/models") as answer:
            assert [model["id"] for model in (await answer.json())["data"]] == ["stub"]
        async with client.get(f"{stack.url}/health") as answer:
            assert answer.status == 200


async def test_the_truth_file_says_what_was_planted(stack: RunningStub, truth: Path) -> None:
    await chat(stack.url, 5, stream=True, max_tokens=2)
    lines = truth_lines(truth, trace_id(5), 13)
    assert sorted(line["layer"] for line in lines) == sorted([*LAYERS, "proxy.hold"])  # held at gateway and router
    by_layer = {(line["stage"], line["layer"]): line for line in lines}
    for line in lines:
        assert (line["session"], line["turn"]) == (5, 0)
        # Late by what the machine is busy with; early by no more than the timer's lead.
        assert -0.3 * MS < line["service_ns"] - line["planned_service_ns"] < 60 * MS
    assert by_layer["decode", "decode.first"]["planned_service_ns"] == (14.1 + 25) * MS
    assert by_layer["gateway", "proxy.hold"]["planned_service_ns"] == 10 * MS
    assert by_layer["router", "proxy.hold"]["planned_service_ns"] == 0
    assert by_layer["gateway", "gateway.tokenize"]["service_ns"] > 15 * MS
    starts = [by_layer[key]["start_monotonic_ns"] for key in sorted(by_layer, key=lambda key: (LAYERS.index(key[1]), key[0] == "gateway"))]
    assert starts == sorted(starts)  # one clock for all processes of a host


async def test_spans_nest_across_the_hops_and_tell_the_layers(stack: RunningStub, sink: Sink, truth: Path) -> None:
    await chat(stack.url, 6, stream=True, max_tokens=3)
    found = await asyncio.to_thread(sink.of_trace, trace_id(6), 20)
    assert len(found) == 20
    by_id = {span.span_id.hex(): (stage, span) for stage, span in found}
    servers = {stage: span for stage, span in found if span.kind == span.SPAN_KIND_SERVER}
    clients = [(stage, span) for stage, span in found if span.kind == span.SPAN_KIND_CLIENT]
    assert set(servers) == set(STAGES)
    assert servers["gateway"].parent_span_id.hex() == "00f067aa0ba902b7"
    for stage, caller in (("router", "gateway"), ("prefill", "router"), ("decode", "router")):
        parent_stage, parent = by_id[servers[stage].parent_span_id.hex()]
        assert (parent_stage, parent.kind, attributes(parent)["latprof.leg"]) == (caller, parent.SPAN_KIND_CLIENT, stage)
        assert parent.start_time_unix_nano <= servers[stage].start_time_unix_nano
        assert parent.end_time_unix_nano >= servers[stage].end_time_unix_nano
    assert all(span.trace_state == "latprof=6.0" for _, span in found)
    with_first_chunk = {(stage, attributes(span).get("latprof.leg", "server")) for stage, span in found if events_of(span)}
    assert with_first_chunk == {
        ("gateway", "server"),
        ("router", "server"),
        ("decode", "server"),
        ("gateway", "router"),
        ("router", "decode"),
    }
    assert len(clients) == 3
    told = {(line["stage"], line["layer"]): line for line in truth_lines(truth, trace_id(6), 13)}
    layers = {(stage, attributes(span)["latprof.layer"]): span for stage, span in found if span.kind == span.SPAN_KIND_INTERNAL}
    assert set(layers) == set(told)
    for key, span in layers.items():
        assert by_id[span.parent_span_id.hex()][1] is servers[key[0]]
        assert span.end_time_unix_nano - span.start_time_unix_nano == told[key]["wait_ns"] + told[key]["service_ns"]
        assert attributes(span)["latprof.wait_ns"] == told[key]["wait_ns"]


def attributes(span: Any) -> dict[str, Any]:
    return {item.key: item.value.string_value or item.value.int_value for item in span.attributes}


def events_of(span: Any) -> list[str]:
    return [event.name for event in span.events]


async def test_an_unsampled_trace_leaves_no_spans(stack: RunningStub, sink: Sink) -> None:
    await chat(stack.url, 7, flags="00", max_tokens=1)
    await chat(stack.url, 8, max_tokens=1)
    assert await asyncio.to_thread(sink.of_trace, trace_id(8), 20)
    assert sink.of_trace(trace_id(7), 0) == []


KINDS = ("status", "truncate", "malformed", "error", "drop", "silent", "buffer")
FAULTY = {
    "plant": {"gateway.auth": "0ms"},
    "faults": [{"kind": kind, "share": 0.3, "status": 429} for kind in KINDS] + [{"kind": "freeze", "stage": "router", "for": "400ms"}],
}


@pytest.fixture(scope="module")
def faulty(tokenizer_file: Path) -> Iterator[RunningStub]:
    running = bring_up(FAULTY, tokenizer_file)
    yield running
    asyncio.run(running.stop())


def session_hit_by(kind: str | None) -> int:
    """A session that the model says will be hit by this fault; as warm-up, so that nothing freezes."""
    stub = Stub.model_validate(FAULTY)
    for session in range(WARMUP_SESSION_BASE, WARMUP_SESSION_BASE + 1000):
        fault = answer_fault(stub, Key(stub.seed, session, 0))
        if (None if fault is None else fault.kind) == kind:
            return session
    raise AssertionError(kind)


async def test_a_planted_status_has_a_body(faulty: RunningStub) -> None:
    status, _, body = await chat(faulty.url, session_hit_by("status"), stream=True)
    assert status == 429
    assert json.loads(body)["error"]["type"] == "rate_limit_error"


@pytest.mark.parametrize("stream", [True, False])
async def test_a_truncated_answer_ends_in_the_middle(faulty: RunningStub, stream: bool) -> None:
    with pytest.raises(aiohttp.ClientPayloadError):
        await chat(faulty.url, session_hit_by("truncate"), stream=stream)


@pytest.mark.parametrize("stream", [True, False])
async def test_a_malformed_answer_does_not_parse(faulty: RunningStub, stream: bool) -> None:
    status, _, body = await chat(faulty.url, session_hit_by("malformed"), stream=stream)
    assert status == 200
    with pytest.raises(json.JSONDecodeError):
        _ = events(body) if stream else json.loads(body)


async def test_an_error_event_comes_in_mid_stream(faulty: RunningStub) -> None:
    _, _, body = await chat(faulty.url, session_hit_by("error"), stream=True)
    *tokens, error = events(body)
    assert len(tokens) == 8
    assert error["error"]["type"] == "server_error"


async def test_a_dropped_connection_has_no_headers(faulty: RunningStub) -> None:
    with pytest.raises(aiohttp.ServerDisconnectedError):
        await chat(faulty.url, session_hit_by("drop"), stream=True)


async def test_a_silent_gateway_never_answers(faulty: RunningStub) -> None:
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(chat(faulty.url, session_hit_by("silent"), stream=True), 0.5)


async def test_a_buffering_gateway_lets_everything_go_at_once(faulty: RunningStub) -> None:
    asked = {"model": "m", "stream": True, "messages": [{"role": "user", "content": "hi"}]}
    for kind, at_once in (("buffer", True), (None, False)):
        headers = {"traceparent": f"00-{trace_id(9)}-00f067aa0ba902b7-01", "tracestate": f"latprof={session_hit_by(kind)}.0"}
        async with (
            aiohttp.ClientSession() as client,
            client.post(f"{faulty.url}/v1/chat/completions", json=asked, headers=headers) as answer,
        ):
            first = await answer.content.readany()
            assert (first.count(b"data: ") > 16) is at_once
            assert len(events(first + await answer.read())) == 17


async def test_a_frozen_stage_stands_still_once(faulty: RunningStub) -> None:
    async def health_s() -> float:
        begun = time.monotonic()
        async with aiohttp.ClientSession() as client, client.get(f"{faulty.urls()['router']}/health") as answer:
            assert answer.status == 200
        return time.monotonic() - begun

    stub = Stub.model_validate(FAULTY)
    measured = next(session for session in range(1000) if answer_fault(stub, Key(stub.seed, session, 0)) is None)
    took = []
    for _ in range(2):
        request = asyncio.create_task(chat(faulty.url, measured, stream=True, max_tokens=1))
        await asyncio.sleep(0.1)
        took.append(await health_s())
        assert (await request)[0] == 200
    assert took[0] > 0.15
    assert took[1] < 0.15


async def test_an_asked_for_port_is_used_and_a_taken_one_is_named(tokenizer_file: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(UsageError, match=rf"port {port} for the stub's router cannot be used"):
            await start(Stub(), ports={"router": port}, tokenizer=tokenizer_file)
    async with await start(Stub(), ports={"router": port}, tokenizer=tokenizer_file) as running:
        assert running.ports["router"] == port
        assert running.died() == ""
    assert all(gone(pid) for pid in running.pids.values())
    with socket.socket() as again:
        again.bind(("127.0.0.1", port))


async def test_what_keeps_the_stack_from_starting_is_told(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no such file"):
        await start(Stub(), tokenizer=tmp_path / "none.json")
    broken = tmp_path / "tokenizer.json"
    broken.write_text("{}")
    with pytest.raises(StubStartError, match=r"the stub's gateway ended with 1:\n.*cannot be read as a tokenizer"):
        await start(Stub(), tokenizer=broken)


async def test_a_stage_that_dies_is_named(tokenizer_file: Path) -> None:
    async with await start(Stub(), tokenizer=tokenizer_file) as running:
        os.kill(running.pids["prefill"], signal.SIGKILL)
        await asyncio.sleep(0.1)
        assert running.died().startswith("prefill ended with -9")
        status, _, body = await chat(running.url, 1, max_tokens=1)
        assert status == 502
        assert "engine pool failed" in json.loads(body)["error"]["message"]


PARENT = """
import asyncio, json, sys
from pathlib import Path
from latprof.config import Stub
from latprof.stub.stack import start
async def main():
    running = await start(Stub(), "http://127.0.0.1:1", tokenizer=Path(sys.argv[1]))
    print(json.dumps([dict(running.ports), dict(running.pids)]), flush=True)
    await asyncio.sleep(60)
asyncio.run(main())
"""


def gone(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] == "Z"
    except FileNotFoundError:
        return True


def test_children_outlive_neither_a_killed_parent_nor_keep_its_ports(tokenizer_file: Path) -> None:
    with subprocess.Popen([sys.executable, "-c", PARENT, str(tokenizer_file)], stdout=subprocess.PIPE) as parent:
        assert parent.stdout is not None
        ports, pids = json.loads(parent.stdout.readline())
        assert not any(gone(pid) for pid in pids.values())
        os.kill(pids["gateway"], signal.SIGINT)  # a Ctrl-C is the parent's business
        time.sleep(0.1)
        assert not gone(pids["gateway"])
        parent.kill()
    deadline = time.monotonic() + 10
    while not all(gone(pid) for pid in pids.values()) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert [name for name, pid in pids.items() if not gone(pid)] == []
    for port in ports.values():
        with socket.socket() as again:
            again.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            again.bind(("127.0.0.1", port))
