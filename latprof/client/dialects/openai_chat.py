"""OpenAI chat completions, as the many servers that speak it stream them.

What is a token: text in ``content`` or ``refusal``; text in ``reasoning_content`` (vLLM, SGLang, DeepSeek, llama.cpp) or ``reasoning``
(OpenRouter, Cerebras, newer vLLM); a function name or arguments in ``tool_calls`` or ``function_call``. A role, an empty string and an id are not.
The first answer token (TTFO) is the first of content or tool call: both are what the caller waits for, reasoning is not.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import orjson

from latprof.client.dialects.dialect import Dialect, Reading, Usage
from latprof.client.sse import SseEvent
from latprof.client.stamps import Channel
from latprof.units import MISSING_NS
from latprof.workload.sessions import Turn

_NOTHING = Reading()
_DONE = Reading(done=True)
_INT64 = 1 << 63


def encode(turn: Turn, *, model: str, extra_body: Mapping[str, Any], include_usage: bool) -> bytes:
    """The body of one streaming request: a single user message, ``max_tokens`` the output asked for."""
    body: dict[str, Any] = {
        "model": model,
        "messages": [{"role": "user", "content": turn.prompt}],
        "stream": True,
        "max_tokens": turn.output_tokens,
    }
    if include_usage:
        body["stream_options"] = {"include_usage": True}
    body.update(extra_body)
    return orjson.dumps({key: value for key, value in body.items() if value is not None})


def read(event: SseEvent) -> Reading:
    """What one event says."""
    data = event.data
    if data == b"[DONE]":
        return _DONE
    if not data.strip():
        return _NOTHING  # some servers keep alive with an empty data line
    try:
        message = orjson.loads(data)
    except orjson.JSONDecodeError:
        if event.name == b"error":
            return Reading(error=data.decode("utf-8", "replace"))
        # A mark with white space around it is still the mark; tested late, because it is rare.
        return _DONE if data.strip() == b"[DONE]" else Reading(malformed=data.decode("utf-8", "replace"))
    if not isinstance(message, dict):
        return Reading(malformed=data.decode("utf-8", "replace"))
    if event.name == b"error" or message.get("error"):
        return Reading(error=_error_text(message))
    return _read_message(message)


OPENAI_CHAT = Dialect(name="openai-chat", endpoint="/chat/completions", encode=encode, read=read)


def _read_message(message: dict[str, Any]) -> Reading:
    first = Channel.NONE
    answers = finished = False
    for choice in _dicts(message.get("choices")):
        delta = choice.get("delta")
        if isinstance(delta, dict):
            for channel in _channels(delta):
                first = first or channel
                answers = answers or channel is not Channel.REASONING
        finished = finished or bool(choice.get("finish_reason"))
    usage = message.get("usage")
    response_id = message.get("id")
    return Reading(
        channel=first,
        answers=answers,
        finished=finished,
        usage=_usage(usage) if isinstance(usage, dict) else None,
        body_timings=_body_timings(message),
        response_id=response_id if isinstance(response_id, str) else "",
    )


def _channels(delta: dict[str, Any]) -> Iterator[Channel]:
    """The channels with a token in this delta, in the order models produce them."""
    content = delta.get("content")
    parts = content if isinstance(content, list) else ()  # Mistral's form: a list of typed parts
    if _is_text(delta.get("reasoning_content")) or _is_text(delta.get("reasoning")) or any(_thinks(part) for part in parts):
        yield Channel.REASONING
    if _is_text(content) or _is_text(delta.get("refusal")) or any(isinstance(p, dict) and _is_text(p.get("text")) for p in parts):
        yield Channel.CONTENT
    if _calls(delta):
        yield Channel.TOOL


def _is_text(value: object) -> bool:
    return isinstance(value, str) and value != ""


def _thinks(part: object) -> bool:
    return isinstance(part, dict) and part.get("type") == "thinking" and bool(part.get("thinking"))


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
