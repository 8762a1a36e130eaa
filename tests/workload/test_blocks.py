"""Prompts out of shared blocks: exact, equal where their blocks are, one object in memory."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from test_prompts import BUNDLED, OTHERS, counted, without_split
from tokenizers import Tokenizer

from latprof.workload.outline import Made
from latprof.workload.prompts import Prompts, load_prompts
from latprof.workload.sessions import Text, joined

KEY = (0, 0, "prompt")


def pieces(text: Text) -> tuple[str, ...]:
    return (text,) if isinstance(text, str) else text


def of_blocks(made: Made, prompts: Prompts = BUNDLED, seed: int = 1, lap: int = 0, key: tuple[int, int, str] = KEY) -> Text:
    return prompts.of_blocks(made, seed, lap, key)


@settings(deadline=None)
@given(
    block_tokens=st.sampled_from([1, 3, 16, 64, 512, 700, 1500]),
    ids=st.lists(st.one_of(st.integers(0, 20), st.text(max_size=5)), min_size=1, max_size=12),
    share=st.floats(0, 1, exclude_min=True),
    own_tokens=st.integers(0, 40),
    seed=st.integers(0, 5),
)
def test_lengths_add(block_tokens: int, ids: list[int | str], share: float, own_tokens: int, seed: int) -> None:
    in_blocks = max(1, round(share * block_tokens * len(ids)))
    tokens = in_blocks + own_tokens * (in_blocks == block_tokens * len(ids))
    text = of_blocks(Made(tokens, tuple(ids), block_tokens), seed=seed)
    assert BUNDLED.count_tokens(joined(text)) == tokens
    assert len(joined(text).split(" ")) == tokens
    # Each piece begins at a pre-tokenizer boundary, so pieces add as well.
    assert sum(map(BUNDLED.count_tokens, pieces(text))) == tokens


@pytest.mark.parametrize("make", OTHERS, ids=lambda make: make.__name__)
def test_blocks_are_exact_under_any_tokenizer(make: Callable[[], Tokenizer], tmp_path: Path) -> None:
    file = tmp_path / "tokenizer.json"
    make().save(str(file))
    prompts = load_prompts(file)
    for tokens, ids, block_tokens in ((1, (1,), 512), (600, (1, 2), 512), (1500, (1, 2), 512), (50, (7, 8, 9), 16), (1100, ("all",), 1100)):
        assert counted(prompts, joined(of_blocks(Made(tokens, ids, block_tokens), prompts))) == tokens


def test_mending_spares_all_whole_blocks_but_the_last(tmp_path: Path) -> None:
    file = tmp_path / "tokenizer.json"
    without_split().save(str(file))
    prompts = load_prompts(file)
    assert not prompts.adds_up
    one, other = (pieces(of_blocks(Made(1600, (1, 2, end), 512), prompts, key=(end, 0, "prompt"))) for end in (3, 4))
    assert one[:2] == other[:2]
    assert one[0] is other[0]
    assert one[2] != other[2]


@settings(deadline=None)
@given(st.lists(st.integers(0, 3), min_size=1, max_size=6), st.lists(st.integers(0, 3), min_size=1, max_size=6))
def test_prompts_agree_as_far_as_their_blocks_do(one: list[int], other: list[int]) -> None:
    same = next((i for i, (a, b) in enumerate(zip(one, other, strict=False)) if a != b), min(len(one), len(other)))
    words = [joined(of_blocks(Made(16 * len(ids), tuple(ids), 16))).split() for ids in (one, other)]
    assert words[0][: 16 * same] == words[1][: 16 * same]
    if same < min(len(one), len(other)):
        assert words[0][16 * same : 16 * same + 16] != words[1][16 * same : 16 * same + 16]


def test_equal_blocks_are_one_object() -> None:
    one, other = (pieces(of_blocks(Made(512 * 3, (1, 2, end), 512))) for end in (3, 4))
    assert one[0] is other[0]
    assert one[1] is other[1]
    assert one[2] != other[2]


def test_short_blocks_share_objects_by_the_piece() -> None:
    ids = tuple(range(100))
    one, other = (pieces(of_blocks(Made(1600, (*ids[:80], *range(start, start + 20)), 16))) for start in (200, 300))
    assert len(one) == 4
    assert one[0] is other[0]
    assert one[1] is other[1]


def test_a_block_cut_short_is_the_beginning_of_the_whole_one() -> None:
    whole = joined(of_blocks(Made(2000, ("b",), 2000)))
    assert whole.startswith(joined(of_blocks(Made(700, ("b",), 2000))))
    assert whole.startswith(joined(of_blocks(Made(700, ("b",), 700))))


def test_numbers_and_texts_name_different_blocks() -> None:
    assert of_blocks(Made(20, (5,), 20)) != of_blocks(Made(20, ("5",), 20))


def test_a_copy_of_the_workload_has_other_blocks() -> None:
    assert of_blocks(Made(512, (5,), 512), lap=0) != of_blocks(Made(512, (5,), 512), lap=1)
    assert of_blocks(Made(512, (5,), 512), seed=1) != of_blocks(Made(512, (5,), 512), seed=2)


def test_what_follows_the_blocks_is_the_sessions_own() -> None:
    mine, yours = (joined(of_blocks(Made(40, (5,), 16), key=(session, 0, "prompt"))).split() for session in (1, 2))
    assert mine[:16] == yours[:16]
    assert mine[16:] != yours[16:]


def test_no_prompt_begins_with_a_space() -> None:
    assert not joined(of_blocks(Made(600, (1, 2), 512))).startswith(" ")


def test_the_longest_prompts_are_exact_and_quick() -> None:
    began_s = time.process_time()
    own = BUNDLED.text(400_000, 1, 0)
    shared = joined(of_blocks(Made(400_000, tuple(range(782)), 512)))
    took_s = time.process_time() - began_s
    assert counted(BUNDLED, own) == counted(BUNDLED, shared) == 400_000
    assert took_s < 2  # 0.03 and 0.05 s when this was written


@pytest.mark.parametrize("tokens", [1, 17, pytest.param(4_096, marks=pytest.mark.slow)])
def test_a_thousand_seeds(tokens: int) -> None:
    texts = [BUNDLED.text(tokens, seed, seed % 7) for seed in range(1000)]
    lengths = {len(encoding.ids) for encoding in BUNDLED.tokenizer.encode_batch_fast(texts, add_special_tokens=False)}
    assert lengths == {tokens}
