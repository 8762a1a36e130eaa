"""Figures in the sentences of a doubt. What is not known is said to be unknown."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from latprof.units import ms


def in_ms(value_ns: float) -> str:
    """``1.96 ms``, ``124 ms``."""
    value = ms(value_ns)
    return "unknown" if math.isnan(value) else f"{value:.2f} ms" if value < 10 else f"{value:.0f} ms"


def percent(share: float) -> str:
    """``1.5 %``, ``24 %``."""
    return "unknown" if math.isnan(share) else f"{100 * share:.1f} %" if share < 0.1 else f"{100 * share:.0f} %"


def counted(numbers: Mapping[str, int]) -> str:
    """``timeout 3, http_500 1``."""
    return ", ".join(f"{name} {number}" for name, number in numbers.items())


def all_of(names: Sequence[str]) -> str:
    """``p90, p95 and p99``."""
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"
