"""Prompts of exactly the asked token length, under any tokenizer.json.

A prompt is plain words, one space between them. Only words are used that are one token each, at the start of a text and after a space; then
lengths add, and n words are n tokens. Where the tokenizer cuts its text at every space before it merges anything, that is a proof (each piece
is encoded by itself); where it does not, every prompt is counted and mended.

A prompt of shared blocks is the same words in pieces: each piece after the first begins with its space, so that pieces add as words do, and equal
blocks are one object in memory.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import chain, islice
from pathlib import Path
from typing import NamedTuple

# Encoding on the tokenizer's own threads makes it complain on standard error when a process is forked later; one thread is enough here.
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

from tokenizers import Tokenizer

from latprof.config import BUNDLED_TOKENIZER
from latprof.errors import UsageError
from latprof.workload.draws import indices
from latprof.workload.outline import BlockId, Made
from latprof.workload.sessions import Text

# How vocabularies mark that a token begins a word: byte-level BPE's space, SentencePiece's, or nothing (word pieces).
_WORD = re.compile(r"(?:Ġ|▁| )?([a-z]{3,10})")
# With 16 words two sessions agree on 16 tokens once in 10^19; a prefix cache's smallest block is 16.
_FEWEST_WORDS = 16
_ENOUGH_WORDS = 256
_MOST_WORDS = 1024
# A prompt that was counted wrong is mended in so many steps; then other words are tried, so many times.
_STEPS, _VARIANTS = 6, 16
# Tokens of one shared piece of text: about 3 kB. Blocks shorter than this are put together, longer ones cut.
_PIECE_TOKENS = 512
# Pieces kept so that equal ones are one object: 100 MB at most. Traces come back to their blocks soon, or never.
_MOST_PIECES = 1 << 15
# Stands for the session and the turn in the draws of text that no session owns.
_SHARED = -1

Key = tuple[int, int, str]
"""(session, turn, purpose): whose text it is, and which."""


class _Run(NamedTuple):
    """The first ``tokens`` words of part number ``part`` of a block."""

    block: BlockId
    part: int
    tokens: int


@dataclass(frozen=True, slots=True)
class Prompts:
    """Makes prompts for one tokenizer. ``words`` are one token each; ``adds_up`` says that n of them are n tokens, whatever their order."""

    tokenizer: Tokenizer
    file: Path
    words: tuple[str, ...]
    adds_up: bool

    def text(self, tokens: int, seed: int, session: int, turn: int = 0, purpose: str = "prompt") -> str:
        """A prompt of exactly ``tokens`` tokens (>= 1), the same for the same arguments, and unlike any other session's from the start.

        Raises:
            UsageError: the tokenizer joins words in a way that leaves no such prompt.
        """
        if self.adds_up:
            return self._first_words(tokens, seed, session, turn, purpose)
        for variant in range(_VARIANTS):
            text = self._mended(tokens, "", (seed, session, turn), f"{purpose}{variant}", tokens)
            if text is not None:
                return text
        raise self._no_prompt(tokens)

    def count_tokens(self, text: str) -> int:
        """The length of ``text`` in tokens, without special tokens such as a beginning-of-text mark."""
        return _lengths(self.tokenizer, [text])[0]

    def encode(self, text: str) -> Sequence[int]:
        """The tokens of ``text``, without special ones."""
        ids: Sequence[int] = self.tokenizer.encode_batch_fast([text], add_special_tokens=False)[0].ids
        return ids

    def of_blocks(self, made: Made, seed: int, lap: int, key: Key) -> Text:
        """A prompt of exactly ``made.tokens`` tokens that begins with ``made.blocks``; what follows them belongs to ``key``.

        Equal blocks of one ``lap`` are equal text, and the same objects while they are remembered. Where lengths do not add, the last piece is
        mended until the whole is right: it then belongs to ``key`` as well.

        Raises:
            UsageError: the tokenizer joins words in a way that leaves no such prompt.
        """
        pieces = [_piece(self.words, seed, lap, runs, begins=i == 0) for i, runs in enumerate(_grouped(_runs(made)))]
        own_tokens = made.tokens - made.shared_tokens
        if self.adds_up:
            own = [self._own(own_tokens, seed, key, begins=not pieces)] if own_tokens else []
            return _as_text(pieces + own)
        while pieces:
            # The last piece makes room for what mending takes away or adds.
            own_tokens += len(pieces.pop().split())
            head = "".join(pieces)
            for variant in range(_VARIANTS):
                session, turn, purpose = key
                tail = self._mended(made.tokens, head, (seed, session, turn), f"{purpose}{variant}", own_tokens)
                if tail is not None:
                    return _as_text([*pieces, tail])
        raise self._no_prompt(made.tokens)

    def _own(self, tokens: int, seed: int, key: Key, *, begins: bool) -> str:
        session, turn, purpose = key
        return ("" if begins else " ") + self._first_words(tokens, seed, session, turn, purpose)

    def _mended(self, tokens: int, head: str, key: tuple[int, int, int], purpose: str, number: int) -> str | None:
        """What is to follow ``head`` so that the whole counts right: about ``number`` words; None when it keeps stepping over it."""
        for _ in range(_STEPS):
            tail = (" " if head else "") + self._first_words(number, *key, purpose)
            excess = self.count_tokens(head + tail) - tokens
            if excess == 0:
                return tail
            number = max(1, number - excess)
        return None

    def _first_words(self, number: int, seed: int, session: int, turn: int, purpose: str = "prompt") -> str:
        return " ".join(_drawn(self.words, number, seed, session, turn, purpose))

    def _no_prompt(self, tokens: int) -> UsageError:
        return UsageError(
            f"workload.tokenizer {self.file}: no prompt of exactly {tokens} tokens was found, it joins words in too many ways;"
            " give another tokenizer.json, or none for the bundled one"
        )


def _drawn(words: tuple[str, ...], number: int, seed: int, session: int, turn: int, purpose: str) -> Iterator[str]:
    return map(words.__getitem__, indices(number, len(words), seed, session, turn, purpose).tolist())


def _runs(made: Made) -> Iterator[_Run]:
    """The blocks of a prompt in parts of at most a piece, as far as its length goes."""
    left = made.shared_tokens
    for block in made.blocks:
        of_block = min(left, made.block_tokens)
        for part in range(-(-of_block // _PIECE_TOKENS)):
            yield _Run(block, part, min(_PIECE_TOKENS, of_block - part * _PIECE_TOKENS))
        left -= of_block
        if not left:
            return


def _grouped(runs: Iterable[_Run]) -> Iterator[tuple[_Run, ...]]:
    """Runs put together to pieces, always from the beginning on: prompts that begin alike have the same pieces."""
    group: list[_Run] = []
    for run in runs:
        group.append(run)
        if sum(one.tokens for one in group) >= _PIECE_TOKENS:
            yield tuple(group)
            group = []
    if group:
        yield tuple(group)


@lru_cache(maxsize=_MOST_PIECES)
def _piece(words: tuple[str, ...], seed: int, lap: int, runs: tuple[_Run, ...], *, begins: bool) -> str:
    """The text of ``runs``, with the space before it unless it ``begins`` a prompt: chat templates may strip what they are given."""
    drawn = (_drawn(words, tokens, seed, lap, _SHARED, f"block/{block!r}/{part}") for block, part, tokens in runs)
    return ("" if begins else " ") + " ".join(chain.from_iterable(drawn))


def _as_text(pieces: list[str]) -> Text:
    return pieces[0] if len(pieces) == 1 else tuple(pieces)


def load_prompts(file: Path | None = None) -> Prompts:
    """Find the words of a tokenizer.json (None: the bundled one) and how far they can be trusted. About 0.1 s; a vocabulary of 200 000 takes about a second.

    Raises:
        UsageError: the file cannot be read as a tokenizer, or has too few words that are one token.
    """
    file = BUNDLED_TOKENIZER if file is None else file
    tokenizer = _read(file)
    words = _words(tokenizer, file)
    if len(words) < _FEWEST_WORDS:
        raise UsageError(
            f"workload.tokenizer {file}: prompts of exact length need at least {_FEWEST_WORDS} plain lower-case words that are one token each,"
            f" found {len(words)}; give another tokenizer.json, or none for the bundled one"
        )
    return Prompts(tokenizer, file, words, _adds_up(tokenizer, words))


def _read(file: Path) -> Tokenizer:
    try:
        tokenizer = Tokenizer.from_file(str(file))
    except Exception as error:  # noqa: BLE001 - the library raises bare Exception
        raise UsageError(
            f"workload.tokenizer {file}: cannot be read as a tokenizer ({error}); give the path of a Hugging Face tokenizer.json,"
            " or none for the bundled one"
        ) from None
    # A file may carry the cut and the padding of the model's training batches.
    tokenizer.no_truncation()
    tokenizer.no_padding()
    return tokenizer


def _words(tokenizer: Tokenizer, file: Path) -> tuple[str, ...]:
    """The words to build from: those of the bundled vocabulary if enough of them are one token, else of the tokenizer's own.

    The bundled ones were learnt from documentation, so no safety filter takes offence at what chance puts together.
    """
    bundled = tokenizer if file == BUNDLED_TOKENIZER else _read(BUNDLED_TOKENIZER)
    words = _single_tokens(tokenizer, _words_of(bundled))
    if len(words) < _ENOUGH_WORDS:
        words = _single_tokens(tokenizer, dict.fromkeys([*words, *_words_of(tokenizer)]))
    return _power_of_two(words)


def _words_of(tokenizer: Tokenizer) -> list[str]:
    """Plain words in a vocabulary, each once, lowest id (most frequent) first."""
    vocabulary = tokenizer.get_vocab(with_added_tokens=False)
    matches = (_WORD.fullmatch(token) for token in sorted(vocabulary, key=vocabulary.__getitem__))
    return list(dict.fromkeys(match[1] for match in matches if match is not None))


def _single_tokens(tokenizer: Tokenizer, candidates: Iterable[str]) -> list[str]:
    """The first candidates that are one token each, at the start of a text and after a space."""
    found: list[str] = []
    waiting = iter(candidates)
    while len(found) < _MOST_WORDS and (tried := list(islice(waiting, _MOST_WORDS))):
        lengths = _lengths(tokenizer, [f"{word} {word} {word}" for word in tried])
        found += [word for word, length in zip(tried, lengths, strict=True) if length == 3]
    return found


def _power_of_two(words: Sequence[str]) -> tuple[str, ...]:
    """As many as a bit mask can draw from without favouring any."""
    usable = min(len(words), _MOST_WORDS)
    return tuple(words[: 1 << (usable.bit_length() - 1)]) if usable else ()


def _adds_up(tokenizer: Tokenizer, words: Sequence[str]) -> bool:
    """Whether every word stands in a piece of its own before the tokenizer's model sees it, and all of them together count right."""
    text = " ".join([*words, *reversed(words)])
    if tokenizer.pre_tokenizer is None:
        return False
    normal = text if tokenizer.normalizer is None else tokenizer.normalizer.normalize_str(text)
    pieces = tokenizer.pre_tokenizer.pre_tokenize_str(normal)
    whole = [piece.strip("Ġ▁ ") for piece, _ in pieces]
    return [piece for piece in whole if piece] == text.split() and _lengths(tokenizer, [text]) == [2 * len(words)]


def _lengths(tokenizer: Tokenizer, texts: Sequence[str]) -> list[int]:
    return [len(encoding.ids) for encoding in tokenizer.encode_batch_fast(list(texts), add_special_tokens=False)]
