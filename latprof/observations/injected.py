"""What the injecting hop did to each request: ``inject.parquet`` in the run folder, ``inject.arrows`` until the run has ended.

received      head of the request complete        |
forwarded     first byte passed on                |== delay ==|
first_byte    of the answer, passed back                                 |
ended         last byte passed back                                            |
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa

from latprof.errors import UsageError
from latprof.observations.columns import IntArray, TextArray, int_column, text_column
from latprof.observations.names import INJECT_PARQUET, INJECT_STREAM
from latprof.observations.streams import batches, compact_stream, read_parquet
from latprof.units import MISSING_NS

INJECT_SCHEMA = pa.schema(
    [
        ("trace_id", pa.string()),
        ("parent_id", pa.string()),
        ("block", pa.int64()),
        ("delay_ns", pa.int64()),
        ("received_ns", pa.int64()),
        ("forwarded_ns", pa.int64()),
        ("first_byte_ns", pa.int64()),
        ("ended_ns", pa.int64()),
    ]
)
"""One row per request that was delayed (by 0 ns, too). Stamps on the run's monotonic clock; null where a thing never happened."""


class Passage(NamedTuple):
    """One request's way through the hop, in the order of `INJECT_SCHEMA`."""

    trace_id: str
    parent_id: str
    block: int
    delay_ns: int
    received_ns: int
    forwarded_ns: int
    first_byte_ns: int
    ended_ns: int


@dataclass(frozen=True, eq=False)
class Injected:
    """The rows of a run, each column of shape (n,). ``delay_ns`` is what was drawn, ``forwarded_ns - received_ns`` what it became."""

    trace_id: TextArray
    parent_id: TextArray
    block: IntArray
    delay_ns: IntArray
    received_ns: IntArray
    forwarded_ns: IntArray
    first_byte_ns: IntArray
    ended_ns: IntArray

    def __len__(self) -> int:
        return len(self.trace_id)


class InjectLog:
    """Writes passages as they are over; a batch goes to the kernel at once.

    Raises:
        UsageError: the file cannot be created.
    """

    def __init__(self, folder: Path) -> None:
        path = folder / INJECT_STREAM
        try:
            self._sink = pa.OSFile(str(path), "wb")
        except OSError as error:
            raise UsageError(
                f"{path}: cannot be created ({error.strerror or error}); name a folder that can be written with --out"
            ) from None
        self._writer = pa.ipc.new_stream(self._sink, INJECT_SCHEMA)

    def write(self, passages: Sequence[Passage]) -> None:
        """One batch."""
        if not passages:
            return
        columns: list[Any] = [
            pa.array([None if value == MISSING_NS else value for value in values], column.type)
            for values, column in zip(zip(*passages, strict=True), INJECT_SCHEMA, strict=True)
        ]
        self._writer.write_batch(pa.RecordBatch.from_arrays(columns, schema=INJECT_SCHEMA))

    def close(self) -> None:
        """Write the mark that says the stream is whole."""
        self._writer.close()
        self._sink.close()


def load_injected(folder: Path) -> Injected | None:
    """What was injected; None where nothing was.

    Raises:
        ConfigError: the file is damaged.
    """
    if (folder / INJECT_PARQUET).exists():
        table = read_parquet(folder / INJECT_PARQUET, INJECT_SCHEMA).table
    elif (folder / INJECT_STREAM).exists():
        table = pa.Table.from_batches(batches(folder / INJECT_STREAM, INJECT_SCHEMA), INJECT_SCHEMA)
    else:
        return None
    texts = {name: text_column(table[name]) for name in ("trace_id", "parent_id")}
    ints = {name: int_column(table[name]) for name in INJECT_SCHEMA.names[2:]}
    return Injected(texts["trace_id"], texts["parent_id"], *ints.values())


def compact_injected(folder: Path) -> None:
    """Turn the stream into Parquet and remove it. Can be cut off anywhere and repeated; does nothing where there is no stream.

    Raises:
        UsageError: the folder cannot be written.
    """
    compact_stream(folder / INJECT_STREAM, folder / INJECT_PARQUET, INJECT_SCHEMA)


def rows_of(injected: Injected, trace_ids: TextArray) -> IntArray:
    """The row of each trace, -1 where it did not pass the hop, shape (n,). A trace that passed twice (a request sent again) has its last."""
    at = {trace: row for row, trace in enumerate(injected.trace_id)}
    return np.fromiter((at.get(trace, -1) for trace in trace_ids), np.int64, len(trace_ids))
