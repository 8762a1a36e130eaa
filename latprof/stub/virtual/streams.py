"""Answers between the engine and the way back: which iterations made their chunks, and whether that says all of how they reach the client."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Sequence
from heapq import heappush
from typing import Protocol

from latprof.stub.models.costs import KV_UNITS
from latprof.stub.virtual.back import Piece, WayBack
from latprof.stub.virtual.calendar import Calendar
from latprof.stub.virtual.call import Call

Segment = tuple[int, int, int, int]
"""(first iteration, start ns, step ns, count): iteration ``first + i`` ends at start + step * (i + 1)."""

# Segments written in one go, and kept before those nobody needs any more are dropped.
_MANY = 1024


class Segments(Protocol):
    """Takes the iterations of pool number ``pool`` as they end up, in order."""

    def __call__(self, pool: int, segments: Sequence[Segment]) -> None: ...  # noqa: D102


class Alarm:
    """Wakes a machine when something is due, at ``due_ns`` (None: nothing is).

    That may move, and every instant it was set to comes: ``wake`` is told the present and the instant, and looks whether it still counts.
    """

    __slots__ = ("_heap", "_order", "_wake", "due_ns")

    def __init__(self, calendar: Calendar, wake: Callable[[int, int], None]) -> None:
        self._heap, self._order = calendar.heap, calendar.order
        self._wake = wake
        self.due_ns: int | None = None

    def set(self, due_ns: int | None) -> None:
        """Ring at ``due_ns`` (None: not at all)."""
        if due_ns != self.due_ns:
            self.due_ns = due_ns
            if due_ns is not None:
                heappush(self._heap, (due_ns, self._order(), self._wake, due_ns))


class Streams:
    """The streams of pool number ``pool``, from their first token to their last.

    ``keeps``: some stream does not reach the client as the iterations made it, so the log must be there to be asked; else it is only written.
    ``interval`` tokens go in a chunk after the first one's; an iteration makes ``accepted`` / 1024 of them in the mean.
    """

    def __init__(self, pool: int, write: Segments, back: WayBack, interval: int, accepted: int = KV_UNITS, *, delays_firsts: bool) -> None:
        self._accepted = accepted
        self.keeps = delays_firsts or interval > 1 or not back.only_shifts
        self._pool, self._write, self._back, self._interval = pool, write, back, interval
        self._follows = back.only_shifts and interval == 1
        self._kept: list[Segment] = []
        self._unwritten: list[Segment] = []
        self._joined: dict[Call, int] = {}  # where the log is kept
        self._apart: set[Call] = set()  # first tokens that came between two iterations' ends

    def first(self, call: Call, at_ns: int, joined: int, *, follows: bool) -> None:
        """The first token is made, by iteration ``joined`` - 1 if the stream ``follows`` the iterations from its beginning."""
        call.engine_first_ns, call.joined = at_ns, joined
        if self.keeps:
            self._joined[call] = joined
            if not follows:
                self._apart.add(call)

    def ended(self, call: Call, at_ns: int, ended: int, joined: int | None = None) -> None:
        """The last token is made. The tokens after the first came one by iteration, from ``joined`` up to ``ended`` (exclusive).

        ``joined`` is left out where it is what was told with the first token.
        """
        call.engine_last_ns, call.pool, call.ended = at_ns, self._pool, ended
        follows = self._follows and (joined is None or joined == call.joined) and call not in self._apart
        joined = call.joined if joined is None else joined
        if self.keeps:
            del self._joined[call]
            self._apart.discard(call)
        if follows:
            call.chunks = ended - joined + 1
            self._back.shift(call)
            return
        later = self._pieces(joined, ended)
        if self._interval > 1:
            later = together(later, self._interval, self._accepted, call.output_tokens)
        pieces = [(call.engine_first_ns, 0, 1), *later]
        call.chunks = sum(count for _, _, count in pieces)
        self._back.hold(call, pieces)

    def log(self, segments: Sequence[Segment]) -> None:
        """More iterations are over."""
        self._unwritten += segments
        if self.keeps:
            self._kept += segments
            if len(self._kept) > _MANY:
                oldest = min(self._joined.values(), default=0)
                del self._kept[: max(0, bisect_right(self._kept, oldest, key=_first) - 1)]
        if len(self._unwritten) > _MANY:
            self.flush()

    def flush(self) -> None:
        """Write what has come."""
        self._write(self._pool, self._unwritten)
        self._unwritten = []

    def _pieces(self, begin: int, end: int) -> list[Piece]:
        """The ends of iterations ``begin`` up to ``end`` (exclusive)."""
        found: list[Piece] = []
        at = max(0, bisect_right(self._kept, begin, key=_first) - 1)
        while begin < end:
            first, start_ns, step_ns, count = self._kept[at]
            number = min(end, first + count) - begin
            found.append((start_ns + step_ns * (begin - first + 1), step_ns, number))
            begin += number
            at += 1
        return found


def every(pieces: Sequence[Piece], interval: int) -> list[Piece]:
    """Of chunks numbered from 1 every ``interval``-th, and the last: what is left when tokens are sent together."""
    kept: list[Piece] = []
    before = 0
    for start_ns, step_ns, count in pieces:
        skipped = -(before + 1) % interval  # before the first one that is kept
        number = max(0, -(-(count - skipped) // interval))
        if number:
            kept.append((start_ns + skipped * step_ns, step_ns * interval, number))
        before += count
    if before % interval and pieces:
        start_ns, step_ns, count = pieces[-1]
        kept.append((start_ns + step_ns * (count - 1), 0, 1))
    return kept


def together(pieces: Sequence[Piece], interval: int, accepted: int, tokens: int) -> list[Piece]:
    """When a stream of ``tokens`` (the first apart) sends, having made more at every one of ``pieces``: as `every`, for several at once."""
    if accepted == KV_UNITS:
        return every(pieces, interval)
    kept: list[Piece] = []
    nth = sent = 0
    for start_ns, step_ns, count in pieces:
        for i in range(count):
            nth += 1
            made = min(tokens - 1, nth * accepted // KV_UNITS)
            upto = made if made == tokens - 1 else made // interval * interval
            if upto > sent:
                kept.append((start_ns + i * step_ns, 0, 1))
                sent = upto
    return kept


def _first(segment: Segment) -> int:
    return segment[0]
