from __future__ import annotations

from array import array

from tokenizers import Tokenizer

from latprof.config import BUNDLED_TOKENIZER
from latprof.stub.asked import tokens_in
from latprof.stub.pools import WORDS
from latprof.stub.tokenizing import KnownConversations, Tokenized


def test_every_piece_is_one_token_alone_and_in_a_row() -> None:
    tokenizer = Tokenizer.from_file(str(BUNDLED_TOKENIZER))
    pieces = [word.decode() for word in WORDS]
    for text, tokens in ((pieces[0], 1), ("".join(pieces * 2), 2 * len(pieces))):
        assert len(tokenizer.encode(text, add_special_tokens=False).ids) == tokens


def test_tokens_are_counted_in_chunks_of_several() -> None:
    chunks = [b'"%b"' % b"".join(WORDS[begin : begin + 7]) for begin in range(0, len(WORDS), 7)]
    assert tokens_in(chunks) == len(WORDS)


def told(*texts: str) -> Tokenized:
    return Tokenized(array("I", range(len(texts))), (), 0)


def test_a_longer_conversation_begins_with_the_longest_known_one() -> None:
    known = KnownConversations(2)
    first, second = told("a"), told("a", "b", "c")
    names, count, found = known.find(["a"])
    assert (count, found) == (0, None)
    known.keep(names[-1], first)
    names, count, found = known.find(["a", "b", "c"])
    assert (count, found) == (1, first)
    known.keep(names[-1], second)
    assert known.find(["a", "b", "c", "d"])[1:] == (3, second)
    assert known.find(["a", "bc", "d"])[1:] == (1, first)  # not where two texts merely join to the same
    assert known.find(["b"])[1:] == (0, None)
    known.keep(known.find(["x"])[0][-1], told("x"))  # the least recently used, which is the second, goes
    assert known.find(["a", "b", "c"])[1:] == (1, first)
