"""What goes to a collector, against real sockets: taken, refused, too busy, gone."""

from __future__ import annotations

import asyncio
import gzip
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from contextlib import asynccontextmanager

import pytest
from aiohttp import web
from google.rpc.status_pb2 import Status  # type: ignore[import-untyped]
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceResponse

from latprof.errors import UsageError
from latprof.report.elsewhere.otlp_out import Collector, Delivered, Patience, read_collector, send_metrics, send_spans
from latprof.spans.otlp import decode_protobuf
from latprof.spans.span import Span, SpanKind

PROTOBUF = "application/x-protobuf"
QUICK = Patience(tries=4, first_wait_s=0.01, longest_wait_s=0.05, timeout_s=5)
SECRET = "topsecretvalue"


def spans(count: int) -> list[Span]:
    return [
        Span("a" * 32, f"{number:016x}", "", "chat m", SpanKind.CLIENT, 1, 2, {"n": number}, scope="latprof")
        for number in range(1, count + 1)
    ]


@asynccontextmanager
async def collector(answer: Callable[[web.Request], Awaitable[web.Response]]) -> AsyncIterator[str]:
    async def handle(request: web.Request) -> web.Response:
        return await answer(request)

    app = web.Application(client_max_size=2**24)
    app.router.add_route("*", "/{path:.*}", handle)
    runner = web.AppRunner(app, access_log=None, auto_decompress=False, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    try:
        yield f"http://127.0.0.1:{runner.addresses[0][1]}"
    finally:
        await runner.cleanup()


class Scripted:
    """Answers with the given statuses in turn, the last of them for ever; keeps what it took."""

    def __init__(self, *statuses: int, body: bytes = b"", content_type: str = PROTOBUF, headers: dict[str, str] | None = None) -> None:
        self.statuses = list(statuses)
        self.body, self.content_type, self.headers = body, content_type, headers or {}
        self.requests: list[web.Request] = []
        self.taken: list[list[Span]] = []

    async def __call__(self, request: web.Request) -> web.Response:
        body = await request.read()
        self.requests.append(request)
        status = self.statuses.pop(0) if len(self.statuses) > 1 else self.statuses[0]
        if status == 200 and request.path == "/v1/traces":
            self.taken.append(list(decode_protobuf(gzip.decompress(body))))
        return web.Response(status=status, body=self.body, content_type=self.content_type, headers=self.headers)


async def sent(answering: Scripted, some: Iterable[Span], patience: Patience = QUICK, headers: dict[str, str] | None = None) -> Delivered:
    async with collector(answering) as url:
        return await send_spans(Collector(url, headers or {}), some, patience)


async def refusal(answering: Scripted, some: Iterable[Span] = (), headers: dict[str, str] | None = None) -> str:
    with pytest.raises(UsageError) as raised:
        await sent(answering, some or spans(2), headers=headers)
    return str(raised.value)


async def test_batches_arrive_whole_and_in_order_on_one_connection() -> None:
    answering = Scripted(200)
    assert await sent(answering, iter(spans(2_500)), headers={"x-tenant": "t"}) == Delivered(2_500)
    assert [len(batch) for batch in answering.taken] == [1_000, 1_000, 500]
    assert [span for batch in answering.taken for span in batch] == spans(2_500)
    for request in answering.requests:
        assert request.path == "/v1/traces"
        assert request.content_type == PROTOBUF
        assert request.headers["content-encoding"] == "gzip"
        assert request.headers["x-tenant"] == "t"
    assert len({request.transport for request in answering.requests}) == 1


async def test_nothing_is_sent_of_nothing() -> None:
    answering = Scripted(200)
    assert await sent(answering, []) == Delivered(0)
    assert answering.requests == []


@pytest.mark.parametrize("status", [429, 502, 503, 504])
async def test_a_busy_collector_is_asked_again(status: int) -> None:
    answering = Scripted(status, status, 200)
    assert await sent(answering, spans(3)) == Delivered(3)
    assert len(answering.requests) == 3
    assert answering.taken == [spans(3)]


async def test_tries_are_bounded_and_the_text_says_how_far_it_came() -> None:
    answering = Scripted(200, 503)
    text = await refusal(answering, spans(1_500))
    assert len(answering.requests) == 1 + QUICK.tries
    assert "not taken after 4 tries (HTTP 503)" in text
    assert "1000 spans before it were taken" in text


async def test_a_collector_says_how_long_to_wait_and_is_not_believed_for_ever() -> None:
    loop = asyncio.get_running_loop()
    answering = Scripted(503, 200, headers={"Retry-After": "900"})
    began_s = loop.time()
    assert await sent(answering, spans(1), Patience(tries=2, first_wait_s=0.001, longest_wait_s=0.2)) == Delivered(1)
    assert loop.time() - began_s >= 0.2


@pytest.mark.parametrize(
    ("status", "remedy"),
    [
        (400, "see the collector's own log"),
        (401, "--otlp-header NAME=VARIABLE"),
        (403, "--otlp-header NAME=VARIABLE"),
        (404, "the base of its OTLP/HTTP address"),
        (308, "the address it redirects to"),
        (413, "see the collector's own log"),
        (500, "see the collector's own log"),
    ],
)
async def test_a_refusal_is_told_at_once_with_what_to_do(status: int, remedy: str) -> None:
    answering = Scripted(status, headers={"Location": "http://127.0.0.1:1/"} if status == 308 else {})
    text = await refusal(answering)
    assert len(answering.requests) == 1
    assert text.startswith("--otlp http://127.0.0.1:")
    assert f"HTTP {status}" in text
    assert remedy in text


@pytest.mark.parametrize("content_type", [PROTOBUF, "text/plain"])
async def test_what_the_collector_says_is_passed_on_harmless_and_without_secrets(content_type: str) -> None:
    said = f"wrong key {SECRET}, \x1b[2Jgone <script>"
    body = Status(message=said).SerializeToString() if content_type == PROTOBUF else said.encode()
    text = await refusal(Scripted(401, body=body, content_type=content_type), headers={"authorization": f"Bearer {SECRET}"})
    assert SECRET not in text
    assert "\x1b" not in text
    assert r"wrong key [redacted], \x1b[2Jgone <script>" in text


async def test_nobody_there() -> None:
    async with collector(Scripted(200)) as url:
        pass
    with pytest.raises(UsageError, match="not taken after 4 tries") as raised:
        await send_spans(Collector(url), spans(1), QUICK)
    assert "is a collector that takes OTLP over HTTP listening there?" in str(raised.value)
    assert "0 spans before it" in str(raised.value)


async def test_the_port_of_grpc_is_named_for_what_it_is() -> None:
    with pytest.raises(UsageError, match="4317 is the port of OTLP over gRPC"):
        await send_spans(Collector("http://127.0.0.254:4317"), spans(1), Patience(tries=1))


async def test_silence_ends() -> None:
    async def silent(_: web.Request) -> web.Response:
        await asyncio.sleep(30)
        return web.Response()

    async with collector(silent) as url:
        with pytest.raises(UsageError, match=r"no answer within 0\.2 s"):
            await send_spans(Collector(url), spans(1), Patience(tries=1, timeout_s=0.2))


async def test_a_part_that_was_dropped_is_counted() -> None:
    response = ExportTraceServiceResponse()
    response.partial_success.rejected_spans, response.partial_success.error_message = 3, "too old\x07"
    got = await sent(Scripted(200, body=response.SerializeToString()), spans(1_200))
    assert got == Delivered(1_200, 6, r"too old\x07")
    in_json = b'{"partialSuccess": {"rejectedSpans": "2", "errorMessage": "no"}}'
    assert await sent(Scripted(200, body=in_json, content_type="application/json"), spans(5)) == Delivered(5, 2, "no")


@pytest.mark.parametrize("body", [b"", b"ok", b"{}", b"[1]", b'{"partialSuccess": 3}'])
@pytest.mark.parametrize("content_type", [PROTOBUF, "application/json", "text/html"])
async def test_a_success_is_one_whatever_it_says(body: bytes, content_type: str) -> None:
    got = await sent(Scripted(200, body=body, content_type=content_type), spans(1))
    assert got.sent == 1


async def test_metrics_go_beside_the_traces() -> None:
    answering = Scripted(200)
    async with collector(answering) as url:
        assert (await send_metrics(Collector(url), b"body", QUICK)).rejected == 0
    assert [request.path for request in answering.requests] == ["/v1/metrics"]


# --- flags --------------------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("url", "base"),
    [
        ("http://127.0.0.1:4318", "http://127.0.0.1:4318"),
        ("http://127.0.0.1:4318/", "http://127.0.0.1:4318"),
        ("https://host/otlp/", "https://host/otlp"),
        ("https://host/otlp/v1/traces", "https://host/otlp"),
        ("https://host/v1/metrics", "https://host"),
        ("http://[::1]:4318", "http://[::1]:4318"),
    ],
)
def test_addresses(url: str, base: str) -> None:
    assert read_collector(url, (), {}).base == base


@pytest.mark.parametrize(
    "url", ["", "localhost:4318", "grpc://host:4317", "http://", "http://host:0", "http://host:x", "http://[::1", "\x1b[2J"]
)
def test_addresses_that_are_none(url: str) -> None:
    with pytest.raises(UsageError, match=r"^--otlp must be a collector's OTLP/HTTP address") as raised:
        read_collector(url, (), {})
    assert "\x1b" not in str(raised.value)


@pytest.mark.parametrize(
    "url", [f"http://user:{SECRET}@host", f"http://host/?key={SECRET}", f"http://host/#{SECRET}", f"ftp://u:{SECRET}@h"]
)
def test_no_address_with_a_secret_in_it(url: str) -> None:
    with pytest.raises(UsageError) as raised:
        read_collector(url, (), {})
    assert SECRET not in str(raised.value)


def test_headers_come_from_the_environment() -> None:
    found = read_collector("http://h", ("Authorization=TOKEN", "x-tenant = TENANT"), {"TOKEN": f" Bearer {SECRET} ", "TENANT": "7"})
    assert found.headers == {"authorization": f"Bearer {SECRET}", "x-tenant": "7"}
    assert SECRET not in repr(found)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        (f"authorization=Bearer {SECRET}", "wants NAME=VARIABLE"),
        (f"authorization: {SECRET}", "wants NAME=VARIABLE"),
        ("authorization", "wants NAME=VARIABLE"),
        ("=TOKEN", "wants NAME=VARIABLE"),
        ("x y=TOKEN", "wants NAME=VARIABLE"),
        ("x-key=ABSENT", "names ABSENT, which is not set or empty"),
        ("x-key=BROKEN", "the value of BROKEN holds characters"),
        ("content-type=TOKEN", "is set by latprof itself"),
    ],
)
def test_headers_that_cannot_be_sent(text: str, told: str) -> None:
    with pytest.raises(UsageError, match=told) as raised:
        read_collector("http://h", (text,), {"TOKEN": SECRET, "BROKEN": f"{SECRET}\r\nx: y"})
    assert SECRET not in str(raised.value)
