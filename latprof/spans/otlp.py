"""OTLP trace requests, in protobuf and in JSON, as spans. Pure: bytes in, `Span` values out.

The JSON form is read by hand: OTLP writes ids in hex where protobuf's own JSON mapping has base64, so a generic parser mis-decodes them. 64-bit
integers may be numbers or text, enums are numbers (names are read as well), keys are lowerCamelCase, unknown keys are ignored.
"""

from __future__ import annotations

import base64
import binascii
import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, Final

import orjson
from google.protobuf.message import DecodeError  # type: ignore[import-untyped]
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from latprof.spans.span import Scalar, Span, SpanEvent, SpanKind

_TRACE_ID_BYTES = 16
_SPAN_ID_BYTES = 8
_INT64_MAX = 2**63 - 1
# Values inside values. Deeper than any exporter writes, far below Python's recursion limit.
_DEEPEST = 64
_KINDS = {f"SPAN_KIND_{kind.name}": int(kind) for kind in SpanKind}


class MalformedOtlpError(ValueError):
    """Bytes that are not an OTLP trace request. The text says what was wanted, never what a span's values were."""


def decode_protobuf(body: bytes) -> Iterator[Span]:
    """The spans of a binary ``ExportTraceServiceRequest``, in order.

    Raises:
        MalformedOtlpError: not such a message, or an id or a time stamp in it that cannot be.
    """
    try:
        request = ExportTraceServiceRequest.FromString(body)
    except DecodeError:
        raise MalformedOtlpError(f"not an ExportTraceServiceRequest in protobuf ({len(body)} bytes)") from None
    for of_resource in request.resource_spans:
        resource = _attributes(of_resource.resource.attributes)
        for of_scope in of_resource.scope_spans:
            for span in of_scope.spans:
                yield _span(span, resource, of_scope.scope.name)


def _span(span: Any, resource: Mapping[str, Scalar], scope: str) -> Span:
    return Span(
        trace_id=_id("trace_id", span.trace_id, _TRACE_ID_BYTES),
        span_id=_id("span_id", span.span_id, _SPAN_ID_BYTES),
        parent_id=_parent("parent_span_id", span.parent_span_id),
        name=span.name,
        kind=_known_kind(span.kind),
        start_unix_ns=_stamp("start_time_unix_nano", span.start_time_unix_nano),
        end_unix_ns=_stamp("end_time_unix_nano", span.end_time_unix_nano),
        attributes=_attributes(span.attributes),
        events=tuple(SpanEvent(e.name, _stamp("time_unix_nano", e.time_unix_nano), _attributes(e.attributes)) for e in span.events),
        resource=resource,
        scope=scope,
    )


def _attributes(pairs: Iterable[Any]) -> dict[str, Scalar]:
    return {pair.key: _scalar(_value(pair.value)) for pair in pairs}


def _value(value: Any) -> Any:
    """A protobuf ``AnyValue`` as the JSON value it stands for. Protobuf's parser has bounded the depth."""
    kind = value.WhichOneof("value")
    if kind is None:
        return None
    if kind == "array_value":
        return [_value(item) for item in value.array_value.values]
    if kind == "kvlist_value":
        return {pair.key: _value(pair.value) for pair in value.kvlist_value.values}
    plain = getattr(value, kind)
    return plain.hex() if kind == "bytes_value" else plain


def decode_json(body: bytes) -> Iterator[Span]:
    """The spans of an ``ExportTraceServiceRequest`` in OTLP's JSON, in order.

    Raises:
        MalformedOtlpError: not JSON, or not of that shape.
    """
    try:
        request = orjson.loads(body)
    except orjson.JSONDecodeError:
        raise MalformedOtlpError(f"not JSON ({len(body)} bytes)") from None
    for of_resource in _list(_object("the request", request), "resourceSpans"):
        resource = _json_attributes(_object("resource", of_resource.get("resource")))
        for of_scope in _list(of_resource, "scopeSpans"):
            scope = _text(_object("scope", of_scope.get("scope")), "name")
            for span in _list(of_scope, "spans"):
                yield _json_span(span, resource, scope)


def _json_span(span: Mapping[str, Any], resource: Mapping[str, Scalar], scope: str) -> Span:
    return Span(
        trace_id=_id("traceId", _hex(span, "traceId"), _TRACE_ID_BYTES),
        span_id=_id("spanId", _hex(span, "spanId"), _SPAN_ID_BYTES),
        parent_id=_parent("parentSpanId", _hex(span, "parentSpanId")),
        name=_text(span, "name"),
        kind=_json_kind(span.get("kind")),
        start_unix_ns=_stamp("startTimeUnixNano", _int("startTimeUnixNano", span.get("startTimeUnixNano"))),
        end_unix_ns=_stamp("endTimeUnixNano", _int("endTimeUnixNano", span.get("endTimeUnixNano"))),
        attributes=_json_attributes(span),
        events=tuple(_json_event(event) for event in _list(span, "events")),
        resource=resource,
        scope=scope,
    )


def _json_event(event: Mapping[str, Any]) -> SpanEvent:
    stamp_ns = _stamp("timeUnixNano", _int("timeUnixNano", event.get("timeUnixNano")))
    return SpanEvent(_text(event, "name"), stamp_ns, _json_attributes(event))


def _json_attributes(holder: Mapping[str, Any]) -> dict[str, Scalar]:
    return {_text(pair, "key"): _scalar(_json_value(pair.get("value"))) for pair in _list(holder, "attributes")}


def _json_value(value: object, depth: int = 0) -> Any:
    """OTLP's JSON wrapping of a value (``{"intValue": "3"}``) taken off."""
    if depth > _DEEPEST:
        raise MalformedOtlpError(f"an attribute value nests more than {_DEEPEST} deep")
    held = _object("value", value)
    for kind, read in _JSON_PLAIN.items():
        if held.get(kind) is not None:
            return read(held)
    if "arrayValue" in held:
        return [_json_value(item, depth + 1) for item in _list(_object("arrayValue", held["arrayValue"]), "values")]
    if "kvlistValue" in held:
        pairs = _list(_object("kvlistValue", held["kvlistValue"]), "values")
        return {_text(pair, "key"): _json_value(pair.get("value"), depth + 1) for pair in pairs}
    return None


def _json_bool(held: Mapping[str, Any]) -> bool:
    value = held["boolValue"]
    if not isinstance(value, bool):
        raise MalformedOtlpError(f"boolValue must be true or false, got {_kind_of(value)}")
    return value


def _json_int(held: Mapping[str, Any]) -> int:
    value = _int("intValue", held["intValue"])
    if not -_INT64_MAX - 1 <= value <= _INT64_MAX:
        raise MalformedOtlpError("intValue must fit 64 bits")
    return value


def _json_double(held: Mapping[str, Any]) -> float:
    value = held["doubleValue"]
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        raise MalformedOtlpError(f"doubleValue must be a number, got {_kind_of(value)}")
    try:
        return float(value)
    except ValueError:
        raise MalformedOtlpError("doubleValue must be a number, got another text") from None


def _json_bytes(held: Mapping[str, Any]) -> str:
    try:
        return base64.b64decode(_text(held, "bytesValue"), validate=True).hex()
    except ValueError:
        raise MalformedOtlpError("bytesValue must be base64") from None


_JSON_PLAIN: Final[dict[str, Callable[[Mapping[str, Any]], Scalar]]] = {
    "stringValue": lambda held: _text(held, "stringValue"),
    "boolValue": _json_bool,
    "intValue": _json_int,
    "doubleValue": _json_double,
    "bytesValue": _json_bytes,
}


def _json_kind(value: object) -> int:
    if value is None:
        return SpanKind.UNSPECIFIED
    if isinstance(value, str) and value in _KINDS:
        return _KINDS[value]
    return _known_kind(_int("kind", value))


def _known_kind(kind: int) -> int:
    """OTLP's enums are open: a number from a later version is a kind we do not know."""
    return kind if 0 <= kind <= SpanKind.CONSUMER else SpanKind.UNSPECIFIED


def _scalar(value: Any) -> Scalar:
    """Lists and maps as JSON text; no value as empty text; NaN and infinities, which JSON cannot write, as text."""
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    if isinstance(value, str | bool | int | float):
        return value
    return "" if value is None else orjson.dumps(value).decode()


def _id(field: str, value: bytes, wanted: int) -> str:
    if len(value) != wanted:
        raise MalformedOtlpError(f"{field} must be {wanted} bytes ({2 * wanted} hex digits in JSON), got {len(value)} bytes")
    return value.hex()


def _parent(field: str, value: bytes) -> str:
    """Empty for a root; some senders write a root's parent as zeros."""
    return _id(field, value, _SPAN_ID_BYTES) if any(value) else ""


def _hex(holder: Mapping[str, Any], key: str) -> bytes:
    try:
        return binascii.unhexlify(_text(holder, key))
    except ValueError:
        raise MalformedOtlpError(f"{key} must be hex digits (OTLP's JSON has hex ids, not base64)") from None


def _stamp(field: str, value: int) -> int:
    if not 0 <= value <= _INT64_MAX:
        raise MalformedOtlpError(f"{field} must be Unix nanoseconds below 2**63")
    return value


def _int(field: str, value: object) -> int:
    """A JSON integer, or text of one; protobuf leaves out what is 0."""
    if value is None:
        return 0
    if isinstance(value, int) and not isinstance(value, bool):
        return value
    # 20 characters hold every 64-bit integer; int() on millions of digits is slow.
    if isinstance(value, str) and len(value) <= 20 and value.isascii() and value.removeprefix("-").isdigit():
        return int(value)
    raise MalformedOtlpError(f"{field} must be an integer of 64 bits or text of one, got {_kind_of(value)}")


def _text(holder: Mapping[str, Any], key: str) -> str:
    value = holder.get(key)
    if value is None:
        return ""
    if not isinstance(value, str):
        raise MalformedOtlpError(f"{key} must be text, got {_kind_of(value)}")
    return value


def _list(holder: Mapping[str, Any], key: str) -> list[dict[str, Any]]:
    value = holder.get(key)
    if value is None:
        return []
    if not isinstance(value, list):
        raise MalformedOtlpError(f"{key} must be a list, got {_kind_of(value)}")
    return [_object(f"each of {key}", item) for item in value]


def _object(what: str, value: object) -> dict[str, Any]:
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise MalformedOtlpError(f"{what} must be an object, got {_kind_of(value)}")
    return value


def _kind_of(value: object) -> str:
    return {str: "other text", bool: "a boolean", int: "a number", float: "a fraction", list: "a list", dict: "an object"}.get(
        type(value), type(value).__name__
    )
