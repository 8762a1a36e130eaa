"""What each of several changes is worth: its mean marginal saving over all orders in which they could be made (Shapley 1953)."""

from __future__ import annotations

from collections.abc import Mapping
from math import factorial

MOST = 6
"""Changes at most: every subset of them is a replay."""


def subsets(number: int) -> list[frozenset[int]]:
    """Every subset of ``number`` changes, the empty one first."""
    return [frozenset(i for i in range(number) if bits >> i & 1) for bits in range(1 << number)]


def shapley(value: Mapping[frozenset[int], float]) -> tuple[float, ...]:
    """The worth of each change, from the ``value`` of every subset; together they are worth what all are above none."""
    number = len(max(value, key=len))
    worth = []
    for one in range(number):
        total = 0.0
        for subset, without in value.items():
            if one not in subset:
                weight = factorial(len(subset)) * factorial(number - len(subset) - 1) / factorial(number)
                total += weight * (value[subset | {one}] - without)
        worth.append(total)
    return tuple(worth)
