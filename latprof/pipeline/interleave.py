"""Two stacks measured in turns, so that whatever the machine does in the meantime it does to both.

    A B | B A | A B | B A        one pair: the same seed, the same schedule, one right after the other

Each arm goes first as often as the other: a machine that grows slower by and by favours neither. Every pair has a seed of its own, so that the
intervals speak of the load in general and not of one schedule.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from latprof.config import Config
from latprof.errors import Exit, RunFailedError, UsageError

if TYPE_CHECKING:
    from latprof.pipeline.outcome import Outcome

Side = Literal["a", "b"]
LEAST_PAIRS = 2


@dataclass(frozen=True, slots=True)
class Block:
    """One run of one side; ``config`` names the folder it leaves."""

    side: Side
    pair: int
    config: Config


@dataclass(frozen=True, slots=True)
class Measured:
    """The run folders of both sides, pair by pair; ``is_whole`` is false if someone ended it early."""

    a: tuple[Path, ...]
    b: tuple[Path, ...]
    is_whole: bool


def blocks(a: Config, b: Config, pairs: int, out: Path) -> Iterator[Block]:
    """The runs in their order. Both sides take their seeds from ``a``.

    Raises:
        UsageError: the number of pairs is odd, or less than two.
    """
    if pairs < LEAST_PAIRS or pairs % 2:
        raise UsageError(f"--pairs must be an even number from {LEAST_PAIRS} up, so that each side goes first as often, got {pairs}")
    for pair in range(pairs):
        sides: tuple[tuple[Side, Config], ...] = (("a", a), ("b", b))
        for side, config in sides if pair % 2 == 0 else sides[::-1]:
            yield Block(side, pair, _seeded(config, a, pair, out / side / f"{pair + 1:02d}"))


def _seeded(config: Config, seeds_of: Config, pair: int, out: Path) -> Config:
    load = config.load.model_copy(update={"seed": seeds_of.load.seed + pair})
    stub = config.stub.model_copy(update={"seed": seeds_of.stub.seed + pair})
    return config.model_copy(update={"load": load, "stub": stub, "out": out})


def measure(planned: Iterator[Block], run: Callable[[Config], Outcome], tell: Callable[[Block], None]) -> Measured:
    """Make the runs one after the other. An interrupted one ends it; a pair of which one side is missing is left out.

    Raises:
        RunFailedError: not one request of a run succeeded: there is nothing to compare.
    """
    folders: dict[Side, list[Path]] = {"a": [], "b": []}
    is_whole = True
    for block in planned:
        tell(block)
        outcome = run(block.config)
        if outcome.exit_code is Exit.INTERRUPTED:
            is_whole = False
            break
        if outcome.report.budget is None:
            raise RunFailedError(
                f"not one request of side {block.side.upper()}, pair {block.pair + 1} succeeded; latprof report {outcome.folder} tells why"
            )
        folders[block.side].append(outcome.folder)
    pairs = min(map(len, folders.values()))
    return Measured(tuple(folders["a"][:pairs]), tuple(folders["b"][:pairs]), is_whole)
