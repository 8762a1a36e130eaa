"""A chunk is not a token: who counted them."""

from __future__ import annotations

from latprof.analysis.validity.doubts.doubt import Doubt
from latprof.analysis.validity.doubts.facts import Facts


def token_counts(facts: Facts) -> Doubt | None:
    """A chunk is not a token."""
    if not facts.tokens_not_from_usage or not facts.ok:
        return None
    text = f"output tokens of {facts.tokens_not_from_usage} of {facts.ok} answers are not from usage but counted by chunks or a tokenizer"
    return Doubt(
        "token_counts", "warning", text, "read TPOT and tokens/s with care, or let the server send usage (stream_options.include_usage)"
    )


def reasoning(facts: Facts) -> Doubt | None:
    """Tokens that were thought, counted, and never seen: before the first chunk, as a rule."""
    if not facts.reasoning_unstreamed:
        return None
    text = (
        f"usage counts reasoning in {facts.reasoning_unstreamed} of {facts.ok} answers that none of their chunks bore: tokens per chunk, TPOT and"
        " what-ifs take the output tokens without it"
    )
    remedy = "none needed; the time it took is before the first token that came, and tokens/s counts it"
    return Doubt("reasoning", "note", text, remedy)


def stream_options(facts: Facts) -> Doubt | None:
    """The server's choice, said once."""
    if not facts.stream_options_dropped:
        return None
    return Doubt(
        "stream_options",
        "note",
        "the server refuses stream_options; they were left out",
        "none needed; usage may be missing from the answers",
    )
