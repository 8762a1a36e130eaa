from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from latprof.client.body import BodyWriter
from latprof.client.dialects import DIALECTS
from latprof.client.dialects.dialect import Reading, Usage
from latprof.client.dialects.openai_chat import encode, read
from latprof.client.sse import SseEvent
from latprof.client.stamps import Channel
from latprof.units import MISSING_NS
from latprof.workload.sessions import Message

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=5),
    lambda below: (
        st.lists(below, max_size=3)
        | st.dictionaries(
            st.sampled_from(
                [
                    "choices",
                    "delta",
                    "content",
                    "tool_calls",
                    "function",
                    "name",
                    "usage",
                    "prompt_tokens",
                    "error",
                    "timings",
                    "id",
                    "text",
                    "type",
                ]
            ),
            below,
            max_size=5,
        )
    ),
    max_leaves=20,
)


def read_json(message: object, name: bytes = b"") -> Reading:
    return read(SseEvent(json.dumps(message).encode(), name, 1))


def read_delta(**delta: Any) -> Reading:
    return read_json({"choices": [{"index": 0, "delta": delta}]})


@pytest.mark.parametrize(
    ("delta", "channel", "answers"),
    [
        ({"role": "assistant"}, Channel.NONE, False),
        ({"role": "assistant", "content": ""}, Channel.NONE, False),
        ({"content": None, "reasoning_content": None}, Channel.NONE, False),
        ({}, Channel.NONE, False),
        ({"content": " "}, Channel.CONTENT, True),
        ({"refusal": "no"}, Channel.CONTENT, True),
        ({"reasoning_content": "hm"}, Channel.REASONING, False),
        ({"reasoning": "hm"}, Channel.REASONING, False),
        ({"reasoning": "hm", "content": "4"}, Channel.REASONING, True),
        ({"tool_calls": [{"index": 0, "id": "call_1", "type": "function"}]}, Channel.NONE, False),
        ({"tool_calls": [{"index": 0, "function": {"name": "add", "arguments": ""}}]}, Channel.TOOL, True),
        ({"tool_calls": [{"index": 0, "function": {"arguments": "{"}}]}, Channel.TOOL, True),
        ({"function_call": {"arguments": "{"}}, Channel.TOOL, True),
        ({"content": [{"type": "thinking", "thinking": [{"type": "text", "text": "hm"}]}]}, Channel.REASONING, False),
        ({"content": [{"type": "text", "text": "4"}]}, Channel.CONTENT, True),
    ],
)
def test_what_bears_a_token(delta: dict[str, Any], channel: Channel, answers: bool) -> None:
    reading = read_delta(**delta)
    assert (reading.channel, reading.answers) == (channel, answers)


def test_usage_with_its_details() -> None:
    reading = read_json(
        {
            "choices": [],
            "usage": {
                "prompt_tokens": 10,
                "completion_tokens": 5,
                "prompt_tokens_details": {"cached_tokens": 8},
                "completion_tokens_details": {"reasoning_tokens": 0},
            },
        }
    )
    assert reading.usage == Usage(10, 5, 0, 8)


def test_usage_without_details_is_missing_not_zero() -> None:
    assert read_json({"usage": {"prompt_tokens": 10, "completion_tokens": None}}).usage == Usage(10, MISSING_NS, MISSING_NS, MISSING_NS)
    assert read_json({"usage": None}).usage is None
    assert read_json({"usage": {"prompt_tokens": -1, "completion_tokens": True}}).usage == Usage()


def test_body_timings_are_kept() -> None:
    timings = {"prompt_n": 12, "prompt_ms": 18.25, "predicted_ms": 3.5}
    assert json.loads(read_json({"choices": [], "timings": timings}).body_timings) == timings
    assert json.loads(read_json({"time_info": {"queue_time": 0.001}}).body_timings) == {"queue_time": 0.001}


def test_marks_errors_and_rubbish() -> None:
    assert read(SseEvent(b"[DONE]", b"", 1)).done
    assert read(SseEvent(b" [DONE] ", b"", 1)).done
    assert read(SseEvent(b"", b"", 1)) == Reading()
    assert read_json({"choices": [{"delta": {}, "finish_reason": "stop"}]}).finished
    assert read_json({"error": {"message": "out of memory", "code": 500}}).error == "out of memory"
    assert read_json({"error": "broken"}).error == "broken"
    assert read_json({"message": "late"}, b"error").error == "late"
    assert read(SseEvent(b"boom", b"error", 1)).error == "boom"
    assert read(SseEvent(b'{"choices": [', b"", 1)).malformed == '{"choices": ['
    assert read(SseEvent(b"[1]", b"", 1)).malformed == "[1]"


@given(JSON)
def test_reading_never_raises(message: object) -> None:
    for name in (b"", b"error"):
        assert isinstance(read_json(message, name), Reading)


@given(st.binary(max_size=60))
def test_reading_bytes_never_raises(data: bytes) -> None:
    assert isinstance(read(SseEvent(data, b"", len(data))), Reading)


def test_deep_nesting_does_not_raise() -> None:
    deep = b'{"error": ' + b"[" * 900 + b"]" * 900 + b"}"
    assert read(SseEvent(deep, b"", 1)) == Reading() or read(SseEvent(deep, b"", 1)).error


def written(conversation: list[Message], output_tokens: int, extra: dict[str, Any] | None = None, *, include_usage: bool) -> Any:
    said = encode(conversation, output_tokens, model="m", include_usage=include_usage)
    return json.loads(b"".join(BodyWriter().write(said, extra or {})))


def test_encoding_a_turn() -> None:
    body = written([Message("user", "héllo\n")], 16, include_usage=True)
    assert body == {
        "model": "m",
        "messages": [{"role": "user", "content": "héllo\n"}],
        "stream": True,
        "max_tokens": 16,
        "stream_options": {"include_usage": True},
    }
    assert "stream_options" not in written([Message("user", "x")], 16, include_usage=False)


def test_extra_body_lies_on_top_and_null_takes_away() -> None:
    extra = {"max_tokens": None, "max_completion_tokens": 9, "ignore_eos": True}
    body = written([Message("user", "x")], 16, extra, include_usage=False)
    assert set(body) == {"model", "messages", "stream", "max_completion_tokens", "ignore_eos"}


def test_dialects_are_known_by_name() -> None:
    assert all(dialect.name == name for name, dialect in DIALECTS.items())
