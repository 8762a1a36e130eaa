"""The scribe: makes OpenTelemetry spans of what the stages report, and exports them. A process of its own, at low priority.

The stages hand out span ids before they call onward, so spans are made here under the ids and at the times the stages noted.
"""

from __future__ import annotations

import os
import signal
import socket
import sys
import threading
from collections.abc import Mapping
from hashlib import blake2b
from typing import Any

import orjson
from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.sdk.trace.id_generator import IdGenerator

from latprof.stub.orders import ScribeOrder

_SCHEDULE_DELAY_MS = 200
_EXPORT_TIMEOUT_S = 2.0
_QUEUE_SPANS = 1 << 16
_NICENESS = 10  # below the stages, whose timers must not wait for it


class _GivenIds(IdGenerator):
    """Hands out the ids the stages have chosen."""

    def __init__(self) -> None:
        self.trace_id = self.span_id = 0

    def generate_span_id(self) -> int:
        return self.span_id

    def generate_trace_id(self) -> int:
        return self.trace_id


def main() -> None:
    """Run until every stage has closed its pipe; then flush."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    order = ScribeOrder(**orjson.loads(sys.stdin.buffer.readline()))
    os.nice(_NICENESS)
    threads = [threading.Thread(target=_write, args=(order.endpoint, stage, fd, pid)) for stage, (fd, pid) in order.stages.items()]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def _write(endpoint: str, stage: str, read_fd: int, pid: int) -> None:
    """One stage's spans, until its pipe ends."""
    ids = _GivenIds()
    provider = TracerProvider(resource=_resource(stage, pid), id_generator=ids, shutdown_on_exit=False)
    exporter = OTLPSpanExporter(endpoint=endpoint, timeout=_EXPORT_TIMEOUT_S)
    provider.add_span_processor(BatchSpanProcessor(exporter, max_queue_size=_QUEUE_SPANS, schedule_delay_millis=_SCHEDULE_DELAY_MS))
    tracer = provider.get_tracer("latprof.stub")
    with os.fdopen(read_fd, "rb") as pipe:
        for line in pipe:
            for told in orjson.loads(line):
                _span(tracer, ids, told)
    provider.shutdown()


def _resource(stage: str, pid: int) -> Resource:
    host = blake2b(socket.gethostname().encode(), digest_size=6).hexdigest()  # enough to tell hosts apart, without naming them
    name = f"latprof-stub-{stage}"
    return Resource({"service.name": name, "service.instance.id": f"{name}-{pid}", "host.name": host, "process.pid": pid})


def _span(tracer: trace.Tracer, ids: _GivenIds, told: Mapping[str, Any]) -> None:
    ids.trace_id, ids.span_id = int(told["trace_id"], 16), int(told["span_id"], 16)
    span = tracer.start_span(
        told["name"], _parent(told), trace.SpanKind[told["kind"]], attributes=told["attributes"], start_time=told["start"]
    )
    if told["first_chunk"] is not None:
        span.add_event("first_chunk", timestamp=told["first_chunk"])
    span.end(told["end"])


def _parent(told: Mapping[str, Any]) -> Context:
    """The context a span is made in; an empty one for the root of a trace."""
    if not told["parent_id"]:
        return Context()
    parent = trace.SpanContext(
        trace_id=int(told["trace_id"], 16),
        span_id=int(told["parent_id"], 16),
        is_remote=told["kind"] == "SERVER",
        trace_flags=trace.TraceFlags(told["flags"]),
        trace_state=trace.TraceState.from_header([told["tracestate"]] if told["tracestate"] else []),
    )
    return trace.set_span_in_context(trace.NonRecordingSpan(parent), Context())


if __name__ == "__main__":
    main()
