"""Decode without a boundary to wait for: every stream goes on from its first token, at the pace of an iteration over all that are on.

    tokens made = integral of dt / (t1 + per_sequence * streams at once)

For engines whose prefill makes the first token: that token left at the end of an iteration, so the stream is in step when it comes. Between two
changes of the number of streams everybody's pace is the same, so one clock of iterations serves all of them.
"""

from __future__ import annotations

import heapq
import math
from collections import deque
from collections.abc import Hashable
from typing import Generic, TypeVar

from latprof.queues.batch import Out

J = TypeVar("J", bound=Hashable)


class SharingMachine(Generic[J]):
    """``slots`` streams at most; an iteration over ``n`` of them lasts ``t1_ns + per_sequence_ns * n``. Driven as `BatchMachine` is.

    It tells of ends only: the first token is there before.

    Raises:
        ValueError: no slots, or a negative length.
    """

    def __init__(self, t1_ns: float, per_sequence_ns: float, slots: int) -> None:
        if slots < 1 or t1_ns < 0 or per_sequence_ns < 0:
            raise ValueError(f"a pool needs a slot and no negative lengths, got {slots} slots, {t1_ns} ns + {per_sequence_ns} ns a stream")
        self._t1_ns, self._per_sequence_ns, self._slots = t1_ns, per_sequence_ns, slots
        self._now_ns = 0
        self._iterations = 0.0  # made by whoever was on all the time
        self._ends: list[tuple[float, int, J, int]] = []  # (iterations at its end, order, job, admitted)
        self._waiting: deque[tuple[J, int]] = deque()
        self._order = 0
        self.next_ns: int | None = None
        """When the next stream ends, if nobody else arrives; None when there is none."""

    def arrive(self, now_ns: int, job: J, tokens: int) -> None:
        """A stream comes that is to make ``tokens`` more (at least 1)."""
        self._pass(now_ns)
        self._waiting.append((job, tokens))
        self._admit()

    def advance(self, now_ns: int) -> list[Out[J]]:
        """Every end up to ``now_ns``, in order."""
        outs: list[Out[J]] = []
        while self.next_ns is not None and self.next_ns <= now_ns:
            due_ns = self.next_ns
            self._pass(due_ns)
            end, _, job, admitted_ns = heapq.heappop(self._ends)
            self._iterations = max(self._iterations, end)  # due times are whole ns
            outs.append(Out("ended", job, due_ns, admitted_ns, math.ceil(end) - 1))
            self._admit()
        return outs

    def _step_ns(self) -> float:
        return max(1.0, self._t1_ns + self._per_sequence_ns * len(self._ends))

    def _pass(self, now_ns: int) -> None:
        if self._ends:
            self._iterations += (now_ns - self._now_ns) / self._step_ns()
        self._now_ns = now_ns

    def _admit(self) -> None:
        while self._waiting and len(self._ends) < self._slots:
            job, tokens = self._waiting.popleft()
            self._order += 1
            heapq.heappush(self._ends, (self._iterations + tokens, self._order, job, self._now_ns))
        left = self._ends[0][0] - self._iterations if self._ends else 0.0
        self.next_ns = self._now_ns + max(0, round(left * self._step_ns())) if self._ends else None
