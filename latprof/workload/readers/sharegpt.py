"""Reads ShareGPT: conversations with their text, without times.

    [{"id": "QWJhYvA_0", "conversations": [{"from": "human", "value": "..."}, {"from": "gpt", "value": "..."}, ...]}, ...]

One file is one array, or one conversation a line. A turn is a human message and the answer that was recorded; the answer stands in the turns
that follow, and its length is what is asked for. Messages before the first human one are left out, but for a system text.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from latprof.errors import ConfigError
from latprof.workload.outline import Outline, Trace, TurnOutline
from latprof.workload.sessions import NO_CONTEXT
from latprof.workload.trace import Value, item, items, values

_ROLES = {"human": "user", "user": "user", "gpt": "assistant", "chatgpt": "assistant", "bard": "assistant", "bing": "assistant",
          "assistant": "assistant", "system": "system"}  # fmt: skip


def read_sharegpt(file: Path, window_ns: int | None = None) -> Trace:
    """The conversations of ``file`` that hold at least one human message with an answer, in its order.

    Raises:
        ConfigError: the file cannot be read, or one of its conversations (named by line) is not what the format says; a window was asked for.
    """
    if window_ns is not None:
        raise ConfigError(f"workload.trace_window means nothing for {file}: ShareGPT holds no times; drop the key")
    outlines = (_outline(value) for value in values(file))
    return Trace(tuple(outline for outline in outlines if outline.steps), is_timed=False)


def _outline(value: Value) -> Outline:
    key = "conversations" if "conversations" in value.fields else "conversation"
    item(value, key, list, "a list of messages with from and value")
    said = [_message(message) for message in items(value, key)]
    return Outline(0, tuple(_turns(said)), str(value.fields.get("id", "")))


def _message(message: Value) -> tuple[str, str]:
    sender = item(message, "from", str, "human, gpt or system")
    if sender not in _ROLES:
        raise ConfigError(f"{message.where}: from must be human, gpt or system, got {sender[:40]!r}; mend or drop the conversation")
    return _ROLES[sender], item(message, "value", str, "a text")


def _turns(said: list[tuple[str, str]]) -> Iterator[TurnOutline]:
    """Each human message with the answer right after it; one without an answer, or with an empty one, ends the conversation."""
    begin = next((i for i, (role, _) in enumerate(said) if role == "user"), len(said))
    system = "\n\n".join(text for role, text in said[:begin] if role == "system" and text)
    for number, ((asker, prompt), (answerer, answer)) in enumerate(zip(said[begin::2], said[begin + 1 :: 2], strict=False)):
        if (asker, answerer) != ("user", "assistant") or not prompt or not answer:
            return
        before = number - 1
        yield TurnOutline(
            prompt,
            None,
            after=(before,) if number else (),
            context=before if number else NO_CONTEXT,
            system=(system or None) if not number else None,
            answer=answer,
        )
