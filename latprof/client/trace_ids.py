"""Trace ids that say which run they belong to: 8 bytes common to the run, 8 bytes drawn from (seed, session, step, attempt)."""

from __future__ import annotations

from functools import lru_cache

_MASK = (1 << 64) - 1
_ODD = 0xD6E8FEB86659FD93


def trace_ids(run_id: str, seed: int, session: int, step: int, attempt: int) -> tuple[str, str]:
    """``(trace_id, span_id)`` in lower-case hex (32 and 16 digits), neither half of them zero.

    ``run_id`` is 16 hex digits; a receiver drops spans of other runs by this prefix. Which process sends a turn has no part in it.
    """
    # Below 2^31 sessions, 2^21 steps and 2^12 attempts no two share a number, so no two draws of a run are equal.
    draw = _mix(_seeded(seed & _MASK) ^ (((session << 33) ^ (step << 12) ^ attempt) & _MASK)) or 1
    # An odd factor is a bijection of 64 bits too, and cheaper than another draw.
    return f"{run_id}{draw:016x}", f"{draw * _ODD & _MASK:016x}"


def _mix(value: int) -> int:
    """One step of splitmix64 (Steele, Lea, Flood 2014): a bijection of 64 bits, so distinct inputs stay distinct."""
    value = (value + 0x9E3779B97F4A7C15) & _MASK
    value = ((value ^ (value >> 30)) * 0xBF58476D1CE4E5B9) & _MASK
    value = ((value ^ (value >> 27)) * 0x94D049BB133111EB) & _MASK
    return value ^ (value >> 31)


_seeded = lru_cache(maxsize=8)(_mix)
