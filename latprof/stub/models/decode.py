"""The decode pool, iteration by iteration: one token per stream and iteration, new streams join at the boundary.

    |-- iteration --|-- iteration --|-- iteration --|      each lasts t1 + per_sequence * batch
          ^ arrives | wait          | first token   | second ...

The first token's wait is admission plus boundary, its service the iteration. A planted first-token delay keeps the stream out of the batch
(its slot taken) until the token is let go, so that it delays nobody else.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Hashable
from typing import Generic, NamedTuple, TypeVar

from latprof.config import Decode

J = TypeVar("J", bound=Hashable)


class Iteration(NamedTuple):
    """One pass over the batch."""

    started_ns: int
    ends_ns: int
    batch: int


class Token(NamedTuple, Generic[J]):
    """A token is out. ``admitted_ns`` is when the stream's first iteration began."""

    job: J
    nth: int  # from 0
    last: bool
    admitted_ns: int


class Held(NamedTuple, Generic[J]):
    """A first token that is planted to be late: call ``release`` at ``due_ns``."""

    job: J
    due_ns: int


class Boundary(NamedTuple, Generic[J]):
    """What the end of an iteration brought, and the iteration that begins now (None when no stream is left)."""

    tokens: tuple[Token[J], ...]
    held: tuple[Held[J], ...]
    next: Iteration | None


class _Stream(Generic[J]):
    __slots__ = ("admitted_ns", "extra_ns", "job", "made", "tokens")

    def __init__(self, job: J, tokens: int, extra_ns: int) -> None:
        self.job, self.tokens, self.extra_ns = job, tokens, extra_ns
        self.admitted_ns = 0
        self.made = 0

    def emit(self) -> Token[J]:
        self.made += 1
        return Token(self.job, self.made - 1, self.made == self.tokens, self.admitted_ns)


class DecodePool(Generic[J]):
    """Streams in order of admission. ``speedup`` divides every iteration."""

    def __init__(self, pool: Decode, speedup: float = 1.0) -> None:
        self._t1_ns = pool.t1_ns / speedup
        self._per_sequence_ns = pool.per_sequence_ns / speedup
        self._slots = pool.slots
        self._iteration: Iteration | None = None
        self._batch: list[_Stream[J]] = []  # in the present iteration
        self._rejoining: list[_Stream[J]] = []  # released between boundaries
        self._held: dict[J, _Stream[J]] = {}
        self._waiting: deque[_Stream[J]] = deque()

    @property
    def running(self) -> int:
        """Slots taken."""
        return len(self._batch) + len(self._rejoining) + len(self._held)

    @property
    def waiting(self) -> int:
        """Streams that wait for a slot or for the boundary."""
        return len(self._waiting)

    def arrive(self, now_ns: int, job: J, tokens: int, first_extra_ns: int = 0) -> Iteration | None:
        """A stream of ``tokens`` (at least 1) comes. An idle pool begins an iteration at once; else None: the next boundary sees to it."""
        if tokens < 1:
            raise ValueError(f"a stream makes at least one token, got {tokens}")
        self._waiting.append(_Stream(job, tokens, first_extra_ns))
        return None if self._iteration is not None else self._begin(now_ns)

    def boundary(self, now_ns: int) -> Boundary[J]:
        """The present iteration is over."""
        if self._iteration is None:
            raise RuntimeError("a boundary without an iteration")
        tokens, held, going_on = [], [], []
        for stream in self._batch:
            if stream.made == 0 and stream.extra_ns > 0:
                self._held[stream.job] = stream
                held.append(Held(stream.job, now_ns + stream.extra_ns))
                continue
            token = stream.emit()
            tokens.append(token)
            if not token.last:
                going_on.append(stream)
        self._batch = going_on
        return Boundary(tuple(tokens), tuple(held), self._begin(now_ns))

    def release(self, now_ns: int, job: J) -> tuple[Token[J] | None, Iteration | None]:
        """A held first token goes out (None when its stream has left meanwhile); an idle pool goes on with the stream at once."""
        stream = self._held.pop(job, None)
        token = None
        if stream is not None:
            token = stream.emit()
            if not token.last:
                self._rejoining.append(stream)
        return token, None if self._iteration is not None else self._begin(now_ns)

    def leave(self, job: J) -> None:
        """The stream's reader has gone: it makes no more tokens. Unknown jobs are ignored, for it may have ended just now."""
        self._held.pop(job, None)
        self._batch = [stream for stream in self._batch if stream.job != job]
        self._rejoining = [stream for stream in self._rejoining if stream.job != job]
        self._waiting = deque(stream for stream in self._waiting if stream.job != job)

    def _begin(self, now_ns: int) -> Iteration | None:
        self._batch += self._rejoining
        self._rejoining = []
        while self._waiting and self.running < self._slots:
            stream = self._waiting.popleft()
            stream.admitted_ns = now_ns
            self._batch.append(stream)
        batch = len(self._batch)
        length_ns = round(self._t1_ns + self._per_sequence_ns * batch)
        self._iteration = Iteration(now_ns, now_ns + length_ns, batch) if batch else None
        return self._iteration
