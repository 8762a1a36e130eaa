"""What the simulator tells, into a run folder: rows in order of their request's number, in batches, so that memory stays where it is.

requests.parquet    as of a live run; what does not exist there (connections, reads, trace ids) is missing
layers.parquet      the call's layers of every request: `latprof.layers.stored`
segments.parquet    iterations, and streamed.parquet: `latprof.observations.segments`
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from struct import Struct
from types import TracebackType
from typing import Final, Self

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from latprof.layers.call import DECODE, STREAM
from latprof.layers.stored import LayersWriter
from latprof.observations.columns import REQUESTS_SCHEMA, IntArray
from latprof.observations.encodings import encodings
from latprof.observations.names import REQUESTS_PARQUET, draft_of
from latprof.observations.segments import OwnRun, SegmentsWriter
from latprof.stub.simulate import CALLS, ENGINE, MARKED
from latprof.stub.virtual.call import NO_POOL, Call

_BATCH_ROWS: Final = 1 << 15
_FIELDS: Final = (
    "request", "session", "turn", "phase", "message_tokens", "prompt_tokens", "output_tokens", "cached_tokens", "chunks",
    "intended_ns", "start_ns", "accepted_ns", "first_ns", "last_ns", "engine_first_ns", "engine_last_ns", "pool", "joined", "ended",
)  # fmt: skip
_ROW: Final = Struct(f"{len(_FIELDS) + 2 * len(MARKED)}q")
"""A call's fields, and its marks: packed at once, for a million calls are a million rows."""
_QUEUE, _PREFILL, _CAP_WAIT = "engine.queue", "prefill", "client.cap_wait"
LAYERS: Final = (
    _CAP_WAIT,
    *(name for marked in MARKED for name in ((_QUEUE, _PREFILL) if marked == _PREFILL else (marked,))),
    DECODE,
    STREAM,
)
"""In path order."""

_HOPS: Final = ("gateway", "router", "prefill", "decode")
_TEXTS: Final = {"first_channel": "content", "tokens_source": "usage", "error_class": "", "error_text": ""}


class Sums:
    """Wait and service of every request by station, from its row: the right sides of the operational laws. Measured phases only."""

    def __init__(self) -> None:
        self.requests = 0
        self.wait_ns: dict[str, int] = dict.fromkeys((*MARKED, DECODE, ENGINE, CALLS), 0)
        self.service_ns: dict[str, int] = dict(self.wait_ns)

    def add(self, name: str, wait_ns: IntArray | int, service_ns: IntArray) -> None:
        """Add a batch's columns."""
        self.wait_ns[name] += int(np.sum(wait_ns))
        self.service_ns[name] += int(np.sum(service_ns))


class SimulatedFolder:
    """Writes one run. ``phases`` are the names that `Call.phase` counts, ``warmup`` those that are not measured."""

    def __init__(self, folder: Path, phases: Sequence[str], warmup: str) -> None:
        self.sums = Sums()
        self.slowest_ns = 0
        self._folder = folder
        self._phases = pa.array(phases, pa.string())
        self._measured = np.array([name != warmup for name in phases])
        self._rows = bytearray()
        self._early: dict[int, bytes] = {}  # rows whose predecessors are still on their way
        self._following = 0
        self._own_request: list[int] = []
        self._own: list[OwnRun] = []
        self._requests = pq.ParquetWriter(draft_of(folder / REQUESTS_PARQUET), REQUESTS_SCHEMA, **encodings(REQUESTS_SCHEMA))
        self._layers = LayersWriter(folder, LAYERS, _HOPS)
        self._segments = SegmentsWriter(folder)
        self.iterations = self._segments.pool

    def call(self, call: Call) -> None:
        """A call whose last token is at the client."""
        row = _ROW.pack(
            call.number, call.key.session, call.step, call.phase, call.message_tokens, call.prompt_tokens, call.output_tokens,
            call.cached_tokens, call.chunks, call.intended_ns, call.start_ns, call.accepted_ns, call.first_token_ns, call.last_token_ns,
            call.engine_first_ns, call.engine_last_ns, call.pool, call.joined, call.ended, *call.marks,
        )  # fmt: skip
        if call.own is not None:
            self._own += call.own
            self._own_request += [call.number] * len(call.own)
        early = self._early
        if call.number != self._following:
            early[call.number] = row
            return
        rows = self._rows
        rows += row
        following = call.number + 1
        while following in early:
            rows += early.pop(following)
            following += 1
        self._following = following
        if len(rows) >= _BATCH_ROWS * _ROW.size:
            self._flush()

    def close(self) -> None:
        """Write what is left and complete the files."""
        self._flush()
        self._requests.close()
        draft_of(self._folder / REQUESTS_PARQUET).replace(self._folder / REQUESTS_PARQUET)
        self._layers.close()
        self._segments.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if error is None:
            self.close()

    def _flush(self) -> None:
        # Columns by themselves: most are read several times, and in rows every number lies in a cache line of its own.
        matrix = np.ascontiguousarray(np.frombuffer(self._rows, np.int64).reshape(-1, _ROW.size // 8).T)
        columns = dict(zip(_FIELDS, matrix, strict=False))
        marks = {name: (matrix[len(_FIELDS) + 2 * i], matrix[len(_FIELDS) + 2 * i + 1]) for i, name in enumerate(MARKED)}
        self._write_requests(columns)
        self._write_layers(columns, marks)
        self._write_segments(columns)
        self._sum(columns, marks)
        self._rows = bytearray()

    def _write_requests(self, columns: Mapping[str, IntArray]) -> None:
        first_ns, last_ns, start_ns = columns["first_ns"], columns["last_ns"], columns["start_ns"]
        rows = len(first_ns)
        known: dict[str, IntArray] = {
            **{
                name: columns[name]
                for name in ("request", "session", "turn", "prompt_tokens", "output_tokens", "cached_tokens", "intended_ns")
            },
            "asked_prompt_tokens": columns["message_tokens"],
            "asked_output_tokens": columns["output_tokens"],
            "attempt": np.zeros(rows, np.int64),
            "worker": np.zeros(rows, np.int64),
            "ready_ns": columns["intended_ns"],
            "start_ns": start_ns,
            "send_ns": start_ns,
            "written_ns": start_ns,
            "headers_ns": columns["accepted_ns"],
            "first_byte_ns": first_ns,
            "first_event_ns": first_ns,
            "first_token_ns": first_ns,
            "first_answer_ns": first_ns,
            "last_token_ns": last_ns,
            "end_ns": last_ns,
            "token_chunks": columns["chunks"],
            "status": np.full(rows, 200),
        }
        arrays = []
        for field in REQUESTS_SCHEMA:
            if field.name == "phase":
                arrays.append(self._phases.take(pa.array(columns["phase"])))
            elif field.name in known:
                arrays.append(pa.array(known[field.name], pa.int64()))
            elif field.name in _TEXTS:
                arrays.append(pa.repeat(pa.scalar(_TEXTS[field.name], pa.string()), rows))
            else:
                arrays.append(pa.nulls(rows, field.type))
        self._requests.write_table(pa.table(arrays, schema=REQUESTS_SCHEMA))

    def _write_layers(self, columns: Mapping[str, IntArray], marks: Mapping[str, tuple[IntArray, IntArray]]) -> None:
        """The partition of every call. A token that left the engine before the first was at the client has all of its way in ``stream``."""
        none = np.zeros(len(columns["request"]), np.int64)
        after_ns = columns["last_ns"] - columns["first_ns"]
        decode_ns = np.clip(columns["engine_last_ns"] - columns["first_ns"], 0, after_ns)
        parts = {
            _CAP_WAIT: (columns["start_ns"] - columns["intended_ns"], none),
            **marks,
            _QUEUE: (marks[_PREFILL][0], none),
            _PREFILL: (none, marks[_PREFILL][1]),
            DECODE: (none, decode_ns),
            STREAM: (none, after_ns - decode_ns),
        }
        written = {f"{name}:{part}": parts[name][index] for name in LAYERS for index, part in enumerate(("wait", "service"))}
        self._layers.write({"request": columns["request"], **written})

    def _write_segments(self, columns: Mapping[str, IntArray]) -> None:
        follows = columns["pool"] != NO_POOL
        self._segments.streamed(*(columns[name][follows] for name in ("request", "pool", "joined", "ended")))
        self._segments.own(self._own_request, self._own)
        self._own_request, self._own = [], []

    def _sum(self, columns: Mapping[str, IntArray], marks: Mapping[str, tuple[IntArray, IntArray]]) -> None:
        mine = self._measured[columns["phase"]]
        sums = self.sums
        sums.requests += int(mine.sum())
        for name, (wait_ns, service_ns) in marks.items():
            sums.add(name, wait_ns[mine], service_ns[mine])
        queue_ns, prefill_ns = (column[mine] for column in marks[_PREFILL])
        wait_ns, first_ns = (column[mine] for column in marks["decode.first"])
        decode_ns = first_ns + (columns["engine_last_ns"] - columns["engine_first_ns"])[mine]
        sums.add(DECODE, wait_ns, decode_ns)
        sums.add(ENGINE, queue_ns, prefill_ns + decode_ns)
        sums.add(CALLS, 0, (columns["last_ns"] - columns["start_ns"])[mine])
        call_ns = columns["last_ns"] - columns["start_ns"]
        self.slowest_ns = max(self.slowest_ns, int(call_ns.max(initial=0)))
