"""Trace ids that say which run they belong to: 8 bytes common to the run, 8 bytes drawn from (seed, session, step, attempt)."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import numpy as np

_MASK = (1 << 64) - 1
_ODD = 0xD6E8FEB86659FD93
_BLOCK = 256
_DIGITS = 16


def trace_ids(run_id: str, seed: int, session: int, step: int, attempt: int) -> tuple[str, str]:
    """``(trace_id, span_id)`` in lower-case hex (32 and 16 digits), neither half of them zero.

    ``run_id`` is 16 hex digits; a receiver drops spans of other runs by this prefix. Which process sends a turn has no part in it.
    """
    draw = _drawn(seed, session, step, attempt) or 1
    return f"{run_id}{draw:016x}", f"{_span_of(draw):016x}"


class TraceIds:
    """`trace_ids` for one run. Most are of first attempts at first turns: those are drawn for 256 sessions at a time.

    One by one they cost 1.4 µs each, nearly all of it in numbers longer than a machine word; by the column 0.3 µs.
    """

    __slots__ = ("_draws", "_first", "_run_id", "_seed", "_spans")

    def __init__(self, run_id: str, seed: int) -> None:
        self._run_id = run_id
        self._seed = seed
        self._first = 0
        # Hex digits of all draws of the block, one after the other.
        self._draws = self._spans = ""

    def __call__(self, session: int, step: int, attempt: int) -> tuple[str, str]:
        """As `trace_ids`."""
        if step or attempt:
            return trace_ids(self._run_id, self._seed, session, step, attempt)
        at = (session - self._first) * _DIGITS
        if not 0 <= at < len(self._draws):
            self._draw(session)
            at = 0
        return self._run_id + self._draws[at : at + _DIGITS], self._spans[at : at + _DIGITS]

    def _draw(self, first: int) -> None:
        self._first = first
        draws = _drawn(self._seed, np.arange(first, first + _BLOCK, dtype=np.uint64), 0, 0)
        draws[draws == 0] = 1
        self._draws, self._spans = (column.astype(">u8").tobytes().hex() for column in (draws, _span_of(draws)))


# For numbers, and for columns of 64 bits, whose arithmetic wraps by itself. (Typed as neither.)


def _drawn(seed: int, session: Any, step: int, attempt: int) -> Any:
    # Below 2^31 sessions, 2^21 steps and 2^12 attempts no two share a number, so no two draws of a run are equal.
    return _mix(_seeded(seed & _MASK) ^ (((session << 33) ^ (step << 12) ^ attempt) & _MASK))


def _span_of(draw: Any) -> Any:
    # An odd factor is a bijection of 64 bits too, and cheaper than another draw.
    return draw * _ODD & _MASK


def _mix(value: Any) -> Any:
    """One step of splitmix64 (Steele, Lea, Flood 2014): a bijection of 64 bits, so distinct inputs stay distinct."""
    value = (value + 0x9E3779B97F4A7C15) & _MASK
    value = ((value ^ (value >> 30)) * 0xBF58476D1CE4E5B9) & _MASK
    value = ((value ^ (value >> 27)) * 0x94D049BB133111EB) & _MASK
    return value ^ (value >> 31)


_seeded = lru_cache(maxsize=8)(_mix)
