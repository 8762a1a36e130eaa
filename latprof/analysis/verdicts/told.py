"""Which layers a run tells of: a layer that is not among its columns took no time, unless a column may hide it. Missing is not zero."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np

from latprof.layers.hops import layer_of
from latprof.layers.table import Layers
from latprof.layers.vocabulary import UNATTRIBUTED, belongs_to

NEGLIGIBLE: Final = 0.001
"""A layer below this share of its metric is too small to matter."""
MOST_UNTOLD: Final = 0.05
"""As of spans: where more requests than these tell nothing of a layer, what the others tell is no figure of all. See `untold_share`."""

# What the client sees by itself, whether or not anybody behind the address sends spans.
_IN_FRONT: Final = ("client", "net.dns", "net.connect", "net.tls", "net.upload", "injected", "tool", "think", f"{UNATTRIBUTED}client")
# What an engine that does not tell its parts apart is made of.
_OF_ENGINES: Final = ("engine", "prefill", "kv.transfer", "decode.first", "detokenize")
# Hops on the way to the engine, and what their time looks like where one of them sends no span.
_HOPS: Final = ("lb", "gateway", "router")
_WAY: Final = "net.request"


def parts(name: str) -> list[str]:
    """The layers that a column is merged from."""
    return name.split("+")


def hides(column: str, layer: str) -> bool:
    """Whether ``column`` is a block whose parts nothing tells apart (``net+server``, ``net+gateway+engine``), and ``layer`` may be in it."""
    blocks, wanted = parts(column), parts(layer)
    if all(_is_in(part, _IN_FRONT) for part in wanted):
        return False
    if "server" in blocks or any(belongs_to(part, block) for part in wanted for block in blocks):
        return True
    return "engine" in blocks and any(_is_in(part, _OF_ENGINES) for part in wanted)


def hidden_in(names: Sequence[str], layer: str) -> str:
    """The column among ``names`` that may hide ``layer``; empty where the layer has a column, or where its absence means that it took no time."""
    if any(belongs_to(name, layer) for name in names):
        return ""
    return next((name for name in names if hides(name, layer)), "")


def untold_share(table: Layers, layer: str, *, has_one_way: bool = False) -> float:
    """Of the requests, those that tell nothing of ``layer`` nor of what lies beside it in the stack, but have a block that it may be in.

    ``has_one_way``: all requests go to one target. Then one that tells of no gateway has passed it all the same, within its ``net.request``.
    """
    is_hop = has_one_way and all(_is_in(part, _HOPS) for part in parts(layer))
    blocks = [
        index for index, name in enumerate(table.names) if (hides(name, layer) or (is_hop and name == _WAY)) and not belongs_to(name, layer)
    ]
    kin = _kin(layer)
    beside = [index for index, name in enumerate(table.names) if index not in blocks and _is_kin(name, kin)]
    if not blocks or not len(table.rows):
        return 0.0
    is_told = table.present[:, beside].any(axis=1)
    has_block = table.total_ns[:, blocks].sum(axis=1) > NEGLIGIBLE * table.total_ns.sum(axis=1)
    return float(np.mean(~is_told & has_block))


def _is_kin(name: str, kin: Sequence[str]) -> bool:
    if name.startswith(UNATTRIBUTED):  # a hop that has a span, and tells no layer of it
        return _is_in(layer_of(name.removeprefix(UNATTRIBUTED)), kin)
    return all(_is_in(part, kin) for part in parts(name))


def _kin(layer: str) -> Sequence[str]:
    """The layers that whoever tells of ``layer`` tells of: those of an engine, or of its prefix."""
    return _OF_ENGINES if any(_is_in(part, _OF_ENGINES) for part in parts(layer)) else [part.split(".", 1)[0] for part in parts(layer)]


def tells_apart(names: Sequence[str], block: str) -> bool:
    """Whether columns among ``names`` are what ``block`` does not tell apart: then it is missing among them, and not zero."""
    return block not in names and any(hides(block, name) for name in names)


def matters(part: float, whole: float) -> bool:
    """Whether ``part`` of ``whole`` is more than a request or two whose spans were lost; so it is taken to be where nobody knows."""
    return not part <= NEGLIGIBLE * whole


def _is_in(part: str, of: Sequence[str]) -> bool:
    return any(belongs_to(part, one) for one in of)
