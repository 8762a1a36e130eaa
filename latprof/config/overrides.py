"""What flags say, nested like the file and laid over it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def laid_over(base: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    """``base``, with what ``over`` says in the place of what it says there."""
    merged = dict(base)
    for key, value in over.items():
        below = merged.get(key)
        merged[key] = laid_over(below, value) if isinstance(value, Mapping) and isinstance(below, Mapping) else value
    return merged


def reaches(overrides: Mapping[str, Any], location: tuple[int | str, ...]) -> bool:
    """Whether what stands at ``location`` came from the overrides, not from the file."""
    node: Any = overrides
    for part in location:
        if not isinstance(node, Mapping):
            return True  # the whole branch was laid over
        if part not in node:
            return False
        node = node[part]
    return True
