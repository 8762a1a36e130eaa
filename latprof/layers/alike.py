"""Requests of which the same is told: by the same spans in the same order, with the same words, in numbers of their own.

    request A    gateway 0..90 | auth 1..3 | router 10..80 | ...
    request B    gateway 0..70 | auth 2..5 | router 11..60 | ...          one `Group`: a column for every start, end and event
    request C    gateway 0..95 | auth 1..2 | router  9..81 | ...

One of them, told in traced numbers (`latprof.layers.traced`), stands for all that go its way: see `alike`. A large run has some dozen ways.
"""

from __future__ import annotations

from array import array
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import count
from typing import Any, Final, NamedTuple, TypeVar

import numpy as np
import orjson
import pyarrow as pa
import pyarrow.compute as pc

from latprof.layers.client import STAMPS, stamps_of
from latprof.layers.evidence import Traces
from latprof.layers.traced import Guards, Named, Unread, Untraceable, settled, traced
from latprof.observations.columns import BoolArray, IntArray, Requests, known
from latprof.spans.span import Span, SpanEvent
from latprof.spans.store import Spans
from latprof.units import MISSING_NS

T = TypeVar("T")

FEWEST = 20
"""Requests that go one way. To trace it costs as much as telling some ten of them one by one."""
# Ways in a group that fewer went, before the rest of it is told one by one.
_MOST_MISSES: Final = 20
_TRIED: Final = 3
# An attribute with more texts than these in a run (an id of an answer) has another one in every request.
_MOST_WORDS: Final = 64
_LARGEST: Final = 1 << 62
_NO_PARENT: Final = -1
_BODY: Final = "body timings"


class Told(NamedTuple):
    """What is known of one request before anything of it is understood."""

    stamps: Mapping[str, int]
    is_retry: bool
    traces: Traces
    is_by_answer: bool = False


def told(requests: Requests, row: int, spans: Spans) -> Told:
    """All of one request."""
    trace_id = str(requests.trace_id[row])
    traces = Traces(spans.for_trace(trace_id), tuple(requests.timing_headers[row]), str(requests.body_timings[row]))
    return Told(stamps_of(requests, row), bool(requests.attempt[row]), traces, trace_id in spans.joined.traces)


@dataclass(frozen=True, eq=False)
class Group:
    """Requests that differ in nothing but numbers: ``columns`` has shape (c, n), ``rows`` (n,) are their rows in the run's `Requests`."""

    rows: IntArray
    columns: IntArray
    specimen: Callable[[int, Guards], Told]
    """The request at a position of ``rows``, its numbers traced as sums of ``columns``."""


def alike(group: Group, tell: Callable[[Told], T], one_by_one: Callable[[int], T]) -> Iterator[tuple[IntArray, T | None]]:
    """What ``tell`` says of every request: (positions in ``rows``, what it says of them in traced numbers; None: not the same of any two).

    Every way is held against ``one_by_one`` (told a row) on other requests that go it: what Python itself reads of a traced number, as an index
    say, is not seen.
    """
    left = np.arange(len(group.rows))
    misses = 0
    while len(left) >= FEWEST and misses < _MOST_MISSES:
        guards = Guards()
        try:
            said = tell(group.specimen(int(left[0]), guards))
        except Untraceable:
            break
        same = guards.hold(group.columns, left)
        misses += len(same) < FEWEST
        tried = same[:: -max(1, len(same) // _TRIED)] if len(same) >= FEWEST else ()
        is_right = len(tried) and all(settled(said, group.columns[:, at]) == one_by_one(int(group.rows[at])) for at in tried)
        yield same, said if is_right else None
        left = np.setdiff1d(left, same, assume_unique=True)
    if len(left):
        yield left, None


# --- who is alike -------------------------------------------------------------------------------------------------------------------------


def groups(requests: Requests, rows: IntArray, spans: Spans) -> tuple[list[Group], IntArray]:
    """``rows`` of ``requests`` in groups, and those that are in none."""
    tables = _Tables(requests, spans)
    first, after = tables.runs(rows)
    found: list[Group] = []
    apart = []
    for number in np.unique(after - first):
        mine = after - first == number
        same, others = _of_length(tables, rows[mine], first[mine], int(number))
        found += same
        apart.append(others)
    return found, np.sort(np.concatenate(apart)) if apart else rows


def _of_length(tables: _Tables, rows: IntArray, first: IntArray, spans: int) -> tuple[list[Group], IntArray]:
    """Those with as many spans, ``first`` on."""
    at = tables.in_order(first[:, None] + np.arange(spans))
    is_plain = tables.are_distinct(at)
    group = _combined([tables.request_code[rows], *tables.span_code[at].T, *(tables.parents(at) + 2 + spans).T])
    is_plain &= (np.bincount(group) >= FEWEST)[group]
    made = [_group(tables, rows[mine], at[mine]) for one in np.unique(group[is_plain]) if (mine := is_plain & (group == one)).any()]
    return made, rows[~is_plain]


def _group(tables: _Tables, rows: IntArray, at: IntArray) -> Group:
    """``at`` has shape (n, spans): where in the table of spans those of each request are."""
    columns = np.vstack([*tables.stamps(rows), *(column for span in at.T for column in tables.numbers(span))])
    return Group(rows, columns, partial(_specimen, tables, rows, at, columns))


def _specimen(tables: _Tables, rows: IntArray, at: IntArray, columns: IntArray, position: int, guards: Guards) -> Told:
    row = int(rows[position])
    numbers = (traced(int(columns[column, position]), ((column, 1),), guards) for column in count())
    stamps = {name: stamp if stamp == MISSING_NS else next(numbers) for name, stamp in stamps_of(tables.requests, row).items()}
    parents = tables.parents(at[position : position + 1])[0]
    spans = tuple(tables.span(int(span), nth, int(parents[nth]), numbers) for nth, span in enumerate(at[position]))
    requests = tables.requests
    return Told(
        stamps,
        bool(requests.attempt[row]),
        Traces(spans, *tables.beside_spans(row)),
        str(requests.trace_id[row]) in tables.spans.joined.traces,
    )


class _Tables:
    """A run's requests and spans in columns: codes for what must be the same, numbers for what need not be."""

    def __init__(self, requests: Requests, spans: Spans) -> None:
        self.requests, self.spans = requests, spans
        table = spans.table
        self._table = table
        self._start_ns, self._end_ns = (table[name].to_numpy() for name in ("start_unix_ns", "end_unix_ns"))
        ids = pa.chunked_array([*table["span_id"].chunks, *table["parent_id"].chunks], pa.string())
        codes = _codes(ids)
        self._id, self._parent = codes[: len(table)], codes[len(table) :]
        self._no_parent = self._code_of_empty(table["parent_id"])
        self._words = _Words()
        self._attributes = _Json(table["attributes"], self._words, _of_attributes)
        self._events = _Json(table["events"], self._words, _of_events)
        self.request_code = self._request_codes()
        texts = [_codes(table[name]) for name in ("name", "resource", "scope")]
        told = [*texts, table["kind"].to_numpy().astype(np.int64), self._attributes.code, self._events.code]
        self.span_code = _combined(told)

    def runs(self, rows: IntArray) -> tuple[IntArray, IntArray]:
        """First span of each request, and the one after its last."""
        found = np.array([self.spans.rows_of(trace_id) for trace_id in self.requests.trace_id[rows].tolist()], np.int64).reshape(-1, 2)
        return found[:, 0], found[:, 1]

    def in_order(self, at: IntArray) -> IntArray:
        """Spans of a request by start, those that last longest first, as `Spans.for_trace` has them."""
        order = np.lexsort((-self._end_ns[at], self._start_ns[at]), axis=1)
        return np.take_along_axis(at, order, axis=1)

    def are_distinct(self, at: IntArray) -> BoolArray:
        """Requests without two spans of one id, or of the very same times, which only their ids put in order."""
        same_times = (np.diff(self._start_ns[at], axis=1) == 0) & (np.diff(self._end_ns[at], axis=1) == 0)
        same_id = np.diff(np.sort(self._id[at], axis=1), axis=1) == 0
        return np.asarray(~(same_times.any(axis=1) | same_id.any(axis=1)), np.bool_)

    def parents(self, at: IntArray) -> IntArray:
        """Which of the request's spans each is below; -1 below none; of one that is not there, -2 - the first span that is below it too."""
        ids, parents = self._id[at], self._parent[at]
        found = np.empty(at.shape, np.int64)
        for nth in range(at.shape[1]):
            mine = parents[:, nth : nth + 1]
            inside, beside = mine == ids, mine == parents
            found[:, nth] = np.where(inside.any(axis=1), inside.argmax(axis=1), -2 - beside.argmax(axis=1))
        found[parents == self._no_parent] = _NO_PARENT
        return found

    def beside_spans(self, row: int) -> tuple[tuple[tuple[str, str], ...], str]:
        """Headers and body timings of one that stands for all."""
        headers = tuple((name, self._words.standing(name, value)) for name, value in self.requests.timing_headers[row])
        return headers, self._words.standing(_BODY, str(self.requests.body_timings[row]))

    def _request_codes(self) -> IntArray:
        """What must be the same beside the spans: headers, body timings, which stamps there are."""
        requests, words, by_answer = self.requests, self._words, self.spans.joined.traces
        missing = np.zeros(len(requests), np.int64)
        for bit, name in enumerate(STAMPS):
            missing |= (~known(getattr(requests, name))).astype(np.int64) << bit
        for headers, body in zip(requests.timing_headers, requests.body_timings, strict=True):
            words.see(_BODY, body)
            for name, value in headers:
                words.see(name, value)
        codes: dict[Any, int] = {}
        told = zip(missing.tolist(), requests.timing_headers, requests.body_timings, requests.attempt, requests.trace_id, strict=True)
        shapes = (
            (
                mask,
                tuple((name, words.shape(name, value)) for name, value in headers),
                words.shape(_BODY, body),
                bool(attempt),
                trace_id in by_answer,
            )
            for mask, headers, body, attempt, trace_id in told
        )
        return np.fromiter((codes.setdefault(shape, len(codes)) for shape in shapes), np.int64, len(requests))

    def stamps(self, rows: IntArray) -> Iterator[IntArray]:
        """The stamps that there are."""
        for name in STAMPS:
            stamps_ns = getattr(self.requests, name)[rows]
            if len(rows) and stamps_ns[0] != MISSING_NS:
                yield stamps_ns

    def numbers(self, at: IntArray) -> Iterator[IntArray]:
        """Start, end and other numbers of one span of each request."""
        yield self._start_ns[at]
        yield self._end_ns[at]
        yield from self._attributes.numbers(at)
        yield from self._events.numbers(at)

    def span(self, at: int, nth: int, parent: int, numbers: Iterator[int]) -> Span:
        """One span with its numbers taken from ``numbers``, in the order of the method of that name."""
        (row,) = self._table.slice(at, 1).to_pylist()
        start_ns, end_ns = next(numbers), next(numbers)
        attributes = self._words.filled(orjson.loads(row["attributes"]), numbers)
        events = tuple(self._event(event, numbers) for event in orjson.loads(row["events"]))
        outer = "" if parent == _NO_PARENT else Named(f"span {parent}") if parent >= 0 else Named(f"outside {-2 - parent}")
        resource = orjson.loads(row["resource"])
        name, kind, scope = row["name"], row["kind"], row["scope"]
        return Span("", Named(f"span {nth}"), outer, name, kind, start_ns, end_ns, attributes, events, resource, scope)

    def _event(self, event: Mapping[str, Any], numbers: Iterator[int]) -> SpanEvent:
        at_ns = next(numbers)
        return SpanEvent(event["name"], at_ns, self._words.filled(event["attributes"], numbers))

    def _code_of_empty(self, parents: pa.ChunkedArray) -> int:
        empty = np.flatnonzero(pc.equal(parents, "").to_numpy())
        return int(self._parent[empty[0]]) if len(empty) else -1


# --- words and numbers --------------------------------------------------------------------------------------------------------------------


class _Words:
    """Which texts a name comes with. One that comes with many is another in every request: then nobody may look at it."""

    def __init__(self) -> None:
        self._seen: dict[str, set[str]] = defaultdict(set)

    def see(self, name: str, text: str) -> None:
        """``name`` comes with ``text``."""
        seen = self._seen[name]
        if len(seen) <= _MOST_WORDS:
            seen.add(text)

    def shape(self, name: str, text: str) -> str | type[Unread]:
        """What of it must be the same, once all are seen."""
        return Unread if len(self._seen[name]) > _MOST_WORDS else text

    def standing(self, name: str, text: str) -> str:
        """``text`` of one that stands for all."""
        return Unread(text) if self.shape(name, text) is Unread else text

    def filled(self, attributes: Mapping[str, Any], numbers: Iterator[int]) -> dict[str, Any]:
        """Attributes of one that stands for all, their whole numbers taken from ``numbers``."""
        return {
            name: next(numbers) if _is_number(value) else self.standing(name, value) if type(value) is str else value
            for name, value in attributes.items()
        }


Shape = tuple[tuple[str, Any, Any], ...]
"""Names, types, and values that must be the same."""


def _is_number(value: object) -> bool:
    return type(value) is int and abs(value) < _LARGEST


def _of_attributes(attributes: Mapping[str, Any], words: _Words, numbers: array[int]) -> Shape:
    shape: list[tuple[str, Any, Any]] = []
    for name, value in attributes.items():
        if _is_number(value):
            numbers.append(value)
            shape.append((name, int, None))
        else:
            if type(value) is str:
                words.see(name, value)
            shape.append((name, type(value), value))
    return tuple(shape)


def _of_events(events: Sequence[Mapping[str, Any]], words: _Words, numbers: array[int]) -> Shape:
    shape: list[tuple[str, Any, Any]] = []
    for event in events:
        numbers.append(event["unix_ns"])
        shape += [(event["name"], SpanEvent, None), *_of_attributes(event["attributes"], words, numbers)]
    return tuple(shape)


class _Json:
    """A column of JSON texts: a code for what must be the same, and the whole numbers in it."""

    def __init__(self, column: pa.ChunkedArray, words: _Words, shape_of: Callable[[Any, _Words, array[int]], Shape]) -> None:
        texts = column.combine_chunks().dictionary_encode()
        as_told: dict[Shape, int] = {}
        numbers, code, first = array("q"), array("q"), array("q")
        for text in texts.dictionary.to_pylist():
            first.append(len(numbers))
            code.append(as_told.setdefault(shape_of(orjson.loads(text), words, numbers), len(as_told)))
        first.append(len(numbers))
        same: dict[Any, int] = {}
        shapes = (tuple((name, kind, words.shape(name, value) if kind is str else value) for name, kind, value in told) for told in as_told)
        merged = np.fromiter((same.setdefault(shape, len(same)) for shape in shapes), np.int64, len(as_told))
        self._text = texts.indices.to_numpy()
        self._first, self._numbers = np.frombuffer(first, np.int64), np.frombuffer(numbers, np.int64)
        self.code = merged[np.frombuffer(code, np.int64)[self._text]] if len(code) else np.zeros(0, np.int64)

    def numbers(self, at: IntArray) -> Iterator[IntArray]:
        """Of spans with the same code, one column after the other."""
        text = self._text[at]
        first = self._first[text]
        for nth in range(int(self._first[text[0] + 1] - first[0]) if len(at) else 0):
            yield self._numbers[first + nth]


def _codes(column: pa.ChunkedArray) -> IntArray:
    """Equal texts have equal codes."""
    encoded = column.combine_chunks()
    if isinstance(encoded, pa.ChunkedArray):
        encoded = pa.concat_arrays(encoded.chunks) if encoded.num_chunks else pa.array([], column.type)
    if not pa.types.is_dictionary(encoded.type):
        encoded = encoded.dictionary_encode()
    return np.asarray(encoded.indices.to_numpy(), np.int64)


def _combined(codes: list[IntArray]) -> IntArray:
    """One code for several."""
    together = codes[0]
    for one in codes[1:]:
        _, together = np.unique(together * (one.max(initial=0) + 1) + one, return_inverse=True)
    return np.asarray(together, np.int64)
