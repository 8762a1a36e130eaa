"""A hop that copies bytes unchanged and tells llama.cpp's ``timings`` as a span: LiteLLM drops them from the stream.

Run: ``python -m harness.chain.passthrough PORT UPSTREAM_PORT OTLP_GRPC_PORT``. Bytes are stamped, passed on, and only then looked at.
One SERVER span per request that carries a ``traceparent``, service ``llamacpp-passthrough``: first request byte to last response byte, an event
``first_token`` when the first non-empty delta came in from llama.cpp, and the timings as ``llamacpp.prompt_ms`` and so on.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import secrets
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import grpc
import httptools
import uvloop
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest, ExportTraceServiceResponse
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, KeyValue
from opentelemetry.proto.resource.v1.resource_pb2 import Resource
from opentelemetry.proto.trace.v1.trace_pb2 import ResourceSpans, ScopeSpans, Span

SERVICE = "llamacpp-passthrough"
_READ_BYTES = 1 << 16
_EXPORT_EVERY_S = 0.5
_TIMINGS = ("prompt_ms", "prompt_n", "cache_n", "predicted_ms", "predicted_n")
_DELTA_TEXTS = ("content", "reasoning_content", "tool_calls")


class Asked:
    """What a request says about itself; httptools calls the ``on_`` methods."""

    def __init__(self) -> None:
        self.path = ""
        self.traceparent = ""
        self._parser = Parser(httptools.HttpRequestParser(self))

    def read(self, chunk: bytes) -> None:
        """Look at a piece of the request."""
        self._parser.feed(chunk)

    def on_url(self, url: bytes) -> None:  # noqa: D102
        self.path += url.decode("latin-1")

    def on_header(self, name: bytes, value: bytes) -> None:  # noqa: D102
        if name.lower() == b"traceparent":
            self.traceparent = value.decode("latin-1")


class Answered:
    """What an answer says about itself: when its first token came, and llama.cpp's timings."""

    def __init__(self) -> None:
        self.first_token_ns: int | None = None
        self.timings: dict[str, float] = {}
        self.complete = False
        self._now_ns = 0
        self._rest = b""
        self._parser = Parser(httptools.HttpResponseParser(self))

    def read(self, chunk: bytes, now_ns: int) -> None:
        """Look at a piece of the answer that came at ``now_ns``."""
        self._now_ns = now_ns
        self._parser.feed(chunk)

    def on_body(self, body: bytes) -> None:  # noqa: D102
        *lines, self._rest = (self._rest + body).split(b"\n")
        for line in lines:
            if line.startswith(b"data: {"):
                self._read_event(json.loads(line[6:]))

    def on_message_complete(self) -> None:  # noqa: D102
        self.complete = True

    def _read_event(self, event: dict[str, Any]) -> None:
        deltas = [choice.get("delta", {}) for choice in event.get("choices", [])]
        if self.first_token_ns is None and any(delta.get(name) for delta in deltas for name in _DELTA_TEXTS):
            self.first_token_ns = self._now_ns
        self.timings = event.get("timings", self.timings)


class Parser:
    """A parser that gives up in silence: what cannot be read is still passed on."""

    def __init__(self, parser: httptools.HttpRequestParser | httptools.HttpResponseParser) -> None:
        self._parser = parser
        self._lost = False

    def feed(self, chunk: bytes) -> None:
        """Look at ``chunk``, unless something before it could not be read."""
        if self._lost:
            return
        try:
            self._parser.feed_data(chunk)
        except httptools.HttpParserError:
            self._lost = True


@dataclass(frozen=True, slots=True)
class Exchange:
    """One request and its answer, after they have passed."""

    start_ns: int
    end_ns: int
    asked: Asked
    answered: Answered


def span_of(exchange: Exchange) -> Span | None:
    """The exchange as a span under its caller's; None without a well-formed ``traceparent``."""
    version, _, rest = exchange.asked.traceparent.partition("-")
    trace_id, _, rest = rest.partition("-")
    parent_id = rest.partition("-")[0]
    if len(version) != 2 or len(trace_id) != 32 or len(parent_id) != 16:
        return None
    timings = exchange.answered.timings
    span = Span(
        trace_id=bytes.fromhex(trace_id),
        parent_span_id=bytes.fromhex(parent_id),
        span_id=secrets.token_bytes(8),
        name=exchange.asked.path,
        kind=Span.SPAN_KIND_SERVER,
        start_time_unix_nano=exchange.start_ns,
        end_time_unix_nano=exchange.end_ns,
        attributes=[_attribute(f"llamacpp.{key}", timings[key]) for key in _TIMINGS if key in timings],
    )
    if exchange.answered.first_token_ns is not None:
        span.events.add(name="first_token", time_unix_nano=exchange.answered.first_token_ns)
    return span


def _attribute(key: str, value: float) -> KeyValue:
    return KeyValue(key=key, value=AnyValue(int_value=value) if isinstance(value, int) else AnyValue(double_value=value))


class Exporter:
    """Sends spans in batches; a collector that is away costs nothing but the spans."""

    def __init__(self, port: int) -> None:
        self._spans: list[Span] = []
        self._channel = grpc.aio.insecure_channel(f"127.0.0.1:{port}")
        self._export = self._channel.unary_unary(
            "/opentelemetry.proto.collector.trace.v1.TraceService/Export",
            request_serializer=ExportTraceServiceRequest.SerializeToString,
            response_deserializer=ExportTraceServiceResponse.FromString,
        )

    def add(self, exchange: Exchange) -> None:
        """Send this one too, soon."""
        span = span_of(exchange)
        if span is not None:
            self._spans.append(span)

    async def run(self) -> None:
        """Export for ever."""
        resource = Resource(attributes=[KeyValue(key="service.name", value=AnyValue(string_value=SERVICE))])
        while True:
            await asyncio.sleep(_EXPORT_EVERY_S)
            spans, self._spans = self._spans, []
            if spans:
                batch = ResourceSpans(resource=resource, scope_spans=[ScopeSpans(spans=spans)])
                with contextlib.suppress(grpc.aio.AioRpcError):
                    await self._export(ExportTraceServiceRequest(resource_spans=[batch]), timeout=5)


class Relay:
    """Passes requests on, each over an upstream connection of its own.

    llama.cpp promises ``Keep-Alive`` and hangs up after every streamed answer. Passed on as it is, LiteLLM now and then writes into the closing
    connection and answers 500 (7 of 400 requests at 4 at once); kept here, its pool stays good.
    """

    def __init__(self, upstream_port: int, done: Callable[[Exchange], None]) -> None:
        self._upstream_port = upstream_port
        self._done = done

    async def accepted(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Serve one client connection, request after request."""
        with contextlib.suppress(OSError):  # a caller or upstream that goes away: the other side sees the same
            while (first := await reader.read(_READ_BYTES)) and await self._exchange(first, reader, writer):
                pass
        writer.close()

    async def _exchange(self, first: bytes, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        """Pass one request and its answer on; whether the answer came to its end."""
        start_ns, asked, answered = time.time_ns(), Asked(), Answered()
        upstream_reader, upstream_writer = await asyncio.open_connection("127.0.0.1", self._upstream_port)
        upstream_writer.write(first)
        asked.read(first)
        asking = asyncio.create_task(_pass_on_request(reader, upstream_writer, asked))
        try:
            await _pass_on_answer(upstream_reader, writer, answered)
        finally:
            asking.cancel()
            await asyncio.wait([asking])  # two readers of one stream are an error, even for an instant
            upstream_writer.close()
            self._done(Exchange(start_ns, time.time_ns(), asked, answered))
        return answered.complete


async def _pass_on_request(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, asked: Asked) -> None:
    """The rest of the request; a caller that hangs up hangs up on the upstream as well, so that it stops generating."""
    with contextlib.suppress(OSError):
        while chunk := await reader.read(_READ_BYTES):
            writer.write(chunk)
            asked.read(chunk)
            await writer.drain()
    writer.close()


async def _pass_on_answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, answered: Answered) -> None:
    while not answered.complete and (chunk := await reader.read(_READ_BYTES)):
        now_ns = time.time_ns()
        writer.write(chunk)
        answered.read(chunk, now_ns)
        await writer.drain()


async def serve(port: int, upstream_port: int, otlp_grpc_port: int) -> None:
    """Pass everything on from ``port`` to ``upstream_port`` until the process ends."""
    exporter = Exporter(otlp_grpc_port)
    async with await asyncio.start_server(Relay(upstream_port, exporter.add).accepted, "127.0.0.1", port):
        await exporter.run()


if __name__ == "__main__":
    uvloop.run(serve(*map(int, sys.argv[1:4])))
