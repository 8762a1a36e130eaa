"""Anthropic messages: blocks of content, each begun, filled by deltas and ended.

    message_start ─ (content_block_start ─ content_block_delta ... ─ content_block_stop) ... ─ message_delta ─ message_stop

What is a token: text, thinking and partial JSON in a delta or in a block as it begins; the name of a tool that a block begins with. A
signature, a citation and a ping are not. https://docs.anthropic.com/en/docs/build-with-claude/streaming
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Final

from latprof.client.body import Said
from latprof.client.dialects.dialect import Dialect, Reading, Usage
from latprof.client.dialects.fields import count_of, dict_of, error_text, is_text, message_in, text_of
from latprof.client.sse import SseEvent
from latprof.client.stamps import Channel
from latprof.units import MISSING_NS
from latprof.workload.sessions import Message, Text

_VERSION: Final = "2023-06-01"  # of the API; the only one since
# A tool's result is a block that names its call; without a call the API refuses it, so it is said by the user.
_ROLES = {"tool": "user"}


def encode(conversation: Sequence[Message], output_tokens: int, *, model: str, include_usage: bool) -> dict[str, Any]:
    """The body of one streaming request. Usage always comes: ``include_usage`` has nothing to ask for.

    The API takes system text in one place only, before all messages: that of a later turn changes the beginning, and no prefix is shared.
    """
    del include_usage
    system = tuple(_pieces([text for role, text in conversation if role == "system"]))
    return {
        "model": model,
        "max_tokens": output_tokens,
        **({"system": Said(system)} if system else {}),
        "messages": [{"role": _ROLES.get(role, role), "content": Said(text)} for role, text in conversation if role != "system"],
        "stream": True,
    }


def _pieces(texts: Sequence[Text]) -> Iterator[str]:
    for number, text in enumerate(texts):
        if number:
            yield "\n\n"
        yield from (text,) if isinstance(text, str) else text


def read(event: SseEvent) -> Reading:
    """What one event says."""
    message = message_in(event)
    if isinstance(message, Reading):
        return message
    kind = text_of(message.get("type")) or event.name.decode("latin-1")
    if kind == "error" or message.get("error"):
        return Reading(error=error_text(message), done=True)
    if kind == "content_block_delta":
        return _read_part(dict_of(message.get("delta")))
    if kind == "content_block_start":
        return _read_part(dict_of(message.get("content_block")))
    if kind == "message_start":
        told = dict_of(message.get("message"))
        return Reading(usage=_usage(told.get("usage")), response_id=text_of(told.get("id")))
    if kind == "message_delta":
        return Reading(finished=bool(dict_of(message.get("delta")).get("stop_reason")), usage=_usage(message.get("usage")))
    return Reading(done=True, finished=True) if kind == "message_stop" else Reading()


ANTHROPIC_MESSAGES = Dialect(
    name="anthropic-messages",
    endpoint="/messages",
    encode=encode,
    read=read,
    headers=(("anthropic-version", _VERSION),),
    key_header=("x-api-key", ""),
)


def _read_part(part: dict[str, Any]) -> Reading:
    """A block as it begins, or a delta of one: both hold their piece under the name of its kind."""
    text = text_of(part.get("text"))
    if text:
        return Reading(channel=Channel.CONTENT, answers=True, text=text)
    if is_text(part.get("thinking")):
        return Reading(channel=Channel.REASONING)
    if is_text(part.get("partial_json")) or is_text(part.get("name")):
        return Reading(channel=Channel.TOOL, answers=True)
    return Reading()


def _usage(usage: object) -> Usage | None:
    """``input_tokens`` leaves out what was read from a cache or written to one; the prompt is all three."""
    if not isinstance(usage, dict):
        return None
    fresh, written, cached = (count_of(usage.get(f"{name}input_tokens")) for name in ("", "cache_creation_", "cache_read_"))
    known = [tokens for tokens in (fresh, written, cached) if tokens != MISSING_NS]
    return Usage(
        prompt_tokens=sum(known) if fresh != MISSING_NS else MISSING_NS,
        output_tokens=count_of(usage.get("output_tokens")),
        reasoning_tokens=count_of(dict_of(usage.get("output_tokens_details")).get("thinking_tokens")),
        cached_tokens=cached,
    )
