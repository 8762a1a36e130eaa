from __future__ import annotations

import asyncio
import gzip
import http.server
import json
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from stub_client import PROMPT, bring_up, chat, events, trace_id
from tokenizers import Tokenizer

from latprof.config import STAGES
from latprof.stub.stack import RunningStub

pytestmark = pytest.mark.live

MS = 1_000_000
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


@pytest.fixture(scope="module")
def truth(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("truth")


@pytest.fixture(scope="module")
def stack(sink: Sink, truth: Path, tokenizer_file: Path) -> Iterator[RunningStub]:
    running = bring_up({"plant": PLANTS}, tokenizer_file, otlp_http_endpoint=sink.url, truth=truth)
    yield running
    asyncio.run(running.stop())


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
