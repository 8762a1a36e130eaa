"""Reads the Qwen-Bailian traces (Alibaba, Apache-2.0).

    {"chat_id": 159, "parent_chat_id": 55, "timestamp": 61.114, "input_length": 521, "output_length": 132, "type": "text", "turn": 2,
     "hash_ids": [1089, 1090, 1091, 6326, ...]}

``timestamp`` in seconds; each hash id names a block of 16 tokens. Requests that descend from one root chat are one session. Every request
carries its whole prompt (its hash ids say what it shares with its parent), so none continues another's answer; but none goes before its parent
is answered, and none before its time in the trace.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from latprof.errors import ConfigError
from latprof.workload.outline import Outline, StepOutline, Trace, TurnOutline, in_order
from latprof.workload.readers.mooncake import hashed_output_tokens, hashed_prompt
from latprof.workload.trace import Value, in_window, span_ns, values

BLOCK_TOKENS = 16


@dataclass(slots=True)
class _Chat:
    """A session that is being put together."""

    name: str
    start_ns: int
    steps: list[StepOutline] = field(default_factory=list)


def read_bailian(file: Path, window_ns: int | None = None) -> Trace:
    """The requests of ``file`` that came less than ``window_ns`` after its first one, by session; what lies behind is not looked at.

    Raises:
        ConfigError: the file cannot be read, or a line of it (named by number) is not what the format says.
    """
    chats: list[_Chat] = []
    placed: dict[int | str, tuple[_Chat, int]] = {}
    stamped = ((value, span_ns(value.where, "timestamp", value.fields.get("timestamp"))) for value in values(file))
    for value, now_ns in in_window(stamped, "timestamp", window_ns):
        # A parent that lies before the trace began (or behind no id at all) leaves its child a root.
        name, parent = _id(value, "chat_id"), placed.get(_id(value, "parent_chat_id"))
        if parent is None:
            chats.append(_Chat(str(name), now_ns))
        chat, after = (chats[-1], ()) if parent is None else (parent[0], (parent[1],))
        placed[name] = chat, len(chat.steps)
        chat.steps.append(
            TurnOutline(
                hashed_prompt(value, BLOCK_TOKENS),
                hashed_output_tokens(value),
                after=after,
                at_ns=now_ns - chat.start_ns if after else None,
            )
        )
    return in_order([Outline(chat.start_ns, tuple(chat.steps), chat.name) for chat in chats])


def _id(value: Value, key: str) -> int | str:
    found = value.fields.get(key)
    if not isinstance(found, int | str):
        raise ConfigError(f"{value.where}: {key} must be a number or a text, got {str(found)[:40]!r}; mend or drop the line")
    return found
