"""A run for other tools, as a user asks for it: the trace, the stacks, and the spans back through latprof's own receiver."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest
from command import Ended, latprof, short_run

from latprof.opening import Opened, courses_of, open_run
from latprof.report.elsewhere.genai import client_spans
from latprof.spans.receiver import Receiver
from latprof.spans.span import Span, SpanKind
from latprof.spans.store import load

pytestmark = pytest.mark.live


@pytest.fixture(scope="module")
def ran(tmp_path_factory: pytest.TempPathFactory) -> Ended:
    """A short run of the stack in a box, whose spans are waited for."""
    folder = tmp_path_factory.mktemp("exported")
    return asyncio.run(short_run(folder, "--num-prompts", "12", "--warmup", "2", "--set", "spans.grace=6s"))


@pytest.fixture(scope="module")
def opened(ran: Ended) -> Opened:
    assert ran.succeeded(), ran.said
    return open_run(ran.folder)


@pytest.fixture
def receiver(opened: Opened, tmp_path: Path) -> Iterator[Receiver]:
    folder = tmp_path / "collector"
    folder.mkdir()
    with Receiver.start(folder, opened.observed.meta["run_id"], write_every_s=0.05) as running:
        yield running


def exported(opened: Opened) -> list[Span]:
    return list(client_spans(opened.observed, range(len(opened.observed.requests)), partial(courses_of, opened)))


async def test_spans_come_back_identical_through_our_own_receiver(opened: Opened, receiver: Receiver, tmp_path: Path) -> None:
    url = f"http://127.0.0.1:{receiver.http_port}"
    ended = await latprof("report", opened.observed.folder, "--otlp", url, "--genai-metrics", tmp_path=tmp_path)
    assert f"of 14 requests sent to {url}" in ended.err
    assert "GenAI client metrics" in ended.err
    stats = receiver.stop()
    assert stats.rejected == {}
    back = load(tmp_path / "collector")
    wanted = exported(opened)
    assert len(back) == len(wanted) > 14 * 5
    for trace_id in opened.observed.requests.trace_id:
        found = {span.span_id: span for span in back.for_trace(trace_id)}
        assert found == {span.span_id: span for span in wanted if span.trace_id == trace_id}


def test_client_hops_and_engine_are_one_trace(opened: Opened) -> None:
    ours = exported(opened)
    measured = opened.observed.requests.select(opened.tables.ttft.rows)
    for trace_id in measured.trace_id:
        spans = {span.span_id: span for span in (*opened.spans.for_trace(trace_id), *(span for span in ours if span.trace_id == trace_id))}
        roots = [span for span in spans.values() if not span.parent_id]
        assert [(root.kind, root.resource["service.name"]) for root in roots] == [(SpanKind.CLIENT, "latprof")]
        assert all(span.parent_id in spans for span in spans.values() if span.parent_id)
        services = {str(span.resource["service.name"]) for span in spans.values()}
        assert {"latprof", "latprof-stub-gateway", "latprof-stub-router", "latprof-stub-prefill", "latprof-stub-decode"} <= services
        gateway = next(
            span for span in spans.values() if span.resource["service.name"] == "latprof-stub-gateway" and span.kind == SpanKind.SERVER
        )
        assert gateway.parent_id == roots[0].span_id


async def test_trace_and_stacks_say_what_the_report_says(opened: Opened, tmp_path: Path) -> None:
    ended = await latprof(
        "report", opened.observed.folder, "--perfetto", "out.json", "--folded", "out.txt", "--at", "mean", "--json", "-", tmp_path=tmp_path
    )
    summary = json.loads(ended.out)
    weights = [int(line.rpartition(" ")[2]) for line in (tmp_path / "out.txt").read_text().splitlines()]
    assert sum(weights) / 1e6 == pytest.approx(summary["mean_ttft_ms"], abs=1e-5)
    trace = json.loads((tmp_path / "out.json").read_text())
    begun = [event for event in trace["traceEvents"] if event["ph"] == "b"]
    assert sum(event["name"] == "time to first token" for event in begun) == summary["counts"]["ok"] == 12
    layers = {row["layer"] for row in summary["layers"]["ttft"] if row["mean_ms"] > 0}
    assert layers <= {event["name"] for event in begun}
    assert {"decode", "stream"} & {event["name"] for event in begun}
    assert "trace: out.json" in ended.err
    assert "folded stacks: out.txt (TTFT at mean, in ns)" in ended.err


async def test_stacks_can_be_piped(opened: Opened, tmp_path: Path) -> None:
    ended = await latprof("report", opened.observed.folder, "--folded", "-", tmp_path=tmp_path)
    assert all(line.startswith("TTFT ") and line.rpartition(" ")[2].isdigit() for line in ended.out.splitlines())
    assert "TTFT budget" in ended.err


async def test_a_refusal_names_the_flag(opened: Opened, tmp_path: Path) -> None:
    ended = await latprof("report", opened.observed.folder, "--folded", "out.txt", "--at", "p99", tmp_path=tmp_path)
    assert "--at p99: 12 requests" in ended.err
    assert ended.code == 2
    assert not (tmp_path / "out.txt").exists()
