"""One colour a layer, the same in every picture.

Hues are those of Okabe and Ito, which people with colour-blindness tell apart: one for each part of the stack. Within a part the layers on the
path are dark and light by turns, for what is told apart first in a stack are neighbours; the same holds for time unattributed in one hop and the
next.
"""

from __future__ import annotations

import colorsys
from collections.abc import Mapping
from typing import Final

from latprof.layers.vocabulary import LAYERS, UNATTRIBUTED

# Hue, saturation and the range of lightness of a part.
_PARTS: Final[Mapping[str, tuple[float, float, tuple[float, float]]]] = {
    "client": (0.60, 0.10, (0.32, 0.72)),
    "net": (0.56, 0.77, (0.40, 0.88)),
    "injected": (0.94, 0.60, (0.60, 0.60)),
    "lb": (0.91, 0.45, (0.78, 0.78)),
    "gateway": (0.105, 1.00, (0.26, 0.80)),
    "router": (0.91, 0.46, (0.63, 0.63)),
    "engine": (0.56, 1.00, (0.20, 0.50)),
    "prefill": (0.07, 1.00, (0.42, 0.42)),
    "kv": (0.155, 0.85, (0.60, 0.60)),
    "decode": (0.455, 1.00, (0.24, 0.37)),
    "detokenize": (0.455, 0.45, (0.70, 0.70)),
    "proxy": (0.78, 0.35, (0.55, 0.55)),
    "server": (0.60, 0.35, (0.35, 0.35)),
    "stream": (0.50, 0.45, (0.72, 0.72)),
    "tool": (0.20, 0.45, (0.45, 0.45)),
    "think": (0.20, 0.25, (0.78, 0.78)),
}
UNATTRIBUTED_COLOUR: Final = "#c4c4c4"
"""Of unattributed time whose hop is none of those that latprof knows, and of what is no layer."""

# In the order of hops on the path neighbours differ, and the four of a stack in four hops all do.
_GREYS: Final[Mapping[str, str]] = {
    "client": "#686868",
    "lb": "#e8e8e8",
    "gateway": "#bbbbbb",
    "router": "#686868",
    "engine": "#919191",
    "prefill": "#e8e8e8",
    "decode": "#919191",
    "server": "#e8e8e8",
}


def _grey(hop: str) -> str:
    """Of a hop's unattributed time; all replicas of a hop (`prefill.2`) have the same."""
    return next((grey for name, grey in _GREYS.items() if hop.startswith(name)), UNATTRIBUTED_COLOUR)


def _hex(part: str, place: float) -> str:
    hue, saturation, (darkest, lightest) = _PARTS[part]
    red, green, blue = colorsys.hls_to_rgb(hue, darkest + place * (lightest - darkest), saturation)
    return f"#{round(255 * red):02x}{round(255 * green):02x}{round(255 * blue):02x}"


def _all() -> dict[str, str]:
    members: dict[str, list[str]] = {}
    for layer in LAYERS:
        members.setdefault(layer.split(".", 1)[0], []).append(layer)
    return {layer: _hex(part, place) for part, layers in members.items() for layer, place in zip(layers, _places(len(layers)), strict=True)}


def _places(count: int) -> list[float]:
    """Where in its part's range of lightness each of ``count`` layers is: the even ones rise through the dark half, the odd ones through the light."""
    order = [*range(0, count, 2), *range(1, count, 2)]
    return [order.index(index) / max(1, count - 1) for index in range(count)]


COLOURS: Final[Mapping[str, str]] = _all()
"""Layer -> ``#rrggbb``."""


def colour_of(layer: str) -> str:
    """The colour of a layer, of a prefix (its first child's), of neighbours that are not told apart (the last one's), or of a hop's unattributed time."""
    last = layer.rsplit("+", 1)[-1]
    if layer.startswith(UNATTRIBUTED):
        return _grey(layer.removeprefix(UNATTRIBUTED))
    if last in COLOURS:
        return COLOURS[last]
    return next((colour for name, colour in COLOURS.items() if name.startswith(f"{last}.")), UNATTRIBUTED_COLOUR)
