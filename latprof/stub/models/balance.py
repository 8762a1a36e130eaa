"""Load balancers: which replica a request goes to, from what the balancer itself has sent and seen end. Pure; no pick looks at every replica."""

from __future__ import annotations

from collections import OrderedDict, defaultdict
from collections.abc import Sequence
from typing import Final

from latprof.config import BalancingPolicy
from latprof.stub.models.draws import Key, bits
from latprof.stub.models.recent import Recent

_DRAW: Final = "router.choice"
_INDEX_BLOCKS: Final = 1 << 20


class Balancer:
    """A balancer before ``replicas`` equal replicas. The driver says ``begun`` after each ``pick`` it follows, and ``ended`` at the request's end.

    round_robin        in turn
    least_outstanding  the one with the fewest requests under way; of several, the one whose count has stood longest
    power_of_two       the less busy of two drawn by the request's key; of equals the first drawn
    prefix_affinity    the one last sent the longest beginning of this prompt, unless it has more than ``slack`` requests over the
                       fewest; then, and where no beginning is known, as least_outstanding. It knows what it sent, not what is cached
    """

    def __init__(self, policy: BalancingPolicy, replicas: int, slack: int = 8, index_blocks: int = _INDEX_BLOCKS) -> None:
        if replicas < 1:
            raise ValueError(f"a balancer needs at least one replica, got {replicas}")
        self.policy = policy
        self.replicas = replicas
        self.outstanding = [0] * replicas
        self._slack = slack
        self._turn = -1
        # Replicas by how many requests they have, each in order of coming to it: the fewest is found without a search.
        self._levels: defaultdict[int, OrderedDict[int, None]] = defaultdict(OrderedDict, {0: OrderedDict.fromkeys(range(replicas))})
        self._fewest = 0
        self._sent = Recent(index_blocks)  # block -> the replica that was sent it last
        self._pick = {
            "round_robin": self._in_turn,
            "least_outstanding": self._least,
            "power_of_two": self._of_two,
            "prefix_affinity": self._with_prefix,
        }[policy]

    def pick(self, now_ns: int, blocks: Sequence[int], key: Key, lone_blocks: int = 0) -> int:  # noqa: ARG002 - a policy may come to need the time
        """The replica for a request whose prompt has ``blocks`` (and ``lone_blocks`` that nobody else has); the same request is drawn alike in every run."""
        return 0 if self.replicas == 1 else self._pick(blocks, key, lone_blocks)

    def begun(self, replica: int) -> None:
        """A request was sent to ``replica``."""
        self._move(replica, 1)

    def ended(self, replica: int) -> None:
        """A request of ``replica`` is over, however it ended.

        Raises:
            RuntimeError: it had none.
        """
        if self.outstanding[replica] == 0:
            raise RuntimeError(f"replica {replica} has no request that could end")
        self._move(replica, -1)

    def _move(self, replica: int, by: int) -> None:
        levels, level = self._levels, self.outstanding[replica]
        del levels[level][replica]
        self.outstanding[replica] = level = level + by
        levels[level][replica] = None
        if level < self._fewest or not levels[self._fewest]:
            self._fewest += by

    def _in_turn(self, _blocks: Sequence[int], _key: Key, _lone_blocks: int) -> int:
        self._turn = (self._turn + 1) % self.replicas
        return self._turn

    def _least(self, _blocks: Sequence[int] = (), _key: Key | None = None, _lone_blocks: int = 0) -> int:
        return next(iter(self._levels[self._fewest]))

    def _of_two(self, _blocks: Sequence[int], key: Key, _lone_blocks: int) -> int:
        drawn = bits(key, _DRAW)
        first = (drawn >> 32) % self.replicas
        second = (first + 1 + (drawn & 0xFFFFFFFF) % (self.replicas - 1)) % self.replicas
        return second if self.outstanding[second] < self.outstanding[first] else first

    def _with_prefix(self, blocks: Sequence[int], _key: Key, lone_blocks: int) -> int:
        known = self._known_blocks(blocks)
        replica = self._sent[blocks[known - 1]] if known else self._least()
        if self.outstanding[replica] > self._fewest + self._slack:
            replica = self._least()
        self._sent.keep(blocks, lone_blocks, replica)
        return replica

    def _known_blocks(self, blocks: Sequence[int]) -> int:
        """How many leading blocks are known: a known block's beginning is known too, so that a long prompt needs few looks."""
        low, high = 0, len(blocks)
        while low < high:
            middle = (low + high + 1) // 2
            if blocks[middle - 1] in self._sent:
                low = middle
            else:
                high = middle - 1
        return low
