"""What a stack in a box took from presets: each number with the range that its sources span."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any


def lines(presets: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    """One line per preset: ``H100: bandwidth 3.35 [3.35-3.35] TB/s, ... (secondary)``; sources and dates stand in run.json."""
    names = dict.fromkeys(str(number["preset"]) for number in presets)
    for name in names:
        numbers = [number for number in presets if number["preset"] == name]
        told = ", ".join(
            f"{number['quantity']} {number['value']:g} [{number['low']:g}-{number['high']:g}] {number['unit']}" for number in numbers
        )
        tags = dict.fromkeys(str(number["tag"]) for number in numbers)
        yield f"{name}: {told} ({', '.join(tags)})"
