"""The prefill pool: FIFO servers whose service follows from tokens, and a prefix cache that makes some of them cheap."""

from __future__ import annotations

from array import array
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from hashlib import blake2b
from typing import Generic, TypeVar

from latprof.config import Prefill
from latprof.queues.station import Begun, Station
from latprof.stub.models.recent import Recent

J = TypeVar("J", bound=Hashable)


def prefill_ns(pool: Prefill, new_tokens: int, cached_tokens: int) -> int:
    """t0 + a*n + b*(m*n + n^2/2) for n new tokens on m cached: each new token attends to all before it."""
    pairs = cached_tokens * new_tokens + new_tokens**2 / 2
    return round(pool.t0_ns + pool.per_token_ns * new_tokens + pool.per_token_pair_ns * pairs)


def block_hashes(token_ids: Sequence[int], block_tokens: int, known: tuple[int, ...] = ()) -> tuple[int, ...]:
    """A 64-bit hash per full block, chained: equal hashes mean equal text from the beginning. ``known`` are those of the first blocks."""
    hashes = list(known)
    chain = known[-1].to_bytes(8, "big") if known else b""
    for end in range((len(known) + 1) * block_tokens, len(token_ids) + 1, block_tokens):
        chain = blake2b(chain + array("I", token_ids[end - block_tokens : end]).tobytes(), digest_size=8).digest()
        hashes.append(int.from_bytes(chain, "big"))
    return tuple(hashes)


class PrefixCache:
    """Blocks by chained hash; the least recently used go first, of one prompt its tail before its head."""

    def __init__(self, capacity_blocks: int) -> None:
        self.capacity_blocks = capacity_blocks
        self.queried_blocks = 0
        self.hit_blocks = 0
        self._blocks = Recent(capacity_blocks)

    def __len__(self) -> int:
        return len(self._blocks)

    def match(self, blocks: Sequence[int]) -> int:
        """How many leading blocks are here; they count as used."""
        found = self._blocks.use(blocks)
        self.queried_blocks += len(blocks)
        self.hit_blocks += found
        return found

    def insert(self, blocks: Sequence[int], lone_blocks: int = 0) -> None:
        """Keep a prompt's blocks, as many leading ones as fit; ``lone_blocks`` more that no other prompt has, so that nobody will ask for them."""
        self._blocks.keep(blocks, lone_blocks)


@dataclass(frozen=True, slots=True)
class Prompt(Generic[J]):
    """A prompt to compute: its length, its full blocks (``lone_blocks`` more that nobody else has), and what plants and stalls make of a service time."""

    job: J
    tokens: int
    blocks: tuple[int, ...]
    adjust_ns: Callable[[int], int]
    lone_blocks: int = 0


class PrefillPool(Generic[J]):
    """``workers`` prompts at once, first come first served. The cache is asked when service begins and filled when it ends."""

    def __init__(self, pool: Prefill) -> None:
        self.cache = PrefixCache(pool.cache_blocks)
        self.station: Station[Prompt[J]] = Station(pool.workers)
        self._pool = pool
        self._cached_tokens: dict[J, int] = {}

    def arrive(self, now_ns: int, prompt: Prompt[J]) -> Begun[Prompt[J]] | None:
        """A prompt comes: it begins at once, or waits (None)."""
        return self.station.arrive(now_ns, prompt, lambda: self._service_ns(prompt))

    def finish(self, now_ns: int, prompt: Prompt[J]) -> tuple[int, Begun[Prompt[J]] | None]:
        """``prompt`` is computed. Returns how many of its tokens came from the cache, and which prompt begins now, if any."""
        self.cache.insert(prompt.blocks, prompt.lone_blocks)
        return self._cached_tokens.pop(prompt.job), self.station.finish(now_ns)

    def _service_ns(self, prompt: Prompt[J]) -> int:
        block_tokens = self._pool.cache_block_tokens
        # The last token is always computed: its logits make the first token of the answer.
        usable = prompt.blocks[: max(0, prompt.tokens - 1) // block_tokens]
        cached_tokens = self.cache.match(usable) * block_tokens
        self._cached_tokens[prompt.job] = cached_tokens
        return prompt.adjust_ns(prefill_ns(self._pool, prompt.tokens - cached_tokens, cached_tokens))
