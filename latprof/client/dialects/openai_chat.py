"""OpenAI chat completions, as the many servers that speak it stream them.

What is a token: text in ``content`` or ``refusal``; text in ``reasoning_content`` (vLLM, SGLang, DeepSeek, llama.cpp) or ``reasoning``
(OpenRouter, Cerebras, newer vLLM); a function name or arguments in ``tool_calls`` or ``function_call``. A role, an empty string and an id are not.
The first answer token (TTFO) is the first of content or tool call: both are what the caller waits for, reasoning is not.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from latprof.client.body import Said
from latprof.client.dialects.dialect import Dialect, Reading, reading_of
from latprof.client.dialects.fields import body_timings, completions_usage, dicts_in, error_text, is_text, message_in, text_of
from latprof.client.sse import SseEvent
from latprof.client.stamps import Channel
from latprof.workload.sessions import Message

# A bare tool role is refused: the API wants the id of the call that it answers, and a workload's tools were never called by the model.
_ROLES = {"tool": "user"}

# A member looked up on its enumeration costs as much as a dictionary and a comparison together.
_NONE: Final = Channel.NONE
_CONTENT: Final = Channel.CONTENT


def encode(conversation: Sequence[Message], output_tokens: int, *, model: str, include_usage: bool) -> dict[str, Any]:
    """The body of one streaming request: the conversation, ``max_tokens`` the output asked for."""
    body: dict[str, Any] = {
        "model": model,
        "messages": [{"role": _ROLES.get(role, role), "content": Said(text)} for role, text in conversation],
        "stream": True,
        "max_tokens": output_tokens,
    }
    if include_usage:
        body["stream_options"] = {"include_usage": True}
    return body


def read(event: SseEvent) -> Reading:
    """What one event says."""
    message = message_in(event)
    if isinstance(message, Reading):
        return message
    if event.name == b"error" or message.get("error"):
        return Reading(error=error_text(message))
    return _read_message(message)


OPENAI_CHAT = Dialect(name="openai-chat", endpoint="/chat/completions", encode=encode, read=read)


def _read_message(message: dict[str, Any]) -> Reading:
    first = _NONE
    answers = finished = False
    text = ""
    for choice in dicts_in(message.get("choices")):
        delta = choice.get("delta")
        if isinstance(delta, dict):
            content = delta.get("content")
            if isinstance(content, str):
                text += content
            elif isinstance(content, list):  # Mistral's form: a list of typed parts
                text += "".join(text_of(part.get("text")) for part in dicts_in(content))
            if first is _NONE or not answers:
                channel, answering = _tokens(delta, content)
                first = channel if first is _NONE else first
                answers = answers or answering
        finished = finished or bool(choice.get("finish_reason"))
    usage = message.get("usage")
    return reading_of(
        (
            first,
            answers,
            text,
            finished,
            False,  # done, error and malformed: nothing of the kind
            "",
            "",
            completions_usage(usage) if isinstance(usage, dict) else None,
            body_timings(message) if "timings" in message or "time_info" in message else "",
            text_of(message.get("id")),
        )
    )


def _tokens(delta: dict[str, Any], content: object) -> tuple[Channel, bool]:
    """The channel of this delta's first token, in the order models produce them, and whether any token of it answers."""
    if len(delta) == 1 and isinstance(content, str):  # nearly every delta
        return (_CONTENT, True) if content else (_NONE, False)
    has_text = is_text(content)
    thinks = is_text(delta.get("reasoning_content")) or is_text(delta.get("reasoning"))
    if isinstance(content, list):
        has_text = any(is_text(part.get("text")) for part in dicts_in(content))
        thinks = thinks or any(part.get("type") == "thinking" and bool(part.get("thinking")) for part in dicts_in(content))
    has_text = has_text or is_text(delta.get("refusal"))
    calls = ("tool_calls" in delta or "function_call" in delta) and _calls(delta)
    if thinks:
        return Channel.REASONING, has_text or calls
    if has_text:
        return Channel.CONTENT, True
    return (Channel.TOOL, True) if calls else (Channel.NONE, False)


def _calls(delta: dict[str, Any]) -> bool:
    functions = [call.get("function") for call in dicts_in(delta.get("tool_calls"))]
    functions.append(delta.get("function_call"))
    return any(is_text(f.get("name")) or is_text(f.get("arguments")) for f in functions if isinstance(f, dict))
