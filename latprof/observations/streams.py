"""Observations on disk: Arrow streams while the run goes, Parquet afterwards, and the way from one to the other.

    requests.w*.arrows            finished attempts, batch after batch           \
    requests.w*.inflight.arrows   attempts not finished, replaced each time      /  -> requests.parquet
    chunks.w*.arrows              chunks, batch after batch                         -> chunks.parquet

The streams of several workers become one table each: requests by number, chunks in order of arrival.

A Parquet file gets its name only when it is whole, and the streams go only after both are there: at every instant one of the two can be
read, and where both exist they say the same.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from latprof.client.stamps import ErrorClass
from latprof.errors import ConfigError, UsageError
from latprof.observations.columns import CHUNKS_SCHEMA, REQUESTS_SCHEMA
from latprof.observations.encodings import encodings
from latprof.observations.names import CHUNKS_PARQUET, REQUESTS_PARQUET, Kind, draft_of, streams_of
from latprof.units import MISSING_NS

# 21 MB of chunks in memory while they are compacted, and enough rows for the encodings to pay.
_ROWS_PER_GROUP = 1 << 20
# What a stream that was closed ends with: a message of length 0.
_END_OF_STREAM = b"\xff\xff\xff\xff\x00\x00\x00\x00"
# Set in the schema metadata of a Parquet file made from a stream that was not closed, so that compaction does not hide it.
_CUT = {b"latprof.cut": b"yes"}


@dataclass(frozen=True, slots=True)
class Stored:
    """A table as read back; ``whole`` is False when the process that wrote it did not get to the end."""

    table: pa.Table
    whole: bool


def read_requests(folder: Path) -> Stored:
    """Every attempt once, by (request, attempt): its final row, or its last snapshot as `ErrorClass.UNFINISHED`.

    Raises:
        ConfigError: the file is damaged.
    """
    if (folder / REQUESTS_PARQUET).exists():
        return read_parquet(folder / REQUESTS_PARQUET, REQUESTS_SCHEMA)
    # The snapshots first, so that a final row, where there is one, is the last of its attempt.
    kinds: tuple[Kind, ...] = ("requests.inflight", "requests")
    parts = [batch for kind in kinds for path in streams_of(folder, kind) for batch in batches(path, REQUESTS_SCHEMA)]
    table = _last_of_each(pa.Table.from_batches(parts, REQUESTS_SCHEMA))
    return Stored(_unfinished_named(table), _are_whole(folder, "requests"))


def read_chunks(folder: Path) -> Stored:
    """Every chunk in order of arrival.

    Raises:
        ConfigError: the file is damaged.
    """
    if (folder / CHUNKS_PARQUET).exists():
        return read_parquet(folder / CHUNKS_PARQUET, CHUNKS_SCHEMA)
    return Stored(pa.Table.from_batches(_chunk_batches(folder), CHUNKS_SCHEMA), _are_whole(folder, "chunks"))


def batches(path: Path, schema: pa.Schema) -> Iterator[pa.RecordBatch]:
    """The whole batches of a stream, up to where it ends or was cut off; none if there is no file.

    Raises:
        ConfigError: the stream was closed by its writer and yet does not read: it was damaged since.
    """
    if not path.exists():
        return
    with pa.OSFile(str(path), "rb") as source:
        try:
            for batch in pa.ipc.open_stream(source):
                batch.validate(full=True)
                yield from conform(pa.Table.from_batches([batch]), schema, path).to_batches()
        except (pa.ArrowException, OSError) as error:
            if is_whole(path):
                raise _damaged(path, error) from None


def is_whole(path: Path) -> bool:
    """Whether the writer of a stream closed it: message follows message, each of its full length, up to an end mark at the file's end."""
    try:
        with pa.memory_map(str(path)) as source:
            for _ in pa.ipc.MessageReader.open_stream(source):
                pass
            if source.tell() != source.size():
                return False
            source.seek(-len(_END_OF_STREAM), os.SEEK_END)
            return bytes(source.read()) == _END_OF_STREAM
    except (pa.ArrowException, OSError):
        return False


def has_requests(folder: Path) -> bool:
    """Whether there is anything that `read_requests` could read."""
    return (folder / REQUESTS_PARQUET).exists() or bool(streams_of(folder, "requests"))


def has_chunks(folder: Path) -> bool:
    """Whether there is anything that `read_chunks` could read."""
    return (folder / CHUNKS_PARQUET).exists() or bool(streams_of(folder, "chunks"))


class Answered(NamedTuple):
    """The attempts that succeeded: their trace ids, and the ids of the answers that have one."""

    traces: list[str]
    answers: list[str]


def answered(folder: Path) -> Answered:
    """What succeeded, as far as it was written; other columns are not decoded."""
    told = Answered([], [])
    for path in streams_of(folder, "requests"):
        for batch in batches(path, REQUESTS_SCHEMA):
            rows = pc.and_(pc.equal(batch["error_class"], ErrorClass.NONE.value), pc.is_valid(batch["end_ns"]))
            told.traces.extend(batch["trace_id"].filter(rows).to_pylist())
            told.answers.extend(filter(None, batch["response_id"].filter(rows).to_pylist()))
    return told


def compact(folder: Path) -> None:
    """Turn the streams of a run into Parquet and remove them. Can be cut off anywhere and repeated; does nothing the second time.

    Memory is bounded for chunks (one row group), and grows with the number of requests.

    Raises:
        UsageError: the folder cannot be written.
    """
    try:
        if streams_of(folder, "requests") and not (folder / REQUESTS_PARQUET).exists():
            stored = read_requests(folder)
            _write_parquet(folder / REQUESTS_PARQUET, REQUESTS_SCHEMA, iter([stored.table]), whole=stored.whole)
        if streams_of(folder, "chunks") and not (folder / CHUNKS_PARQUET).exists():
            _write_parquet(folder / CHUNKS_PARQUET, CHUNKS_SCHEMA, _row_groups(folder), whole=_are_whole(folder, "chunks"))
        kinds: tuple[Kind, ...] = ("requests.inflight", "requests", "chunks")
        drafts = folder.glob("requests.*inflight.arrows.draft")
        for path in [*drafts, *(path for kind in kinds for path in streams_of(folder, kind))]:
            path.unlink(missing_ok=True)
    except OSError as error:
        raise UsageError(
            f"{folder}: cannot be compacted ({error.strerror or error}); nothing is lost: free some space and run latprof report {folder}"
        ) from error


def conform(table: pa.Table, schema: pa.Schema, path: Path) -> pa.Table:
    """``table`` with exactly the columns of ``schema``: null where an older version had not written one, and without what a newer one adds."""
    if table.schema.equals(schema):
        return table
    try:
        columns = [
            table[column.name].cast(column.type) if column.name in table.column_names else pa.nulls(table.num_rows, column.type)
            for column in schema
        ]
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as error:
        raise ConfigError(f"{path}: has a column of another type than latprof writes ({error}); measure again") from None
    return pa.table(columns, schema=schema)


def read_parquet(path: Path, schema: pa.Schema) -> Stored:
    """A table that latprof wrote, with the columns of ``schema``.

    Raises:
        ConfigError: the file is damaged.
    """
    try:
        table = pq.read_table(path, partitioning=None)
        table.validate(full=True)
    except (pa.ArrowException, OSError) as error:
        raise _damaged(path, error) from None
    return Stored(conform(table, schema, path), whole=not _CUT.keys() <= (table.schema.metadata or {}).keys())


def _damaged(path: Path, error: Exception) -> ConfigError:
    return ConfigError(
        f"{path}: is damaged ({' '.join(str(error).split())}); wanted the file as latprof wrote it: copy the run folder again, or measure again"
    )


def _are_whole(folder: Path, kind: Kind) -> bool:
    paths = streams_of(folder, kind)
    return bool(paths) and all(is_whole(path) for path in paths)


def _chunk_batches(folder: Path) -> Iterator[pa.RecordBatch]:
    """The chunks of all workers in order of arrival; in memory are a few batches of each at most."""
    return merged([batches(path, CHUNKS_SCHEMA) for path in streams_of(folder, "chunks")])


def merged(streams: Sequence[Iterator[pa.RecordBatch]]) -> Iterator[pa.RecordBatch]:
    """Streams of chunks as one, by ``at_ns``; rows of one stream with the same stamp stay in their order.

    A worker logs what it reads, and reads one socket after the other: its stream is in order but for the few rows of one turn of its loop, and
    these are put right as far as they lie in one batch. Rows of one request are always in order. One stream alone comes as it is.
    """
    if len(streams) == 1:
        yield from streams[0]
        return
    heads = {number: batch for number, stream in enumerate(streams) if (batch := _next_with_rows(stream)) is not None}
    while heads:
        # Up to the earliest of the last stamps every stream has shown what it has.
        until_ns = min(pc.max(batch["at_ns"]).as_py() for batch in heads.values())
        due = []
        for number, batch in list(heads.items()):
            is_due = pc.less_equal(batch["at_ns"], until_ns)
            due.append(batch.filter(is_due))
            left = batch.filter(pc.invert(is_due))
            following = left if left.num_rows else _next_with_rows(streams[number])
            if following is None:
                del heads[number]
            else:
                heads[number] = following
        table = pa.Table.from_batches(due).combine_chunks()
        order = np.argsort(table["at_ns"].to_numpy(), kind="stable")
        yield from table.take(order).to_batches()


def _next_with_rows(stream: Iterator[pa.RecordBatch]) -> pa.RecordBatch | None:
    return next((batch for batch in stream if batch.num_rows), None)


def _row_groups(folder: Path) -> Iterator[pa.Table]:
    """The chunks in tables of about `_ROWS_PER_GROUP` rows: a batch of half a second alone is too short to encode well."""
    held: list[pa.RecordBatch] = []
    for batch in _chunk_batches(folder):
        held.append(batch)
        if sum(part.num_rows for part in held) >= _ROWS_PER_GROUP:
            yield pa.Table.from_batches(held)
            held = []
    if held:
        yield pa.Table.from_batches(held)


def _write_parquet(path: Path, schema: pa.Schema, tables: Iterator[pa.Table], *, whole: bool) -> None:
    draft = draft_of(path)
    with pq.ParquetWriter(draft, schema if whole else schema.with_metadata(_CUT), **encodings(schema)) as writer:
        for table in tables:
            writer.write_table(table, row_group_size=_ROWS_PER_GROUP)
    draft.replace(path)


def _last_of_each(table: pa.Table) -> pa.Table:
    """One row per (request, attempt), the last one written; sorted by them."""
    request, attempt = (table[name].fill_null(MISSING_NS).to_numpy() for name in ("request", "attempt"))
    order = np.lexsort((attempt, request))  # stable: rows of one attempt stay in the order they were written
    request, attempt = request[order], attempt[order]
    is_last = np.ones(len(order), np.bool_)
    is_last[:-1] = (request[1:] != request[:-1]) | (attempt[1:] != attempt[:-1])
    return table.take(order[is_last])


def _unfinished_named(table: pa.Table) -> pa.Table:
    """Rows without an end and without a reason for it were in flight when the process died."""
    index = table.schema.get_field_index("error_class")
    unfinished = pc.and_(pc.is_null(table["end_ns"]), pc.equal(table["error_class"], ErrorClass.NONE.value))
    named = pc.if_else(unfinished, ErrorClass.UNFINISHED.value, table["error_class"])
    return table.set_column(index, table.schema.field(index), named)


def compact_stream(stream: Path, path: Path, schema: pa.Schema) -> None:
    """Turn one stream into Parquet and remove it. Can be cut off anywhere and repeated; does nothing where there is no stream.

    Raises:
        UsageError: the folder cannot be written.
    """
    try:
        if stream.exists() and not path.exists():
            draft = draft_of(path)
            pq.write_table(pa.Table.from_batches(batches(stream, schema), schema), draft, compression="zstd")
            draft.replace(path)
        stream.unlink(missing_ok=True)
    except OSError as error:
        raise UsageError(
            f"{path.parent}: cannot be compacted ({error.strerror or error}); nothing is lost: free some space and run latprof report"
            f" {path.parent}"
        ) from error
