"""Trace ids that say which run they belong to: 8 bytes common to the run, 8 bytes drawn from (seed, request, attempt)."""

from __future__ import annotations

_MASK = (1 << 64) - 1


def trace_ids(run_id: str, seed: int, request: int, attempt: int) -> tuple[str, str]:
    """``(trace_id, span_id)`` in lower-case hex (32 and 16 digits), neither half of them zero.

    ``run_id`` is 16 hex digits; a receiver drops spans of other runs by this prefix.
    """
    draw = _mix(_mix(_mix(seed & _MASK) ^ (request & _MASK)) ^ (attempt & _MASK))
    return f"{run_id}{draw or 1:016x}", f"{_mix(draw ^ 1) or 1:016x}"


def _mix(value: int) -> int:
    """One step of splitmix64 (Steele, Lea, Flood 2014): a bijection of 64 bits, so distinct inputs stay distinct."""
    value = (value + 0x9E3779B97F4A7C15) & _MASK
    value = ((value ^ (value >> 30)) * 0xBF58476D1CE4E5B9) & _MASK
    value = ((value ^ (value >> 27)) * 0x94D049BB133111EB) & _MASK
    return value ^ (value >> 31)
