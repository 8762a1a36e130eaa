"""Observations in columns: the same names and order as the client's `Attempt` and `ChunkLog`, which are the one table of columns.

The Arrow schemas are read off those two classes, so that a field added there is written, kept and loaded without another list to edit.
In Arrow a missing stamp or count is null; in numpy it is ``MISSING_NS``, and a column stays int64.
"""

from __future__ import annotations

import dataclasses
import struct
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from operator import attrgetter
from typing import Any, NamedTuple, Self, get_type_hints

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from latprof.client.stamps import Attempt, ChunkLog, ErrorClass
from latprof.schedule.plan import WARMUP
from latprof.units import MISSING_NS

IntArray = npt.NDArray[np.int64]
BoolArray = npt.NDArray[np.bool_]
TextArray = npt.NDArray[np.object_]
"""Elements are ``str``; empty where there is none."""
PairsArray = npt.NDArray[np.object_]
"""Elements are ``tuple[tuple[str, str], ...]``: names and values in order, repeated names kept."""

_INT = pa.int64()
_TEXT = pa.string()
_PAIRS = pa.list_(pa.struct([("name", _TEXT), ("value", _TEXT)]))
_ARROW_TYPES = {int: _INT, str: _TEXT, list[tuple[str, str]]: _PAIRS}
_ARRAY_TYPES = {"q": pa.int64(), "i": pa.int32(), "b": pa.int8()}

REQUESTS_SCHEMA = pa.schema([(name, _ARROW_TYPES[kind]) for name, kind in get_type_hints(Attempt).items()])
"""One row per `Attempt`."""

_EMPTY_LOG = ChunkLog()
CHUNKS_SCHEMA = pa.schema([(name.name, _ARRAY_TYPES[getattr(_EMPTY_LOG, name.name).typecode]) for name in dataclasses.fields(ChunkLog)])
"""One row per entry of a `ChunkLog`, in the widths of its arrays."""


@dataclass(frozen=True, eq=False)
class Requests:
    """One row per attempt, each column of shape (n,); stamps are int64 ns on the run's monotonic clock, MISSING_NS where it never happened.

    What each column means stands at `latprof.client.stamps.Attempt`.
    """

    request: IntArray
    session: IntArray
    turn: IntArray
    attempt: IntArray
    phase: TextArray
    trace_id: TextArray
    span_id: TextArray
    asked_prompt_tokens: IntArray
    asked_output_tokens: IntArray
    intended_ns: IntArray
    built_ns: IntArray
    ready_ns: IntArray
    start_ns: IntArray
    dns_start_ns: IntArray
    dns_end_ns: IntArray
    connect_start_ns: IntArray
    connect_end_ns: IntArray
    tls_end_ns: IntArray
    send_ns: IntArray
    written_ns: IntArray
    headers_ns: IntArray
    first_byte_ns: IntArray
    first_event_ns: IntArray
    first_token_ns: IntArray
    first_answer_ns: IntArray
    last_token_ns: IntArray
    end_ns: IntArray
    before_first_token_ns: IntArray
    token_chunks: IntArray
    reads: IntArray
    user_stamps: IntArray
    first_channel: TextArray
    prompt_tokens: IntArray
    output_tokens: IntArray
    reasoning_tokens: IntArray
    cached_tokens: IntArray
    tokens_source: TextArray
    status: IntArray
    error_class: TextArray
    error_text: TextArray
    timing_headers: PairsArray
    body_timings: TextArray
    response_id: TextArray
    worker: IntArray
    target: TextArray

    def __len__(self) -> int:
        return len(self.request)

    @cached_property
    def success(self) -> BoolArray:
        """Where the whole answer came with at least one token: `Attempt.succeeded`, column-wise."""
        return np.asarray((self.error_class == ErrorClass.NONE) & known(self.end_ns), np.bool_)

    @cached_property
    def measured(self) -> BoolArray:
        """Rows of every phase but the warm-up."""
        return np.asarray(self.phase != WARMUP, np.bool_)

    def select(self, rows: npt.NDArray[Any]) -> Self:
        """The rows that ``rows``, a mask of shape (n,) or row numbers, names."""
        return type(self)(**{column.name: getattr(self, column.name)[rows] for column in dataclasses.fields(self)})

    def to_arrow(self) -> pa.Table:
        """As a table of `REQUESTS_SCHEMA`."""
        return _to_arrow(self, REQUESTS_SCHEMA)

    @classmethod
    def from_arrow(cls, table: pa.Table) -> Self:
        """From a table that has at least the columns of `REQUESTS_SCHEMA`; others are left aside."""
        return cls(**{column.name: _NUMPY[column.type](table[column.name]) for column in REQUESTS_SCHEMA})

    @classmethod
    def from_attempts(cls, attempts: Sequence[Attempt]) -> Self:
        """From attempts that are still in memory, in their order."""
        return cls.from_arrow(pa.Table.from_batches([batch_of(attempts)]))


class Tokens(NamedTuple):
    """Token-bearing chunks grouped by request. Those of ``request[i]`` (r,), ascending, came at ``at_ns[first[i] : first[i + 1]]``, in order of arrival."""

    request: IntArray
    first: IntArray
    at_ns: IntArray

    @property
    def counts(self) -> IntArray:
        """How many each request has, shape (r,)."""
        return np.diff(self.first)

    def of(self, requests: IntArray) -> IntArray:
        """Where in ``requests`` each one here stands, shape (r,); -1 of one that is not there."""
        order = np.argsort(requests, kind="stable")
        at = np.searchsorted(requests, self.request, sorter=order).clip(max=max(len(requests) - 1, 0))
        found = order[at] if len(requests) else np.zeros(len(at), np.int64)
        return np.where(requests[found] == self.request, found, -1) if len(requests) else found - 1


@dataclass(frozen=True, eq=False)
class Chunks:
    """One row per streamed chunk in order of arrival, each column of shape (n,) and int64.

    ``size`` in bytes of the event as received; ``channel`` one of `latprof.client.stamps.CHANNEL_CODES`, 0 without a token.
    """

    request: IntArray
    at_ns: IntArray
    size: IntArray
    channel: IntArray

    def __len__(self) -> int:
        return len(self.request)

    @cached_property
    def has_token(self) -> BoolArray:
        """Chunks that carry a token of any channel."""
        return np.asarray(self.channel != 0, np.bool_)

    @cached_property
    def tokens(self) -> Tokens:
        """Those that carry a token, grouped once for all who ask: of 20 million that takes seconds."""
        request = self.request[self.has_token]
        order = _stable_order(request)
        request = request[order]
        first = np.flatnonzero(np.append(True, request[1:] != request[:-1])) if len(request) else np.zeros(0, np.int64)
        return Tokens(request[first], np.append(first, len(request)), self.at_ns[self.has_token][order])

    def select(self, rows: npt.NDArray[Any]) -> Self:
        """The rows that ``rows``, a mask of shape (n,) or row numbers, names."""
        return type(self)(**{column.name: getattr(self, column.name)[rows] for column in dataclasses.fields(self)})

    def to_arrow(self) -> pa.Table:
        """As a table of `CHUNKS_SCHEMA`."""
        return _to_arrow(self, CHUNKS_SCHEMA)

    @classmethod
    def from_arrow(cls, table: pa.Table) -> Self:
        """From a table that has at least the columns of `CHUNKS_SCHEMA`; others are left aside."""
        return cls(**{column.name: int_column(table[column.name]) for column in CHUNKS_SCHEMA})


def _stable_order(numbers: IntArray) -> IntArray:
    """``np.argsort(numbers, kind="stable")``. Numbers below 2^32 are sorted by their halves, for which numpy counts instead of comparing."""
    if not len(numbers) or numbers.min() < 0 or numbers.max() >= 1 << 32:
        return np.argsort(numbers, kind="stable")
    order = np.argsort(numbers.astype(np.uint16), kind="stable")
    upper = (numbers >> 16).astype(np.uint16)
    return order[np.argsort(upper[order], kind="stable")] if upper.any() else order


def known(stamps_ns: IntArray) -> BoolArray:
    """Where a stamp or count is there, same shape."""
    return np.asarray(stamps_ns != MISSING_NS, np.bool_)


def elapsed_ns(begun_ns: IntArray, ended_ns: IntArray) -> IntArray:
    """``ended_ns - begun_ns`` row by row; MISSING_NS where one of the two is missing."""
    return np.where(known(begun_ns) & known(ended_ns), ended_ns - begun_ns, MISSING_NS)


# --- attempts -> Arrow --------------------------------------------------------------------------------------------------------------------

# The integers first, so that one slice of a row is a row of the integer matrix.
_INTS = [column.name for column in REQUESTS_SCHEMA if column.type == _INT]
_OTHERS = [column.name for column in REQUESTS_SCHEMA if column.type != _INT]
# One call in C over slots: nothing else runs in between, so a row is the state of its attempt at one instant even while the event loop's
# thread goes on writing to it.
_row = attrgetter(*_INTS, *_OTHERS)
_packed = struct.Struct(f"{len(_INTS)}q").pack
# 2 µs a row: 0.15 ms in one go.
_SLICE_ROWS = 64


def batch_of(attempts: Sequence[Attempt], pause: Callable[[], None] = lambda: None) -> pa.RecordBatch:
    """Attempts as rows of `REQUESTS_SCHEMA`; safe from any thread, see ``_row``.

    ``pause`` is called after every fraction of a millisecond of work: the place for a background thread to let the event loop go on.
    """
    if not attempts:
        return pa.RecordBatch.from_pylist([], schema=REQUESTS_SCHEMA)
    split = len(_INTS)
    slices: list[IntArray] = []
    others: list[tuple[Any, ...]] = []
    for begin in range(0, len(attempts), _SLICE_ROWS):
        rows = [_row(attempt) for attempt in attempts[begin : begin + _SLICE_ROWS]]
        slices.append(_int_matrix([row[:split] for row in rows]))
        others.extend(row[split:] for row in rows)
        pause()
    values = dict(zip(_INTS, np.ascontiguousarray(np.concatenate(slices).T), strict=True)) | dict(
        zip(_OTHERS, zip(*others, strict=True), strict=True)
    )
    arrays = []
    for column in REQUESTS_SCHEMA:
        arrays.append(_ARROW[column.type](values[column.name]))
        pause()
    return pa.RecordBatch.from_arrays(arrays, schema=REQUESTS_SCHEMA)


def _int_matrix(rows: Sequence[Sequence[int]]) -> IntArray:
    try:
        # A third of the time of np.array, which asks every value for its type.
        return np.frombuffer(b"".join([_packed(*row) for row in rows]), np.int64).reshape(len(rows), len(_INTS))
    except struct.error:
        # A server counted more tokens than there are: a number that cannot be one is not known.
        low, high = -(2**63), 2**63
        return np.array([[value if low <= value < high else MISSING_NS for value in row] for row in rows], np.int64)


def _int_array(values: IntArray) -> pa.Array:
    return pa.array(values, mask=~known(values))


def _text_array(values: Iterable[str]) -> pa.Array:
    values = list(values)
    try:
        return pa.array(values, _TEXT)
    except UnicodeEncodeError:
        # Half a surrogate pair, as a JSON escape can bring: kept readable, for one odd answer must not cost the batch.
        return pa.array([value.encode("utf-8", "backslashreplace").decode() for value in values], _TEXT)


def _pairs_array(values: Iterable[Iterable[tuple[str, str]]]) -> pa.Array:
    rows = [tuple(pairs) for pairs in values]
    if not any(rows):  # a server that tells no timings
        return pa.array(rows, _PAIRS)
    offsets = np.cumsum([0, *map(len, rows)], dtype=np.int32)
    names = _text_array(name for pairs in rows for name, _ in pairs)
    texts = _text_array(text for pairs in rows for _, text in pairs)
    return pa.ListArray.from_arrays(offsets, pa.StructArray.from_arrays([names, texts], fields=list(_PAIRS.value_type)), type=_PAIRS)


_ARROW: dict[pa.DataType, Callable[[Any], pa.Array]] = {_INT: _int_array, _TEXT: _text_array, _PAIRS: _pairs_array}


def _to_arrow(columns: Requests | Chunks, schema: pa.Schema) -> pa.Table:
    def array_of(column: pa.Field) -> pa.Array:
        make: Callable[[Any], pa.Array] = _ARROW.get(column.type, _int_array)
        return make(getattr(columns, column.name)).cast(column.type)

    return pa.table([array_of(column) for column in schema], schema=schema)


# --- Arrow -> numpy -----------------------------------------------------------------------------------------------------------------------


def int_column(column: pa.ChunkedArray) -> IntArray:
    """A column of integers, MISSING_NS where it is null."""
    whole = column.cast(_INT)
    return np.asarray((whole.fill_null(MISSING_NS) if whole.null_count else whole).to_numpy(), np.int64)


def text_column(column: pa.ChunkedArray) -> TextArray:
    """A column of texts, empty where it is null."""
    # Equal texts become one object: a million rows of "measured" cost a million pointers, not a million strings.
    encoded = column.fill_null("").combine_chunks().dictionary_encode()
    if isinstance(encoded, pa.ChunkedArray):  # empty, or more text than 32-bit offsets can hold
        encoded = encoded.unify_dictionaries()
        parts = [_decoded(part) for part in encoded.chunks]
        return np.concatenate(parts) if parts else np.empty(0, np.object_)
    return _decoded(encoded)


def _decoded(encoded: pa.DictionaryArray) -> TextArray:
    words = np.asarray(encoded.dictionary.to_numpy(zero_copy_only=False), np.object_)
    return np.asarray(words[encoded.indices.to_numpy()], np.object_)


def _pairs(column: pa.ChunkedArray) -> PairsArray:
    # An object array filled by assignment would read equally long rows as a further dimension.
    return np.fromiter((row for chunk in column.chunks for row in _tuples(chunk)), np.object_, len(column))


def _tuples(chunk: pa.ListArray) -> Iterator[tuple[tuple[str, str], ...]]:
    pairs = list(zip(*(chunk.values.field(part).to_pylist() for part in ("name", "value")), strict=True))
    return (tuple(pairs[begin:end]) for begin, end in pairwise(chunk.offsets.to_pylist()))


_NUMPY: dict[pa.DataType, Callable[[pa.ChunkedArray], npt.NDArray[Any]]] = {_INT: int_column, _TEXT: text_column, _PAIRS: _pairs}
