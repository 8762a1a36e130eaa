"""A minimal OTLP/gRPC collector: keeps every span it is sent, as plain JSON values. Independent of latprof's own receiver."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from types import TracebackType
from typing import Any, Self

import grpc
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest, ExportTraceServiceResponse
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, KeyValue
from opentelemetry.proto.trace.v1.trace_pb2 import Span

_SERVICE = "opentelemetry.proto.collector.trace.v1.TraceService"


class Collector:
    """A context manager that listens on ``port`` and gathers ``spans``, in order of arrival."""

    def __init__(self, port: int = 0) -> None:
        self._lock = threading.Lock()
        self._spans: list[dict[str, Any]] = []
        self._server = grpc.server(ThreadPoolExecutor(max_workers=2))
        method = grpc.unary_unary_rpc_method_handler(
            self._take, ExportTraceServiceRequest.FromString, ExportTraceServiceResponse.SerializeToString
        )
        self._server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(_SERVICE, {"Export": method}),))
        self.port: int = self._server.add_insecure_port(f"127.0.0.1:{port}")

    def __enter__(self) -> Self:
        self._server.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._server.stop(grace=None).wait()

    @property
    def spans(self) -> list[dict[str, Any]]:
        """What has come so far."""
        with self._lock:
            return list(self._spans)

    def wait_for(self, enough: Callable[[list[dict[str, Any]]], bool], timeout_s: float) -> list[dict[str, Any]]:
        """The spans once there are ``enough``, or what there is after ``timeout_s``."""
        deadline = time.monotonic() + timeout_s
        while not enough(self.spans) and time.monotonic() < deadline:
            time.sleep(0.1)
        return self.spans

    def _take(self, request: ExportTraceServiceRequest, _context: grpc.ServicerContext) -> ExportTraceServiceResponse:
        arrived_ns = time.time_ns()
        spans = [{**span, "arrived_unix_ns": arrived_ns} for span in spans_in(request)]
        with self._lock:
            self._spans += spans
        return ExportTraceServiceResponse()


def spans_in(request: ExportTraceServiceRequest) -> Iterable[dict[str, Any]]:
    """Every span of an export as JSON values."""
    for resource_spans in request.resource_spans:
        resource = _plain(resource_spans.resource.attributes)
        for scope_spans in resource_spans.scope_spans:
            for span in scope_spans.spans:
                yield {**_span(span), "resource": resource, "scope": scope_spans.scope.name}


def _span(span: Span) -> dict[str, Any]:
    return {
        "trace_id": span.trace_id.hex(),
        "span_id": span.span_id.hex(),
        "parent_id": span.parent_span_id.hex(),
        "name": span.name,
        "kind": span.kind,
        "start_unix_ns": span.start_time_unix_nano,
        "end_unix_ns": span.end_time_unix_nano,
        "attributes": _plain(span.attributes),
        "events": [{"name": e.name, "unix_ns": e.time_unix_nano, "attributes": _plain(e.attributes)} for e in span.events],
        "status": span.status.code,
    }


def _plain(attributes: Iterable[KeyValue]) -> dict[str, Any]:
    return {attribute.key: _value(attribute.value) for attribute in attributes}


def _value(value: AnyValue) -> Any:
    kind = value.WhichOneof("value")
    if kind == "array_value":
        return [_value(each) for each in value.array_value.values]
    if kind == "kvlist_value":
        return _plain(value.kvlist_value.values)
    if kind == "bytes_value":
        return value.bytes_value.hex()
    return getattr(value, kind) if kind else None
