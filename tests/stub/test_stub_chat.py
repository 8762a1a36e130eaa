from __future__ import annotations

from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from latprof.stub.chat import Answer, read_body
from latprof.stub.serving import RefusedError

GOOD: dict[str, Any] = {"model": "m", "messages": [{"role": "user", "content": "hi"}]}


def test_what_a_body_asks_for() -> None:
    parts = [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]
    messages = [
        {"role": "system", "content": "s"},
        {"role": "user", "content": parts},
        {"role": "assistant", "content": None, "tool_calls": []},
    ]
    asked = read_body(orjson.dumps({"model": "m", "messages": messages, "max_tokens": 5, "max_completion_tokens": 7, "temperature": 0}))
    assert asked.texts == ("s", "a", "b")
    assert (asked.tokens, asked.limited, asked.stream, asked.include_usage) == (7, True, False, False)
    assert read_body(orjson.dumps(GOOD)).tokens == 16


@pytest.mark.parametrize(
    ("change", "param"),
    [
        ({"model": None}, "model"),
        ({"model": 3}, "model"),
        ({"messages": []}, "messages"),
        ({"messages": "hi"}, "messages"),
        ({"messages": ["hi"]}, "messages[0]"),
        ({"messages": [{"content": "x"}]}, "messages[0].role"),
        ({"messages": [{"role": "user"}]}, "messages[0].content"),
        ({"messages": [{"role": "user", "content": [{"type": "image_url"}]}]}, "messages[0].content[0]"),
        ({"stream": "yes"}, "stream"),
        ({"n": 2}, "n"),
        ({"max_tokens": 0}, "max_tokens"),
        ({"max_tokens": True}, "max_tokens"),
        ({"max_completion_tokens": 1.5}, "max_completion_tokens"),
        ({"stream_options": {"include_usage": True}}, "stream_options"),
        ({"stream": True, "stream_options": 1}, "stream_options"),
    ],
)
def test_a_bad_field_is_named(change: dict[str, Any], param: str) -> None:
    with pytest.raises(RefusedError) as refused:
        read_body(orjson.dumps(GOOD | change))
    assert (refused.value.status, refused.value.param) == (400, param)
    assert param in orjson.loads(refused.value.body())["error"]["message"]


@given(st.binary(max_size=60))
def test_any_bytes_are_read_or_refused(body: bytes) -> None:
    try:
        read_body(body)
    except RefusedError as refused:
        assert refused.status == 400  # noqa: PT017 - a refusal is one of two right outcomes


@given(st.lists(st.text(max_size=8), min_size=1, max_size=6), st.booleans())
def test_a_streamed_answer_says_the_same_as_a_whole_one(texts: list[str], usage: bool) -> None:
    asked = read_body(orjson.dumps(GOOD | {"stream": True, "stream_options": {"include_usage": usage}, "max_tokens": len(texts)}))
    answer = Answer(asked, "1", 3)
    stream = answer.add([orjson.dumps(texts[0])]) + answer.add([orjson.dumps(text) for text in texts[1:]]) + answer.finish(2)
    *events, done, rest = stream.split(b"\n\n")
    assert (done, rest) == (b"data: [DONE]", b"")
    chunks = [orjson.loads(event.removeprefix(b"data: ")) for event in events]
    whole = orjson.loads(answer.whole(2))
    deltas = [choice["delta"] for chunk in chunks for choice in chunk["choices"]]
    assert "".join(delta.get("content", "") for delta in deltas) == whole["choices"][0]["message"]["content"] == "".join(texts)
    assert [index for index, delta in enumerate(deltas) if "role" in delta] == [0]
    assert len([delta for delta in deltas if "content" in delta]) == len(texts)
    usages = [chunk["usage"] for chunk in chunks if chunk.get("usage")]
    assert usages == ([whole["usage"]] if usage else [])
    assert whole["usage"]["completion_tokens"] == "".join(texts).count(" ")
    assert whole["usage"]["prompt_tokens_details"] == {"cached_tokens": 2}
