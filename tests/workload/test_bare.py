"""Sessions without texts against the same sessions written and tokenized: equal lengths, and blocks named alike exactly where their hashes are."""

from __future__ import annotations

from itertools import count
from pathlib import Path
from typing import Any

import pytest
from outlines import lines

from latprof.config import Workload
from latprof.stub.models.prefill import block_hashes
from latprof.workload.bare import Bare, Naming
from latprof.workload.load import lap_of, load_bare, load_workload
from latprof.workload.outline import Made, Outline, TurnOutline
from latprof.workload.prompts import load_prompts
from latprof.workload.sessions import Session, Tool, Turn, joined, messages, sent_tokens
from latprof.workload.writing import Pen, written

PROMPTS = load_prompts()
NAMELESS = count(1)


def hashes(session: Session, block_tokens: int) -> dict[int, tuple[int, tuple[int, ...]]]:
    """Step of each turn -> its prompt's tokens and block hashes, as the stack in a box finds them: every message tokenized by itself."""
    found = {}
    for number, step in enumerate(session.steps):
        if isinstance(step, Turn):
            ids = [token for message in messages(session, number) for token in PROMPTS.encode(joined(message.text))]
            found[number] = len(ids), block_hashes(ids, block_tokens)
    return found


def named_alike(pairs: list[tuple[tuple[int, ...], tuple[int, ...]]]) -> int:
    """How many different blocks there are; every name stands for one hash, and every hash has one name."""
    name_of: dict[int, int] = {}
    hash_of: dict[int, int] = {}
    for names, blocks in pairs:
        assert len(names) == len(blocks)
        for name, block in zip(names, blocks, strict=True):
            assert name_of.setdefault(block, name) == name
            assert hash_of.setdefault(name, block) == block
    return len(hash_of)


def names_of(sent: Bare) -> tuple[int, ...]:
    """A name for every full block: those that need none get one that nobody else has."""
    return (*sent.blocks, *(-next(NAMELESS) for _ in range(sent.lone_blocks)))


WORKLOADS: dict[str, dict[str, Any]] = {
    "one turn": {"prompt_tokens": {"dist": "lognormal", "mean": 300, "cv": 0.5}},
    "shared beginning": {"prompt_tokens": {"dist": "lognormal", "mean": 300, "cv": 0.5}, "cached_share": 0.6},
    "shared by law": {
        "prompt_tokens": 300, "turns": 2, "restart_share": 0.5, "cached_share": {"dist": "empirical", "values": [0, 0.3, 0.9, 1]},
    },
    "all shared": {"prompt_tokens": {"dist": "lognormal", "mean": 300, "cv": 0.5}, "cached_share": 1.0},
    "conversations": {"prompt_tokens": 150, "cached_share": 0.5, "turns": 4, "restart_share": 0.3, "output_tokens": 30, "reply_tokens": 17},
    "agents": {
        "prompt_tokens": 200, "cached_share": 0.3, "turns": 2, "calls": 3, "tools": 2, "tool_tokens": 40, "subagents": 0.5, "output_tokens": 25,
    },
}  # fmt: skip


@pytest.mark.parametrize("name", WORKLOADS)
@pytest.mark.parametrize("block_tokens", [16, 50])
def test_synthetic_blocks(name: str, block_tokens: int) -> None:
    laws = Workload.model_validate(WORKLOADS[name])
    whole = load_workload(laws, 3)
    bare, outlines, naming = load_bare(laws, 3, block_tokens)
    pairs = []
    for number in range(12):
        real = hashes(whole.session(number), block_tokens)
        sent = naming.turns(outlines.outline(number), number, lap_of(outlines, number))
        assert {step: one.prompt_tokens for step, one in sent.items()} == {step: tokens for step, (tokens, _) in real.items()}
        assert {step: one.prompt_tokens for step, one in sent.items()} == sent_tokens(bare.session(number))
        pairs += [(names_of(sent[step]), real[step][1]) for step in real]
    different = named_alike(pairs)
    assert (sum(len(names) for names, _ in pairs) > different) == (name != "one turn")


@pytest.mark.parametrize("block_tokens", [48, 128, 512, 700])
def test_blocks_of_a_trace_and_its_laps(tmp_path: Path, block_tokens: int) -> None:
    requests = [
        {"timestamp": 0, "input_length": 1500, "output_length": 2, "hash_ids": [1, 2, 3]},
        {"timestamp": 5, "input_length": 1300, "output_length": 2, "hash_ids": [1, 2, 4]},
        {"timestamp": 9, "input_length": 600, "output_length": 2, "hash_ids": [1, 2]},
    ]
    laws = Workload(trace=lines(tmp_path, *requests), trace_format="mooncake")
    whole = load_workload(laws, 1)
    _, outlines, naming = load_bare(laws, 1, block_tokens)
    pairs = []
    for number in range(6):  # twice through
        real = hashes(whole.session(number), block_tokens)
        sent = naming.turns(outlines.outline(number), number, lap_of(outlines, number))
        pairs += [(names_of(sent[step]), real[step][1]) for step in real]
    named_alike(pairs)
    first, second, _, again, *_ = [names for names, _ in pairs]
    shared = sum(one == other for one, other in zip(first, second, strict=False))
    assert shared == 1024 // block_tokens
    assert not set(first) & set(again)


def test_recorded_texts_share_what_they_begin_with() -> None:
    told = "the quick brown fox jumps over the lazy dog and " * 30
    outlines = [
        Outline(
            0,
            (
                TurnOutline(told, 5, system="be kind " * 40, answer="as you wish " * 20),
                TurnOutline("go on " * 30, 5, after=(0,), context=0),
            ),
        ),
        Outline(0, (TurnOutline(told + "runs away", 5, system="be kind " * 40), Tool("t", 1, (0,)))),
        Outline(0, (TurnOutline(Made(200), 5, system="be kind " * 40),)),
    ]
    naming = Naming(32, PROMPTS.encode)
    pairs = []
    for number, outline in enumerate(outlines):
        real = hashes(written(Pen(PROMPTS, 1), outline, number), 32)
        sent = naming.turns(outline, number)
        assert {step: one.prompt_tokens for step, one in sent.items()} == {step: tokens for step, (tokens, _) in real.items()}
        pairs += [(names_of(sent[step]), real[step][1]) for step in real]
    named_alike(pairs)
    assert pairs[0][0][:2] == pairs[2][0][:2] == pairs[3][0][:2]  # the system text: two blocks and a bit


def test_bare_sessions_say_what_whole_ones_say() -> None:
    laws = Workload.model_validate(WORKLOADS["agents"])
    whole = load_workload(laws, 3)
    bare, *_ = load_bare(laws, 3, 16)
    assert whole.is_ahead
    assert not bare.is_ahead
    for number in range(5):
        for mine, theirs in zip(bare.session(number).steps, whole.session(number).steps, strict=True):
            if isinstance(theirs, Tool):
                assert mine == theirs
            else:
                assert isinstance(mine, Turn)
                same = ("prompt_tokens", "output_tokens", "think_ns", "after", "context", "role", "at_ns")
                assert [getattr(mine, name) for name in same] == [getattr(theirs, name) for name in same]
