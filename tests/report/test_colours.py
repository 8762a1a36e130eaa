"""Colours that eyes tell apart: of layers that lie next to each other in a stack, also for those who see no red, no green or no blue."""

from __future__ import annotations

from itertools import combinations, pairwise
from typing import Final

import numpy as np
import pytest

from latprof.layers.vocabulary import LAYERS, unattributed
from latprof.report.colours import colour_of

_XYZ: Final = np.array([[0.4124564, 0.3575761, 0.1804375], [0.2126729, 0.7151522, 0.0721750], [0.0193339, 0.1191920, 0.9503041]])
_WHITE: Final = np.array([0.95047, 1.0, 1.08883])
# What is seen of linear red, green and blue (Machado, Oliveira and Fernandes 2009, severity 1.0).
_SEEN: Final = {
    "all": np.eye(3),
    "no red": np.array([[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]]),
    "no green": np.array([[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.011820, 0.042940, 0.968881]]),
    "no blue": np.array([[1.255528, -0.076749, -0.178779], [-0.078411, 0.930809, 0.147602], [0.004733, 0.691367, 0.303900]]),
}
_HOPS: Final = ("client", "lb", "gateway", "router", "prefill", "decode")


def _lab(colour: str, seen: str = "all") -> np.ndarray[tuple[int], np.dtype[np.float64]]:
    """CIE L*a*b* of ``#rrggbb`` under D65."""
    given = np.array([int(colour[at : at + 2], 16) for at in (1, 3, 5)]) / 255
    linear = np.where(given <= 0.04045, given / 12.92, ((given + 0.055) / 1.055) ** 2.4)
    ratio = _XYZ @ np.clip(_SEEN[seen] @ linear, 0, 1) / _WHITE
    x, y, z = np.where(ratio > 216 / 24389, np.cbrt(ratio), (24389 / 27 * ratio + 16) / 116)
    return np.array([116 * y - 16, 500 * (x - y), 200 * (y - z)])


def _apart(a: str, b: str, seen: str = "all") -> float:
    """The distance of CIE 1976 between the colours of two layers."""
    return float(np.linalg.norm(_lab(colour_of(a), seen) - _lab(colour_of(b), seen)))


def test_distances_are_those_of_the_book() -> None:
    assert _lab("#ffffff") == pytest.approx([100, 0, 0], abs=0.01)
    assert _lab("#ff0000") == pytest.approx([53.24, 80.09, 67.20], abs=0.01)


@pytest.mark.parametrize("seen", _SEEN)
def test_neighbours_on_the_path_are_told_apart(seen: str) -> None:
    for a, b in pairwise(LAYERS):
        assert _apart(a, b, seen) >= (15 if seen == "all" else 12), (a, b)


@pytest.mark.parametrize("seen", _SEEN)
def test_unattributed_time_of_neighbouring_hops_is_told_apart(seen: str) -> None:
    for a, b in [
        *pairwise(_HOPS),
        *combinations(("gateway", "router", "prefill", "decode"), 2),
        ("router", "engine"),
        ("engine", "prefill"),
    ]:
        assert _apart(unattributed(a), unattributed(b), seen) >= 15, (a, b)


def test_layers_have_colours_of_their_own() -> None:
    assert len({colour_of(layer) for layer in LAYERS}) == len(LAYERS)
    assert colour_of("gateway") == colour_of("gateway.queue")
    assert colour_of("engine.api+engine.queue") == colour_of("engine.queue")
