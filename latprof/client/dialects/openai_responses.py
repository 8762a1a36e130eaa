"""OpenAI Responses: typed events, over server-sent events or over a WebSocket, where the same events are messages.

    response.created ─ ... ─ response.output_text.delta ... ─ response.completed | incomplete | failed

What is a token: a non-empty ``delta`` of text or refusal, of reasoning (its text or its summary), of the arguments of a call or the input of a
tool; and the name of a function that a call begins with. The end is the event that says how it ended; some servers add ``[DONE]``.
https://platform.openai.com/docs/api-reference/responses-streaming
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from latprof.client.body import Said
from latprof.client.dialects.dialect import Dialect, Reading, Usage
from latprof.client.dialects.fields import count_of, dict_of, error_text, is_text, json_text, message_in, text_of
from latprof.client.sse import SseEvent
from latprof.client.stamps import Channel
from latprof.workload.sessions import Message

# A tool's result is an item that names its call; without a call the API refuses it, so it is said by the user. System texts are items too:
# `instructions` would not be carried over by previous_response_id.
_ROLES = {"tool": "user"}
_ENDS: Final = frozenset({"response.completed", "response.incomplete"})
_FAILURES: Final = frozenset({"response.failed", "response.cancelled", "error"})
_TEXT_DELTAS: Final = frozenset({"response.output_text.delta", "response.refusal.delta"})
_TOOL_DELTAS: Final = (
    "response.function_call_arguments",
    "response.custom_tool_call_input",
    "response.mcp_call_arguments",
    "response.code_interpreter_call_code",
)


def encode(conversation: Sequence[Message], output_tokens: int, *, model: str, include_usage: bool) -> dict[str, Any]:
    """The body of one streaming request. Usage always comes: ``include_usage`` has nothing to ask for."""
    del include_usage
    return {"model": model, "input": _items(conversation), "stream": True, "max_output_tokens": output_tokens}


def encode_frame(conversation: Sequence[Message], output_tokens: int, *, model: str, include_usage: bool) -> dict[str, Any]:
    """The message that asks for a response on a WebSocket, where streaming goes without saying."""
    del include_usage
    return {"type": "response.create", "model": model, "input": _items(conversation), "max_output_tokens": output_tokens}


def _items(conversation: Sequence[Message]) -> list[dict[str, Any]]:
    return [{"type": "message", "role": _ROLES.get(role, role), "content": Said(text)} for role, text in conversation]


def read(event: SseEvent) -> Reading:
    """What one event says."""
    message = message_in(event)
    if isinstance(message, Reading):
        return message
    kind = text_of(message.get("type")) or event.name.decode("latin-1")
    if kind.endswith(".delta"):
        return _read_delta(kind, message.get("delta"))
    if kind in _FAILURES or message.get("error"):
        return _read_failure(message)
    if kind == "response.output_item.added":
        return Reading(channel=Channel.TOOL, answers=True) if is_text(dict_of(message.get("item")).get("name")) else Reading()
    response = dict_of(message.get("response"))
    usage = response.get("usage")
    return Reading(
        finished=kind in _ENDS,
        done=kind in _ENDS,
        usage=_usage(usage) if isinstance(usage, dict) else None,
        response_id=text_of(response.get("id")),
    )


OPENAI_RESPONSES = Dialect(name="openai-responses", endpoint="/responses", encode=encode, read=read)
OPENAI_RESPONSES_WS = Dialect(name="openai-responses-ws", endpoint="/responses", encode=encode_frame, read=read, over="websocket")


def _read_delta(kind: str, delta: object) -> Reading:
    if not delta:
        return Reading()
    if kind in _TEXT_DELTAS:
        return Reading(channel=Channel.CONTENT, answers=True, text=text_of(delta) if kind == "response.output_text.delta" else "")
    if kind.startswith("response.reasoning"):  # reasoning_text, reasoning_summary_text, and the older reasoning and reasoning_summary
        return Reading(channel=Channel.REASONING)
    return Reading(channel=Channel.TOOL, answers=True) if kind.startswith(_TOOL_DELTAS) else Reading()


def _read_failure(message: dict[str, Any]) -> Reading:
    """``response.failed`` holds its error in the response, an ``error`` event holds it beside its type or, in older servers, is it."""
    response = dict_of(message.get("response"))
    error = response.get("error") or message.get("error") or message
    usage = response.get("usage")
    return Reading(
        error=error_text({"error": error}) or json_text(message),
        done=True,
        usage=_usage(usage) if isinstance(usage, dict) else None,
        response_id=text_of(response.get("id")),
    )


def _usage(usage: dict[str, Any]) -> Usage:
    return Usage(
        prompt_tokens=count_of(usage.get("input_tokens")),
        output_tokens=count_of(usage.get("output_tokens")),
        reasoning_tokens=count_of(dict_of(usage.get("output_tokens_details")).get("reasoning_tokens")),
        cached_tokens=count_of(dict_of(usage.get("input_tokens_details")).get("cached_tokens")),
    )
