"""Client spans and metrics in the words of the GenAI conventions."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from made_courses import MadeCourses, with_requests
from made_run import META, MS, made_run
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest

from latprof.analysis.metrics import samples
from latprof.clock import WallAnchor
from latprof.layers.build import build_layers
from latprof.observations.folder import Run
from latprof.report.elsewhere.genai import asked_of, client_spans
from latprof.report.elsewhere.genai_metrics import SECONDS, TOKENS, encode_metrics, metrics_of
from latprof.spans.span import Span, SpanKind
from latprof.spans.store import Spans
from latprof.units import MISSING_NS, NS_PER_S

ANCHOR = {"monotonic_ns": 5, "unix_ns": 1_800_000_000_000_000_000, "bracket_ns": 90}


def spans_of(n: int = 40, **meta: Any) -> tuple[Run, MadeCourses, list[Span]]:
    run, layers, _ = made_run(n, **({"anchor": ANCHOR} | meta))
    courses = MadeCourses(run, layers)
    return run, courses, list(client_spans(run, range(len(run.requests)), courses))


def by_request(spans: list[Span]) -> list[tuple[Span, list[Span]]]:
    own = [span for span in spans if span.kind == SpanKind.CLIENT]
    return [(one, [span for span in spans if span.parent_id == one.span_id and span.trace_id == one.trace_id]) for one in own]


def unix(stamp_ns: int) -> int:
    return int(stamp_ns) - ANCHOR["monotonic_ns"] + ANCHOR["unix_ns"]


# --- spans --------------------------------------------------------------------------------------------------------------------------------


def test_every_request_is_a_span_under_the_ids_it_was_sent_with() -> None:
    run, _, spans = spans_of()
    own = [one for one, _ in by_request(spans)]
    assert [(one.trace_id, one.span_id, one.parent_id) for one in own] == [
        (trace, span, "") for trace, span in zip(run.requests.trace_id, run.requests.span_id, strict=True)
    ]
    for row, one in enumerate(own):
        assert (one.start_unix_ns, one.end_unix_ns) == (unix(run.requests.intended_ns[row]), unix(run.requests.end_ns[row]))
        assert one.name == "chat m"
        assert one.scope == "latprof"
        assert {event.name: event.unix_ns for event in one.events} == {
            "latprof.sent": unix(run.requests.send_ns[row]),
            "latprof.first_token": unix(run.requests.first_token_ns[row]),
        }


def test_layers_are_children_that_tile_it_up_to_the_last_token() -> None:
    run, courses, spans = spans_of()
    for row, (own, children) in enumerate(by_request(spans)):
        if run.requests.error_class[row]:
            assert children == []
            continue
        edges = [edge for child in children for edge in (child.start_unix_ns, child.end_unix_ns)]
        assert (edges[0], edges[-1]) == (own.start_unix_ns, unix(run.requests.last_token_ns[row]))
        assert edges[1:-1:2] == edges[2::2]
        index = courses.call.rows.tolist().index(row)
        for child in children:
            column = courses.call.names.index(child.name)
            assert child.attributes["latprof.layer"] == child.name
            assert child.end_unix_ns - child.start_unix_ns == courses.call.total_ns[index, column]
            assert child.kind == SpanKind.INTERNAL
            if "latprof.wait_ns" in child.attributes:
                assert child.attributes["latprof.wait_ns"] == courses.call.wait_ns[index, column]
                assert child.attributes["latprof.service_ns"] == courses.call.service_ns[index, column]
        untold = {child.name for child in children if "latprof.wait_ns" not in child.attributes}
        assert "net.request" in untold
        assert "gateway.tokenize" not in untold


def test_ids_of_layers_are_new_all_different_and_the_same_every_time() -> None:
    _, _, spans = spans_of(200)
    ids = [(span.trace_id, span.span_id) for span in spans]
    assert len(set(ids)) == len(ids)
    assert [(span.trace_id, span.span_id) for span in spans_of(200)[2]] == ids
    assert all((len(span.span_id) == 16 and int(span.span_id, 16)) or span.parent_id == "" for span in spans)


def test_attributes_are_those_of_the_conventions() -> None:
    run, layers, _ = made_run(3, anchor=ANCHOR)
    requests = run.requests
    run = with_requests(
        run,
        prompt_tokens=np.array([16, 17, 18, 19, 20]),
        cached_tokens=np.array([0, 8, MISSING_NS, 0, 0]),
        reasoning_tokens=np.array([3, MISSING_NS, 1, 0, 0]),
        first_event_ns=np.array([requests.send_ns[0] + 7 * MS, *requests.first_event_ns[1:]]),
        response_id=np.array(["chatcmpl-1", "", "", "", ""], object),
    )
    first, second, *_ = (one for one, _ in by_request(list(client_spans(run, range(3), MadeCourses(run, layers)))))
    assert dict(first.attributes) == {
        "gen_ai.operation.name": "chat",
        "gen_ai.provider.name": "openai",
        "gen_ai.request.model": "m",
        "server.address": "127.0.0.1",
        "server.port": 8000,
        "gen_ai.request.stream": True,
        "gen_ai.conversation.id": "0123456789abcdef-0",
        "gen_ai.usage.input_tokens": 16,
        "gen_ai.usage.output_tokens": 4,
        "gen_ai.usage.cache_read.input_tokens": 0,
        "gen_ai.usage.reasoning.output_tokens": 3,
        "gen_ai.request.max_tokens": 4,
        "http.response.status_code": 200,
        "gen_ai.response.time_to_first_chunk": 0.007,
        "gen_ai.response.id": "chatcmpl-1",
        "latprof.phase": "measured",
        "latprof.ttft_ns": int(requests.first_token_ns[0] - requests.intended_ns[0]),
        "latprof.layers": "laid end to end: only their lengths are known",
        **{f"latprof.{name}": 0 for name in ("request", "session", "turn", "attempt", "worker")},
    }
    assert "gen_ai.usage.reasoning.output_tokens" not in second.attributes
    assert second.attributes["gen_ai.response.time_to_first_chunk"] == (requests.first_token_ns[1] - requests.send_ns[1]) / NS_PER_S
    assert first.resource["service.name"] == "latprof"
    assert first.resource["latprof.run_id"] == META["run_id"]


def test_a_failed_request_says_why_and_a_figure_it_lacks_is_not_there() -> None:
    run, layers, _ = made_run(3, anchor=ANCHOR)
    never = {name: np.where(run.requests.request == 3, MISSING_NS, getattr(run.requests, name)) for name in ("first_token_ns", "status")}
    run = with_requests(run, error_text=np.array(["", "", "", "no answer", ""], object), **never)
    (own,) = client_spans(run, [3], MadeCourses(run, layers))
    assert own.attributes["error.type"] == "timeout"
    assert own.attributes["error.message"] == "no answer"
    assert not {"gen_ai.response.time_to_first_chunk", "latprof.ttft_ns", "http.response.status_code"} & set(own.attributes)
    assert [event.name for event in own.events] == ["latprof.sent"]


@pytest.mark.parametrize(
    ("dialect", "operation", "provider"),
    [
        ("openai-chat", "chat", "openai"),
        ("openai-completions", "text_completion", "openai"),
        ("openai-responses-ws", "chat", "openai"),
        ("anthropic-messages", "chat", "anthropic"),
    ],
)
def test_operation_and_provider_follow_the_dialect(dialect: str, operation: str, provider: str) -> None:
    asked = asked_of({"config": {"target": {"dialect": dialect, "model": "m"}}, "target": {"url": "https://api.example/v1"}})[""]
    assert (asked.operation, asked.provider, asked.address, asked.port) == (operation, provider, "api.example", 443)


def test_each_of_several_targets_is_itself_and_takes_the_rest_from_the_shared_one() -> None:
    unsaid = {"url": None, "model": "stub", "dialect": "openai-chat", "unix_socket": None}
    meta = {
        "config": {
            "target": {**unsaid, "url": "http://shared:81", "model": "big", "dialect": "anthropic-messages"},
            "targets": [{**unsaid, "name": "a", "model": "small"}, {**unsaid, "name": "b", "url": "http://[::1]:9/v1"}],
        },
        "target": {"url": "http://shared:81, http://[::1]:9/v1", "model": "small, big"},
    }
    asked = asked_of(meta)
    assert (asked["a"].model, asked["a"].address, asked["a"].port, asked["a"].provider) == ("small", "shared", 81, "anthropic")
    assert (asked["b"].model, asked["b"].address, asked["b"].port) == ("big", "::1", 9)


@pytest.mark.parametrize("url", ["", "http://[broken", "http://host:99999/"])
def test_an_address_that_cannot_be_read_is_left_out(url: str) -> None:
    asked = asked_of({"config": {"target": {"model": "m"}}, "target": {"url": url}})[""]
    assert "server.port" not in asked.attributes
    assert "server.address" not in asked.attributes


def test_a_socket_is_an_address_without_a_port() -> None:
    asked = asked_of({"config": {"target": {"unix_socket": "/run/s.sock"}}, "target": {"url": "http://127.0.0.1:8000/v1"}})[""]
    assert asked.attributes["server.address"] == "/run/s.sock"
    assert "server.port" not in asked.attributes


def test_exported_spans_among_a_runs_own_change_no_layer() -> None:
    run, _, spans = spans_of(30)
    anchor = WallAnchor(**ANCHOR)
    alone, beside = (build_layers(run.requests, Spans.of(some), anchor).e2el for some in ([], spans))
    assert alone.names == beside.names
    assert (alone.total_ns == beside.total_ns).all()


# --- metrics ------------------------------------------------------------------------------------------------------------------------------


def test_metrics_are_the_reports_own_samples() -> None:
    run, _, _ = made_run(200, anchor=ANCHOR)
    duration, first_chunk, per_chunk, tokens = metrics_of(run)
    ok = run.requests.success
    lasted_s = (run.requests.end_ns - run.requests.send_ns) / NS_PER_S
    assert {point.attributes.get("error.type", ""): len(point.values) for point in duration.points} == {"": 200, "server": 1, "timeout": 1}
    np.testing.assert_allclose(duration.points[0].values, lasted_s[ok])
    np.testing.assert_allclose(np.sort(first_chunk.points[0].values), np.sort(samples(run.requests, run.chunks)["ttft_sent"] / NS_PER_S))
    np.testing.assert_allclose(np.sort(per_chunk.points[0].values), np.sort(samples(run.requests, run.chunks)["itl"] / NS_PER_S))
    assert [(point.attributes["gen_ai.token.type"], point.values.sum()) for point in tokens.points] == [("output", 800)]


def test_the_bounds_are_those_of_the_conventions() -> None:
    assert SECONDS == (0.01, 0.02, 0.04, 0.08, 0.16, 0.32, 0.64, 1.28, 2.56, 5.12, 10.24, 20.48, 40.96, 81.92)
    assert TOKENS == (1, 4, 16, 64, 256, 1024, 4096, 16384, 65536, 262144, 1048576, 4194304, 16777216, 67108864)


def test_histograms_hold_every_value_in_its_bucket() -> None:
    run, layers, _ = made_run(7, anchor=ANCHOR)
    # On a bound, just above it, below the first and beyond the last.
    lasting_ns = np.array([10 * MS, 10 * MS + 1, 20 * MS, 1, 82 * NS_PER_S, 81_920 * MS, 40 * MS])
    ends = np.concatenate([run.requests.send_ns[:7] + lasting_ns, run.requests.end_ns[7:]])
    run = with_requests(run, end_ns=ends)
    request = ExportMetricsServiceRequest.FromString(encode_metrics(run))
    metrics = {metric.name: metric for metric in request.resource_metrics[0].scope_metrics[0].metrics}
    assert {name: metric.unit for name, metric in metrics.items()} == {
        "gen_ai.client.operation.duration": "s",
        "gen_ai.client.operation.time_to_first_chunk": "s",
        "gen_ai.client.operation.time_per_output_chunk": "s",
        "gen_ai.client.token.usage": "{token}",
    }
    point = metrics["gen_ai.client.operation.duration"].histogram.data_points[0]
    assert list(point.bucket_counts) == [2, 2, 1, *[0] * 10, 1, 1]
    assert point.count == 7
    assert (point.min, point.max) == (1e-9, 82.0)
    assert point.sum == pytest.approx(lasting_ns.sum() / NS_PER_S)
    assert point.start_time_unix_nano == unix(run.requests.intended_ns.min())
    assert point.time_unix_nano == unix(ends.max())
    assert metrics["gen_ai.client.operation.duration"].histogram.aggregation_temporality == 2  # cumulative
    assert {pair.key for pair in point.attributes} == set(asked_of(run.meta)[""].attributes)
    assert len(layers.rows) == 7


def test_the_warm_up_is_in_no_metric_and_no_request_makes_none() -> None:
    run, _, _ = made_run(50, anchor=ANCHOR)
    warm = with_requests(run, phase=np.array(["warmup"] * 20 + ["measured"] * 32, object))
    duration, first_chunk, *_ = metrics_of(warm)
    assert (len(duration.points[0].values), len(first_chunk.points[0].values)) == (30, 30)
    nothing, _, _ = made_run(0, anchor=ANCHOR)
    request = ExportMetricsServiceRequest.FromString(encode_metrics(nothing))
    assert len(request.resource_metrics[0].scope_metrics[0].metrics) == 0


def test_metrics_are_told_apart_by_target() -> None:
    unsaid = {"url": None, "model": "stub", "dialect": "openai-chat"}
    config = {**META["config"], "target": unsaid, "targets": [{**unsaid, "name": name, "model": f"model-{name}"} for name in "ab"]}
    run, _, _ = made_run(30, anchor=ANCHOR, config=config)
    run = replace(run, requests=replace(run.requests, target=np.array(["a"] * 12 + ["b"] * 20, object)))
    first_chunk = metrics_of(run)[1]
    found = {point.attributes["gen_ai.request.model"]: len(point.values) for point in first_chunk.points}
    assert found == {"model-a": 12, "model-b": 18}
