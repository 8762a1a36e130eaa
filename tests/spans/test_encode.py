from __future__ import annotations

from collections.abc import Mapping

from hypothesis import given
from hypothesis import strategies as st
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import Status

from latprof.spans.encode import encode_protobuf
from latprof.spans.otlp import decode_protobuf
from latprof.spans.span import Scalar, Span, SpanEvent, SpanKind

TEXT = st.text(st.characters(codec="utf-8"), max_size=30)
STAMP = st.integers(0, 2**63 - 1)
ATTRIBUTES: st.SearchStrategy[Mapping[str, Scalar]] = st.dictionaries(
    TEXT, TEXT | st.booleans() | st.integers(-(2**63), 2**63 - 1) | st.floats(allow_nan=False, allow_infinity=False), max_size=4
)


def hexadecimal(digits: int) -> st.SearchStrategy[str]:
    return st.integers(1, 16**digits - 1).map(lambda number: f"{number:0{digits}x}")


SPANS = st.builds(
    Span,
    trace_id=hexadecimal(32),
    span_id=hexadecimal(16),
    parent_id=st.just("") | hexadecimal(16),
    name=TEXT,
    kind=st.sampled_from(SpanKind).map(int),
    start_unix_ns=STAMP,
    end_unix_ns=STAMP,
    attributes=ATTRIBUTES,
    events=st.lists(st.builds(SpanEvent, TEXT, STAMP, ATTRIBUTES), max_size=3).map(tuple),
    resource=ATTRIBUTES,
    scope=TEXT,
)


@given(st.lists(SPANS, max_size=4))
def test_what_is_encoded_comes_back(spans: list[Span]) -> None:
    assert list(decode_protobuf(encode_protobuf(spans))) == spans


def span(number: int, resource: Mapping[str, Scalar], **attributes: Scalar) -> Span:
    return Span("a" * 32, f"{number:016x}", "", "call", SpanKind.CLIENT, 1, 2, attributes, resource=resource, scope="latprof")


def test_spans_of_one_process_share_their_resource() -> None:
    one: dict[str, Scalar] = {"service.name": "latprof"}
    request = ExportTraceServiceRequest.FromString(encode_protobuf([span(1, one), span(2, one), span(3, {"service.name": "x"})], "0.1"))
    assert [len(held.scope_spans[0].spans) for held in request.resource_spans] == [2, 1]
    assert request.resource_spans[0].scope_spans[0].scope.version == "0.1"


def test_an_error_is_a_status() -> None:
    spans = [span(1, {}), span(2, {}, **{"error.type": "timeout", "error.message": "no answer"})]
    request = ExportTraceServiceRequest.FromString(encode_protobuf(spans))
    ok, failed = (held for of_resource in request.resource_spans for held in of_resource.scope_spans[0].spans)
    assert ok.status.code == Status.STATUS_CODE_UNSET
    assert (failed.status.code, failed.status.message) == (Status.STATUS_CODE_ERROR, "no answer")


def test_what_protobuf_cannot_hold_is_written_out() -> None:
    (got,) = decode_protobuf(encode_protobuf([span(1, {}, half="a\ud83db", large=2**70)]))
    assert got.attributes == {"half": "a\\ud83db", "large": str(2**70)}
