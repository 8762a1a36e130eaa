"""The graphs of the sessions that were handed out: what came after what, and how long the client meant to wait and to work in between.

steps.parquet     one row per step of every session with more than one; until the end of the run, and after a kill, the stream steps.arrows

A session of one turn that is due at its start has no row: its one request says everything. Tools are timers of the client, so what really happened follows from these
rows and the requests: a tool begins when the last of ``after`` has ended and takes ``takes_ns``, a turn is due ``think_ns`` after that.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import pyarrow as pa

from latprof.client.course import waits_for
from latprof.errors import UsageError
from latprof.observations.columns import BoolArray, IntArray, TextArray, int_column, text_column
from latprof.observations.names import STEPS_PARQUET, STEPS_STREAM
from latprof.observations.streams import batches, compact_stream, read_parquet
from latprof.workload.sessions import Session, Step, Turn

STEPS_SCHEMA = pa.schema(
    [
        ("session", pa.int64()),
        ("phase", pa.string()),
        ("step", pa.int32()),
        ("kind", pa.string()),
        ("turn", pa.int32()),
        ("name", pa.string()),
        ("after", pa.list_(pa.int32())),
        ("think_ns", pa.int64()),
        ("takes_ns", pa.int64()),
        ("at_ns", pa.int64()),
    ]
)
"""One row per step. Null: ``turn`` and ``think_ns`` of a tool, ``takes_ns`` of a turn, ``at_ns`` where there is no such bound."""

TURN: Final = "turn"
TOOL: Final = "tool"


@dataclass(frozen=True, eq=False)
class Steps:
    """One row per step, those of a session together and in order; columns of shape (n,), MISSING_NS where a kind of step has no such figure.

    ``turn`` is what `Requests.turn` calls the step. ``after_of`` are all the steps that must have ended before this one is due: those it was
    said to come after, and the turn whose answer it continues.
    """

    session: IntArray
    phase: TextArray
    step: IntArray
    kind: TextArray
    turn: IntArray
    name: TextArray
    think_ns: IntArray
    takes_ns: IntArray
    at_ns: IntArray
    after_offsets: IntArray
    """Shape (n + 1,): row i comes after ``after[after_offsets[i] : after_offsets[i + 1]]``."""
    after: IntArray

    def __len__(self) -> int:
        return len(self.session)

    @property
    def is_turn(self) -> BoolArray:
        """Where a step is a turn; else it is a tool."""
        return np.asarray(self.kind == TURN, np.bool_)

    def after_of(self, row: int) -> tuple[int, ...]:
        """The step numbers that row ``row`` waits for."""
        return tuple(self.after[self.after_offsets[row] : self.after_offsets[row + 1]].tolist())

    def by_session(self) -> Iterator[tuple[int, slice]]:
        """Every session and its rows, in order of their number."""
        numbers, begins = np.unique(self.session, return_index=True)
        ends = [*begins[1:].tolist(), len(self)]
        yield from zip(numbers.tolist(), map(slice, begins.tolist(), ends), strict=True)


class StepLog:
    """Writes graphs into a run folder as sessions are handed out; `add` may be called from several threads.

    Every call is a batch that goes to the kernel at once, so that a kill loses none that was handed out before. There is no file before there
    is a row.
    """

    def __init__(self, folder: Path) -> None:
        self._path = folder / STEPS_STREAM
        self._lock = threading.Lock()
        self._sink: Any = None
        self._writer: Any = None
        self._failure: OSError | None = None

    def add(self, sessions: Iterable[tuple[str, Session]]) -> None:
        """Write the steps of ``sessions``, each with the phase its rows are of. Never raises: `close` says what went wrong."""
        graphs = [(phase, session) for phase, session in sessions if not _is_plain(session)]
        if not graphs:
            return
        batch = _batch_of(graphs)
        with self._lock:
            if self._failure is not None:
                return
            try:
                if self._writer is None:
                    self._sink = pa.OSFile(str(self._path), "wb")
                    self._writer = pa.ipc.new_stream(self._sink, STEPS_SCHEMA)
                self._writer.write_batch(batch)
            except OSError as error:
                self._failure = error

    def close(self) -> None:
        """Write the mark that says the stream is whole. A second call only repeats the answer.

        Raises:
            UsageError: not all of it could be written.
        """
        with self._lock:
            try:
                if self._writer is not None:
                    self._writer.close()
                    self._sink.close()
            except OSError as error:
                self._failure = self._failure or error
            self._writer = self._sink = None
            if self._failure is not None:
                raise UsageError(
                    f"{self._path}: cannot be written ({self._failure.strerror or self._failure}); free some space, or name another folder"
                    " with --out"
                ) from self._failure


def load_steps(folder: Path) -> Steps:
    """The graphs of a run; no row where no session had more than one step, or where an older version wrote the folder.

    Raises:
        ConfigError: the file is damaged.
    """
    if (folder / STEPS_PARQUET).exists():
        table = read_parquet(folder / STEPS_PARQUET, STEPS_SCHEMA).table
    else:
        table = pa.Table.from_batches(batches(folder / STEPS_STREAM, STEPS_SCHEMA), STEPS_SCHEMA)
    return _steps_of(table)


def compact_steps(folder: Path) -> None:
    """Turn the stream into Parquet and remove it. Can be cut off anywhere and repeated; does nothing where there is no stream.

    Raises:
        UsageError: the folder cannot be written.
    """
    compact_stream(folder / STEPS_STREAM, folder / STEPS_PARQUET, STEPS_SCHEMA)


def _is_plain(session: Session) -> bool:
    """Whether it is one turn, due at the session's start."""
    step = session.steps[0]
    return len(session.steps) == 1 and isinstance(step, Turn) and step.think_ns == 0 and not step.at_ns


def _batch_of(graphs: Iterable[tuple[str, Session]]) -> pa.RecordBatch:
    rows = [
        (session.session, phase, number, *_row_of(number, step)) for phase, session in graphs for number, step in enumerate(session.steps)
    ]
    columns = [pa.array(values, column.type) for values, column in zip(zip(*rows, strict=True), STEPS_SCHEMA, strict=True)]
    return pa.RecordBatch.from_arrays(columns, schema=STEPS_SCHEMA)


def _row_of(number: int, step: Step) -> tuple[object, ...]:
    after = sorted(set(waits_for(step)))
    if isinstance(step, Turn):
        return TURN, number, "", after, step.think_ns, None, step.at_ns
    return TOOL, None, step.name, after, None, step.takes_ns, None


def _steps_of(table: pa.Table) -> Steps:
    table = table.sort_by([("session", "ascending"), ("step", "ascending")])
    after = table["after"].combine_chunks()
    after = pa.concat_arrays(after.chunks) if isinstance(after, pa.ChunkedArray) else after
    lengths = np.asarray(after.value_lengths().fill_null(0).to_numpy(zero_copy_only=False), np.int64)
    return Steps(
        session=int_column(table["session"]),
        phase=text_column(table["phase"]),
        step=int_column(table["step"]),
        kind=text_column(table["kind"]),
        turn=int_column(table["turn"]),
        name=text_column(table["name"]),
        think_ns=int_column(table["think_ns"]),
        takes_ns=int_column(table["takes_ns"]),
        at_ns=int_column(table["at_ns"]),
        after_offsets=np.concatenate([[0], np.cumsum(lengths)]),
        after=np.asarray(after.flatten().to_numpy(zero_copy_only=False), np.int64),
    )
