"""Prefix blocks as many as fit: the least recently used go first, of one prompt its tail before its head."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence


class Recent:
    """Blocks by chained hash (0 or above), each with a value. What is known of a prompt is always its beginning.

    Blocks that no other prompt can begin with take room and nothing else: a prompt has them as one entry under a name below 0, its value how many.
    """

    __slots__ = ("_blocks", "_count", "_nameless", "capacity_blocks")

    def __init__(self, capacity_blocks: int) -> None:
        self.capacity_blocks = capacity_blocks
        self._blocks: OrderedDict[int, int] = OrderedDict()
        self._count = 0
        self._nameless = 0

    def __len__(self) -> int:
        return self._count

    def __contains__(self, block: int) -> bool:
        return block in self._blocks

    def __getitem__(self, block: int) -> int:
        return self._blocks[block]

    def use(self, blocks: Sequence[int]) -> int:
        """How many of a prompt's ``blocks``, from its beginning, are here; they are used."""
        here, touch = self._blocks, self._blocks.move_to_end
        found = 0
        for block in blocks:
            if block not in here:
                break
            found += 1
        for block in reversed(blocks[:found]):
            touch(block)
        return found

    def keep(self, blocks: Sequence[int], lone_blocks: int = 0, value: int = 0) -> None:
        """A prompt's blocks are used, as many leading ones as fit, and have ``value`` from now on; ``lone_blocks`` more come behind them."""
        here = self._blocks
        lone_blocks = min(lone_blocks, self.capacity_blocks - len(blocks))
        if lone_blocks > 0:
            self._nameless -= 1
            here[self._nameless] = lone_blocks
            self._count += lone_blocks
        before, touch = len(here), here.move_to_end
        for block in reversed(blocks[: self.capacity_blocks]):
            here[block] = value
            touch(block)
        self._count += len(here) - before
        if self._count > self.capacity_blocks:
            self._forget()

    def _forget(self) -> None:
        """The oldest, until the rest fits."""
        here, excess = self._blocks, self._count - self.capacity_blocks
        self._count = self.capacity_blocks
        while excess > 0:
            block = next(iter(here))
            count = here[block] if block < 0 else 1
            if count > excess:
                here[block] = count - excess
            else:
                del here[block]
            excess -= count
