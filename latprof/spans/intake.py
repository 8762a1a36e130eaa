"""What happens to an export request whichever way it came: decoded, filtered, screened, counted, and kept until it is written.

Lives in the receiver's process, on one event loop; only the writing itself leaves it for a thread.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from typing import Protocol

from latprof.spans.reception import ReceiverStats, Rejection
from latprof.spans.screen import screened
from latprof.spans.span import Span, SpanKind
from latprof.units import MISSING_NS

BODY_LIMIT_BYTES = 20 * 1024 * 1024
"""Of one request, before and after decompression: what the OTLP specification recommends."""

Decode = Callable[[bytes], Iterator[Span]]


class BusyError(Exception):
    """Spans come faster than they are written: the sender shall keep them and try again."""


class Writer(Protocol):
    """Where spans go."""

    def append(self, spans: list[Span], received_unix_ns: list[int]) -> None:
        """Write them, or raise OSError."""

    def close(self) -> None:
        """Nothing more will come."""


class Intake:
    """Takes export requests for the traces that begin with ``run_prefix``."""

    def __init__(self, run_prefix: str, writer: Writer, pending_limit_spans: int) -> None:
        self._prefix = run_prefix
        self._writer = writer
        self._limit = pending_limit_spans
        self._pending: list[Span] = []
        self._received_unix_ns: list[int] = []
        self._writing = asyncio.Lock()
        self._seen: set[int] = set()
        self._traces: set[int] = set()
        self._served: dict[str, set[int]] = {}
        self._expected: set[int] | None = None
        self._missing: dict[str, set[int]] = {}
        self._counts: Counter[str] = Counter()
        self._rejected: Counter[Rejection] = Counter()
        self._first_unix_ns = self._last_unix_ns = MISSING_NS
        self._write_error = ""

    def take(self, decode: Decode, body: bytes) -> None:
        """One trace request.

        Raises:
            MalformedOtlpError: nothing of it was taken.
            BusyError: too much waits to be written; nothing of it was taken.
        """
        if len(self._pending) >= self._limit or self._write_error:
            raise BusyError
        spans = list(decode(body))
        self._counts["exports"] += 1
        self._keep(spans, time.time_ns())

    def reject(self, why: Rejection) -> None:
        """Count a request that was turned away."""
        self._rejected[why] += 1

    def expect(self, trace_ids: Iterable[str]) -> None:
        """These traces are finished: their spans are awaited. Adds to what was expected before."""
        traces = {_number(trace_id) for trace_id in trace_ids}
        self._expected = traces if self._expected is None else self._expected | traces
        self._missing = {service: self._expected - served for service, served in self._served.items()}

    def stats(self) -> ReceiverStats:
        """As of now."""
        return ReceiverStats(
            **self._counts,
            traces=len(self._traces),
            traces_by_service={service: len(served) for service, served in self._served.items()},
            missing_by_service={service: len(missing) for service, missing in self._missing.items()},
            rejected=dict(self._rejected),
            first_received_unix_ns=self._first_unix_ns,
            last_received_unix_ns=self._last_unix_ns,
            write_error=self._write_error,
        )

    async def flush(self) -> None:
        """Write what is pending, in a thread: a slow disk shall answer "busy", not stop the loop."""
        async with self._writing:
            if self._pending and not self._write_error:
                spans, received_unix_ns = self._pending, self._received_unix_ns
                self._pending, self._received_unix_ns = [], []
                try:
                    await asyncio.to_thread(self._writer.append, spans, received_unix_ns)
                except OSError as error:
                    self._write_error = error.strerror or type(error).__name__

    def _keep(self, spans: list[Span], now_unix_ns: int) -> None:
        ours = [screened(span) for span in spans if span.trace_id.startswith(self._prefix)]
        self._counts["other_spans"] += len(spans) - len(ours)
        if not ours:
            return
        for span in ours:
            self._count(span)
        self._pending.extend(ours)
        self._received_unix_ns.extend([now_unix_ns] * len(ours))
        self._last_unix_ns = now_unix_ns
        if self._first_unix_ns == MISSING_NS:
            self._first_unix_ns = now_unix_ns

    def _count(self, span: Span) -> None:
        trace = _number(span.trace_id)
        self._counts["spans"] += 1
        self._counts["late_spans"] += self._expected is not None
        # The run's own trace ids are well mixed, so this names a span without keeping two texts of it.
        key = trace << 64 | int(span.span_id, 16)
        self._counts["duplicate_spans"] += key in self._seen
        self._seen.add(key)
        self._traces.add(trace)
        if span.kind == SpanKind.SERVER or not span.parent_id:
            self._count_served(str(span.resource.get("service.name", "")), trace)

    def _count_served(self, service: str, trace: int) -> None:
        self._served.setdefault(service, set()).add(trace)
        if self._expected is not None:
            if service not in self._missing:
                self._missing[service] = set(self._expected)
            self._missing[service].discard(trace)


def _number(trace_id: str) -> int:
    """The half of a trace id that differs inside a run: a third of the memory of its text."""
    return int(trace_id[16:], 16)
