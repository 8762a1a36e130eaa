"""What happens to an export request whichever way it came: decoded, filtered, screened, counted, and kept until it is written.

Lives in the receiver's process, on one event loop; only the writing itself leaves it for a thread.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Protocol

from latprof.spans.others import Others
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


class _Pending:
    """Spans on their way to a writer, which is opened for the first; after an error of the disk none is written any more."""

    def __init__(self, open_writer: Callable[[], Writer]) -> None:
        self._open = open_writer
        self._writer: Writer | None = None
        self._spans: list[Span] = []
        self._received_unix_ns: list[int] = []
        self.error = ""

    def __len__(self) -> int:
        return len(self._spans)

    def open(self) -> Writer:
        if self._writer is None:
            self._writer = self._open()
        return self._writer

    def add(self, spans: Sequence[Span], now_unix_ns: int) -> None:
        self._spans.extend(spans)
        self._received_unix_ns.extend([now_unix_ns] * len(spans))

    async def flush(self) -> None:
        if not self._spans or self.error:
            return
        spans, received_unix_ns = self._spans, self._received_unix_ns
        self._spans, self._received_unix_ns = [], []
        try:
            await asyncio.to_thread(self.open().append, spans, received_unix_ns)
        except OSError as error:
            self.error = error.strerror or type(error).__name__

    def close(self) -> None:
        if self._writer is not None:
            with contextlib.suppress(OSError):
                self._writer.close()


class Intake:
    """Takes export requests for the traces that begin with ``run_prefix``; of other traces those that tell of an answer, see `Others`."""

    def __init__(
        self, run_prefix: str, open_writer: Callable[[], Writer], open_others: Callable[[], Writer], pending_limit_spans: int
    ) -> None:
        self._prefix = run_prefix
        self._limit = pending_limit_spans
        self._pending = _Pending(open_writer)
        self._pending.open()
        self._others = Others()
        self._pending_others = _Pending(open_others)
        self._writing = asyncio.Lock()
        self._seen: set[int] = set()
        self._traces: set[int] = set()
        self._served: dict[str, set[int]] = {}
        self._expected: set[int] | None = None
        self._missing: dict[str, set[int]] = {}
        self._counts: Counter[str] = Counter()
        self._rejected: Counter[Rejection] = Counter()
        self._first_unix_ns = self._last_unix_ns = MISSING_NS
        self._first_told_unix_ns = self._last_told_unix_ns = MISSING_NS

    def take(self, decode: Decode, body: bytes) -> None:
        """One trace request.

        Raises:
            MalformedOtlpError: nothing of it was taken.
            BusyError: too much waits to be written; nothing of it was taken.
        """
        if len(self._pending) >= self._limit or self._pending.error:
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

    def expect_answers(self, ids: Iterable[str]) -> None:
        """These are the ids of answers that came: spans that tell of them are awaited. Adds to what was expected before."""
        self._others.expect(ids)

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
            missing_answers=self._others.missing,
            first_told_unix_ns=self._first_told_unix_ns,
            last_told_unix_ns=self._last_told_unix_ns,
            write_error=self._pending.error,
        )

    async def flush(self) -> None:
        """Write what is pending, in a thread: a slow disk shall answer "busy", not stop the loop."""
        async with self._writing:
            await self._pending.flush()
            await self._pending_others.flush()

    def close(self) -> None:
        """Close the files; nothing more will be written."""
        self._pending.close()
        self._pending_others.close()

    def _keep(self, spans: list[Span], now_unix_ns: int) -> None:
        ours = [screened(span) for span in spans if span.trace_id.startswith(self._prefix)]
        if len(ours) < len(spans):
            self._keep_others([span for span in spans if not span.trace_id.startswith(self._prefix)], now_unix_ns)
        if not ours:
            return
        for span in ours:
            self._count(span)
        self._pending.add(ours, now_unix_ns)
        self._last_unix_ns = now_unix_ns
        if self._first_unix_ns == MISSING_NS:
            self._first_unix_ns = now_unix_ns

    def _keep_others(self, spans: list[Span], now_unix_ns: int) -> None:
        self._counts["other_spans"] += len(spans)
        # Those of the run come first: when the disk is slow, it is others' that are let go.
        room = self._limit // 4 - len(self._pending_others)
        told = self._others.take(spans)[: max(room, 0)]
        if not told or self._pending_others.error:
            return
        self._counts["told_spans"] += len(told)
        self._pending_others.add(told, now_unix_ns)
        self._last_told_unix_ns = now_unix_ns
        if self._first_told_unix_ns == MISSING_NS:
            self._first_told_unix_ns = now_unix_ns

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
