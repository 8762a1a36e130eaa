"""Presets: hardware, models' shapes, decode rates and links, each number with its unit, source, date and range.

They lie as YAML beside this file. What a preset says is a calibration input, not a fact about your stack: reports print the ranges.
"""

from __future__ import annotations

import difflib
from dataclasses import dataclass
from datetime import date
from functools import cache
from pathlib import Path
from typing import Any, Final, Literal

import yaml

from latprof.errors import ConfigError

Kind = Literal["hardware", "models", "rates", "links"]
KINDS: Final[tuple[Kind, ...]] = ("hardware", "models", "rates", "links")
_FOLDER = Path(__file__).parent
_SCALE: Final = {
    "count": 1.0,
    "billion": 1e9,
    "GB": 1e9,
    "GiB": 2.0**30,
    "GB/s": 1e9,
    "TB/s": 1e12,
    "PFLOP/s": 1e15,
    "tokens/s": 1.0,
    "ms": 1e-3,
}


@dataclass(frozen=True, slots=True)
class Number:
    """A sourced number in ``unit``; ``low`` and ``high`` bound what sources say.

    ``tag`` is "read", "secondary", or "unchecked": handed on by somebody, its page not read again, so without a date.
    """

    value: float
    low: float
    high: float
    unit: str
    source: str
    read: date | None
    tag: Literal["read", "secondary", "unchecked"]

    @property
    def si(self) -> float:
        """The value in bytes, bytes/s, FLOP/s, tokens/s, seconds or as a plain count."""
        return self.value * _SCALE[self.unit]


@dataclass(frozen=True, slots=True)
class Preset:
    """One entry of a file."""

    kind: Kind
    name: str
    title: str
    numbers: dict[str, Number]

    def __getitem__(self, quantity: str) -> float:
        """A number in SI units."""
        return self.numbers[quantity].si

    def get(self, quantity: str) -> float | None:
        """The same, or None where the preset does not say."""
        return self.numbers[quantity].si if quantity in self.numbers else None


def preset(kind: Kind, name: str, path: str) -> Preset:
    """The preset ``name``, whatever its capitals; ``path`` is the configuration key that asks for it.

    Raises:
        ConfigError: there is none of that name; the nearest and all known are named.
    """
    known = presets(kind)
    found = {one.casefold(): one for one in known}.get(name.casefold())
    if found is not None:
        return known[found]
    close = difflib.get_close_matches(name.casefold(), [one.casefold() for one in known], n=1, cutoff=0.5)
    nearest = next((f"; did you mean {one}?" for one in known if close and one.casefold() == close[0]), "")
    raise ConfigError(f"{path}: no preset {name!r}{nearest} Known: {', '.join(known)}")


@cache
def presets(kind: Kind) -> dict[str, Preset]:
    """All presets of a kind by name, in the order of their file."""
    written: dict[str, dict[str, Any]] = yaml.safe_load((_FOLDER / f"{kind}.yaml").read_text(encoding="utf-8"))
    return {name: _preset(kind, name, entry) for name, entry in written.items()}


def _preset(kind: Kind, name: str, entry: dict[str, Any]) -> Preset:
    numbers = {quantity: Number(**told) for quantity, told in entry.items() if quantity != "title"}
    return Preset(kind, name, entry["title"], numbers)
