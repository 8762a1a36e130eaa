"""Requests as exporters send them, against a receiver's real sockets."""

from __future__ import annotations

import http.client
import time
from collections.abc import Iterable, Mapping
from pathlib import Path

import grpc
import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, KeyValue

from latprof.spans.receiver import Receiver
from latprof.spans.store import Spans, load

PREFIX = "00c0ffee00c0ffee"
PROTOBUF = "application/x-protobuf"
JSON = "application/json"
LIMIT = 20 * 1024 * 1024
EXPORT = "/opentelemetry.proto.collector.{}/Export"
SERVER = 2
INTERNAL = 1


def trace_id(number: int) -> str:
    return f"{PREFIX}{number:016x}"


def export_request(
    *ids: tuple[str, int], service: str = "gateway", kind: int = SERVER, parent: int = 0, attributes: Mapping[str, str] | None = None
) -> ExportTraceServiceRequest:
    request = ExportTraceServiceRequest()
    of_resource = request.resource_spans.add()
    of_resource.resource.attributes.append(KeyValue(key="service.name", value=AnyValue(string_value=service)))
    spans = of_resource.scope_spans.add().spans
    for its_trace, number in ids:
        span = spans.add(
            trace_id=bytes.fromhex(its_trace),
            span_id=number.to_bytes(8, "big"),
            parent_span_id=parent.to_bytes(8, "big") if parent else b"",
            name="call",
            kind=kind,
            start_time_unix_nano=10,
            end_time_unix_nano=20,
        )
        span.attributes.extend(KeyValue(key=key, value=AnyValue(string_value=value)) for key, value in (attributes or {}).items())
    return request


def post(
    receiver: Receiver,
    body: bytes | Iterable[bytes],
    content_type: str = PROTOBUF,
    path: str = "/v1/traces",
    *,
    method: str = "POST",
    **headers: str,
) -> tuple[int, str, bytes]:
    connection = http.client.HTTPConnection("127.0.0.1", receiver.http_port, timeout=20)
    try:
        sent = {"Content-Type": content_type, **{name.replace("_", "-"): value for name, value in headers.items()}}
        connection.request(method, path, body, sent, encode_chunked="Transfer-Encoding" in sent)
        response = connection.getresponse()
        return response.status, response.headers.get_content_type(), response.read()
    finally:
        connection.close()


def call(receiver: Receiver, body: bytes, service: str = "trace.v1.TraceService", compression: grpc.Compression | None = None) -> bytes:
    with grpc.insecure_channel(f"127.0.0.1:{receiver.grpc_port}") as channel:
        export = channel.unary_unary(EXPORT.format(service))
        answer: bytes = export(body, timeout=20, compression=compression)
        return answer


def refused(receiver: Receiver, body: bytes, compression: grpc.Compression | None = None) -> grpc.StatusCode:
    with pytest.raises(grpc.RpcError) as raised:
        call(receiver, body, compression=compression)
    code: grpc.StatusCode = raised.value.code()
    return code


def on_disk(receiver: Receiver, folder: Path, its_trace: str) -> Spans:
    """The spans of a live run folder, once ``its_trace`` is among them."""
    until = time.monotonic() + 20
    while time.monotonic() < until:
        spans = load(folder)
        if spans.for_trace(its_trace):
            return spans
        time.sleep(0.02)
    raise AssertionError(f"{its_trace} never reached the disk: {receiver.stats()}")


def gone(pid: int) -> bool:
    """Ended, whether or not anybody has collected it."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except (FileNotFoundError, ProcessLookupError):
        return True
