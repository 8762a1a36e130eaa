"""HAProxy -> Envoy -> LiteLLM -> llama.cpp, for real. Installs itself: ``python -m harness.chain ensure``."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest

from harness import real_chain
from harness.arms import Arm, read
from harness.chain.stack import real_chain as started
from harness.truth import shuffled
from latprof.opening import courses_of, open_run
from latprof.report.elsewhere.genai import client_spans
from latprof.report.values import Report
from latprof.spans.span import SpanKind

pytestmark = [pytest.mark.real, pytest.mark.timeout(600)]


@pytest.fixture(scope="module")
def driven(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Report, Arm]]:
    otlp_grpc_port = real_chain.free_port()
    with started(otlp_grpc_port=otlp_grpc_port) as chain:
        yield real_chain.drive(chain, otlp_grpc_port, 40, Path(tmp_path_factory.mktemp("chain")) / "run")


def test_the_chain_is_split_by_layer(driven: tuple[Report, Arm]) -> None:
    report, told = driven
    assert report.counts.failed == 0
    missed = [f"{figure.name}: {figure.value:g}, asked {figure.asked}" for figure in real_chain.figures(told) if not figure.passed]
    assert missed == []


def test_its_layers_sum_to_what_was_measured(driven: tuple[Report, Arm]) -> None:
    _, told = driven
    requests = told.observed.requests
    ttft = requests.first_token_ns[told.layers.rows] - requests.intended_ns[told.layers.rows]
    assert (told.layers.total_ns.sum(axis=1) == ttft).all()
    assert (told.layers.total_ns >= 0).all()


def test_shuffled_spans_are_caught(driven: tuple[Report, Arm]) -> None:
    _, told = driven
    wrong = read("shuffled", told.observed.folder, shuffled(told.spans))
    assert [figure.name for figure in real_chain.figures(wrong) if not figure.passed]


def test_haproxy_is_named_when_it_buffers_and_only_then() -> None:
    held = real_chain.buffered(http_no_delay=False)
    assert held is not None
    assert held.hop == "haproxy"
    assert real_chain.buffered(http_no_delay=True) is None


def test_client_hops_and_engine_are_one_trace(driven: tuple[Report, Arm]) -> None:
    """As a collector would hold it, to which the hops and `latprof report --otlp` both send."""
    report, told = driven
    opened = open_run(report.folder)
    exported = list(client_spans(opened.observed, told.layers.rows.tolist(), partial(courses_of, opened)))
    ours = {span.trace_id: span for span in exported if not span.parent_id}
    assert len(ours) == len(told.layers.rows)
    for trace_id, client in ours.items():
        theirs = opened.spans.for_trace(trace_id)
        assert {"envoy", "litellm", "llamacpp-passthrough"} <= {str(span.resource.get("service.name")) for span in theirs}
        outermost = next(span for span in theirs if span.kind == SpanKind.SERVER)
        assert outermost.parent_id == client.span_id
        known = {client.span_id, *(span.span_id for span in (*theirs, *exported))}
        assert all(span.parent_id in known for span in theirs)
