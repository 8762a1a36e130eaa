from __future__ import annotations

import base64
import contextlib
import json
from typing import Any

import pytest
from google.protobuf.json_format import MessageToDict  # type: ignore[import-untyped]
from hypothesis import given
from hypothesis import strategies as st
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, ArrayValue, KeyValue, KeyValueList

from latprof.spans.otlp import MalformedOtlpError, decode_json, decode_protobuf
from latprof.spans.span import Span, SpanEvent, SpanKind

TRACE = "5b8efff798038103d269b633813fc60c"
SPAN = "eee19b7ec3c1b174"
PARENT = "eee19b7ec3c1b173"

# The example of the OTLP specification, with every kind of value added.
EXAMPLE: dict[str, Any] = {
    "resourceSpans": [
        {
            "resource": {"attributes": [{"key": "service.name", "value": {"stringValue": "my.service"}}], "fromTheFuture": 1},
            "scopeSpans": [
                {
                    "scope": {"name": "my.library", "version": "1.0.0"},
                    "spans": [
                        {
                            "traceId": TRACE.upper(),
                            "spanId": SPAN.upper(),
                            "parentSpanId": PARENT,
                            "name": "I'm a server span",
                            "startTimeUnixNano": "1544712660000000000",
                            "endTimeUnixNano": 1544712661000000001,
                            "kind": 2,
                            "attributes": [
                                {"key": "text", "value": {"stringValue": "some value"}},
                                {"key": "small", "value": {"intValue": 3}},
                                {"key": "large", "value": {"intValue": "-9223372036854775808"}},
                                {"key": "fraction", "value": {"doubleValue": 0.25}},
                                {"key": "nan", "value": {"doubleValue": "NaN"}},
                                {"key": "yes", "value": {"boolValue": True}},
                                {"key": "bytes", "value": {"bytesValue": "AQL/"}},
                                {"key": "list", "value": {"arrayValue": {"values": [{"intValue": "1"}, {"stringValue": "b"}]}}},
                                {"key": "map", "value": {"kvlistValue": {"values": [{"key": "k", "value": {"boolValue": False}}]}}},
                                {"key": "none", "value": {}},
                            ],
                            "events": [{"timeUnixNano": "1544712660500000000", "name": "first_chunk", "attributes": []}],
                            "status": {"code": 1},
                        }
                    ],
                }
            ],
        }
    ]
}
WANTED = Span(
    trace_id=TRACE,
    span_id=SPAN,
    parent_id=PARENT,
    name="I'm a server span",
    kind=SpanKind.SERVER,
    start_unix_ns=1544712660000000000,
    end_unix_ns=1544712661000000001,
    attributes={
        "text": "some value",
        "small": 3,
        "large": -(2**63),
        "fraction": 0.25,
        "nan": "nan",
        "yes": True,
        "bytes": "0102ff",
        "list": '[1,"b"]',
        "map": '{"k":false}',
        "none": "",
    },
    events=(SpanEvent("first_chunk", 1544712660500000000),),
    resource={"service.name": "my.service"},
    scope="my.library",
)


def with_span(**changes: Any) -> bytes:
    example = json.loads(json.dumps(EXAMPLE))
    example["resourceSpans"][0]["scopeSpans"][0]["spans"][0].update(changes)
    return json.dumps(example).encode()


def the_span(body: bytes) -> Span:
    (span,) = decode_json(body)
    return span


def protobuf_request() -> ExportTraceServiceRequest:
    request = ExportTraceServiceRequest()
    of_resource = request.resource_spans.add()
    of_resource.resource.attributes.append(KeyValue(key="service.name", value=AnyValue(string_value="my.service")))
    of_scope = of_resource.scope_spans.add()
    of_scope.scope.name = "my.library"
    span = of_scope.spans.add(
        trace_id=bytes.fromhex(TRACE),
        span_id=bytes.fromhex(SPAN),
        parent_span_id=bytes.fromhex(PARENT),
        name=WANTED.name,
        kind=2,
        start_time_unix_nano=WANTED.start_unix_ns,
        end_time_unix_nano=WANTED.end_unix_ns,
    )
    for key, value in {
        "text": AnyValue(string_value="some value"),
        "small": AnyValue(int_value=3),
        "large": AnyValue(int_value=-(2**63)),
        "fraction": AnyValue(double_value=0.25),
        "nan": AnyValue(double_value=float("nan")),
        "yes": AnyValue(bool_value=True),
        "bytes": AnyValue(bytes_value=b"\x01\x02\xff"),
        "list": AnyValue(array_value=ArrayValue(values=[AnyValue(int_value=1), AnyValue(string_value="b")])),
        "map": AnyValue(kvlist_value=KeyValueList(values=[KeyValue(key="k", value=AnyValue(bool_value=False))])),
        "none": AnyValue(),
    }.items():
        span.attributes.append(KeyValue(key=key, value=value))
    span.events.add(time_unix_nano=WANTED.events[0].unix_ns, name="first_chunk")
    return request


def test_protobuf_and_json_say_the_same() -> None:
    assert list(decode_protobuf(protobuf_request().SerializeToString())) == [WANTED]
    assert the_span(json.dumps(EXAMPLE).encode()) == WANTED


def test_a_generic_json_parser_would_have_other_ids() -> None:
    """Why the JSON is read by hand: protobuf's mapping writes ids in base64, OTLP in hex."""
    generic = MessageToDict(protobuf_request())
    spans = generic["resourceSpans"][0]["scopeSpans"][0]["spans"]
    assert spans[0]["traceId"] == base64.b64encode(bytes.fromhex(TRACE)).decode()
    with pytest.raises(MalformedOtlpError, match="not base64"):
        list(decode_json(json.dumps(generic).encode()))


def test_an_empty_request_holds_no_spans() -> None:
    assert list(decode_protobuf(b"")) == []
    assert list(decode_json(b"{}")) == []
    assert list(decode_json(b'{"resourceSpans":[{"scopeSpans":null}]}')) == []


@pytest.mark.parametrize("parent", ["", "0000000000000000", None])
def test_a_root_has_no_parent(parent: str | None) -> None:
    assert the_span(with_span(parentSpanId=parent)).parent_id == ""


@pytest.mark.parametrize(("kind", "wanted"), [("SPAN_KIND_CLIENT", 3), ("3", 3), (None, 0), (77, 0), (-1, 0)])
def test_kinds_by_number_and_by_name(kind: object, wanted: int) -> None:
    assert the_span(with_span(kind=kind)).kind == wanted


@pytest.mark.parametrize(
    "changes",
    [
        {"traceId": ""},
        {"traceId": TRACE[:-2]},
        {"traceId": 12},
        {"traceId": "é" * 32},
        {"spanId": "xyz"},
        {"spanId": None},
        {"parentSpanId": "abcd"},
        {"name": ["a"]},
        {"kind": "SPAN_KIND_OTHER"},
        {"kind": True},
        {"startTimeUnixNano": -1},
        {"startTimeUnixNano": "9223372036854775808"},
        {"startTimeUnixNano": "1" * 5000},
        {"endTimeUnixNano": 1.5e18},
        {"endTimeUnixNano": "soon"},
        {"attributes": {"key": "a"}},
        {"attributes": ["a"]},
        {"attributes": [{"key": "a", "value": "bare"}]},
        {"attributes": [{"key": "a", "value": {"intValue": 2**63}}]},
        {"attributes": [{"key": "a", "value": {"boolValue": "true"}}]},
        {"attributes": [{"key": "a", "value": {"bytesValue": "***"}}]},
        {"attributes": [{"key": "a", "value": {"doubleValue": "many"}}]},
        {"attributes": [{"key": "a", "value": {"arrayValue": []}}]},
        {"events": [{"timeUnixNano": {}}]},
    ],
    ids=repr,
)
def test_malformed_json_spans(changes: dict[str, Any]) -> None:
    with pytest.raises(MalformedOtlpError):
        the_span(with_span(**changes))


@pytest.mark.parametrize(
    "body", [b"", b"[]", b"1", b"nonsense", b'{"resourceSpans":{}}', b'{"resourceSpans":[[]]}', b"\xff\xfe", b"[" * 5000]
)
def test_bodies_that_are_no_json_request(body: bytes) -> None:
    with pytest.raises(MalformedOtlpError):
        list(decode_json(body))


def test_values_nested_without_end_are_refused() -> None:
    value: dict[str, Any] = {"intValue": 1}
    for _ in range(200):
        value = {"arrayValue": {"values": [value]}}
    with pytest.raises(MalformedOtlpError, match="deep"):
        the_span(with_span(attributes=[{"key": "a", "value": value}]))


@pytest.mark.parametrize("body", [b"nonsense", b"\x0a\xff", b"\x00", protobuf_request().SerializeToString()[:-3]])
def test_bodies_that_are_no_protobuf_request(body: bytes) -> None:
    with pytest.raises(MalformedOtlpError):
        list(decode_protobuf(body))


def test_protobuf_ids_and_stamps_that_cannot_be() -> None:
    for field, value in (("trace_id", b"short"), ("span_id", b""), ("parent_span_id", b"\x01"), ("end_time_unix_nano", 2**63)):
        request = protobuf_request()
        setattr(request.resource_spans[0].scope_spans[0].spans[0], field, value)
        with pytest.raises(MalformedOtlpError, match=field):
            list(decode_protobuf(request.SerializeToString()))


def test_an_error_does_not_quote_what_it_was_sent() -> None:
    with pytest.raises(MalformedOtlpError) as raised:
        the_span(with_span(traceId="sk-very-secret"))
    assert "secret" not in str(raised.value)


@given(st.binary(max_size=200))
def test_any_bytes_decode_or_raise_our_own_error(body: bytes) -> None:
    for decode in (decode_protobuf, decode_json):
        with contextlib.suppress(MalformedOtlpError):
            list(decode(body))


@given(st.data())
def test_a_damaged_request_decodes_or_raises_our_own_error(data: st.DataObject) -> None:
    for decode, body in ((decode_protobuf, protobuf_request().SerializeToString()), (decode_json, json.dumps(EXAMPLE).encode())):
        at = data.draw(st.integers(0, len(body) - 1))
        damaged = body[:at] + data.draw(st.binary(max_size=4)) + body[at + data.draw(st.integers(0, 8)) :]
        with contextlib.suppress(MalformedOtlpError):
            list(decode(damaged))


_json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=8,
)


@given(field=st.sampled_from([*EXAMPLE["resourceSpans"][0]["scopeSpans"][0]["spans"][0]]), value=_json_values)
def test_any_value_in_any_field_decodes_or_raises_our_own_error(field: str, value: object) -> None:
    with contextlib.suppress(MalformedOtlpError):
        the_span(with_span(**{field: value}))
