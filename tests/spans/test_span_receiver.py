from __future__ import annotations

import gzip
import json
import time
from collections.abc import Iterator
from pathlib import Path

import grpc
import pytest
from google.rpc.status_pb2 import Status  # type: ignore[import-untyped]
from opentelemetry import trace
from opentelemetry.exporter.otlp.proto.http import Compression
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceResponse
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter
from otlp_requests import JSON, LIMIT, PREFIX, PROTOBUF, SERVER, call, export_request, on_disk, post, refused, trace_id

from latprof.spans.receiver import LOG, Receiver
from latprof.spans.store import STREAM, load


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("run")


@pytest.fixture(scope="module")
def receiver(folder: Path) -> Iterator[Receiver]:
    """One receiver for all tests that leave it as it was, but for its counts."""
    with Receiver.start(folder, PREFIX, write_every_s=0.05) as running:
        yield running


# --- what is accepted --------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("compression", [Compression.NoCompression, Compression.Gzip], ids=str)
def test_the_sdk_exporter_over_http(receiver: Receiver, folder: Path, compression: Compression) -> None:
    number = 100 + int(compression == Compression.Gzip)
    parent = trace.SpanContext(int(trace_id(number), 16), 0x77, is_remote=True, trace_flags=trace.TraceFlags(1))
    provider = TracerProvider(resource=Resource({"service.name": "sdk"}))
    provider.add_span_processor(
        BatchSpanProcessor(OTLPSpanExporter(f"http://127.0.0.1:{receiver.http_port}/v1/traces", compression=compression))
    )
    tracer = provider.get_tracer("its library")
    with tracer.start_as_current_span(
        "work", trace.set_span_in_context(trace.NonRecordingSpan(parent)), kind=trace.SpanKind.SERVER
    ) as span:
        span.set_attributes({"layer": "gateway.auth", "wait_ns": 5, "list": [1, 2]})
        span.add_event("first_chunk", {"bytes": 3})
    provider.shutdown()
    (got,) = on_disk(receiver, folder, trace_id(number)).for_trace(trace_id(number))
    assert (got.name, got.kind, got.parent_id, got.scope) == ("work", SERVER, "0000000000000077", "its library")
    assert got.attributes == {"layer": "gateway.auth", "wait_ns": 5, "list": "[1,2]"}
    assert (got.events[0].name, got.events[0].attributes) == ("first_chunk", {"bytes": 3})
    assert (got.start_unix_ns, got.end_unix_ns) == (span.start_time, span.end_time)  # type: ignore[attr-defined]
    assert got.resource["service.name"] == "sdk"


@pytest.mark.parametrize("compression", [grpc.Compression.NoCompression, grpc.Compression.Gzip], ids=str)
def test_grpc(receiver: Receiver, folder: Path, compression: grpc.Compression) -> None:
    its_trace = trace_id(200 + int(compression == grpc.Compression.Gzip))
    answer = call(receiver, export_request((its_trace, 1)).SerializeToString(), compression=compression)
    assert not ExportTraceServiceResponse.FromString(answer).HasField("partial_success")
    (got,) = on_disk(receiver, folder, its_trace).for_trace(its_trace)
    assert got.span_id == f"{1:016x}"


@pytest.mark.parametrize("zipped", [False, True])
def test_json_with_hex_ids(receiver: Receiver, folder: Path, zipped: bool) -> None:
    its_trace = trace_id(300 + zipped)
    span = {"traceId": its_trace, "spanId": f"{9:016X}", "name": "j", "kind": 2, "startTimeUnixNano": "10", "endTimeUnixNano": 20}
    body = json.dumps({"resourceSpans": [{"scopeSpans": [{"spans": [span]}]}]}).encode()
    headers = {"Content_Encoding": "gzip"} if zipped else {}
    assert post(receiver, gzip.compress(body) if zipped else body, f"{JSON}; charset=utf-8", **headers) == (200, JSON, b"{}")
    (got,) = on_disk(receiver, folder, its_trace).for_trace(its_trace)
    assert (got.span_id, got.start_unix_ns, got.end_unix_ns) == (f"{9:016x}", 10, 20)


def test_an_empty_request_is_a_success(receiver: Receiver) -> None:
    exports = receiver.stats().exports
    assert post(receiver, b"") == (200, PROTOBUF, b"")
    assert post(receiver, b"{}", JSON) == (200, JSON, b"{}")
    assert call(receiver, b"") == b""
    assert receiver.stats().exports == exports + 3


@pytest.mark.parametrize("signal_name", ["metrics", "logs"])
def test_metrics_and_logs_are_taken_quietly(receiver: Receiver, signal_name: str) -> None:
    before = receiver.stats()
    assert post(receiver, b"whatever", path=f"/v1/{signal_name}") == (200, PROTOBUF, b"")
    assert post(receiver, b"{}", JSON, f"/v1/{signal_name}") == (200, JSON, b"{}")
    assert call(receiver, b"whatever", f"{signal_name}.v1.{signal_name.title()}Service") == b""
    assert receiver.stats() == before


def test_a_body_above_the_default_limit_of_grpc_is_taken(receiver: Receiver) -> None:
    request = export_request((trace_id(400), 1), attributes={"filler": "x" * (6 * 1024 * 1024)})
    assert call(receiver, request.SerializeToString()) == b""


# --- what is refused ---------------------------------------------------------------------------------------------------------------------


def test_garbage_is_refused_for_good(receiver: Receiver) -> None:
    before = receiver.stats()
    status, kind, body = post(receiver, b"nonsense")
    assert (status, kind) == (400, PROTOBUF)
    assert "protobuf" in Status.FromString(body).message
    status, kind, body = post(receiver, b"nonsense", JSON)
    assert (status, kind) == (400, JSON)
    assert "JSON" in json.loads(body)["message"]
    assert post(receiver, b"not gzip", Content_Encoding="gzip")[0] == 400
    assert post(receiver, gzip.compress(b"x" * 1000)[:-12], Content_Encoding="gzip")[0] == 400
    assert refused(receiver, b"nonsense") == grpc.StatusCode.INVALID_ARGUMENT
    after = receiver.stats()
    assert after.rejected["malformed"] == before.rejected.get("malformed", 0) + 5
    assert after.spans == before.spans


def test_a_body_above_20_mib_is_refused(receiver: Receiver) -> None:
    before = receiver.stats().rejected.get("too_large", 0)
    assert post(receiver, b"\0" * (LIMIT + 1))[0] == 413
    chunks = iter([b"\0" * 2**20] * 21)
    assert post(receiver, chunks, Transfer_Encoding="chunked")[0] == 413
    assert receiver.stats().rejected["too_large"] == before + 2
    assert refused(receiver, b"\0" * (LIMIT + 1)) == grpc.StatusCode.RESOURCE_EXHAUSTED


def test_a_gzip_bomb_is_refused(receiver: Receiver) -> None:
    bomb = gzip.compress(b"\0" * (LIMIT + 1))
    assert len(bomb) < 100_000
    for kind in (PROTOBUF, JSON):
        status, answered, _ = post(receiver, bomb, kind, Content_Encoding="gzip")
        assert (status, answered) == (413, kind)
    assert refused(receiver, b"\0" * (LIMIT + 1), grpc.Compression.Gzip) == grpc.StatusCode.RESOURCE_EXHAUSTED


def test_other_types_encodings_paths_and_methods(receiver: Receiver) -> None:
    assert post(receiver, b"", "text/plain")[0] == 415
    assert post(receiver, b"", Content_Encoding="br")[0] == 415
    status, _, body = post(receiver, b"{}", JSON, "/")
    assert status == 404
    assert "/v1/traces" in json.loads(body)["message"]
    assert post(receiver, b"", method="GET")[0] == 405
    with pytest.raises(grpc.RpcError, match="UNIMPLEMENTED"):
        call(receiver, b"", "profiles.v1.ProfilesService")


def test_other_traces_are_dropped_and_counted(receiver: Receiver, folder: Path) -> None:
    before = receiver.stats()
    other = "f" * 32
    request = export_request((other, 1), (trace_id(500), 2), (other, 3), (trace_id(500), 2))
    assert post(receiver, request.SerializeToString())[0] == 200
    after = receiver.stats()
    assert after.other_spans - before.other_spans == 2
    assert after.spans - before.spans == 2
    assert after.duplicate_spans - before.duplicate_spans == 1
    assert after.traces - before.traces == 1
    spans = on_disk(receiver, folder, trace_id(500))
    assert spans.for_trace(other) == ()


def test_secrets_never_reach_the_disk(receiver: Receiver, folder: Path) -> None:
    attributes = {"http.request.header.authorization": "hidden-one", "url.query": "key=hidden-two", "note": '{"api_key": "hidden-three"}'}
    assert call(receiver, export_request((trace_id(600), 1), attributes=attributes).SerializeToString()) == b""
    (got,) = on_disk(receiver, folder, trace_id(600)).for_trace(trace_id(600))
    assert got.attributes == {"note": '{"api_key": "[redacted]"}'}
    assert b"hidden" not in (folder / STREAM).read_bytes()


# --- back-pressure -----------------------------------------------------------------------------------------------------------------------


def test_too_much_pending_is_refused_for_now(tmp_path: Path) -> None:
    with Receiver.start(tmp_path, PREFIX, pending_limit_spans=1, write_every_s=0.4) as receiver:
        answers = []
        for number in range(1, 200):
            answers.append(post(receiver, export_request((trace_id(number), 1)).SerializeToString())[0])
            if answers[-1] == 503:
                break
        assert set(answers) == {200, 503}
        assert refused(receiver, export_request((trace_id(999), 1)).SerializeToString()) == grpc.StatusCode.UNAVAILABLE
        # An exporter tries again, and then there is room.
        exporter: SpanExporter = OTLPSpanExporter(f"http://127.0.0.1:{receiver.http_port}/v1/traces")
        provider = TracerProvider()
        provider.add_span_processor(BatchSpanProcessor(exporter))
        context = trace.SpanContext(int(trace_id(1000), 16), 1, is_remote=True, trace_flags=trace.TraceFlags(1))
        provider.get_tracer("t").start_span("late", trace.set_span_in_context(trace.NonRecordingSpan(context))).end()
        provider.shutdown()
        stats = receiver.stop()
    assert stats.rejected["busy"] >= 2
    assert stats.spans == answers.count(200) + 1
    assert len(load(tmp_path)) == stats.spans


def test_a_full_disk_is_said_and_nothing_more_is_taken(tmp_path: Path) -> None:
    (tmp_path / STREAM).symlink_to("/dev/full")
    with Receiver.start(tmp_path, PREFIX, write_every_s=0.02) as receiver:
        assert post(receiver, export_request((trace_id(1), 1)).SerializeToString())[0] == 200
        until = time.monotonic() + 20
        while not receiver.stats().write_error:
            assert time.monotonic() < until
        assert "No space left" in receiver.stats().write_error
        assert post(receiver, export_request((trace_id(2), 1)).SerializeToString())[0] == 503
    assert not (tmp_path / LOG).exists()


def test_a_run_folder_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        Receiver.start(tmp_path / "missing", PREFIX)
