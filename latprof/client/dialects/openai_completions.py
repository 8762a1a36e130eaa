"""OpenAI completions: a prompt in, text out, without a chat template; what base models are asked with.

A conversation becomes one text whose lines name the roles. A lone message is sent as it is, so that its length stays exact, and every turn's
text begins with the text of the turn before and its answer: a prefix cache sees what they share.

    How much is 2 + 2?⏎⏎Assistant: 4⏎⏎User: And 3 + 3?⏎⏎Assistant:
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from latprof.client.body import Said
from latprof.client.dialects.dialect import Dialect, Reading
from latprof.client.dialects.fields import body_timings, completions_usage, dicts_in, error_text, message_in, text_of
from latprof.client.sse import SseEvent
from latprof.client.stamps import Channel
from latprof.workload.sessions import Message

# There are no roles that could be refused: a tool's result is told as one.
_LINES = {"system": "\n\nSystem: ", "user": "\n\nUser: ", "assistant": "\n\nAssistant: ", "tool": "\n\nTool: "}
_CUE = "\n\nAssistant:"


def encode(conversation: Sequence[Message], output_tokens: int, *, model: str, include_usage: bool) -> dict[str, Any]:
    """The body of one streaming request."""
    body: dict[str, Any] = {"model": model, "prompt": Said(tuple(_pieces(conversation))), "stream": True, "max_tokens": output_tokens}
    if include_usage:
        body["stream_options"] = {"include_usage": True}
    return body


def _pieces(conversation: Sequence[Message]) -> Iterator[str]:
    for number, (role, text) in enumerate(conversation):
        if number:
            yield _LINES[role]
        yield from (text,) if isinstance(text, str) else text
    if len(conversation) > 1:
        yield _CUE


def read(event: SseEvent) -> Reading:
    """What one event says."""
    message = message_in(event)
    if isinstance(message, Reading):
        return message
    if event.name == b"error" or message.get("error"):
        return Reading(error=error_text(message))
    choices = dicts_in(message.get("choices"))
    text = "".join(text_of(choice.get("text")) for choice in choices)
    usage = message.get("usage")
    return Reading(
        channel=Channel.CONTENT if text else Channel.NONE,
        answers=text != "",
        text=text,
        finished=any(choice.get("finish_reason") for choice in choices),
        usage=completions_usage(usage) if isinstance(usage, dict) else None,
        body_timings=body_timings(message),
        response_id=text_of(message.get("id")),
    )


OPENAI_COMPLETIONS = Dialect(name="openai-completions", endpoint="/completions", encode=encode, read=read)
