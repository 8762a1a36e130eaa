"""The hops we know by name: how deep each lies, and which layer its time is when nothing finer is told.

Depth decides nesting, because parent links lie: some gateways pass the incoming trace context on unchanged, and the engine's span becomes a
sibling of the gateway's. Two hops of one rank (prefill and decode pools) never nest in each other; one that is passed again may, see `tree.nest`.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True, slots=True)
class Known:
    """A hop's place on the path from the client inwards, and the layer (or prefix) its own time belongs to."""

    rank: int
    layer: str


KNOWN: Final[dict[str, Known]] = {
    # latprof's own, in front of what it was put before.
    "inject": Known(5, "injected"),
    "inject.router": Known(35, "injected"),
    "inject.prefill": Known(45, "injected"),
    "inject.decode": Known(45, "injected"),
    "haproxy": Known(10, "lb"),
    "nginx": Known(12, "lb"),
    "envoy": Known(20, "lb"),
    "litellm": Known(30, "gateway"),
    "gateway": Known(30, "gateway"),
    "router": Known(40, "router"),
    "prefill": Known(50, "engine"),
    "decode": Known(50, "engine"),
    "vllm": Known(60, "engine"),
    "sglang": Known(60, "engine"),
    "llamacpp": Known(60, "engine"),
}
_UNKNOWN_RANK = 70


class Order:
    """The hop order of a run: as configured, else as known."""

    def __init__(self, configured: tuple[str, ...] = ()) -> None:
        self.configured = configured
        self._ranks: dict[str, int] = {}
        rank = 0
        for name in configured:
            known = KNOWN.get(name)
            rank = max(rank + 1, known.rank if known else 0)
            self._ranks[name] = rank

    def rank(self, hop: str) -> int:
        """How deep ``hop`` lies: listed hops at their known place, or deeper where the list says so; others where they are known to lie."""
        if hop in self._ranks:
            return self._ranks[hop]
        known = KNOWN.get(hop)
        return known.rank if known else _UNKNOWN_RANK

    def sorted(self, hops: Iterable[str]) -> tuple[str, ...]:
        """``hops`` from the client inwards."""
        return tuple(sorted(set(hops), key=lambda hop: (self.rank(hop), hop)))


def layer_of(hop: str) -> str:
    """The layer (or prefix) that owns a hop's time when nothing finer is told."""
    known = KNOWN.get(hop)
    return known.layer if known else "server"
