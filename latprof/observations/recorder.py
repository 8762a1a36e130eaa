"""Writes observations while the run goes: the event loop hands attempts over, a thread of its own puts them on disk.

    event loop   begin -> in flight -> end -> finished           ChunkLog.append
    thread                   |                     |                  |          every half second
                  requests.w0.inflight.arrows  requests.w0.arrows   chunks.w0.arrows

A process killed at any instant loses what came since the last of these writes and nothing else: what ``write`` has handed to the kernel
outlives the process. (``fsync`` would help against a power cut only, and can stall for as long as the disk likes.)
"""

from __future__ import annotations

import contextlib
import os
import sys
import threading
import time
from array import array
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypeVar

import pyarrow as pa

from latprof.client.stamps import Attempt, ChunkLog
from latprof.errors import UsageError
from latprof.observations.columns import CHUNKS_SCHEMA, REQUESTS_SCHEMA, batch_of
from latprof.observations.names import draft_of, stream_name

_Column = TypeVar("_Column", list[Attempt], "array[int]")

# Long enough for the event loop to take the interpreter lock when it waits for it. Not more often than after so much work: every pause ends with
# a wake-up that interrupts the event loop where both have one core (200 of them a flush doubled its stalls).
_PAUSE_S = 10e-6
_WORK_NS = 300_000


class Recorder:
    """Records what ``worker`` of a run does into ``folder``; a context manager, which ends with `close`.

    The files are written at least every ``flush_every_s``: half of the second that a kill may cost, the other half is for a slow disk.

    Raises:
        UsageError: the files cannot be created.
    """

    def __init__(self, folder: Path, chunks: ChunkLog, flush_every_s: float = 0.5, *, worker: int = 0) -> None:
        self._folder = folder
        self._in_flight_path = folder / stream_name("requests.inflight", worker)
        self._chunks = chunks
        self._flush_every_s = flush_every_s
        self._in_flight: dict[int, Attempt] = {}
        self._finished: list[Attempt] = []
        self._failure: Exception | None = None
        self._request_file = _open(folder / stream_name("requests", worker), REQUESTS_SCHEMA)
        self._chunk_file = _open(folder / stream_name("chunks", worker), CHUNKS_SCHEMA)
        # pyarrow looks things up at its first conversion: 12 ms with the interpreter lock held, which must not fall into the run.
        batch_of([Attempt(0, 0, 0, 0, "", "", "", 0, 0)])
        self._closing = threading.Event()
        # A daemon: an interpreter that leaves without `close` must not hang on it.
        self._thread = threading.Thread(target=self._work, name="latprof-recorder", daemon=True)
        self._thread.start()

    @property
    def failed(self) -> bool:
        """Whether writing has failed and nothing more is kept; `close` will say why. Cheap: ask as often as you like."""
        return self._failure is not None

    def begin(self, attempt: Attempt) -> None:
        """From now on ``attempt`` is known, and each write snapshots it as far as it has come. O(1)."""
        self._in_flight[id(attempt)] = attempt

    def end(self, attempt: Attempt) -> None:
        """``attempt`` is final: it must not change any more. O(1)."""
        # In this order: the thread looks at those in flight first, so that it sees every attempt in at least one of the two.
        self._finished.append(attempt)
        self._in_flight.pop(id(attempt), None)

    def close(self) -> None:
        """Write what is left and end the thread; blocks for that write. A second call only repeats the answer.

        Raises:
            UsageError: the folder could not be written, now or earlier in the run.
        """
        self._closing.set()
        self._thread.join()
        if isinstance(self._failure, OSError):
            raise UsageError(
                f"{self._folder}: the observations cannot be written ({self._failure.strerror or self._failure}); what came before is kept "
                f"there (latprof report {self._folder}); free some space, or name another folder with --out"
            ) from self._failure
        if self._failure is not None:
            raise self._failure

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        try:
            self.close()
        except Exception:
            if error is None:  # else the first error is the one to hear of
                raise

    def _work(self) -> None:
        if sys.platform == "linux":  # elsewhere it would be the whole process
            _stand_back()
        last = False
        while not last:
            last = self._closing.wait(self._flush_every_s)
            try:
                self._write()
                if last and self._failure is None:
                    self._finish()
            except Exception as error:  # noqa: BLE001 - whatever it is, `close` tells; the load goes on
                self._failure = self._failure or error

    def _write(self) -> None:
        """Take what has come and write it. After a failure still take it: memory must not grow with the rest of the run."""
        in_flight = list(self._in_flight.values())
        finished = _taken(self._finished, len(self._finished))
        chunks = _taken_chunks(self._chunks)
        if self._failure is not None:
            return
        if chunks.num_rows:
            self._chunk_file.write(chunks)
        if finished:
            self._request_file.write(batch_of(finished, _Pauses()))
        if in_flight:
            _replace(self._in_flight_path, batch_of(in_flight, _Pauses()))

    def _finish(self) -> None:
        self._request_file.close()
        self._chunk_file.close()


class _StreamFile:
    """An Arrow stream on disk; each batch goes to the kernel at once, in unbuffered writes made without the interpreter lock."""

    def __init__(self, path: Path, schema: pa.Schema) -> None:
        self._sink = pa.OSFile(str(path), "wb")
        self._writer = pa.ipc.new_stream(self._sink, schema)

    def write(self, batch: pa.RecordBatch) -> None:
        self._writer.write_batch(batch)

    def close(self) -> None:
        """Write the mark that says the stream is whole."""
        self._writer.close()
        self._sink.close()


def _open(path: Path, schema: pa.Schema) -> _StreamFile:
    try:
        return _StreamFile(path, schema)
    except OSError as error:
        raise UsageError(f"{path}: cannot be created ({error.strerror or error}); name a folder that can be written with --out") from None


def _replace(path: Path, batch: pa.RecordBatch) -> None:
    """Put ``batch`` in the place of what ``path`` held, at once: the file never grows, and a reader sees the old one or the new one."""
    draft = draft_of(path)
    file = _StreamFile(draft, batch.schema)
    file.write(batch)
    file.close()
    draft.replace(path)


def _taken_chunks(log: ChunkLog) -> pa.RecordBatch:
    """Remove the whole rows from the log while the event loop goes on appending to it.

    The rows up to the shortest column are whole, whatever the other thread is in the middle of. Each column gives up that many entries from
    its head; appends only touch its tail. (No buffer of a live column is ever exported: its next append would raise BufferError.)
    """
    columns: dict[str, array[int]] = {name: getattr(log, name) for name in CHUNKS_SCHEMA.names}
    count = min(map(len, columns.values()))
    taken = [_same_memory(_taken(columns[column.name], count), column.type) for column in CHUNKS_SCHEMA]
    return pa.RecordBatch.from_arrays(taken, schema=CHUNKS_SCHEMA)


def _taken(column: _Column, count: int) -> _Column:
    """Remove the first ``count`` entries. Two steps, each one operation in C that the interpreter lock keeps whole."""
    head = column[:count]
    del column[:count]
    return head


def _same_memory(column: array[int], kind: pa.DataType) -> Any:
    """A column as an Arrow array, nothing copied."""
    return pa.Array.from_buffers(kind, len(column), [None, pa.py_buffer(column)])


class _Pauses:
    """Called after every small piece of work; pauses where enough has been done since the last pause."""

    def __init__(self) -> None:
        self._since_ns = time.monotonic_ns()

    def __call__(self) -> None:
        if time.monotonic_ns() - self._since_ns > _WORK_NS:
            time.sleep(_PAUSE_S)
            self._since_ns = time.monotonic_ns()


def _stand_back() -> None:
    """Let the event loop's thread go first where both want a core: Linux gives each thread a niceness of its own."""
    with contextlib.suppress(OSError, AttributeError):
        os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), 10)
