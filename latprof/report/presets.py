"""What a stack in a box took from presets: each number with the range that its sources span."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

Presets = Sequence[Mapping[str, Any]]
"""One entry per number, as `run.json` holds them."""


def lines(presets: Presets) -> Iterator[str]:
    """One line per preset: ``H100: bandwidth 3.35 [3.35-3.35] TB/s, ... (secondary)``; sources and dates stand in run.json.

    A number that is there with several values, as where a sweep varies it, tells them all: ``0.3/0.45/0.6 [0.3-0.6]``.
    """
    names = dict.fromkeys(str(number["preset"]) for number in presets)
    for name in names:
        numbers = [number for number in presets if number["preset"] == name]
        quantities = dict.fromkeys(str(number["quantity"]) for number in numbers)
        told = ", ".join(_quantity([number for number in numbers if number["quantity"] == quantity]) for quantity in quantities)
        tags = dict.fromkeys(str(number["tag"]) for number in numbers)
        yield f"{name}: {told} ({', '.join(tags)})"


def _quantity(same: Presets) -> str:
    first = same[0]
    values = "/".join(dict.fromkeys(f"{number['value']:g}" for number in same))
    return f"{first['quantity']} {values} [{first['low']:g}-{first['high']:g}] {first['unit']}"


def footnotes(presets: Presets) -> Iterator[str]:
    """The lines as notes below tables."""
    for line in lines(presets):
        yield f"Preset {line}."


def footnotes_of_arms(arms: Mapping[str, Presets | None]) -> Iterator[str]:
    """The same of several arms by name: a line that is not of all of them says whose it is. None: nobody knows what the arm took."""
    found: dict[str, list[str]] = {}
    for name, presets in arms.items():
        for line in lines(presets or ()):
            found.setdefault(line, []).append(name)
    for line, names in found.items():
        yield f"Preset {line}." if len(names) == len(arms) else f"Preset {line}, in {' and '.join(names)}."
