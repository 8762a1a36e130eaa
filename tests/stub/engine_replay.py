"""The colocated engine told iteration by iteration, stream by stream, token by token: slow, plain, and written without the engine.

Leaves at an instant come after whatever else happens then; a caller that plays both keeps arrivals and leaves on different instants.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from latprof.stub.models.costs import KV_UNITS, TICK_BITS, Costs
from latprof.stub.models.engine import Limits

NEVER = 1 << 100


@dataclass(eq=False)
class Told:
    """What is asked of the engine, and what became of it."""

    job: int
    at_ns: int
    prompt_tokens: int
    blocks: tuple[int, ...]
    output_tokens: int
    prefill_extra_ns: int = 0
    first_extra_ns: int = 0
    leaves_ns: int = NEVER
    happened: dict[str, int] = field(default_factory=dict)
    cached_tokens: int = 0
    token_ns: list[int] = field(default_factory=list)
    computed: int = 0
    decoded: int = 0  # parts of tokens, of which KV_UNITS make one

    @property
    def prefilled_ns(self) -> int:
        return self.happened["computed"] + self.prefill_extra_ns

    @property
    def first_ns(self) -> int:
        return self.prefilled_ns + self.first_extra_ns


class Lru:
    """The prefix cache by time stamps."""

    def __init__(self, capacity: int) -> None:
        self.capacity, self.used, self.clock = capacity, dict[int, int](), 0

    def match(self, blocks: tuple[int, ...]) -> int:
        found = 0
        while found < len(blocks) and blocks[found] in self.used:
            found += 1
        self.touch(blocks[:found])
        return found

    def touch(self, blocks: tuple[int, ...]) -> None:
        for block in reversed(blocks[: self.capacity]):
            self.clock += 1
            self.used[block] = self.clock
        while len(self.used) > self.capacity:
            del self.used[min(self.used, key=lambda block: self.used[block])]


class Replay:
    """Runs it all. Afterwards every ``Told`` knows its story, and ``ends_ns`` the end of every iteration."""

    def __init__(self, costs: Costs, limits: Limits, told: list[Told]) -> None:
        self.costs, self.limits = costs, limits
        self.accepted = round(limits.accepted_tokens * KV_UNITS)
        self.cache = Lru(limits.cache_blocks)
        self.coming = list(told)
        self.waiting: list[Told] = []
        self.prefilling: list[Told] = []
        self.held: list[Told] = []
        self.decoding: list[Told] = []
        self.ends_ns: list[int] = []
        self.most_blocks = self.most_sequences = 0
        ticks = 0
        while True:
            chunks = self._schedule(ticks >> TICK_BITS)
            if chunks or self.decoding:
                ticks += self._length(chunks)
                self._boundary(ticks >> TICK_BITS, chunks)
            else:
                idle_until = self._next_ns(ticks >> TICK_BITS)
                if idle_until == NEVER:
                    return
                ticks = max(ticks, idle_until << TICK_BITS)
                self._release(idle_until)
                self._drop(idle_until + 1)

    def _next_ns(self, now_ns: int) -> int:
        arrivals = [who.at_ns for who in self.coming[:1]]
        stages = [at_ns for who in self.held for at_ns in (who.prefilled_ns, who.first_ns) if at_ns > now_ns]
        leaves = [who.leaves_ns for who in [*self.held, *self.waiting]]
        return min([NEVER, *arrivals, *stages, *leaves])

    def _blocks(self, who: Told) -> int:
        return -(-(who.prompt_tokens + who.output_tokens) // self.limits.block_tokens)

    def _present(self) -> list[Told]:
        return [*self.prefilling, *self.held, *self.decoding]

    def _schedule(self, now_ns: int) -> list[tuple[Told, int]]:
        while self.coming and self.coming[0].at_ns <= now_ns:
            self.waiting.append(self.coming.pop(0))
        self.waiting = [who for who in self.waiting if who.leaves_ns >= now_ns]
        budget = self.limits.token_budget - len(self.decoding)
        chunks = []
        for who in self.prefilling:
            chunks.append((who, min(budget, who.prompt_tokens - who.computed)))
            budget -= chunks[-1][1]
        while self.waiting and budget > 0:
            who = self.waiting[0]
            free = self.limits.kv_blocks - sum(map(self._blocks, self._present()))
            if len(self._present()) >= self.limits.max_sequences or self._blocks(who) > free:
                break
            self.waiting.pop(0)
            who.happened["begun"] = now_ns
            usable = who.blocks[: (who.prompt_tokens - 1) // self.limits.block_tokens]
            who.cached_tokens = who.computed = self.cache.match(usable) * self.limits.block_tokens
            self.prefilling.append(who)
            chunks.append((who, min(budget, who.prompt_tokens - who.computed)))
            budget -= chunks[-1][1]
        self.most_blocks = max(self.most_blocks, sum(map(self._blocks, self._present())))
        self.most_sequences = max(self.most_sequences, len(self._present()))
        return chunks

    def _length(self, chunks: list[tuple[Told, int]]) -> int:
        kv = sum(who.prompt_tokens * KV_UNITS + who.decoded for who in self.decoding)
        if not chunks:
            return max(self.costs.decode(len(self.decoding), kv))
        pairs2 = sum(2 * who.computed * tokens + tokens * tokens for who, tokens in chunks)
        return self.costs.mixed(len(self.decoding), kv, sum(n for _, n in chunks), pairs2, sum(who.computed for who, _ in chunks))

    def _boundary(self, now_ns: int, chunks: list[tuple[Told, int]]) -> None:
        self.ends_ns.append(now_ns)
        for who in list(self.decoding):
            who.decoded += self.accepted
            made = min(who.output_tokens, 1 + who.decoded // KV_UNITS)
            who.token_ns += [now_ns] * (made - len(who.token_ns))
            if made == who.output_tokens:
                self.decoding.remove(who)
                if who.leaves_ns >= now_ns:
                    who.happened["ended"] = now_ns
        for who, tokens in chunks:
            who.computed += tokens
            if who.computed == who.prompt_tokens and who.leaves_ns >= now_ns:
                self.prefilling.remove(who)
                self.cache.touch(who.blocks)
                who.happened["computed"] = now_ns
                self.held.append(who)
        self._release(now_ns)
        self._drop(now_ns)

    def _release(self, now_ns: int) -> None:
        for who in sorted(self.held, key=lambda one: one.first_ns):
            if who.prefilled_ns <= min(now_ns, who.leaves_ns):
                who.happened["prefilled"] = who.prefilled_ns
            if who.first_ns <= min(now_ns, who.leaves_ns):
                who.happened["first"] = who.first_ns
                who.token_ns.append(who.first_ns)
                self.held.remove(who)
                if who.output_tokens == 1:
                    who.happened["ended"] = who.first_ns
                else:
                    self.decoding.append(who)

    def _drop(self, now_ns: int) -> None:
        """Who has left before ``now_ns``."""
        for group in (self.waiting, self.prefilling, self.held, self.decoding):
            group[:] = [who for who in group if who.leaves_ns >= now_ns]
