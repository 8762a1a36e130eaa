"""Units: every time stamp and duration inside latprof is an ``int`` of nanoseconds.

Missing is not zero: a stamp that never happened is ``MISSING_NS``, far outside any clock's range, and is always compared by name.
"""

from __future__ import annotations

import re

NS_PER_US = 1_000
NS_PER_MS = 1_000_000
NS_PER_S = 1_000_000_000

MISSING_NS = -(2**63)
"""A time stamp, duration or count that is not known. The smallest int64, so that it survives numpy columns."""

_DURATION = re.compile(r"^\s*(?P<value>\d+(?:\.\d+)?)\s*(?P<unit>ns|us|µs|ms|s|m|min|h)?\s*$")
_NS_PER_UNIT = {
    "ns": 1,
    "us": NS_PER_US,
    "µs": NS_PER_US,
    "ms": NS_PER_MS,
    "s": NS_PER_S,
    "m": 60 * NS_PER_S,
    "min": 60 * NS_PER_S,
    "h": 3600 * NS_PER_S,
}


def duration_ns(text: str | float, default_unit: str = "s") -> int:
    """Read a duration such as ``"250ms"``, ``"10s"`` or ``2.5`` (in ``default_unit``) as nanoseconds.

    Raises:
        ValueError: with what was got and what was wanted.
    """
    match = _DURATION.match(str(text))
    if match is None:
        raise ValueError(f"must be a duration such as 250ms, 10s or 2m, got {text!r}")
    return round(float(match["value"]) * _NS_PER_UNIT[match["unit"] or default_unit])


def ms(value_ns: float) -> float:
    """Nanoseconds as milliseconds, unrounded."""
    return value_ns / NS_PER_MS
