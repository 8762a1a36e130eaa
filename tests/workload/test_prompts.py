from __future__ import annotations

import json
import time
from collections.abc import Callable
from functools import cache
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers

from latprof.errors import Exit, UsageError
from latprof.workload.prompts import Prompts, load_prompts

BUNDLED = load_prompts()
# Anything that needs training text gets the bundled words: they are there whatever is installed.
TEXT = [" ".join(BUNDLED.words[start : start + 40]) for start in range(0, 1024, 8)]


def byte_level() -> Tokenizer:
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(vocab_size=3000, initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), show_progress=False)
    tokenizer.train_from_iterator([*TEXT, *(text.replace(" ", "_") for text in TEXT)], trainer)
    return tokenizer


def with_bos() -> Tokenizer:
    """Byte-level like Llama 3's: a split of its own, a beginning-of-text mark added to every text, and a cut after 64 tokens."""
    tokenizer = byte_level()
    tokenizer.add_special_tokens(["<|begin|>"])
    mark = tokenizer.token_to_id("<|begin|>")
    tokenizer.post_processor = processors.TemplateProcessing(single="<|begin|> $A", special_tokens=[("<|begin|>", mark)])
    tokenizer.enable_truncation(64)
    tokenizer.enable_padding()
    return tokenizer


def metaspace_unigram() -> Tokenizer:
    """SentencePiece's unigram, like T5's."""
    tokenizer = Tokenizer(models.Unigram())
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    tokenizer.decoder = decoders.Metaspace()
    trainer = trainers.UnigramTrainer(vocab_size=1500, special_tokens=["<unk>"], unk_token="<unk>", show_progress=False)
    tokenizer.train_from_iterator(TEXT, trainer)
    return tokenizer


def without_split() -> Tokenizer:
    """Like Llama 2's: spaces become marks, and nothing cuts the text before it is merged; trained so that some tokens span words."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    trainer = trainers.BpeTrainer(vocab_size=1500, show_progress=False)
    often = " ".join([f"{first} {second}" for first, second in pairwise(BUNDLED.words[:24])] * 8)
    tokenizer.train_from_iterator([often, *BUNDLED.words[:200], *TEXT[:8]], trainer)
    return tokenizer


def whole_words() -> Tokenizer:
    tokenizer = Tokenizer(models.WordLevel(unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.normalizer = normalizers.Lowercase()
    tokenizer.train_from_iterator(TEXT, trainers.WordLevelTrainer(special_tokens=["[UNK]"], show_progress=False))
    return tokenizer


def word_pieces() -> Tokenizer:
    tokenizer = Tokenizer(models.WordPiece(unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer()
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.train_from_iterator(TEXT, trainers.WordPieceTrainer(vocab_size=2000, special_tokens=["[UNK]"], show_progress=False))
    return tokenizer


OTHERS: list[Callable[[], Tokenizer]] = [byte_level, with_bos, metaspace_unigram, without_split, whole_words, word_pieces]


@pytest.fixture(scope="module", params=OTHERS, ids=lambda make: make.__name__)
def other(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Prompts:
    file = tmp_path_factory.mktemp("tokenizer") / "tokenizer.json"
    request.param().save(str(file))
    return load_prompts(file)


def counted(prompts: Prompts, text: str) -> int:
    """Counted apart from `Prompts`: by a tokenizer read anew, through the library's other way to encode."""
    return len(read_anew(prompts.file).encode(text, add_special_tokens=False).ids)


@cache
def read_anew(file: Path) -> Tokenizer:
    tokenizer = Tokenizer.from_file(str(file))
    tokenizer.no_truncation()
    tokenizer.no_padding()
    return tokenizer


@pytest.mark.parametrize("tokens", [1, 2, 17, 256, 4_096])
@pytest.mark.parametrize("seed", [-1, 0, 1, 2, 7, 12_345, 2**40])
def test_prompts_are_exact(tokens: int, seed: int) -> None:
    for session in (0, 1, 2**30):
        assert counted(BUNDLED, BUNDLED.text(tokens, seed, session)) == tokens


@pytest.mark.parametrize("seed", [1, 2])
def test_long_prompts_are_exact(seed: int) -> None:
    assert counted(BUNDLED, BUNDLED.text(100_000, seed, 3)) == 100_000


@given(tokens=st.integers(1, 600), seed=st.integers(), session=st.integers(0, 2**31), turn=st.integers(0, 50))
def test_any_prompt_is_exact(tokens: int, seed: int, session: int, turn: int) -> None:
    assert BUNDLED.count_tokens(BUNDLED.text(tokens, seed, session, turn)) == tokens


def test_the_bundled_words_add_up_by_construction() -> None:
    assert BUNDLED.adds_up
    assert len(BUNDLED.words) == 1024


def test_prompts_are_exact_under_any_tokenizer(other: Prompts) -> None:
    for tokens in (1, 2, 17, 256, 4_096):
        for session in range(5):
            assert counted(other, other.text(tokens, 1, session)) == tokens


def test_only_a_tokenizer_that_splits_first_is_trusted(other: Prompts) -> None:
    assert other.adds_up == (other.tokenizer.pre_tokenizer is not None)


def test_words_that_merge_across_spaces_are_mended(tmp_path: Path) -> None:
    file = tmp_path / "tokenizer.json"
    without_split().save(str(file))
    prompts = load_prompts(file)
    unmended = Prompts(prompts.tokenizer, file, prompts.words, adds_up=True)
    missed = [session for session in range(50) if counted(prompts, unmended.text(300, 1, session)) != 300]
    assert missed, "this tokenizer was made to merge across spaces"
    assert all(counted(prompts, prompts.text(300, 1, session)) == 300 for session in missed)


def test_same_key_same_prompt_and_every_part_of_the_key_counts() -> None:
    text = BUNDLED.text(64, 1, 5, 2)
    assert text == load_prompts().text(64, 1, 5, 2)
    assert len({text, BUNDLED.text(64, 2, 5, 2), BUNDLED.text(64, 1, 6, 2), BUNDLED.text(64, 1, 5, 3)}) == 4


def test_sessions_share_no_long_prefix() -> None:
    beginnings = {" ".join(BUNDLED.text(256, 1, session).split()[:8]) for session in range(3000)}
    assert len(beginnings) == 3000  # the smallest prefix-cache block in use holds 16 tokens


def test_prompts_look_like_plain_words() -> None:
    words = BUNDLED.text(2000, 1, 0).split(" ")
    assert all(word.isalpha() and word.islower() and 3 <= len(word) <= 10 for word in words)
    assert len(set(words)) > 800


def test_a_thousand_prompts_take_a_moment() -> None:
    began_s = time.process_time()
    for session in range(1000):
        BUNDLED.text(256, 1, session)
    assert time.process_time() - began_s < 1  # 0.03 s when this was written


@pytest.mark.parametrize("content", [None, "", "{}", "not json", '{"version": "1.0"}'])
def test_a_file_that_is_no_tokenizer_is_refused(tmp_path: Path, content: str | None) -> None:
    file = tmp_path / "tokenizer.json"
    if content is not None:
        file.write_text(content)
    with pytest.raises(UsageError, match=r"workload.tokenizer .*tokenizer.json: cannot be read as a tokenizer") as refused:
        load_prompts(file)
    assert refused.value.exit_code == Exit.USAGE


def test_a_tokenizer_without_words_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "tokenizer.json"
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.train_from_iterator([], trainers.BpeTrainer(initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), show_progress=False))
    tokenizer.save(str(file))
    assert json.loads(file.read_text())["model"]["merges"] == []
    with pytest.raises(UsageError, match=r"need at least 16 plain lower-case words.*found 0"):
        load_prompts(file)
