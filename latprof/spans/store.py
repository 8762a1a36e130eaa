"""Spans on disk: appended as Arrow batches while they come, compacted to Parquet, read back by trace.

``spans.arrows`` is an Arrow IPC stream; each batch is whole on disk once written, so a killed run keeps all but its last batch.
``spans.parquet`` replaces it when the run is over.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import orjson
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from latprof.spans.span import Scalar, Span, SpanEvent
from latprof.units import MISSING_NS

STREAM = "spans.arrows"
PARQUET = "spans.parquet"

_REPEATED = pa.dictionary(pa.int32(), pa.string())
SCHEMA = pa.schema(
    [
        ("trace_id", pa.string()),  # 32 hex
        ("span_id", pa.string()),  # 16 hex
        ("parent_id", pa.string()),  # empty for a root
        ("name", _REPEATED),
        ("kind", pa.int8()),
        ("start_unix_ns", pa.int64()),  # the sender's clock, nothing corrected
        ("end_unix_ns", pa.int64()),
        ("attributes", pa.large_string()),  # JSON object
        ("events", pa.large_string()),  # JSON list of {"name", "unix_ns", "attributes"}
        ("resource", _REPEATED),  # JSON object
        ("scope", _REPEATED),
        ("received_unix_ns", pa.int64()),  # this host's clock
    ],
    metadata={"latprof": "spans/1"},
)


class SpanWriter:
    """Appends spans to ``spans.arrows`` in the run folder. Not for two threads at once."""

    def __init__(self, folder: Path) -> None:
        # Unbuffered: a batch is in the kernel's hands when `append` returns.
        self._file = (folder / STREAM).open("wb", buffering=0)
        self._stream = pa.ipc.new_stream(self._file, SCHEMA)

    def append(self, spans: Sequence[Span], received_unix_ns: Sequence[int]) -> None:
        """Write one batch. ``received_unix_ns`` has one stamp per span.

        Raises:
            OSError: the disk would not take it; the file ends in a torn batch and must not be appended to again.
        """
        self._stream.write_batch(_batch(spans, received_unix_ns))

    def close(self) -> None:
        """Write the end mark and close the file."""
        self._stream.close()
        self._file.close()


def compact(folder: Path) -> None:
    """Turn ``spans.arrows`` into ``spans.parquet`` (zstd). Does nothing where there is no stream."""
    stream = folder / STREAM
    if not stream.exists():
        return
    unfinished = folder / f"{PARQUET}.tmp"
    pq.write_table(_read_stream(stream), unfinished, compression="zstd")
    unfinished.replace(folder / PARQUET)
    stream.unlink()


def load(folder: Path) -> Spans:
    """The spans of a run folder, finished or killed; none where the run took none.

    Raises:
        OSError: a file that cannot be read.
    """
    if (folder / PARQUET).exists():
        return Spans(pq.read_table(folder / PARQUET))
    if (folder / STREAM).exists():
        return Spans(_read_stream(folder / STREAM))
    return Spans(SCHEMA.empty_table())


class Spans:
    """All spans of a run as received, found by trace."""

    def __init__(self, table: pa.Table) -> None:
        """``table`` has `SCHEMA`'s columns, in any order of rows."""
        ordered = table.unify_dictionaries().sort_by([("trace_id", "ascending"), ("start_unix_ns", "ascending")])
        self._table = ordered.combine_chunks()
        self._rows = _runs(self._table.column("trace_id"))

    @classmethod
    def of(cls, spans: Sequence[Span]) -> Spans:
        """Spans that never were on disk; when they were received is not known."""
        return cls(pa.Table.from_batches([_batch(spans, [MISSING_NS] * len(spans))]))

    def also(self, spans: Sequence[Span]) -> Spans:
        """These and ``spans``."""
        return Spans(pa.concat_tables([self._table, pa.Table.from_batches([_batch(spans, [MISSING_NS] * len(spans))])]))

    def __len__(self) -> int:
        """Spans as received, duplicates counted."""
        return int(self._table.num_rows)

    @property
    def trace_ids(self) -> tuple[str, ...]:
        """The traces that have spans, in order of id."""
        return tuple(self._rows)

    def for_trace(self, trace_id: str) -> tuple[Span, ...]:
        """The spans of one trace by start; of several with one span id the one that ended last. Empty for an unknown trace."""
        first, after = self._rows.get(trace_id, (0, 0))
        found: dict[str, Span] = {}
        for row in self._table.slice(first, after - first).to_pylist():
            known = found.get(row["span_id"])
            if known is None or known.end_unix_ns < row["end_unix_ns"]:
                found[row["span_id"]] = _from_row(row)
        return tuple(sorted(found.values(), key=lambda span: (span.start_unix_ns, -span.end_unix_ns, span.span_id)))


def _batch(spans: Sequence[Span], received_unix_ns: Sequence[int]) -> pa.RecordBatch:
    columns: dict[str, Iterable[object]] = {
        "trace_id": [span.trace_id for span in spans],
        "span_id": [span.span_id for span in spans],
        "parent_id": [span.parent_id for span in spans],
        "name": [span.name for span in spans],
        "kind": [span.kind for span in spans],
        "start_unix_ns": [span.start_unix_ns for span in spans],
        "end_unix_ns": [span.end_unix_ns for span in spans],
        "attributes": [_json(span.attributes) for span in spans],
        "events": [_json([{"name": e.name, "unix_ns": e.unix_ns, "attributes": e.attributes} for e in span.events]) for span in spans],
        "resource": [_json(span.resource) for span in spans],
        "scope": [span.scope for span in spans],
        "received_unix_ns": received_unix_ns,
    }
    return pa.record_batch([pa.array(columns[field.name], type=field.type) for field in SCHEMA], schema=SCHEMA)


def _json(value: object) -> str:
    return orjson.dumps(value).decode()


def _from_row(row: Mapping[str, Any]) -> Span:
    return Span(
        trace_id=row["trace_id"],
        span_id=row["span_id"],
        parent_id=row["parent_id"],
        name=row["name"],
        kind=row["kind"],
        start_unix_ns=row["start_unix_ns"],
        end_unix_ns=row["end_unix_ns"],
        attributes=orjson.loads(row["attributes"]),
        events=tuple(SpanEvent(**event) for event in orjson.loads(row["events"])),
        resource=_resource(row["resource"]),
        scope=row["scope"],
    )


@lru_cache(maxsize=1024)
def _resource(text: str) -> Mapping[str, Scalar]:
    """One mapping for all spans of a process: there are few, and nobody may write to them."""
    resource: Mapping[str, Scalar] = orjson.loads(text)
    return resource


def _runs(trace_ids: pa.ChunkedArray) -> dict[str, tuple[int, int]]:
    """Trace id -> [first row, row after the last) of a sorted column."""
    rows: dict[str, tuple[int, int]] = {}
    after = 0
    for chunk in trace_ids.chunks:
        encoded = pc.run_end_encode(chunk, run_end_type=pa.int64())
        before = after
        for trace_id, end in zip(encoded.values.to_pylist(), encoded.run_ends.to_pylist(), strict=True):
            first = after
            after = before + end
            rows[trace_id] = (rows.get(trace_id, (first, first))[0], after)
    return rows


def _read_stream(path: Path) -> pa.Table:
    """Every whole batch of a stream; what a killed writer left torn at the end is dropped."""
    batches: list[pa.RecordBatch] = []
    with path.open("rb") as file, contextlib.suppress(pa.ArrowInvalid, OSError):
        batches.extend(pa.ipc.open_stream(file))
    return pa.Table.from_batches(batches, schema=SCHEMA)
