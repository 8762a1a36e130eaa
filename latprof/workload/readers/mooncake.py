"""Reads the Mooncake traces (kvcache-ai/Mooncake, FAST'25), the form most tools replay.

    {"timestamp": 27482, "input_length": 6955, "output_length": 52, "hash_ids": [46, 47, 48, 49, 50, 51, 52, 53, 54, 55, 56, 57, 2111, 2112]}

``timestamp`` in ms; each hash id names a prefix block of 512 tokens, the last one cut to ``input_length``. Each request is a session with its
whole prompt: equal ids become equal text, so that a prefix cache hits where it hit.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from latprof.errors import ConfigError
from latprof.units import NS_PER_MS
from latprof.workload.outline import BlockId, Made, Outline, Trace, in_order, one_turn
from latprof.workload.trace import Value, in_window, item, span_ns, tokens, values

BLOCK_TOKENS = 512


def read_mooncake(file: Path, window_ns: int | None = None) -> Trace:
    """The requests of ``file`` that came less than ``window_ns`` after its first one; what lies behind the window is not looked at.

    Raises:
        ConfigError: the file cannot be read, or a line of it (named by number) is not what the format says.
    """
    return in_order(tuple(_requests(file, window_ns)))


def _requests(file: Path, window_ns: int | None) -> Iterator[Outline]:
    stamped = ((value, span_ns(value.where, "timestamp", value.fields.get("timestamp"), NS_PER_MS)) for value in values(file))
    for value, offset_ns in in_window(stamped, "timestamp", window_ns):
        yield one_turn(offset_ns, hashed_prompt(value, BLOCK_TOKENS), hashed_output_tokens(value))


def hashed_prompt(value: Value, block_tokens: int) -> Made:
    """``input_length`` tokens, the first of them out of the blocks that ``hash_ids`` name.

    Raises:
        ConfigError: more blocks than the length has room for; what is none.
    """
    length = tokens(value.where, "input_length", value.fields.get("input_length"), at_least=1)
    ids: list[object] = item(value, "hash_ids", list, "a list of block ids")
    if not all(isinstance(one, int | str) and not isinstance(one, bool) for one in ids):
        raise ConfigError(f"{value.where}: hash_ids must be numbers or texts, got {str(ids)[:60]!r}; mend or drop the line")
    if (len(ids) - 1) * block_tokens >= length:
        raise ConfigError(
            f"{value.where}: {len(ids)} hash_ids of {block_tokens} tokens are more than input_length {length} has room for; mend or drop the line"
        )
    blocks: list[BlockId] = [one for one in ids if isinstance(one, int | str)]
    return Made(length, tuple(blocks), block_tokens if blocks else 0)


def hashed_output_tokens(value: Value) -> int:
    """``output_length``, at least 1."""
    return max(1, tokens(value.where, "output_length", value.fields.get("output_length")))
