"""Spans as an OTLP trace request in protobuf: the inverse of `latprof.spans.otlp.decode_protobuf`.

A span that has ``error.type`` gets the status ERROR, with ``error.message`` as its description where it has that too.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from itertools import groupby
from typing import Any

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, KeyValue
from opentelemetry.proto.trace.v1.trace_pb2 import Status

from latprof.spans.span import Scalar, Span

_INT64_MAX = 2**63 - 1


def encode_protobuf(spans: Iterable[Span], scope_version: str = "") -> bytes:
    """A binary ``ExportTraceServiceRequest`` of ``spans``, in their order; neighbours of one resource and scope share them."""
    request = ExportTraceServiceRequest()
    for (_, scope), group in groupby(spans, lambda span: (id(span.resource), span.scope)):
        held = list(group)
        of_resource = request.resource_spans.add()
        of_resource.resource.attributes.extend(key_values(held[0].resource))
        of_scope = of_resource.scope_spans.add()
        of_scope.scope.name = clean(scope)
        of_scope.scope.version = scope_version
        for span in held:
            _fill(of_scope.spans.add(), span)
    body: bytes = request.SerializeToString()
    return body


def _fill(into: Any, span: Span) -> None:
    into.trace_id = bytes.fromhex(span.trace_id)
    into.span_id = bytes.fromhex(span.span_id)
    into.parent_span_id = bytes.fromhex(span.parent_id)
    into.name = clean(span.name)
    into.kind = span.kind
    into.start_time_unix_nano = span.start_unix_ns
    into.end_time_unix_nano = span.end_unix_ns
    into.attributes.extend(key_values(span.attributes))
    for event in span.events:
        into.events.add(name=clean(event.name), time_unix_nano=event.unix_ns, attributes=key_values(event.attributes))
    if "error.type" in span.attributes:
        into.status.code = Status.STATUS_CODE_ERROR
        into.status.message = clean(str(span.attributes.get("error.message", "")))


def key_values(attributes: Mapping[str, Scalar]) -> list[Any]:
    """Attributes in protobuf, in their order."""
    return [KeyValue(key=clean(key), value=_value(value)) for key, value in attributes.items()]


def _value(value: Scalar) -> Any:
    if isinstance(value, bool):
        return AnyValue(bool_value=value)
    if isinstance(value, int) and -_INT64_MAX - 1 <= value <= _INT64_MAX:
        return AnyValue(int_value=value)
    if isinstance(value, float):
        return AnyValue(double_value=value)
    return AnyValue(string_value=clean(str(value)))


def clean(text: str) -> str:
    """``text`` as protobuf takes it: half a surrogate pair, as a JSON escape can bring, is written out."""
    return text.encode("utf-8", "backslashreplace").decode()
