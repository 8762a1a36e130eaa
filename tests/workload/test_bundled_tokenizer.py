from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Tokenizer

from harness.train_tokenizer import train
from latprof.config import BUNDLED_TOKENIZER

TOKENIZER = Tokenizer.from_file(str(BUNDLED_TOKENIZER))


@given(st.text())
def test_any_text_comes_back(text: str) -> None:
    assert TOKENIZER.decode(TOKENIZER.encode(text).ids) == text


def test_every_byte_has_a_token_of_its_own() -> None:
    text = "".join(map(chr, range(0x20AC)))  # every lead and continuation byte of two and three byte sequences
    assert TOKENIZER.decode(TOKENIZER.encode(text).ids) == text
    alphabet = {token for token in TOKENIZER.get_vocab() if len(token) == 1}
    assert len(alphabet) == 256


def test_it_is_small_and_holds_no_surprises() -> None:
    assert BUNDLED_TOKENIZER.stat().st_size < 700_000
    assert TOKENIZER.get_vocab_size(with_added_tokens=True) == TOKENIZER.get_vocab_size(with_added_tokens=False) == 16_384
    assert TOKENIZER.normalizer is None
    assert TOKENIZER.post_processor is None
    assert TOKENIZER.encode("<|endoftext|> hello").ids == TOKENIZER.encode("<|endoftext|> hello", add_special_tokens=False).ids


def test_training_is_deterministic() -> None:
    texts = ["the quick brown fox jumps over the lazy dog, " * 20, "def quick(fox): return lazy[dog]\n" * 20]
    assert train(texts, 320).to_str() == train(texts, 320).to_str()
