"""OpenAI chat completions, as the many servers that speak it stream them.

What is a token: text in ``content`` or ``refusal``; text in ``reasoning_content`` (vLLM, SGLang, DeepSeek, llama.cpp) or ``reasoning``
(OpenRouter, Cerebras, newer vLLM); a function name or arguments in ``tool_calls`` or ``function_call``. A role, an empty string and an id are not.
The first answer token (TTFO) is the first of content or tool call: both are what the caller waits for, reasoning is not.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import orjson

from latprof.client.body import Said
from latprof.client.dialects.dialect import Dialect, Reading, Usage
from latprof.client.sse import SseEvent
from latprof.client.stamps import Channel
from latprof.units import MISSING_NS
from latprof.workload.sessions import Message

_NOTHING = Reading()
_DONE = Reading(done=True)
_INT64 = 1 << 63


def encode(conversation: Sequence[Message], output_tokens: int, *, model: str, include_usage: bool) -> dict[str, Any]:
    """The body of one streaming request: the conversation, ``max_tokens`` the output asked for."""
    body: dict[str, Any] = {
        "model": model,
        "messages": [{"role": role, "content": Said(text)} for role, text in conversation],
        "stream": True,
        "max_tokens": output_tokens,
    }
    if include_usage:
        body["stream_options"] = {"include_usage": True}
    return body


def read(event: SseEvent) -> Reading:
    """What one event says."""
    data = event.data
    if data == b"[DONE]":
        return _DONE
    try:
        message = orjson.loads(data)
    except orjson.JSONDecodeError:
        return _read_odd(event)
    if not isinstance(message, dict):
        return Reading(malformed=data.decode("utf-8", "replace"))
    if event.name == b"error" or message.get("error"):
        return Reading(error=_error_text(message))
    return _read_message(message)


def _read_odd(event: SseEvent) -> Reading:
    """An event that is not JSON."""
    bare = event.data.strip()
    if not bare:
        return _NOTHING  # some servers keep alive with an empty data line
    if bare == b"[DONE]":
        return _DONE
    text = event.data.decode("utf-8", "replace")
    return Reading(error=text) if event.name == b"error" else Reading(malformed=text)


OPENAI_CHAT = Dialect(name="openai-chat", endpoint="/chat/completions", encode=encode, read=read)


def _read_message(message: dict[str, Any]) -> Reading:
    first = Channel.NONE
    answers = finished = False
    text = ""
    for choice in _dicts(message.get("choices")):
        delta = choice.get("delta")
        if isinstance(delta, dict):
            channel, answering = _tokens(delta)
            first = channel if first is Channel.NONE else first
            answers = answers or answering
            content = delta.get("content")
            text += content if isinstance(content, str) else ""
        finished = finished or bool(choice.get("finish_reason"))
    usage = message.get("usage")
    response_id = message.get("id")
    return Reading(
        channel=first,
        answers=answers,
        text=text,
        finished=finished,
        usage=_usage(usage) if isinstance(usage, dict) else None,
        body_timings=_body_timings(message) if "timings" in message or "time_info" in message else "",
        response_id=response_id if isinstance(response_id, str) else "",
    )


def _tokens(delta: dict[str, Any]) -> tuple[Channel, bool]:
    """The channel of this delta's first token, in the order models produce them, and whether any token of it answers."""
    content = delta.get("content")
    has_text = _is_text(content)
    thinks = _is_text(delta.get("reasoning_content")) or _is_text(delta.get("reasoning"))
    if isinstance(content, list):  # Mistral's form: a list of typed parts
        has_text = any(_is_text(part.get("text")) for part in _dicts(content))
        thinks = thinks or any(part.get("type") == "thinking" and bool(part.get("thinking")) for part in _dicts(content))
    has_text = has_text or _is_text(delta.get("refusal"))
    calls = ("tool_calls" in delta or "function_call" in delta) and _calls(delta)
    if thinks:
        return Channel.REASONING, has_text or calls
    if has_text:
        return Channel.CONTENT, True
    return (Channel.TOOL, True) if calls else (Channel.NONE, False)


def _is_text(value: object) -> bool:
    return isinstance(value, str) and value != ""


def _calls(delta: dict[str, Any]) -> bool:
    functions = [call.get("function") for call in _dicts(delta.get("tool_calls"))]
    functions.append(delta.get("function_call"))
    return any(_is_text(f.get("name")) or _is_text(f.get("arguments")) for f in functions if isinstance(f, dict))


def _dicts(value: object) -> list[dict[str, Any]]:
    return [item for item in value if isinstance(item, dict)] if isinstance(value, list) else []


def _usage(usage: dict[str, Any]) -> Usage:
    prompt_details = usage.get("prompt_tokens_details")
    output_details = usage.get("completion_tokens_details")
    reasoning = output_details.get("reasoning_tokens") if isinstance(output_details, dict) else None
    return Usage(
        prompt_tokens=_count(usage.get("prompt_tokens")),
        output_tokens=_count(usage.get("completion_tokens")),
        # SGLang puts it beside the totals.
        reasoning_tokens=_count(usage.get("reasoning_tokens") if reasoning is None else reasoning),
        cached_tokens=_count(prompt_details.get("cached_tokens") if isinstance(prompt_details, dict) else None),
    )


def _count(value: object) -> int:
    if isinstance(value, int) and not isinstance(value, bool) and 0 <= value < _INT64:
        return value
    return MISSING_NS


def _body_timings(message: dict[str, Any]) -> str:
    """JSON text of llama.cpp's ``timings`` or Cerebras' ``time_info``: the object itself, its keys tell which."""
    for key in ("timings", "time_info"):
        timings = message.get(key)
        if timings and isinstance(timings, dict):
            return _json(timings)
    return ""


def _error_text(message: dict[str, Any]) -> str:
    error = message.get("error") or message
    if isinstance(error, dict) and _is_text(error.get("message")):
        return str(error["message"])
    return error if isinstance(error, str) else _json(error)


def _json(value: object) -> str:
    try:
        return orjson.dumps(value).decode()
    except orjson.JSONEncodeError:  # orjson reads 1 024 levels deep but writes only 254
        return "(nested too deeply to show)"
