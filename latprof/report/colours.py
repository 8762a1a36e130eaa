"""One colour a layer, the same in every picture.

Hues are those of Okabe and Ito, which people with colour-blindness tell apart: one for each part of the stack, and within a part steps of
lightness in path order. What lies next to each other in a stack is parted by a line as well, so that no picture rests on colour alone.
"""

from __future__ import annotations

import colorsys
from collections.abc import Mapping
from typing import Final

from latprof.layers.vocabulary import LAYERS, UNATTRIBUTED

# Hue, saturation and the range of lightness of a part, from its first layer to its last.
_PARTS: Final[Mapping[str, tuple[float, float, tuple[float, float]]]] = {
    "client": (0.60, 0.10, (0.42, 0.68)),
    "net": (0.56, 0.77, (0.50, 0.80)),
    "injected": (0.94, 0.60, (0.60, 0.60)),
    "lb": (0.91, 0.45, (0.78, 0.78)),
    "gateway": (0.105, 1.00, (0.36, 0.74)),
    "router": (0.91, 0.46, (0.63, 0.63)),
    "engine": (0.56, 1.00, (0.26, 0.44)),
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


def _hex(part: str, place: float) -> str:
    hue, saturation, (darkest, lightest) = _PARTS[part]
    red, green, blue = colorsys.hls_to_rgb(hue, darkest + place * (lightest - darkest), saturation)
    return f"#{round(255 * red):02x}{round(255 * green):02x}{round(255 * blue):02x}"


def _all() -> dict[str, str]:
    members: dict[str, list[str]] = {}
    for layer in LAYERS:
        members.setdefault(layer.split(".", 1)[0], []).append(layer)
    return {layer: _hex(part, index / max(1, len(layers) - 1)) for part, layers in members.items() for index, layer in enumerate(layers)}


COLOURS: Final[Mapping[str, str]] = _all()
"""Layer -> ``#rrggbb``."""


def colour_of(layer: str) -> str:
    """The colour of a layer, of a prefix (its first child's), of neighbours that are not told apart (the last one's), or of unattributed time."""
    last = layer.rsplit("+", 1)[-1]
    if layer.startswith(UNATTRIBUTED):
        return UNATTRIBUTED_COLOUR
    if last in COLOURS:
        return COLOURS[last]
    return next((colour for name, colour in COLOURS.items() if name.startswith(f"{last}.")), UNATTRIBUTED_COLOUR)
