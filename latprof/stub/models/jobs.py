"""What a colocated engine is asked, what it tells, and what it holds at once."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import Final, Generic, Literal, NamedTuple, TypeVar

J = TypeVar("J", bound=Hashable)

Kind = Literal["begun", "prefilled", "first", "ended"]
UNLIMITED: Final = 1 << 62


class Job(NamedTuple, Generic[J]):
    """A request. ``blocks`` are the chained hashes of its prompt's full blocks, of which it has ``lone_blocks`` more that no other prompt has.

    What is planted keeps it (and its place), nobody else.
    """

    job: J
    prompt_tokens: int
    blocks: Sequence[int]
    output_tokens: int
    prefill_extra_ns: int = 0
    first_extra_ns: int = 0
    lone_blocks: int = 0


Plain = tuple[Kind, J, int, int, int]
"""`Happened` without its names: a simulation makes millions of them, and a named one takes five times as long to make."""


class Happened(NamedTuple, Generic[J]):
    """Something a driver must hear of. ``iteration`` is how many iterations were over.

    begun      its first tokens went into an iteration: its wait for the scheduler is over
    prefilled  its prompt is computed
    first      its first token is out; it makes its others from iteration number ``iteration`` on: see ``Engine.made``
    ended      its last token is out
    """

    kind: Kind
    job: J
    at_ns: int
    cached_tokens: int
    iteration: int


@dataclass(frozen=True, slots=True)
class Limits:
    """What a replica holds at once. A request takes blocks for its whole prompt and output when it begins, shared ones in full."""

    token_budget: int
    max_sequences: int
    kv_blocks: int = UNLIMITED
    block_tokens: int = 128
    cache_blocks: int = 0
    accepted_tokens: float = 1.0
    """Mean tokens a stream makes in one iteration (speculative decoding)."""


class Present(Generic[J]):
    """A request inside the engine, from its arrival to its end."""

    __slots__ = ("asked", "cached", "computed", "gone", "joined", "reserved", "streams")

    def __init__(self, asked: Job[J], reserved: int) -> None:
        self.asked = asked
        self.reserved = reserved  # blocks
        self.cached = 0
        self.computed = -1  # prompt tokens; below 0 while it waits
        self.joined = -1  # how many iterations were over when its prompt was computed; then, when it began to decode
        self.streams = False  # it decodes
        self.gone = False
