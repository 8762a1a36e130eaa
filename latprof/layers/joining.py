"""Spans under traces of the server's own, given to requests by the id of the answer that a span tells.

A request whose trace nobody went on with has no span under its own trace id. Where one other trace tells of its answer, the spans of that
trace are its own as far as they are nobody else's:

    a connection's span   |==============================================|    tells of two answers: nobody's
      a turn's span         |=========== A ===========|                       A's, with all that lies below it
        auth                 |----|
      another turn's                                      |===== B =====|     B's
    accounting                              |---|                             below neither: A's by its time, as no other request is near

Ids decide. Time only tells apart what lies beside them in a trace they have opened, and contradicts them: a request that its spans do not fit,
as the clocks of all others go, keeps none, and none keeps a span it has no part in. No span goes to two requests.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, NamedTuple

import numpy as np
import orjson
import pyarrow as pa
import pyarrow.compute as pc

from latprof.clock import WallAnchor
from latprof.layers.evidence import clock_in
from latprof.layers.tree import CLIENT
from latprof.observations.columns import Requests
from latprof.spans.clocks import ClockOffset, Constraint, estimate
from latprof.spans.others import ID_KEYS, ids_told, spellings
from latprof.spans.store import Joined, Spans
from latprof.units import MISSING_NS, NS_PER_MS, NS_PER_S

SEVERAL_TRACES: Final = "told of in several traces"
WITH_OTHERS: Final = "told of in spans of several requests"
TIMES: Final = "contradicted by the times of its spans"

# Servers close spans after the last byte (logging, callbacks). One that is longer than its request by more is a connection's.
_CLOSED_LATE_NS = NS_PER_S
# On top of what is known of the clocks: stamps are rounded, threads race.
_SLACK_NS = NS_PER_MS
_NONE, _SEVERAL, _STRANGERS = -1, -2, -3

Ids = Mapping[str, str]
"""Key of the attribute -> id of an answer."""


def joined(requests: Requests, received: Spans, others: pa.Table, anchor: WallAnchor) -> Spans:
    """``received``, and of ``others`` (`latprof.spans.store.SCHEMA`) the spans of requests that have none under their own trace id.

    They stand under the request's trace id from here on; `Spans.joined` says which. Linear in the spans, and free where there are no others.
    """
    asked = _asked(requests, received, anchor) if others.num_rows else _Asked()
    if not asked.by_answer:
        return received
    told = _told(others)
    traces_of = _traces_of(others, told, asked)
    refused = Counter({SEVERAL_TRACES: sum(len(traces) > 1 for traces in traces_of.values())})
    wanted = {row for row, traces in traces_of.items() if len(traces) == 1}
    asked.by_answer = {answer: row for answer, row in asked.by_answer.items() if row in wanted}
    traces = [_Trace(spans, asked) for spans in _by_trace(others, told, {trace for row in wanted for trace in traces_of[row]})]
    refused[WITH_OTHERS] = len(wanted) - len({row for trace in traces for row in trace.owners.values()})
    clocks = _clocks(traces, asked)
    contradicted = _contradicted(traces, clocks, asked)
    refused[TIMES] = len(contradicted)
    for trace in traces:
        trace.keep(lambda row, span: row not in contradicted and _may_meet(span, asked.window_ns[row], clocks[span.clock]))
    _by_time(traces, clocks, asked)
    owners = {number: row for trace in traces for number, row in trace.numbered()}
    return _with(received, others, owners, requests, {reason: rows for reason, rows in refused.items() if rows})


def traces_told(requests: Requests, received: Spans, others: pa.Table, anchor: WallAnchor) -> set[str]:
    """The traces of ``others`` that tell of an answer to a request which has no spans of its own: all that `joined` ever looks at."""
    asked = _asked(requests, received, anchor) if others.num_rows else _Asked()
    return {trace for traces in _traces_of(others, _told(others), asked).values() for trace in traces} if asked.by_answer else set()


# --- who asks, who tells ------------------------------------------------------------------------------------------------------------------


@dataclass(slots=True)
class _Asked:
    """Requests without spans: from the first byte out to the end, in Unix ns, by row; and the row by the id of the answer, where it has but one."""

    window_ns: dict[int, tuple[int, int]] = field(default_factory=dict)
    by_answer: dict[str, int] = field(default_factory=dict)

    def row_of(self, told: str) -> int:
        return next((self.by_answer[spelled] for spelled in spellings(told) if spelled in self.by_answer), _NONE)


def _asked(requests: Requests, received: Spans, anchor: WallAnchor) -> _Asked:
    has_spans = frozenset(received.trace_ids)
    times = Counter(requests.response_id.tolist())
    asked = _Asked()
    for row, (trace_id, answer) in enumerate(zip(requests.trace_id, requests.response_id, strict=True)):
        sent_ns, ended_ns = int(requests.send_ns[row]), int(requests.end_ns[row])
        if trace_id not in has_spans and MISSING_NS not in (sent_ns, ended_ns):
            asked.window_ns[row] = anchor.to_unix(sent_ns), anchor.to_unix(ended_ns)
            if answer and times[answer] == 1:
                asked.by_answer[answer] = row
    return asked


def _told(others: pa.Table) -> dict[int, Ids]:
    """What each span tells, by its number; attributes without one of the keys are not read."""
    attributes = others["attributes"]
    telling = np.zeros(others.num_rows, np.bool_)
    for key in ID_KEYS:
        telling |= pc.match_substring(attributes, f'"{key}":').to_numpy(zero_copy_only=False)
    numbers = np.flatnonzero(telling)
    texts = attributes.take(pa.array(numbers)).to_pylist()
    return {number: told for number, text in zip(numbers.tolist(), texts, strict=True) if (told := dict(ids_told(orjson.loads(text))))}


def _traces_of(others: pa.Table, told: Mapping[int, Ids], asked: _Asked) -> dict[int, set[str]]:
    """Row -> the traces that tell of its answer."""
    found: dict[int, set[str]] = defaultdict(set)
    trace_ids = others["trace_id"].take(pa.array(list(told), pa.int64())).to_pylist()
    for trace_id, ids in zip(trace_ids, told.values(), strict=True):
        for answer in ids.values():
            if (row := asked.row_of(answer)) != _NONE:
                found[row].add(trace_id)
    return found


# --- whose spans, by id -------------------------------------------------------------------------------------------------------------------


class _Span(NamedTuple):
    """What joining reads of a span; ``number`` is its row in the table of others."""

    number: int
    span_id: str
    parent_id: str
    start_ns: int
    end_ns: int
    clock: str
    told: Ids


def _by_trace(others: pa.Table, told: Mapping[int, Ids], traces: Collection[str]) -> Iterable[Sequence[_Span]]:
    mine = np.flatnonzero(pc.is_in(others["trace_id"], pa.array(list(traces), pa.string())).to_numpy(zero_copy_only=False))
    columns = ("trace_id", "span_id", "parent_id", "start_unix_ns", "end_unix_ns", "resource")
    table = others.select(columns).take(pa.array(mine))
    clocks = {text: clock_in(orjson.loads(text)) for text in pc.unique(table["resource"].cast(pa.string())).to_pylist()}
    found: dict[str, list[_Span]] = defaultdict(list)
    values = (table[name].to_pylist() for name in columns)
    for number, trace_id, span_id, parent_id, start_ns, end_ns, resource in zip(mine.tolist(), *values, strict=True):
        found[trace_id].append(_Span(number, span_id, parent_id, start_ns, end_ns, clocks[resource], told.get(number, {})))
    return found.values()


class _Trace:
    """One trace: whose its spans are, by span id. ``free`` tell of no answer, and lie below nobody's or several's: nobody's so far."""

    def __init__(self, spans: Sequence[_Span], asked: _Asked) -> None:
        self._all = spans
        self._asked = asked
        self._spans: dict[str, _Span] = {}
        for span in spans:  # of several with one id the one that ended last, as everywhere
            if span.span_id not in self._spans or self._spans[span.span_id].end_ns < span.end_ns:
                self._spans[span.span_id] = span
        self._children: dict[str, list[str]] = defaultdict(list)
        for span in self._spans.values():
            self._children[span.parent_id if span.parent_id in self._spans else ""].append(span.span_id)
        self.owners: dict[str, int]
        self.free: list[_Span]
        self._give()

    def numbered(self) -> Iterator[tuple[int, int]]:
        """Number in the table -> row, of every span that is somebody's."""
        return ((span.number, self.owners[span.span_id]) for span in self._all if span.span_id in self.owners)

    def owned(self) -> Iterator[tuple[int, _Span]]:
        """Row and span, of every span that is somebody's."""
        return ((row, self._spans[span_id]) for span_id, row in self.owners.items())

    def keep(self, is_kept: Callable[[int, _Span], bool]) -> None:
        """The spans of which ``is_kept`` (row, span) is false are nobody's after all."""
        self.owners = {span_id: row for span_id, row in self.owners.items() if is_kept(row, self._spans[span_id])}

    def _give(self) -> None:
        order = self._from_the_root()
        rows: dict[str, int] = {}
        ids: dict[str, Ids | None] = {}
        for span_id in reversed(order):
            rows[span_id], ids[span_id] = self._below(self._spans[span_id], rows, ids)
        whose: dict[str, int] = {}
        for span_id in order:
            span, row = self._spans[span_id], rows[span_id]
            above = whose.get(span.parent_id, _NONE)
            if row == _NONE:  # a stranger's id below a span that is wholly one request's is another name of the same work
                row = above if above >= 0 or above == _STRANGERS else _STRANGERS if ids[span_id] != {} else _NONE
            elif row >= 0 and (ids[span_id] is None or not self._fits(span, row)):
                row = _SEVERAL
            whose[span_id] = row
        self.owners = {span_id: row for span_id, row in whose.items() if row >= 0}
        # When strangers were under way nobody tells: where there are any, time says nothing.
        has_strangers = _STRANGERS in whose.values()
        self.free = [] if has_strangers else [self._spans[span_id] for span_id, row in whose.items() if row == _NONE]

    def _below(self, span: _Span, rows: Mapping[str, int], ids: Mapping[str, Ids | None]) -> tuple[int, Ids | None]:
        """The one row that a span and all below it tell of, and the ids it does so by: None where one key has several."""
        children = self._children[span.span_id]
        own = {key: answer for key, answer in span.told.items() if self._asked.row_of(answer) != _NONE}
        told_rows = {self._asked.row_of(answer) for answer in own.values()} | {rows[child] for child in children} - {_NONE}
        row = _NONE if not told_rows else told_rows.pop() if len(told_rows) == 1 else _SEVERAL
        # A gateway tells the id that its client sees; what the engines below call it is nobody else's answer.
        return row, own or _together([span.told, *(ids[child] for child in children)])

    def _fits(self, span: _Span, row: int) -> bool:
        """Not longer than its request, whatever its clock says."""
        sent_ns, ended_ns = self._asked.window_ns[row]
        return span.end_ns - span.start_ns <= ended_ns - sent_ns + _CLOSED_LATE_NS

    def _from_the_root(self) -> list[str]:
        """Parents before children; spans in a ring of parents are left out."""
        order = list(self._children[""])
        for span_id in order:
            order += self._children[span_id]
        return order


def _together(parts: Iterable[Ids | None]) -> Ids | None:
    together: dict[str, str] = {}
    for part in parts:
        if part is None or any(together.setdefault(key, answer) != answer for key, answer in part.items()):
            return None
    return together


# --- time ---------------------------------------------------------------------------------------------------------------------------------


def _bounds(traces: Iterable[_Trace], asked: _Asked) -> Iterator[tuple[int, Constraint]]:
    """What each request says of each clock: the first of its spans began after it was sent, and before its end."""
    first_ns: dict[tuple[int, str], int] = {}
    for trace in traces:
        for row, span in trace.owned():
            first_ns[row, span.clock] = min(span.start_ns, first_ns.get((row, span.clock), span.start_ns))
    for (row, clock), start_ns in first_ns.items():
        sent_ns, ended_ns = asked.window_ns[row]
        yield row, Constraint(clock, CLIENT, sent_ns - start_ns, ended_ns - start_ns, high_is_near=False)


def _clocks(traces: Iterable[_Trace], asked: _Asked) -> dict[str, ClockOffset]:
    return estimate((constraint for _, constraint in _bounds(traces, asked)), CLIENT)


def _contradicted(traces: Iterable[_Trace], clocks: Mapping[str, ClockOffset], asked: _Asked) -> set[int]:
    """The requests that fit no offset on which most agree, and those that what tells of them has no part in."""
    unfit = {
        row
        for row, bounds in _bounds(traces, asked)
        if bounds.low_ns > clocks[bounds.clock].high_ns + _SLACK_NS or bounds.high_ns < clocks[bounds.clock].low_ns - _SLACK_NS
    }
    owned = (one for trace in traces for one in trace.owned())
    return unfit | {row for row, span in owned if span.told and not _may_meet(span, asked.window_ns[row], clocks[span.clock])}


def _may_meet(span: _Span, window_ns: tuple[int, int], clock: ClockOffset) -> bool:
    """Whether a span has a part in its request, with the clock anywhere within its bounds: work after the answer does not, nor a turn before."""
    sent_ns, ended_ns = window_ns
    return span.start_ns + clock.low_ns <= ended_ns + _SLACK_NS and span.end_ns + clock.high_ns >= sent_ns - _SLACK_NS


def _by_time(traces: Iterable[_Trace], clocks: Mapping[str, ClockOffset], asked: _Asked) -> None:
    """Give free spans to the one request of their trace that was under way, where no other can have been, whatever the clock is within its bounds."""
    found = {row for trace in traces for row in trace.owners.values()}
    untold = _Windows(window for row, window in asked.window_ns.items() if row not in found)
    for trace in traces:
        rows = set(trace.owners.values())
        told = _Windows(asked.window_ns[row] for row in rows)
        by_window = {asked.window_ns[row]: row for row in rows}
        for span in trace.free:
            clock = clocks.get(span.clock)
            if clock is None:
                continue
            widest = span.start_ns + clock.low_ns - _SLACK_NS, span.end_ns + clock.high_ns + _SLACK_NS
            if told.met(*widest) == 1 and not untold.met(*widest):
                sent_ns, ended_ns = told.last_before(widest[1])
                if sent_ns - _SLACK_NS <= span.start_ns + clock.offset_ns and span.end_ns + clock.offset_ns <= ended_ns + _SLACK_NS:
                    trace.owners[span.span_id] = by_window[sent_ns, ended_ns]


class _Windows:
    """Intervals, and how many of them another meets."""

    def __init__(self, windows: Iterable[tuple[int, int]]) -> None:
        self._sorted = sorted(windows)
        self._starts = [start_ns for start_ns, _ in self._sorted]
        self._ends = sorted(end_ns for _, end_ns in self._sorted)

    def met(self, start_ns: int, end_ns: int) -> int:
        """How many have a part in [``start_ns``, ``end_ns``]."""
        return bisect_right(self._starts, end_ns) - bisect_left(self._ends, start_ns)

    def last_before(self, end_ns: int) -> tuple[int, int]:
        """The last that began by then."""
        return self._sorted[bisect_right(self._starts, end_ns) - 1]


# --- out ----------------------------------------------------------------------------------------------------------------------------------


def _with(received: Spans, others: pa.Table, owners: Mapping[int, int], requests: Requests, refused: Mapping[str, int]) -> Spans:
    numbers = sorted(owners)
    trace_ids = [str(requests.trace_id[owners[number]]) for number in numbers]
    table = others.take(pa.array(numbers, pa.int64()))
    table = table.set_column(table.schema.get_field_index("trace_id"), "trace_id", pa.array(trace_ids, pa.string()))
    return received.with_table(table, Joined(frozenset(trace_ids), len(numbers), refused))
