"""The order of interleaved runs, their seeds, and what is left when one of them ends early."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from latprof.config import Config, load_config
from latprof.errors import Exit, RunFailedError, UsageError
from latprof.pipeline.interleave import Block, blocks, measure

A = load_config(None, {"load": {"seed": 7}, "stub": {"seed": 70}})
B = load_config(None, {"load": {"seed": 1}, "stub": {"seed": 2, "plant": {"router": "5ms"}}})


def ends_at(number: int, code: Exit = Exit.INTERRUPTED, budget: object = "there") -> Any:
    """What runs: the ``number``-th (from 1) ends so, all others are done."""
    made: list[Config] = []

    def run(config: Config) -> Any:
        made.append(config)
        is_it = len(made) == number
        return SimpleNamespace(
            folder=config.out, exit_code=code if is_it else Exit.DONE, report=SimpleNamespace(budget=budget if is_it else "there")
        )

    return run


def nobody(_: Block) -> None:
    """Hears nothing."""


def test_each_side_goes_first_as_often_with_the_same_seeds(tmp_path: Path) -> None:
    planned = list(blocks(A, B, 4, tmp_path))
    assert "".join(block.side for block in planned) == "abbaabba"
    assert [block.config.load.seed for block in planned] == [7, 7, 8, 8, 9, 9, 10, 10]
    assert [block.config.stub.seed for block in planned] == [70, 70, 71, 71, 72, 72, 73, 73]
    assert {block.config.out for block in planned} == {tmp_path / side / f"0{number}" for side in "ab" for number in (1, 2, 3, 4)}
    assert all(("router" in block.config.stub.plant) == (block.side == "b") for block in planned)


@pytest.mark.parametrize("pairs", [0, 1, 3, 7])
def test_sides_must_go_first_as_often(pairs: int) -> None:
    with pytest.raises(UsageError, match=f"--pairs must be an even number from 2 up.*got {pairs}"):
        list(blocks(A, B, pairs, Path()))


def test_what_was_interrupted_is_compared_as_far_as_pairs_go(tmp_path: Path) -> None:
    found = measure(blocks(A, B, 4, tmp_path), ends_at(4), nobody)  # a b b | a
    assert (found.a, found.b) == ((tmp_path / "a" / "01",), (tmp_path / "b" / "01",))
    assert not found.is_whole
    whole = measure(blocks(A, B, 4, tmp_path), ends_at(99), nobody)
    assert (len(whole.a), len(whole.b), whole.is_whole) == (4, 4, True)
    # A run that cannot be trusted is still a run: the comparison says so.
    assert measure(blocks(A, B, 2, tmp_path), ends_at(2, Exit.UNTRUSTED), nobody).is_whole


def test_a_side_that_answers_nothing_ends_it(tmp_path: Path) -> None:
    with pytest.raises(RunFailedError, match="side B, pair 1"):
        measure(blocks(A, B, 2, tmp_path), ends_at(2, Exit.UNTRUSTED, None), nobody)
