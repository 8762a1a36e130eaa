"""Reading fields of JSON that may hold anything: nothing here raises. What several dialects share, and no more."""

from __future__ import annotations

from typing import Any

import orjson

from latprof.client.dialects.dialect import DONE, NOTHING, Reading, Usage
from latprof.client.sse import SseEvent
from latprof.units import MISSING_NS

_INT64 = 1 << 63


def message_in(event: SseEvent) -> dict[str, Any] | Reading:
    """The JSON object that an event holds, or what an event that holds none says: the end mark, a keep-alive, an error, rubbish."""
    data = event.data
    if data == b"[DONE]":
        return DONE
    try:
        message = orjson.loads(data)
    except orjson.JSONDecodeError:
        return _read_odd(event)
    return message if isinstance(message, dict) else Reading(malformed=data.decode("utf-8", "replace"))


def _read_odd(event: SseEvent) -> Reading:
    """An event that is not JSON."""
    bare = event.data.strip()
    if not bare:
        return NOTHING  # some servers keep alive with an empty data line
    if bare == b"[DONE]":
        return DONE
    text = event.data.decode("utf-8", "replace")
    return Reading(error=text) if event.name == b"error" else Reading(malformed=text)


def is_text(value: object) -> bool:
    """Whether it is a string with something in it."""
    return isinstance(value, str) and value != ""


def text_of(value: object) -> str:
    """The string itself; empty where it is none."""
    return value if isinstance(value, str) else ""


def dict_of(value: object) -> dict[str, Any]:
    """The object itself; empty where it is none."""
    return value if isinstance(value, dict) else {}


def dicts_in(value: object) -> list[dict[str, Any]]:
    """The objects of a list, whatever else is in it."""
    if not isinstance(value, list):
        return []
    if len(value) == 1 and isinstance(value[0], dict):  # the choices of nearly every event
        return value
    return [item for item in value if isinstance(item, dict)]


def count_of(value: object) -> int:
    """A count of tokens; MISSING_NS where it cannot be one."""
    if isinstance(value, int) and not isinstance(value, bool) and 0 <= value < _INT64:
        return value
    return MISSING_NS


def json_text(value: object) -> str:
    """As JSON."""
    try:
        return orjson.dumps(value).decode()
    except orjson.JSONEncodeError:  # orjson reads 1 024 levels deep but writes only 254
        return "(nested too deeply to show)"


def error_text(message: dict[str, Any]) -> str:
    """What an error says: its ``message`` where it has one."""
    error = message.get("error") or message
    if isinstance(error, dict) and is_text(error.get("message")):
        return str(error["message"])
    return error if isinstance(error, str) else json_text(error)


def completions_usage(usage: dict[str, Any]) -> Usage:
    """``usage`` as chat completions and completions tell it."""
    prompt_details, output_details = dict_of(usage.get("prompt_tokens_details")), dict_of(usage.get("completion_tokens_details"))
    reasoning = output_details.get("reasoning_tokens")
    return Usage(
        prompt_tokens=count_of(usage.get("prompt_tokens")),
        output_tokens=count_of(usage.get("completion_tokens")),
        # SGLang puts it beside the totals.
        reasoning_tokens=count_of(usage.get("reasoning_tokens") if reasoning is None else reasoning),
        cached_tokens=count_of(prompt_details.get("cached_tokens")),
    )


def body_timings(message: dict[str, Any]) -> str:
    """JSON text of llama.cpp's ``timings`` or Cerebras' ``time_info``: the object itself, its keys tell which."""
    for key in ("timings", "time_info"):
        timings = message.get(key)
        if timings and isinstance(timings, dict):
            return json_text(timings)
    return ""
