"""Spans on disk: appended as Arrow batches while they come, compacted to Parquet, read back by trace.

``spans.arrows`` is an Arrow IPC stream; each batch is whole on disk once written, so a killed run keeps all but its last batch.
``spans.parquet`` replaces it when the run is over. ``spans.others.arrows`` and ``spans.others.parquet`` are the same for spans of traces that
are not the run's own, where they tell of answers: in the end only those of the run's answers are kept.
"""

from __future__ import annotations

import contextlib
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import orjson
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from latprof.spans.span import Scalar, Span, SpanEvent
from latprof.units import MISSING_NS

STREAM = "spans.arrows"
PARQUET = "spans.parquet"
OTHERS_STREAM = "spans.others.arrows"
OTHERS_PARQUET = "spans.others.parquet"

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
    """Appends spans to ``spans.arrows`` in the run folder, or to another stream there. Not for two threads at once."""

    def __init__(self, folder: Path, name: str = STREAM) -> None:
        # Unbuffered: a batch is in the kernel's hands when `append` returns.
        self._file = (folder / name).open("wb", buffering=0)
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
    if (folder / STREAM).exists():
        _replace(folder, STREAM, PARQUET, _read_stream(folder / STREAM))


def compact_others(folder: Path, traces: Collection[str]) -> None:
    """The same for the spans of other traces, of which those of ``traces`` are kept: what is nobody's of the run has no place in its folder."""
    if (folder / OTHERS_STREAM).exists():
        table = _read_stream(folder / OTHERS_STREAM)
        _replace(folder, OTHERS_STREAM, OTHERS_PARQUET, table.filter(pc.is_in(table["trace_id"], pa.array(list(traces), pa.string()))))


def load(folder: Path) -> Spans:
    """The spans of a run folder, finished or killed; none where the run took none.

    Raises:
        OSError: a file that cannot be read.
    """
    return Spans(_table(folder, STREAM, PARQUET))


def load_others(folder: Path) -> pa.Table:
    """The spans of other traces that tell of answers, as `SCHEMA`; nearly always there are none.

    Raises:
        OSError: a file that cannot be read.
    """
    return _table(folder, OTHERS_STREAM, OTHERS_PARQUET)


@dataclass(frozen=True, slots=True)
class Joined:
    """Whose spans were found by the id of the answer: ``traces`` are the requests' own trace ids, under which these spans stand now.

    ``spans`` counts them. ``refused`` are requests of whose answers spans tell, and yet none was joined, by reason.
    """

    traces: frozenset[str] = frozenset()
    spans: int = 0
    refused: Mapping[str, int] = field(default_factory=dict)


class Spans:
    """All spans of a run as received, found by trace; ``joined`` says which of them were not received under the trace they are found by."""

    def __init__(self, table: pa.Table, joined: Joined | None = None) -> None:
        """``table`` has `SCHEMA`'s columns, in any order of rows."""
        self.joined = joined or Joined()
        ordered = table.unify_dictionaries().sort_by([("trace_id", "ascending"), ("start_unix_ns", "ascending")])
        self._table = ordered.combine_chunks()
        self._rows = _runs(self._table.column("trace_id"))
        self._repeated = {name: _repeated(self._table.column(name)) for name in ("name", "resource", "scope")}

    @classmethod
    def of(cls, spans: Sequence[Span]) -> Spans:
        """Spans that never were on disk; when they were received is not known."""
        return cls(pa.Table.from_batches([_batch(spans, [MISSING_NS] * len(spans))]))

    def also(self, spans: Sequence[Span]) -> Spans:
        """These and ``spans``."""
        return self.with_table(pa.Table.from_batches([_batch(spans, [MISSING_NS] * len(spans))]), self.joined)

    def with_table(self, table: pa.Table, joined: Joined) -> Spans:
        """These and the rows of ``table``, which has `SCHEMA`'s columns."""
        return Spans(pa.concat_tables([self._table, table.select(SCHEMA.names)]), joined)

    def __len__(self) -> int:
        """Spans as received, duplicates counted."""
        return int(self._table.num_rows)

    @property
    def table(self) -> pa.Table:
        """All of them in columns, as `SCHEMA` has them, by trace and start."""
        return self._table

    def rows_of(self, trace_id: str) -> tuple[int, int]:
        """The rows of one trace in ``table``: the first, and the one after the last."""
        return self._rows.get(trace_id, (0, 0))

    @property
    def trace_ids(self) -> tuple[str, ...]:
        """The traces that have spans, in order of id."""
        return tuple(self._rows)

    def for_trace(self, trace_id: str) -> tuple[Span, ...]:
        """The spans of one trace by start; of several with one span id the one that ended last. Empty for an unknown trace."""
        first, after = self._rows.get(trace_id, (0, 0))
        columns = [self._column(name, first, after - first) for name in _READ]
        found: dict[str, Span] = {}
        for span_id, parent_id, name, kind, start_ns, end_ns, attributes, events, resource, scope in zip(*columns, strict=True):
            known = found.get(span_id)
            if known is None or known.end_unix_ns < end_ns:
                told = orjson.loads(attributes), _events(events), _resource(resource)
                found[span_id] = Span(trace_id, span_id, parent_id, name, kind, start_ns, end_ns, *told, scope)
        return tuple(sorted(found.values(), key=lambda span: (span.start_unix_ns, -span.end_unix_ns, span.span_id)))

    def _column(self, name: str, first: int, rows: int) -> list[Any]:
        if name not in self._repeated:
            values: list[Any] = self._table.column(name).slice(first, rows).to_pylist()
            return values
        words, codes = self._repeated[name]
        return [words[code] for code in codes[first : first + rows]]


_READ = ("span_id", "parent_id", "name", "kind", "start_unix_ns", "end_unix_ns", "attributes", "events", "resource", "scope")


def _repeated(column: pa.ChunkedArray) -> tuple[list[str], npt.NDArray[np.int64]]:
    """The words of a dictionary column, and which of them each row has: read a trace at a time, arrow decodes all words for every one."""
    whole = pa.concat_arrays(column.chunks) if column.num_chunks else pa.array([], _REPEATED)
    return whole.dictionary.to_pylist(), np.asarray(whole.indices.to_numpy(), np.int64)


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


def _events(text: str) -> tuple[SpanEvent, ...]:
    return () if text == "[]" else tuple(SpanEvent(**event) for event in orjson.loads(text))


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


def _table(folder: Path, stream: str, parquet: str) -> pa.Table:
    if (folder / parquet).exists():
        return pq.read_table(folder / parquet)
    return _read_stream(folder / stream) if (folder / stream).exists() else SCHEMA.empty_table()


def _replace(folder: Path, stream: str, parquet: str, table: pa.Table) -> None:
    """Write ``table`` in place of a stream; an empty one only where the stream was the run's own."""
    if table.num_rows or stream == STREAM:
        unfinished = folder / f"{parquet}.tmp"
        pq.write_table(table, unfinished, compression="zstd")
        unfinished.replace(folder / parquet)
    (folder / stream).unlink()


def _read_stream(path: Path) -> pa.Table:
    """Every whole batch of a stream; what a killed writer left torn at the end is dropped."""
    batches: list[pa.RecordBatch] = []
    with path.open("rb") as file, contextlib.suppress(pa.ArrowInvalid, OSError):
        batches.extend(pa.ipc.open_stream(file))
    return pa.Table.from_batches(batches, schema=SCHEMA)
