"""Trains the tokenizer that ships with latprof (``latprof/assets/tokenizer.json``), a byte-level BPE like GPT-2's.

The text is the Python standard library of the running interpreter: code, comments and the prose of its docstrings. It is distributed under
the Python Software Foundation License 2 (with the compatible licences its LICENSE file lists), which allows this use. Only merges learnt from
it are shipped, none of the text. The same interpreter and the same ``tokenizers`` give the same file, byte for byte.

    python -m harness.train_tokenizer           writes the file
    python -m harness.train_tokenizer --check   trains again and compares
"""

from __future__ import annotations

import hashlib
import platform
import sys
import sysconfig
from collections.abc import Iterable
from importlib.metadata import version
from pathlib import Path

from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

from latprof.config import BUNDLED_TOKENIZER

# 16 384 tokens: a prompt costs about what it costs with a real tokenizer, and the file stays below 700 kB.
VOCABULARY = 16_384
# Installed packages have licences of their own; the tests are mostly tables of numbers and odd bytes.
LEFT_OUT = frozenset({"site-packages", "dist-packages", "test", "tests", "idle_test"})


def main() -> None:
    """Train, then write or compare."""
    texts = corpus()
    digest = hashlib.sha256("".join(texts).encode()).hexdigest()
    print(f"Python {platform.python_version()}, tokenizers {version('tokenizers')}, {len(texts)} files, text sha256 {digest}")
    trained = train(texts, VOCABULARY).to_str(pretty=False)
    print(f"{len(trained) / 1000:.0f} kB, sha256 {hashlib.sha256(trained.encode()).hexdigest()}")
    if "--check" in sys.argv[1:]:
        same = trained == BUNDLED_TOKENIZER.read_text(encoding="utf-8")
        print("the shipped file is this one" if same else "the shipped file differs: another Python, another tokenizers, or edited by hand")
        sys.exit(0 if same else 1)
    BUNDLED_TOKENIZER.write_text(trained, encoding="utf-8")


def corpus() -> list[str]:
    """The sources of the standard library, in the order of their names."""
    root = Path(sysconfig.get_path("stdlib"))
    files = sorted(file for file in root.rglob("*.py") if not LEFT_OUT & set(file.relative_to(root).parts))
    return [file.read_text(encoding="utf-8", errors="replace") for file in files]


def train(texts: Iterable[str], vocabulary: int) -> Tokenizer:
    """A byte-level BPE of ``vocabulary`` tokens: GPT-2's split, no normalizer, no special tokens, every byte in the alphabet."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary, initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), special_tokens=[], show_progress=False
    )
    tokenizer.train_from_iterator(texts, trainer)
    return tokenizer


if __name__ == "__main__":
    main()
