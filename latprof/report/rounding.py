"""Numbers as they are written down: columns that add up as printed, and null for what there is no figure of."""

from __future__ import annotations

import math
from collections.abc import Sequence


def rounded_to_sum(values: Sequence[float], unit: float, total: int | None = None) -> list[int]:
    """Whole multiples of ``unit`` that sum to ``total`` of them (by default the rounded sum), by the largest remainder (Hamilton's method).

    ``values`` are not negative. Each result is one of the two multiples around its value as long as ``total`` is the rounded sum; of equal
    remainders the earlier value goes up.
    """
    exact = [value / unit for value in values]
    whole = [math.floor(value) for value in exact]
    wanted = round(math.fsum(exact)) if total is None else total
    left = wanted - sum(whole)
    if left > 0:
        for index in sorted(range(len(whole)), key=lambda index: (whole[index] - exact[index], index))[:left]:
            whole[index] += 1
    for index in sorted(range(len(whole)), key=lambda index: (exact[index] - whole[index], -index)):
        if left < 0 and whole[index] > 0:
            whole[index] -= 1
            left += 1
    return whole


def finite(value: float) -> float | None:
    """A plain float; None, JSON's null, where there is no figure."""
    return float(value) if math.isfinite(value) else None
