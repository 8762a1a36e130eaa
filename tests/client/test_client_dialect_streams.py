"""Whole streams as the APIs' public descriptions have them, byte for byte, cut anywhere: the same answer comes out."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from latprof.client.body import BodyWriter
from latprof.client.dialects import DIALECTS
from latprof.client.dialects.dialect import Reading, Usage
from latprof.client.sse import SseEvent, SseScanner
from latprof.client.stamps import Channel
from latprof.config import DialectName
from latprof.units import MISSING_NS
from latprof.workload.sessions import Message

NONE, CONTENT, REASONING, TOOL = Channel
NO = MISSING_NS


def named(*events: dict[str, Any]) -> bytes:
    """As Anthropic and the Responses API frame them: the type as the event's name too."""
    return b"".join(f"event: {event['type']}\ndata: {json.dumps(event)}\n\n".encode() for event in events)


def bare(*events: object) -> bytes:
    return b"".join(f"data: {event if isinstance(event, str) else json.dumps(event)}\n\n".encode() for event in events)


@dataclass(frozen=True)
class Told:
    """What a stream says in all: a channel per event, and the rest added up."""

    channels: Sequence[Channel]
    text: str = ""
    usage: Usage | None = None
    finished: bool = True
    done: bool = True
    error: str = ""
    response_id: str = ""
    answers_from: int | None = None
    """Which event brings the first answer token."""


def completion(text: str, finish: str | None = None, **more: Any) -> dict[str, Any]:
    choice = {"text": text, "index": 0, "logprobs": None, "finish_reason": finish}
    return {"id": "cmpl-7", "object": "text_completion", "created": 1589478378, "model": "m", "choices": [choice], **more}


def delta(kind: str, text: object, **more: Any) -> dict[str, Any]:
    return {"type": f"response.{kind}.delta", "item_id": "msg_1", "output_index": 0, "content_index": 0, "delta": text, **more}


def response(kind: str, **more: Any) -> dict[str, Any]:
    return {"type": f"response.{kind}", "sequence_number": 9, "response": {"id": "resp_1", "object": "response", **more}}


CREATED = (response("created", status="in_progress", usage=None), response("in_progress", status="in_progress", usage=None))
OPEN_TEXT = (
    {
        "type": "response.output_item.added",
        "output_index": 0,
        "item": {"id": "msg_1", "type": "message", "role": "assistant", "content": []},
    },
    {"type": "response.content_part.added", "item_id": "msg_1", "part": {"type": "output_text", "text": "", "annotations": []}},
)
CLOSE_TEXT = (
    {"type": "response.output_text.done", "item_id": "msg_1", "text": "Hi there"},
    {"type": "response.content_part.done", "item_id": "msg_1", "part": {"type": "output_text", "text": "Hi there", "annotations": []}},
    {"type": "response.output_item.done", "item": {"id": "msg_1", "type": "message", "content": [{"type": "output_text", "text": "Hi"}]}},
)
RESPONSES_USAGE = {
    "input_tokens": 37,
    "input_tokens_details": {"cached_tokens": 32},
    "output_tokens": 11,
    "output_tokens_details": {"reasoning_tokens": 4},
    "total_tokens": 48,
}
MESSAGE_START = {
    "type": "message_start",
    "message": {
        "id": "msg_1nZd",
        "type": "message",
        "role": "assistant",
        "content": [],
        "model": "m",
        "stop_reason": None,
        "stop_sequence": None,
        "usage": {"input_tokens": 25, "cache_creation_input_tokens": 10, "cache_read_input_tokens": 100, "output_tokens": 1},
    },
}


def block(kind: str, index: int = 0, **fields: Any) -> dict[str, Any]:
    return {"type": "content_block_start", "index": index, "content_block": {"type": kind, **fields}}


def part(kind: str, index: int = 0, **fields: Any) -> dict[str, Any]:
    return {"type": "content_block_delta", "index": index, "delta": {"type": kind, **fields}}


BLOCK_STOP = {"type": "content_block_stop", "index": 0}
MESSAGE_DELTA = {"type": "message_delta", "delta": {"stop_reason": "end_turn", "stop_sequence": None}, "usage": {"output_tokens": 15}}
MESSAGE_STOP = {"type": "message_stop"}
PING = {"type": "ping"}

STREAMS: dict[str, tuple[str, bytes, Told]] = {
    "chat: role, keep-alive, reasoning, text, usage": (
        "openai-chat",
        bare({"id": "c1", "choices": [{"index": 0, "delta": {"role": "assistant", "content": ""}, "finish_reason": None}]})
        + b": keep-alive\n\n"
        + bare(
            {"id": "c1", "choices": [{"index": 0, "delta": {"reasoning_content": "hm"}}]},
            {"id": "c1", "choices": [{"index": 0, "delta": {"content": "Hi"}}]},
            {"id": "c1", "choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]},
            {"id": "c1", "choices": [], "usage": {"prompt_tokens": 5, "completion_tokens": 2}},
            "[DONE]",
        ),
        Told((NONE, REASONING, CONTENT, NONE, NONE, NONE), "Hi", Usage(5, 2, NO, NO), response_id="c1", answers_from=2),
    ),
    "completions: text, empty text, finish, usage apart": (
        "openai-completions",
        bare(completion(""), completion("Hi"), completion(" there"), completion("", "length"))
        + b": ping\n\n"
        + bare(completion("") | {"choices": [], "usage": {"prompt_tokens": 5, "completion_tokens": 2, "total_tokens": 7}}, "[DONE]"),
        Told((NONE, CONTENT, CONTENT, NONE, NONE, NONE), "Hi there", Usage(5, 2, NO, NO), response_id="cmpl-7", answers_from=1),
    ),
    "completions: llama.cpp's last event has usage and timings": (
        "openai-completions",
        bare(
            completion("Hi"),
            completion("", "stop", usage={"prompt_tokens": 3, "completion_tokens": 1}, timings={"prompt_ms": 2.5}),
            "[DONE]",
        ),
        Told((CONTENT, NONE, NONE), "Hi", Usage(3, 1, NO, NO), response_id="cmpl-7", answers_from=0),
    ),
    "completions: an error in mid-stream": (
        "openai-completions",
        bare(completion("Hi"), {"error": {"message": "engine died", "type": "server_error", "code": 500}}, "[DONE]"),
        Told((CONTENT, NONE, NONE), "Hi", finished=False, error="engine died", response_id="cmpl-7", answers_from=0),
    ),
    "responses: text": (
        "openai-responses",
        named(*CREATED, *OPEN_TEXT, delta("output_text", "Hi"), delta("output_text", " there", logprobs=[]), *CLOSE_TEXT)
        + b": keep-alive\n\n"
        + named(response("completed", status="completed", usage=RESPONSES_USAGE)),
        Told(
            (NONE, NONE, NONE, NONE, CONTENT, CONTENT, NONE, NONE, NONE, NONE),
            "Hi there",
            Usage(37, 11, 4, 32),
            response_id="resp_1",
            answers_from=4,
        ),
    ),
    "responses: reasoning, its summary, then a call; cut by the limit": (
        "openai-responses",
        named(
            *CREATED,
            {"type": "response.output_item.added", "item": {"id": "rs_1", "type": "reasoning", "summary": []}},
            delta("reasoning_text", "First"),
            delta("reasoning_summary_text", "In short", summary_index=0),
            {"type": "response.reasoning_summary_text.done", "text": "In short"},
            {"type": "response.output_item.added", "item": {"id": "fc_1", "type": "function_call", "name": "add", "arguments": ""}},
            delta("function_call_arguments", '{"a":'),
            delta("function_call_arguments", ""),
            {"type": "response.function_call_arguments.done", "arguments": '{"a":'},
            response("incomplete", incomplete_details={"reason": "max_output_tokens"}, usage={"input_tokens": 3, "output_tokens": 9}),
        ),
        Told(
            (NONE, NONE, NONE, REASONING, REASONING, NONE, TOOL, TOOL, NONE, NONE, NONE),
            usage=Usage(3, 9, NO, NO),
            response_id="resp_1",
            answers_from=6,
        ),
    ),
    "responses: a refusal is content, but no answer text": (
        "openai-responses",
        named(*CREATED, delta("refusal", "I cannot"), response("completed", usage=None)) + bare("[DONE]"),
        Told((NONE, NONE, CONTENT, NONE, NONE), response_id="resp_1", answers_from=2),
    ),
    "responses: failed": (
        "openai-responses",
        named(*CREATED, response("failed", error={"code": "server_error", "message": "The model failed"}, usage=None)),
        Told((NONE, NONE, NONE), finished=False, error="The model failed", response_id="resp_1"),
    ),
    "responses: an error event, its text beside the type": (
        "openai-responses",
        named(*CREATED, {"type": "error", "code": "ERR", "message": "Something went wrong", "param": None, "sequence_number": 1}),
        Told((NONE, NONE, NONE), finished=False, error="Something went wrong", response_id="resp_1"),
    ),
    "responses: an error event with an error in it": (
        "openai-responses",
        named({"type": "error", "error": {"type": "invalid_request_error", "code": "x", "message": "No such thing"}}),
        Told((NONE,), finished=False, error="No such thing"),
    ),
    "messages: text": (
        "anthropic-messages",
        named(
            MESSAGE_START,
            block("text", text=""),
            PING,
            part("text_delta", text="Hello"),
            part("text_delta", text="!"),
            BLOCK_STOP,
            MESSAGE_DELTA,
            MESSAGE_STOP,
        ),
        Told(
            (NONE, NONE, NONE, CONTENT, CONTENT, NONE, NONE, NONE),
            "Hello!",
            Usage(135, 15, NO, 100),
            response_id="msg_1nZd",
            answers_from=3,
        ),
    ),
    "messages: thinking, then a tool": (
        "anthropic-messages",
        named(
            MESSAGE_START,
            block("thinking", thinking="", signature=""),
            part("thinking_delta", thinking="Let me see"),
            part("signature_delta", signature="EqQBCgIYAhIM"),
            BLOCK_STOP,
            block("tool_use", 1, id="toolu_01", name="get_weather", input={}),
            part("input_json_delta", 1, partial_json=""),
            part("input_json_delta", 1, partial_json='{"location":'),
            MESSAGE_DELTA
            | {"delta": {"stop_reason": "tool_use"}, "usage": {"output_tokens": 89, "output_tokens_details": {"thinking_tokens": 3}}},
            MESSAGE_STOP,
        ),
        Told(
            (NONE, NONE, REASONING, NONE, NONE, TOOL, NONE, TOOL, NONE, NONE),
            usage=Usage(135, 89, 3, 100),
            response_id="msg_1nZd",
            answers_from=5,
        ),
    ),
    "messages: usage only at the end, as gateways that translate tell it": (
        "anthropic-messages",
        named(
            {"type": "message_start", "message": {"id": "msg_1", "usage": {"input_tokens": 0, "output_tokens": 0}}},
            part("text_delta", text="Hi"),
            MESSAGE_DELTA | {"usage": {"input_tokens": 4, "cache_read_input_tokens": 8, "output_tokens": 1}},
            MESSAGE_STOP,
        ),
        Told((NONE, CONTENT, NONE, NONE), "Hi", Usage(12, 1, NO, 8), response_id="msg_1", answers_from=1),
    ),
    "messages: overloaded": (
        "anthropic-messages",
        named(MESSAGE_START, {"type": "error", "error": {"type": "overloaded_error", "message": "Overloaded"}}),
        Told((NONE, NONE), usage=Usage(135, 1, NO, 100), finished=False, error="Overloaded", response_id="msg_1nZd"),
    ),
}


def add_up(readings: Sequence[Reading]) -> Told:
    usage: Usage | None = None
    for reading in readings:
        if reading.usage is not None:
            usage = reading.usage if usage is None else usage.with_later(reading.usage)
        assert not reading.malformed
    return Told(
        tuple(reading.channel for reading in readings),
        "".join(reading.text for reading in readings),
        usage,
        any(reading.finished for reading in readings),
        any(reading.done for reading in readings),
        "".join(reading.error for reading in readings),
        next((reading.response_id for reading in readings if reading.response_id), ""),
        next((number for number, reading in enumerate(readings) if reading.answers), None),
    )


def told_by(dialect: str, pieces: Sequence[bytes]) -> Told:
    scanner = SseScanner()
    readings = [DIALECTS[dialect].read(event) for piece in pieces for event in scanner.feed(piece)]
    assert scanner.finish() is None
    return add_up(readings)


@pytest.mark.parametrize(("dialect", "stream", "told"), STREAMS.values(), ids=STREAMS)
def test_what_a_stream_says(dialect: str, stream: bytes, told: Told) -> None:
    assert told_by(dialect, [stream]) == told
    assert told_by(dialect, [stream.replace(b"\n", b"\r\n")]) == told


@given(st.sampled_from(list(STREAMS.values())), st.data())
def test_it_says_the_same_in_any_split(case: tuple[str, bytes, Told], data: st.DataObject) -> None:
    dialect, stream, told = case
    cuts = sorted(data.draw(st.sets(st.integers(0, len(stream)), max_size=12)) | {0, len(stream)})
    assert told_by(dialect, [stream[begin:end] for begin, end in pairwise(cuts)]) == told


@pytest.mark.parametrize(("dialect", "stream", "told"), [case for case in STREAMS.values() if case[0] == "openai-responses"])
def test_over_a_websocket_the_same_events_are_messages(dialect: str, stream: bytes, told: Told) -> None:
    messages = [event.data for event in SseScanner().feed(stream)]
    assert dialect == "openai-responses"
    assert add_up([DIALECTS["openai-responses-ws"].read(SseEvent(message, b"", len(message))) for message in messages]) == told


EVENTS = [event for _, stream, _ in STREAMS.values() for event in SseScanner().feed(stream)]


@given(st.sampled_from(list(DIALECTS)), st.sampled_from(EVENTS), st.data())
def test_no_dialect_raises_on_what_is_not_its_own(dialect: str, event: SseEvent, data: st.DataObject) -> None:
    cut, instead = data.draw(st.integers(0, len(event.data))), data.draw(st.binary(max_size=4))
    for mangled in (event.data, event.data[:cut] + instead, event.data[:cut] + instead + event.data[cut + 1 :]):
        assert isinstance(DIALECTS[dialect].read(SseEvent(mangled, event.name, len(mangled))), Reading)


TYPES = [json.loads(event.data)["type"] for event in EVENTS if b'"type": "' in event.data[:12]]
KEYS = ["type", "delta", "response", "error", "usage", "item", "message", "content_block", "text", "name", "id", "code", "input_tokens"]
ODD = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=3) | st.sampled_from(TYPES),
    lambda below: st.lists(below, max_size=2) | st.dictionaries(st.sampled_from(KEYS), below, max_size=5),
    max_leaves=12,
)


@given(st.sampled_from(list(DIALECTS)), st.sampled_from([b"", *(kind.encode() for kind in TYPES)]), ODD)
def test_no_dialect_raises_on_odd_fields(dialect: str, name: bytes, message: object) -> None:
    data = json.dumps(message).encode()
    assert isinstance(DIALECTS[dialect].read(SseEvent(data, name, len(data))), Reading)


# --- asking -------------------------------------------------------------------------------------------------------------------------------

CONVERSATION = (
    Message("system", "Be brief."),
    Message("user", ("How much ", "is 2 + 2?")),
    Message("assistant", "4"),
    Message("tool", "the sun rose"),
)


def asked(dialect: str, conversation: Sequence[Message] = CONVERSATION, *, include_usage: bool = True) -> Any:
    said = DIALECTS[dialect].encode(conversation, 16, model="m", include_usage=include_usage)
    return json.loads(b"".join(BodyWriter().write(said, {})))


def test_asking_chat() -> None:
    roles = [message["role"] for message in asked("openai-chat")["messages"]]
    assert roles == ["system", "user", "assistant", "user"]  # a bare tool role would be refused


def test_asking_completions() -> None:
    body = asked("openai-completions")
    assert body.pop("prompt") == "Be brief.\n\nUser: How much is 2 + 2?\n\nAssistant: 4\n\nTool: the sun rose\n\nAssistant:"
    assert body == {"model": "m", "stream": True, "max_tokens": 16, "stream_options": {"include_usage": True}}
    assert "stream_options" not in asked("openai-completions", include_usage=False)


def test_a_lone_prompt_is_sent_as_it_is_and_every_further_turn_begins_with_the_one_before() -> None:
    said = (
        Message("user", "One?"),
        Message("assistant", " Two."),
        Message("user", "Three?"),
        Message("assistant", "4"),
        Message("user", "5?"),
    )
    prompts = [asked("openai-completions", said[:length])["prompt"] for length in (1, 3, 5)]
    assert prompts[0] == "One?"
    assert all(after.startswith(before) for before, after in pairwise(prompts))


def test_asking_responses() -> None:
    items = [
        {"type": "message", "role": "system", "content": "Be brief."},
        {"type": "message", "role": "user", "content": "How much is 2 + 2?"},
        {"type": "message", "role": "assistant", "content": "4"},
        {"type": "message", "role": "user", "content": "the sun rose"},
    ]
    assert asked("openai-responses") == {"model": "m", "input": items, "stream": True, "max_output_tokens": 16}
    # Neither `stream` nor `background` exists on a WebSocket.
    assert asked("openai-responses-ws") == {"type": "response.create", "model": "m", "input": items, "max_output_tokens": 16}


def test_asking_messages() -> None:
    more = (*CONVERSATION, Message("system", "In English."))
    assert asked("anthropic-messages", more) == {
        "model": "m",
        "max_tokens": 16,
        "system": "Be brief.\n\nIn English.",
        "messages": [
            {"role": "user", "content": "How much is 2 + 2?"},
            {"role": "assistant", "content": "4"},
            {"role": "user", "content": "the sun rose"},
        ],
        "stream": True,
    }
    assert "system" not in asked("anthropic-messages", CONVERSATION[1:])


def test_the_configuration_knows_every_dialect() -> None:
    assert set(get_args(DialectName)) == set(DIALECTS)
    assert all(dialect.name == name for name, dialect in DIALECTS.items())
