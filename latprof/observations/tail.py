"""Streams read while they are written: what has become whole since one last looked, and nothing that has not.

    file      schema | dictionaries | batch | batch | ba.        a writer in another process appends
    read                                           ^ up to here; the torn one is left for the next look

Whoever watches a run reads it here: the process that sends writes these files in any case, and being watched costs it nothing.
"""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import Any

import pyarrow as pa

from latprof.observations.columns import REQUESTS_SCHEMA
from latprof.observations.names import streams_of


class Tail:
    """The batches of one Arrow stream, each once; a file that is not there yet is an empty stream."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._whole_bytes = 0
        self._file: Any = None
        self._reader: Any = None

    def new(self) -> list[pa.RecordBatch]:
        """What has become whole since the last call.

        Raises:
            ArrowInvalid: the stream is damaged.
            OSError: it cannot be read.
        """
        batches = self._count_whole()
        if not batches:
            return []
        if self._reader is None:
            self._file = pa.OSFile(str(self._path), "rb")
            self._reader = pa.ipc.open_stream(self._file)
        return [self._reader.read_next_batch() for _ in range(batches)]

    def close(self) -> None:
        """Give the file back."""
        if self._file is not None:
            self._file.close()

    def _count_whole(self) -> int:
        """Step over the messages that are whole: a reader that met a torn one could not go on from there.

        Dictionaries come before the batch that needs them, so a whole batch can be decoded.
        """
        count = 0
        try:
            source = pa.memory_map(str(self._path))
        except (pa.ArrowException, OSError):  # not there, or empty
            return 0
        with source, contextlib.suppress(pa.ArrowException, OSError, EOFError):
            source.seek(self._whole_bytes)
            while True:
                message = pa.ipc.read_message(source)
                count += message.type == "record batch"
                self._whole_bytes = source.tell()
        return count


class RequestsTail:
    """The attempts of a run as its workers write them down: those that are over, each once, and those in flight."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._tails: dict[Path, Tail] = {}

    def new(self) -> pa.Table:
        """The attempts that ended since the last call; columns of `REQUESTS_SCHEMA`.

        Raises:
            ArrowInvalid, OSError: a stream cannot be read.
        """
        batches: list[pa.RecordBatch] = []
        for path in streams_of(self._folder, "requests"):
            batches += self._tails.setdefault(path, Tail(path)).new()
        return pa.Table.from_batches(batches, REQUESTS_SCHEMA)

    def in_flight(self, columns: list[str], newer_than_unix_ns: int) -> tuple[pa.Table, int]:
        """The last snapshots of attempts that were not over, those columns alone; and when the last of them was taken, in Unix ns (0: none).

        They are up to half a second old, so some of what is there may have ended since. A worker with nothing in flight leaves its last
        snapshot lying, hence ``newer_than_unix_ns``.
        """
        options = pa.ipc.IpcReadOptions(included_fields=[REQUESTS_SCHEMA.get_field_index(name) for name in columns])
        tables: list[pa.Table] = []
        taken_unix_ns = 0
        for path in streams_of(self._folder, "requests.inflight"):
            written_unix_ns = path.stat().st_mtime_ns
            if written_unix_ns < newer_than_unix_ns:
                continue
            taken_unix_ns = max(taken_unix_ns, written_unix_ns)
            with pa.memory_map(str(path)) as source:
                tables.append(pa.ipc.open_stream(source, options=options).read_all().select(columns))
        return pa.concat_tables([REQUESTS_SCHEMA.empty_table().select(columns), *tables]), taken_unix_ns

    def close(self) -> None:
        """Give the files back."""
        for tail in self._tails.values():
            tail.close()
