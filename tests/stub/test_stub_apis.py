"""Every API of the stub's gateway says the same, each in its own shape; the profiler's dialects read what it says."""

from __future__ import annotations

import json
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from latprof.client.dialects import DIALECTS
from latprof.client.dialects.dialect import Reading
from latprof.client.sse import SseEvent, SseScanner
from latprof.client.stamps import Channel
from latprof.stub.asked import Api
from latprof.stub.chat import CHAT
from latprof.stub.completions import COMPLETIONS
from latprof.stub.messages import MESSAGES
from latprof.stub.responses import RESPONSES, Answer, framed_for, read_create
from latprof.stub.serving import RefusedError

HI = [{"role": "user", "content": "hi"}]
APIS = {"openai-chat": CHAT, "openai-completions": COMPLETIONS, "openai-responses": RESPONSES, "anthropic-messages": MESSAGES}
GOOD: dict[str, dict[str, Any]] = {
    "openai-chat": {"model": "m", "messages": HI, "stream_options": {"include_usage": True}, "max_tokens": 5},
    "openai-completions": {"model": "m", "prompt": "hi", "stream_options": {"include_usage": True}, "max_tokens": 5},
    "openai-responses": {"model": "m", "input": HI, "max_output_tokens": 5},
    "anthropic-messages": {"model": "m", "messages": HI, "max_tokens": 5},
}
# A token is a word behind a blank.
TEXTS = st.lists(st.text(max_size=8).map(lambda text: " " + text.replace(" ", "")), min_size=1, max_size=6)


def read_stream(dialect: str, stream: bytes) -> list[Reading]:
    scanner = SseScanner()
    readings = [DIALECTS[dialect].read(event) for event in scanner.feed(stream)]
    assert scanner.finish() is None
    return readings


@pytest.mark.parametrize("dialect", APIS)
@given(texts=TEXTS)
def test_a_stream_is_read_by_its_dialect(dialect: str, texts: list[str]) -> None:
    api: Api = APIS[dialect]
    asked = api.read_body(orjson.dumps(GOOD[dialect] | {"stream": True}))
    assert (asked.model, asked.texts, asked.tokens, asked.limited, asked.stream) == ("m", ("hi",), 5, True, True)
    answer = api.answer(asked, "1", 30)
    before = answer.begin()
    body = answer.add([orjson.dumps(texts[0])]) + answer.add([orjson.dumps(text) for text in texts[1:]])
    readings = read_stream(dialect, before + body + answer.finish(20))
    tokens = [reading.text for reading in readings if reading.channel is Channel.CONTENT]
    assert tokens == texts
    assert not [reading for reading in read_stream(dialect, before) if reading.channel is not Channel.NONE]
    assert any(reading.finished for reading in readings)
    assert readings[-1].done
    usage = readings[0].usage
    for reading in readings:
        if reading.usage is not None:
            usage = reading.usage if usage is None else usage.with_later(reading.usage)
    assert usage is not None
    assert (usage.prompt_tokens, usage.output_tokens, usage.cached_tokens) == (30, len(texts), 20)
    assert any(reading.response_id for reading in readings)


@pytest.mark.parametrize("dialect", APIS)
def test_an_error_in_mid_stream_is_read_by_its_dialect(dialect: str) -> None:
    answer = APIS[dialect].answer(APIS[dialect].read_body(orjson.dumps(GOOD[dialect] | {"stream": True})), "1", 3)
    readings = read_stream(dialect, answer.begin() + answer.add([b'"a"']) + answer.fail(502, "the engine died"))
    assert [reading.error for reading in readings if reading.error] == ["the engine died"]


@pytest.mark.parametrize("dialect", APIS)
@given(texts=TEXTS)
def test_a_whole_answer_says_the_same(dialect: str, texts: list[str]) -> None:
    api = APIS[dialect]
    body = {key: value for key, value in GOOD[dialect].items() if key != "stream_options"}
    answer = api.answer(api.read_body(orjson.dumps(body)), "1", 30)
    answer.add([orjson.dumps(text) for text in texts])
    whole = orjson.loads(answer.whole(20))
    said = {
        "openai-chat": lambda: whole["choices"][0]["message"]["content"],
        "openai-completions": lambda: whole["choices"][0]["text"],
        "openai-responses": lambda: whole["output"][0]["content"][0]["text"],
        "anthropic-messages": lambda: whole["content"][0]["text"],
    }[dialect]()
    assert said == "".join(texts)
    assert whole["usage"]["output_tokens" if "output_tokens" in whole["usage"] else "completion_tokens"] == len(texts)


@given(TEXTS, st.sampled_from([None, "lane-1"]))
def test_over_a_websocket_every_event_is_a_line_that_names_its_lane(texts: list[str], lane: str | None) -> None:
    asked = read_create({"type": "response.create", "model": "m", "input": "hi"}).asked
    answer = Answer(asked, "1", 30, framed_for(lane))
    lines = (answer.begin() + answer.add([orjson.dumps(text) for text in texts]) + answer.finish(20)).splitlines()
    messages = [json.loads(line) for line in lines]
    assert [message["sequence_number"] for message in messages] == list(range(len(lines)))
    assert {message.get("stream_id") for message in messages} == {lane}
    readings = [DIALECTS["openai-responses-ws"].read(SseEvent(line, b"", len(line))) for line in lines]
    assert "".join(reading.text for reading in readings) == "".join(texts) == answer.text
    assert messages[-1]["type"] == "response.completed"
    assert readings[-1].done


@pytest.mark.parametrize(
    ("dialect", "change", "param"),
    [
        ("openai-chat", {"messages": [{"role": "tool", "content": "4"}]}, "messages[0].tool_call_id"),
        ("openai-completions", {"prompt": None}, "prompt"),
        ("openai-completions", {"prompt": ["a", "b"]}, "prompt"),
        ("openai-completions", {"prompt": [[1, 2]]}, "prompt"),
        ("openai-completions", {"max_tokens": 0}, "max_tokens"),
        ("openai-responses", {"input": []}, "input"),
        ("openai-responses", {"input": [{"content": "x"}]}, "input[0].role"),
        ("openai-responses", {"input": [{"role": "tool", "content": "x"}]}, "input[0].role"),
        ("openai-responses", {"input": [{"role": "user", "content": [{"type": "input_image"}]}]}, "input[0].content[0]"),
        ("openai-responses", {"input": [{"type": "reasoning"}]}, "input[0]"),
        ("openai-responses", {"instructions": 1}, "instructions"),
        ("openai-responses", {"previous_response_id": "resp_0"}, "previous_response_id"),
        ("openai-responses", {"max_output_tokens": "many"}, "max_output_tokens"),
        ("anthropic-messages", {"max_tokens": None}, "max_tokens"),
        ("anthropic-messages", {"messages": [{"role": "system", "content": "x"}]}, "messages.0.role"),
        ("anthropic-messages", {"messages": [{"role": "tool", "content": "x"}]}, "messages.0.role"),
        ("anthropic-messages", {"messages": [{"role": "user", "content": ""}]}, "messages.0.content"),
        ("anthropic-messages", {"system": 3}, "system"),
    ],
)
def test_a_bad_field_is_named(dialect: str, change: dict[str, Any], param: str) -> None:
    api = APIS[dialect]
    with pytest.raises(RefusedError) as refused:
        api.read_body(orjson.dumps(GOOD[dialect] | {"stream": True} | change))
    assert (refused.value.status, refused.value.param) == (400, param)
    body = orjson.loads(api.refusal(refused.value))
    assert param in body["error"]["message"] or body["error"].get("code") == "previous_response_not_found"
    assert (body.get("type") == "error") == (dialect == "anthropic-messages")


@given(st.binary(max_size=60), st.sampled_from(list(APIS)))
def test_any_bytes_are_read_or_refused(body: bytes, dialect: str) -> None:
    try:
        APIS[dialect].read_body(body)
    except RefusedError as refused:
        assert refused.status == 400  # noqa: PT017 - a refusal is one of two right outcomes


@pytest.mark.parametrize("change", [{"type": "response.cancel"}, {"stream": True}, {"background": False}, {"previous_response_id": 4}])
def test_what_no_websocket_takes(change: dict[str, Any]) -> None:
    with pytest.raises(RefusedError):
        read_create({"type": "response.create", "model": "m", "input": "hi"} | change)


def test_texts_of_a_conversation_keep_their_order() -> None:
    say = [("system", "s"), ("user", "a"), ("assistant", "b"), ("user", "c")]
    messages = [{"role": role, "content": text} for role, text in say]
    body = orjson.dumps({"model": "m", "messages": messages[1:], "system": [{"type": "text", "text": "s"}], "max_tokens": 1})
    assert MESSAGES.read_body(body).texts == ("s", "a", "b", "c")
    assert CHAT.read_body(orjson.dumps({"model": "m", "messages": messages})).texts == ("s", "a", "b", "c")
    items = [*messages[1:3], {"type": "function_call_output", "call_id": "1", "output": "c"}]
    assert RESPONSES.read_body(orjson.dumps({"model": "m", "instructions": "s", "input": items})).texts == ("s", "a", "b", "c")
