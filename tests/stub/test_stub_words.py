from __future__ import annotations

import orjson
from tokenizers import Tokenizer

from latprof.config import BUNDLED_TOKENIZER
from latprof.stub.pools import PIECES


def test_every_piece_is_one_token_alone_and_in_a_row() -> None:
    tokenizer = Tokenizer.from_file(str(BUNDLED_TOKENIZER))
    pieces = [orjson.loads(piece) for piece in PIECES]
    for text, tokens in ((pieces[0], 1), ("".join(pieces * 2), 2 * len(pieces))):
        assert len(tokenizer.encode(text, add_special_tokens=False).ids) == tokens
