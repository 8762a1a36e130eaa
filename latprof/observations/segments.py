"""Tokens of a simulated run, kept as what made them: a pool's iterations in runs of equal steps, and which of them each answer came from.

segments.parquet    pool runs: pool, first iteration, start, step, count     iteration ``first + i`` ended at start + step * (i + 1)
                    own runs:  request, start, step, count                   chunk ``i`` came at start + step * i
streamed.parquet    request, pool, joined, ended                             its gaps are the lengths of iterations joined .. ended - 1

An answer whose chunks come as its pool made them (all later by the same time, perhaps) is one row of streamed.parquet; one that a hop on the way
back has changed has runs of its own instead, in order of time. No chunk is ever written, and none is made again to derive the gaps.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from types import TracebackType
from typing import Final, Self

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from latprof.observations.columns import IntArray, int_column
from latprof.observations.encodings import encodings
from latprof.observations.names import draft_of
from latprof.observations.streams import read_parquet
from latprof.units import MISSING_NS

SEGMENTS_PARQUET: Final = "segments.parquet"
STREAMED_PARQUET: Final = "streamed.parquet"
_BATCH_ROWS: Final = 1 << 16

SEGMENTS_SCHEMA = pa.schema(
    [
        ("pool", pa.int32()),
        ("request", pa.int64()),
        ("first", pa.int64()),
        ("start_ns", pa.int64()),
        ("step_ns", pa.int64()),
        ("count", pa.int64()),
    ]
)
"""Null: ``request`` of a pool's run, ``pool`` and ``first`` of a request's own."""
STREAMED_SCHEMA = pa.schema([("request", pa.int64()), ("pool", pa.int32()), ("joined", pa.int64()), ("ended", pa.int64())])

PoolRun = tuple[int, int, int, int]
"""(first iteration, start ns, step ns, count)."""
OwnRun = tuple[int, int, int]
"""(start ns, step ns, count)."""


@dataclass(frozen=True, eq=False)
class PoolLog:
    """One pool's iterations in order, a row per run of equal steps; columns of shape (s,)."""

    first: IntArray
    step_ns: IntArray
    count: IntArray


@dataclass(frozen=True, eq=False)
class Segments:
    """Where the tokens of every answer came from. ``streamed`` columns have shape (n,), ``own`` ones a row per run, grouped by request."""

    pools: Mapping[int, PoolLog]
    request: IntArray
    pool: IntArray
    joined: IntArray
    ended: IntArray
    own_request: IntArray
    own_start_ns: IntArray
    own_step_ns: IntArray
    own_count: IntArray


class SegmentsWriter:
    """Writes both files in batches."""

    def __init__(self, folder: Path) -> None:
        self._paths = {SEGMENTS_PARQUET: SEGMENTS_SCHEMA, STREAMED_PARQUET: STREAMED_SCHEMA}
        self._folder = folder
        self._waiting: list[npt.NDArray[np.int64]] = []
        self._waiting_rows = 0
        self._writers = {
            name: pq.ParquetWriter(draft_of(folder / name), schema, **encodings(schema)) for name, schema in self._paths.items()
        }

    def pool(self, pool: int, segments: Sequence[PoolRun]) -> None:
        """More runs of pool number ``pool``."""
        if segments:
            rows = np.empty((len(segments), 5), np.int64)
            rows[:, 0] = pool
            rows[:, 1:] = np.fromiter(chain.from_iterable(segments), np.int64, 4 * len(segments)).reshape(
                -1, 4
            )  # half the time of np.array
            self._waiting.append(rows)
            self._waiting_rows += len(segments)
        if self._waiting_rows >= _BATCH_ROWS:
            self._write_waiting()

    def own(self, request: Sequence[int], runs: Sequence[OwnRun]) -> None:
        """Runs of answers that came otherwise than their pool made them, ``request`` telling whose each is."""
        if runs:
            self._write_waiting()
            columns = np.array(runs, np.int64).T
            self._write(SEGMENTS_PARQUET, [None, np.array(request, np.int64), None, *columns])

    def streamed(self, request: IntArray, pool: IntArray, joined: IntArray, ended: IntArray) -> None:
        """Answers that came as their pool made them; columns of shape (n,)."""
        if len(request):
            self._write(STREAMED_PARQUET, [request, pool, joined, ended])

    def close(self) -> None:
        """Complete the files; only then do they take their names."""
        self._write_waiting()
        for name, writer in self._writers.items():
            writer.close()
            draft_of(self._folder / name).replace(self._folder / name)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if error is None:
            self.close()

    def _write_waiting(self) -> None:
        """What pools have told: in batches, for each of 64 replicas tells of a thousand runs at a time."""
        if self._waiting:
            pool, *columns = np.concatenate(self._waiting).T
            self._waiting, self._waiting_rows = [], 0
            self._write(SEGMENTS_PARQUET, [pool, None, *columns])

    def _write(self, name: str, columns: Sequence[npt.NDArray[np.int64] | None]) -> None:
        schema = self._paths[name]
        rows = max(len(column) for column in columns if column is not None)
        arrays = [
            pa.nulls(rows, field.type) if column is None else pa.array(column, pa.int64()).cast(field.type)
            for column, field in zip(columns, schema, strict=True)
        ]
        self._writers[name].write_table(pa.table(arrays, schema=schema))


def has_segments(folder: Path) -> bool:
    """Whether there is anything that `load_segments` could read."""
    return (folder / SEGMENTS_PARQUET).exists()


def load_segments(folder: Path) -> Segments | None:
    """The tokens of a run that was simulated; None of any other.

    Raises:
        ConfigError: a file is damaged.
    """
    if not has_segments(folder):
        return None
    runs = read_parquet(folder / SEGMENTS_PARQUET, SEGMENTS_SCHEMA).table
    streamed = read_parquet(folder / STREAMED_PARQUET, STREAMED_SCHEMA).table
    pool, request, first, start_ns, step_ns, count = (int_column(runs[name]) for name in SEGMENTS_SCHEMA.names)
    is_own = np.flatnonzero(pool == MISSING_NS)
    own = is_own[np.argsort(request[is_own], kind="stable")]
    pools = {int(one): np.flatnonzero(pool == one) for one in np.unique(pool[pool != MISSING_NS])}
    return Segments(
        {one: PoolLog(first[rows], step_ns[rows], count[rows]) for one, rows in pools.items()},
        *(int_column(streamed[name]) for name in STREAMED_SCHEMA.names),
        *(column[own] for column in (request, start_ns, step_ns, count)),
    )
