"""Who is in an engine's batch: the streams that decode, and the prompts that wait for their share of an iteration or have it."""

from __future__ import annotations

from collections import deque
from collections.abc import Hashable, Sequence
from heapq import heappop, heappush
from typing import Generic, TypeVar

from latprof.stub.models.costs import KV_UNITS
from latprof.stub.models.jobs import UNLIMITED, Job, Limits, Present
from latprof.stub.models.prefill import PrefixCache

J = TypeVar("J", bound=Hashable)


class Streams(Generic[J]):
    """Those that decode: how many, the sum of their contexts, and who ends next. Nothing here is done per stream and iteration."""

    __slots__ = ("_ends", "_kv_at_0", "_order", "accepted", "count", "next_end")

    def __init__(self, accepted_tokens: float) -> None:
        self.accepted = round(accepted_tokens * KV_UNITS)
        self.count = 0
        self.next_end = UNLIMITED
        """How many iterations are over when the next of them may end."""
        self._kv_at_0 = 0  # the sum of contexts, had those of today grown since iteration 0
        self._ends: list[tuple[int, int, Present[J]]] = []  # (iterations over at its last token, order, who)
        self._order = 0

    def kv(self, over: int) -> int:
        """The sum of their contexts when ``over`` iterations are over, in KV_UNITS."""
        return self._kv_at_0 + self.count * self.accepted * over

    def join(self, who: Present[J]) -> None:
        """It decodes from iteration number ``who.joined`` on; its first token it has."""
        who.streams = True
        self.count += 1
        self._kv_at_0 += who.asked.prompt_tokens * KV_UNITS - self.accepted * who.joined
        self._order += 1
        iterations = -((who.asked.output_tokens - 1) * KV_UNITS // -self.accepted)
        heappush(self._ends, (who.joined + iterations, self._order, who))
        self.next_end = self._ends[0][0]

    def ended(self, over: int) -> Sequence[Present[J]]:
        """Who has made its last token now that ``over`` iterations are over: the caller lets it ``leave``."""
        ends = self._ends
        made = []
        while ends and ends[0][0] <= over:
            who = heappop(ends)[2]
            if not who.gone:
                made.append(who)
        self.next_end = ends[0][0] if ends else UNLIMITED
        return made

    def leave(self, who: Present[J]) -> None:
        """It makes no more tokens."""
        self.count -= 1
        self._kv_at_0 -= who.asked.prompt_tokens * KV_UNITS - self.accepted * who.joined


class Prompts(Generic[J]):
    """Those that wait, those whose prompt is in the present iteration, and the places and KV blocks that are left for more."""

    __slots__ = ("_limits", "_sharing", "cache", "context", "free", "pairs2", "partial", "sequences", "tokens", "waiting")

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self.cache = PrefixCache(limits.cache_blocks)
        self.waiting: deque[Present[J]] = deque()
        self.sequences = 0  # begun and not over
        self.free = limits.kv_blocks
        self.partial: Present[J] | None = None  # computed in part; first come first served leaves one at most
        self._sharing: list[tuple[Present[J], int]] = []  # the present iteration, and their tokens in it
        self.tokens = self.pairs2 = self.context = 0  # of the present iteration: see Costs.mixed

    def blocks_of(self, asked: Job[J]) -> int:
        """The KV blocks of a request from its beginning to its end."""
        return -(-(asked.prompt_tokens + asked.output_tokens) // self._limits.block_tokens)

    def has_place(self, who: Present[J]) -> bool:
        """Whether it could begin, were it its turn and tokens left."""
        return self.sequences < self._limits.max_sequences and who.reserved <= self.free

    def admit(self, streams: int) -> Sequence[Present[J]]:
        """Share out what is left of an iteration in which ``streams`` take a token each: to the prompt under way, then to those that wait.

        As long as the first has a place. Returns who begins.
        """
        budget = self._limits.token_budget - streams
        if self.partial is not None:
            who, self.partial = self.partial, None
            self._share(who, budget - self.tokens)
        begun = []
        while self.waiting and self.tokens < budget and self.has_place(self.waiting[0]):
            who = self.waiting.popleft()
            self.sequences += 1
            self.free -= who.reserved
            who.cached = who.computed = self._cached(who.asked)
            self._share(who, budget - self.tokens)
            begun.append(who)
        return begun

    def computed(self) -> Sequence[Present[J]]:
        """The present iteration is over, and another one begins. Returns whose prompt is computed now."""
        computed = []
        shared, self._sharing = self._sharing, []
        self.tokens = self.pairs2 = self.context = 0
        for who, tokens in shared:
            who.computed += tokens
            if who.gone:
                continue
            if who.computed < who.asked.prompt_tokens:
                self.partial = who
            else:
                self.cache.insert(who.asked.blocks, who.asked.lone_blocks)
                computed.append(who)
        return computed

    def give_back(self, who: Present[J]) -> None:
        """Its place and its blocks."""
        self.sequences -= 1
        self.free += who.reserved
        if who is self.partial:
            self.partial = None

    def _share(self, who: Present[J], most_tokens: int) -> None:
        before = who.computed
        tokens = min(most_tokens, who.asked.prompt_tokens - before)
        self._sharing.append((who, tokens))
        self.tokens += tokens
        self.pairs2 += tokens * (2 * before + tokens)
        self.context += before

    def _cached(self, asked: Job[J]) -> int:
        if not asked.blocks or not self.cache.capacity_blocks:
            return 0
        block_tokens = self._limits.block_tokens
        # The last token is always computed: its logits make the first token of the answer.
        return self.cache.match(asked.blocks[: (asked.prompt_tokens - 1) // block_tokens]) * block_tokens
