"""Which delay a request gets on purpose: drawn from (seed, request) or (seed, block) alone, so that whoever knows the seed draws the same.

per: request    | 0 20 5 50 5 0 | 20 0 50 50 5 | ...             every request its own
per: block      | 20 20 20 20   | 0 0 0 0      | 50 50 50 | ...  all of a block the same; every n blocks hold all n delays, in any order
per: both       pairs of one block of each kind, in any order

Blocks that follow a permutation, not a free draw, are balanced: a slow drift of the stack then shows as noise, not as a slope.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from hashlib import blake2b
from typing import Literal

Per = Literal["request", "block", "both"]


@dataclass(frozen=True, slots=True)
class Delays:
    """The design of an experiment."""

    delays_ns: tuple[int, ...]
    block_ns: int
    per: Per
    seed: int

    def is_shared(self, block: int) -> bool:
        """Whether all requests of ``block`` (counted from 0) have the same delay."""
        if self.per == "both":
            return block % 2 == _draw(self.seed, "kind", block // 2, 2)
        return self.per == "block"

    def of(self, trace_id: str, block: int) -> int:
        """The delay of the request of trace ``trace_id`` (32 hex) that comes in ``block``, in ns."""
        if not self.is_shared(block):
            return self.delays_ns[_draw(self.seed, "request", request_key(trace_id), len(self.delays_ns))]
        number = block // 2 if self.per == "both" else block
        turn, place = divmod(number, len(self.delays_ns))
        return self.delays_ns[_permutation(self.seed, turn, len(self.delays_ns))[place]]


def request_key(trace_id: str) -> int:
    """The half of a trace id that follows from (seed, session, step, attempt): the other half is the run's, and never the same twice."""
    return int(trace_id[16:], 16)


@lru_cache(maxsize=64)
def _permutation(seed: int, turn: int, count: int) -> Sequence[int]:
    return sorted(range(count), key=lambda place: _bits(seed, "block", turn * count + place))


def _draw(seed: int, purpose: str, key: int, count: int) -> int:
    # The bias of a remainder of 64 bits is below 1e-18.
    return _bits(seed, purpose, key) % count


def _bits(seed: int, purpose: str, key: int) -> int:
    return int.from_bytes(blake2b(f"inject/{seed}/{purpose}/{key}".encode(), digest_size=8).digest(), "big")
