"""A decode pool in macro-steps: all streams in lockstep, one token per stream and iteration, new streams join at the boundary.

    |-- iteration --|-- iteration --|-- iteration --|      each lasts t1 + per_sequence * batch
          ^ arrives | wait          | first token   | second ...

Between two changes of the batch every iteration is as long as the last, so the machine jumps from change to change: a stream costs the same
number of steps whether it makes ten tokens or ten thousand. It tells of first tokens and of ends; the others follow from its segments.
"""

from __future__ import annotations

import heapq
from collections import deque
from collections.abc import Hashable
from dataclasses import dataclass, replace
from typing import Generic, Literal, NamedTuple, TypeVar

J = TypeVar("J", bound=Hashable)

Kind = Literal["first", "ended"]


class Out(NamedTuple, Generic[J]):
    """A stream's first token is out, or its last.

    ``admitted_ns`` is when its first iteration began, ``nth`` the number of the iteration that made the token. The tokens of a stream after
    its first are one for each of its last iterations, which follow each other up to the ``nth`` of its end.
    """

    kind: Kind
    job: J
    at_ns: int
    admitted_ns: int
    nth: int


@dataclass(frozen=True, slots=True)
class Segment:
    """``count`` iterations of equal length, back to back: number ``first_iteration`` began at ``start_ns``, each lasts ``step_ns``."""

    first_iteration: int
    start_ns: int
    step_ns: int
    count: int


class _Stream(Generic[J]):
    __slots__ = ("admitted_ns", "extra_ns", "job", "nth", "order", "place", "tokens")

    def __init__(self, job: J, tokens: int, extra_ns: int) -> None:
        self.job, self.tokens, self.extra_ns = job, tokens, extra_ns
        self.place: Literal["waiting", "batch", "held", "rejoining", "gone"] = "waiting"
        self.admitted_ns = self.order = self.nth = 0


class BatchMachine(Generic[J]):
    """``slots`` streams at most in the batch; an iteration lasts ``t1_ns + per_sequence_ns * batch``, rounded, and at least 1 ns.

    The driver keeps the time: it calls `advance` when ``next_ns`` has come and reads ``next_ns`` again after every call. What comes at the very
    instant of a boundary still joins there, unless `advance` has been called for that boundary.

    Raises:
        ValueError: no slots, a negative length, or a call for an instant before which something was due that `advance` was not called for.
    """

    def __init__(self, t1_ns: float, per_sequence_ns: float, slots: int, *, keep_segments: bool = True) -> None:
        if slots < 1 or t1_ns < 0 or per_sequence_ns < 0:
            raise ValueError(f"a batch needs a slot and no negative lengths, got {slots} slots, {t1_ns} ns + {per_sequence_ns} ns a stream")
        self._t1_ns, self._per_sequence_ns, self._slots = t1_ns, per_sequence_ns, slots
        self._start_ns = 0  # of the present segment
        self._step_ns = 0  # 0 while idle
        self._iteration = 0  # iterations before the present segment
        self._due_ns: int | None = None
        self._change: int | None = None  # a boundary of the present segment at which the batch changes for a reason from outside
        self._streams: dict[J, _Stream[J]] = {}
        self._waiting: deque[_Stream[J]] = deque()
        self._rejoining: list[_Stream[J]] = []
        self._new: list[_Stream[J]] = []  # joined with the present segment
        self._ends: list[tuple[int, int, _Stream[J]]] = []  # (iterations before its end, order, stream)
        self._releases: list[tuple[int, int, _Stream[J]]] = []  # (due, order, held stream)
        self._batch = self._held = self._queue = self._returning = 0
        self._order = 0
        self._segments: list[Segment] | None = [] if keep_segments else None

    @property
    def running(self) -> int:
        """Slots taken."""
        return self._batch + self._returning + self._held

    @property
    def waiting(self) -> int:
        """Streams that wait for a slot or for the boundary."""
        return self._queue

    @property
    def next_ns(self) -> int | None:
        """When something happens that the driver must hear of, if nobody else arrives; None when nothing will."""
        return self._due_ns

    def arrive(self, now_ns: int, job: J, tokens: int, first_extra_ns: int = 0) -> None:
        """A stream of ``tokens`` (at least 1) comes.

        ``first_extra_ns`` keeps its first token back, and the stream out of the batch with its slot taken until the token is let go.
        """
        self._check_in_order(now_ns)
        if tokens < 1:
            raise ValueError(f"a stream makes at least one token, got {tokens}")
        if job in self._streams:
            raise ValueError(f"stream {job!r} is here already")
        stream = self._streams[job] = _Stream(job, tokens, first_extra_ns)
        self._waiting.append(stream)
        self._queue += 1
        if self._step_ns == 0:
            self._begin(now_ns)
        elif self.running < self._slots:
            self._change_from(now_ns)
        self._look_ahead()

    def leave(self, now_ns: int, job: J) -> None:
        """The stream's reader has gone: it makes no more tokens. Unknown jobs are ignored, for it may have ended just now."""
        self._check_in_order(now_ns)
        stream = self._streams.pop(job, None)
        if stream is None:
            return
        self._batch -= stream.place == "batch"
        self._held -= stream.place == "held"
        self._returning -= stream.place == "rejoining"
        self._queue -= stream.place == "waiting"
        stream.place = "gone"  # whoever holds it drops it when its turn comes
        self._change_from(now_ns)
        self._look_ahead()

    def advance(self, now_ns: int) -> list[Out[J]]:
        """Everything due up to ``now_ns``, in the order it happened; of one boundary in order of admission."""
        outs: list[Out[J]] = []
        while (due_ns := self._due_ns) is not None and due_ns <= now_ns:
            if self._releases and self._releases[0][0] == due_ns:
                self._release(due_ns, outs)
            else:
                self._boundary(outs)
            self._look_ahead()
        return outs

    def take_segments(self) -> list[Segment]:
        """The iterations that are over, since this was last asked; neighbours of equal length are one segment."""
        taken, self._segments = self._segments or [], None if self._segments is None else []
        return taken

    # --- inside ---------------------------------------------------------------------------------------------------------------------------

    def _check_in_order(self, now_ns: int) -> None:
        if self._due_ns is not None and self._due_ns < now_ns:
            raise ValueError(f"something was due at {self._due_ns} ns, before {now_ns} ns; advance first")

    def _look_ahead(self) -> None:
        """Find out what is due next; kept, for drivers ask far more often than it changes."""
        self._due_ns = self._start_ns + self._stop() * self._step_ns if self._step_ns else None
        if self._releases and (self._due_ns is None or self._releases[0][0] <= self._due_ns):
            self._due_ns = self._releases[0][0]

    def _change_from(self, now_ns: int) -> None:
        """The batch changes at the next boundary that is not over."""
        if self._step_ns:
            boundary = max(1, -((self._start_ns - now_ns) // self._step_ns))
            self._change = boundary if self._change is None else min(self._change, boundary)

    def _stop(self) -> int:
        """At which boundary of the present segment something happens."""
        if self._new:
            return 1
        while self._ends and self._ends[0][2].place == "gone":
            heapq.heappop(self._ends)
        stops = [self._ends[0][0] - self._iteration] if self._ends else []
        stops += [] if self._change is None else [self._change]
        return min(stops)

    def _boundary(self, outs: list[Out[J]]) -> None:
        count = self._stop()
        at_ns = self._start_ns + count * self._step_ns
        self._log(count)
        self._iteration += count
        told: list[tuple[int, int, Out[J]]] = []
        for stream in self._new:
            self._first(stream, at_ns, told)
        self._new = []
        while self._ends and self._ends[0][0] == self._iteration:
            _, order, stream = heapq.heappop(self._ends)
            if stream.place != "gone":
                self._batch -= 1
                told.append((order, 1, self._end(stream, at_ns, self._iteration - 1)))
        told.sort(key=lambda one: one[:2])
        outs += [out for _, _, out in told]
        self._begin(at_ns)

    def _first(self, stream: _Stream[J], at_ns: int, told: list[tuple[int, int, Out[J]]]) -> None:
        """``stream`` has been through its first iteration."""
        if stream.place == "gone":
            return
        if stream.extra_ns > 0:
            self._batch -= 1
            self._held += 1
            stream.place = "held"
            heapq.heappush(self._releases, (at_ns + stream.extra_ns, stream.order, stream))
        else:
            told.append((stream.order, 0, Out("first", stream.job, at_ns, stream.admitted_ns, stream.nth)))

    def _release(self, due_ns: int, outs: list[Out[J]]) -> None:
        """A held first token goes out; an idle pool goes on at once."""
        _, _, stream = heapq.heappop(self._releases)
        if stream.place != "gone":
            self._held -= 1
            outs.append(Out("first", stream.job, due_ns, stream.admitted_ns, stream.nth))
            if stream.tokens == 1:
                outs.append(self._end(stream, due_ns, stream.nth))
            else:
                stream.place = "rejoining"
                self._rejoining.append(stream)
                self._returning += 1
        if self._step_ns == 0:
            self._begin(due_ns)
        else:
            self._change_from(due_ns)

    def _end(self, stream: _Stream[J], at_ns: int, nth: int) -> Out[J]:
        stream.place = "gone"
        del self._streams[stream.job]
        return Out("ended", stream.job, at_ns, stream.admitted_ns, nth)

    def _begin(self, now_ns: int) -> None:
        """A segment with everyone who may be in it; the pool is idle when there is nobody."""
        for stream in self._rejoining:
            if stream.place != "gone":
                self._returning -= 1
                self._join(stream, self._iteration + stream.tokens - 1)
        self._rejoining = []
        while self._queue and self.running < self._slots:
            stream = self._waiting.popleft()
            if stream.place != "gone":
                self._queue -= 1
                stream.admitted_ns, stream.nth = now_ns, self._iteration
                self._join(stream, None if stream.extra_ns > 0 else self._iteration + stream.tokens)
                self._new.append(stream)
        self._start_ns, self._change = now_ns, None
        self._step_ns = max(1, round(self._t1_ns + self._per_sequence_ns * self._batch)) if self._batch else 0

    def _join(self, stream: _Stream[J], ends: int | None) -> None:
        self._order += 1
        self._batch += 1
        stream.place, stream.order = "batch", self._order
        if ends is not None:
            heapq.heappush(self._ends, (ends, stream.order, stream))

    def _log(self, count: int) -> None:
        if self._segments is None:
            return
        last = self._segments[-1] if self._segments else None
        if last is not None and last.step_ns == self._step_ns and last.start_ns + last.count * last.step_ns == self._start_ns:
            self._segments[-1] = replace(last, count=last.count + count)
        else:
            self._segments.append(Segment(self._iteration, self._start_ns, self._step_ns, count))
