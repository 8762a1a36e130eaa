"""Whatever a file holds, a reader gives sessions that are graphs, or one message that names the file: never a traceback."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from latprof.errors import ConfigError
from latprof.workload.formats import READERS, read_trace
from latprof.workload.outline import TurnOutline, graph_fault

KEYS = {
    "bailian": ["chat_id", "parent_chat_id", "timestamp", "input_length", "output_length", "hash_ids", "turn"],
    "mooncake": ["timestamp", "input_length", "output_length", "hash_ids"],
    "copilot": ["session_id", "turns", "llm_calls", "tool_batches", "timestamp", "duration_ms", "tokens", "prompt", "completion", "cached", "name",
                "function_calls"],
    "dag_jsonl": ["session_id", "turns", "messages", "role", "content", "max_tokens", "forks", "spawns", "children", "join_at", "delay", "child",
                  "pre_session_spawns", "type", "text"],
    "native": ["id", "at", "steps", "tool", "takes", "after", "prompt", "prompt_tokens", "blocks", "block_tokens", "output_tokens", "answer", "context",
               "think", "role", "system"],
    "otel": ["resourceSpans", "scopeSpans", "spans", "attributes", "key", "value", "stringValue", "intValue", "traceId", "spanId", "parentSpanId", "kind",
             "startTimeUnixNano", "endTimeUnixNano", "name"],
    "sharegpt": ["id", "conversations", "from", "value"],
}  # fmt: skip
TELLING = [
    "human",
    "gpt",
    "system",
    "user",
    "text",
    "a",
    "1s",
    "gen_ai.operation.name",
    "gen_ai.usage.input_tokens",
    "chat",
    "execute_tool",
    "2026-01-01",
]


def held(keys: list[str]) -> st.SearchStrategy[Any]:
    leaves = st.one_of(
        st.none(),
        st.booleans(),
        st.integers(-3, 2000),
        st.floats(allow_nan=False, allow_infinity=False),
        st.sampled_from(TELLING),
        st.text(max_size=3),
    )
    return st.recursive(
        leaves,
        lambda inner: st.one_of(st.lists(inner, max_size=4), st.dictionaries(st.sampled_from(keys), inner, max_size=7)),
        max_leaves=25,
    )


@pytest.mark.parametrize("name", sorted(KEYS))
def test_any_objects(name: str, tmp_path_factory: pytest.TempPathFactory) -> None:
    file = tmp_path_factory.mktemp(name) / "trace.jsonl"
    objects = st.dictionaries(st.sampled_from(KEYS[name]), held(KEYS[name]), max_size=len(KEYS[name]))

    @settings(max_examples=150, deadline=None)
    @given(st.lists(objects, max_size=3), st.booleans())
    def read_or_refused(lines: list[dict[str, Any]], is_document: bool) -> None:
        file.write_text(json.dumps(lines, indent=1) if is_document else "\n".join(map(json.dumps, lines)))
        check(file, name)

    read_or_refused()


@pytest.mark.parametrize("name", sorted(READERS))
def test_any_text(name: str, tmp_path_factory: pytest.TempPathFactory) -> None:
    file = tmp_path_factory.mktemp(name) / "trace"
    header = {
        "azure": "TIMESTAMP,ContextTokens,GeneratedTokens\n",
        "burstgpt": "Timestamp,Model,Request tokens,Response tokens,Total tokens,Log Type\n",
    }

    @settings(max_examples=80, deadline=None)
    @given(st.one_of(st.binary(max_size=60), st.text(alphabet='0123456789.,:-Z \n{}[]"atsn', max_size=80).map(str.encode)), st.booleans())
    def read_or_refused(content: bytes, has_header: bool) -> None:
        file.write_bytes((header.get(name, "") if has_header else "").encode() + content)
        check(file, name)

    read_or_refused()


SAMPLES: dict[str, list[Any]] = {
    "bailian": [
        {"chat_id": i, "parent_chat_id": i - 1, "timestamp": i, "input_length": 20, "output_length": 5, "hash_ids": [1, i], "turn": 1} for i in (1, 2)
    ],
    "mooncake": [{"timestamp": i, "input_length": 600, "output_length": 5, "hash_ids": [1, i]} for i in (1, 2)],
    "copilot": [
        {
            "session_id": "s",
            "turns": [
                {
                    "llm_calls": [{"timestamp": 5, "duration_ms": 7, "tokens": {"prompt": 9, "completion": 5, "cached": 3}}] * 2,
                    "tool_batches": [{"duration_ms": 6, "function_calls": [{"name": "a", "duration_ms": 6}]}],
                }
            ],
        }
    ],
    "dag_jsonl": [
        {
            "session_id": "r",
            "pre_session_spawns": ["c"],
            "turns": [
                {
                    "messages": [{"role": "system", "content": "s"}, {"role": "user", "content": [{"type": "text", "text": "x"}]}],
                    "max_tokens": 5, "delay": 5, "forks": [{"child": "a"}], "spawns": [{"children": ["b"], "join_at": 1}],
                },
                {"messages": [{"role": "user", "content": "x"}]},
            ],
        },
        *({"session_id": name, "turns": [{"messages": [{"role": "user", "content": "x"}]}]} for name in "abc"),
    ],
    "native": [
        {
            "id": "s",
            "at": "1s",
            "steps": [
                {"id": "a", "prompt_tokens": 9, "blocks": [1], "block_tokens": 3, "output_tokens": 5, "system": "b", "answer_tokens": 4},
                {"id": "t", "tool": "t", "takes": "1s", "after": ["a"]},
                {"prompt": "x", "answer": "y", "context": "a", "think": "1s", "at": "3s", "role": "user", "after": [0, "t"]},
            ],
        }
    ],
    "otel": [
        {
            "resourceSpans": [
                {
                    "scopeSpans": [
                        {
                            "spans": [
                                {
                                    "traceId": "t", "spanId": str(i), "parentSpanId": "0", "name": "n", "kind": 3,
                                    "startTimeUnixNano": str(i), "endTimeUnixNano": str(i + 1),
                                    "attributes": [
                                        {"key": f"gen_ai.{key}", "value": value}
                                        for key, value in {
                                            "operation.name": {"stringValue": operation}, "tool.name": {"stringValue": "t"},
                                            "usage.input_tokens": {"intValue": "9"}, "usage.output_tokens": {"intValue": 5},
                                            "conversation.id": {"stringValue": "c"},
                                        }.items()
                                    ],
                                }
                                for i, operation in ((5, "chat"), (7, "execute_tool"))
                            ]
                        }
                    ]
                }
            ]
        }
    ],
    "sharegpt": [{"id": "c", "conversations": [{"from": "human", "value": "x"}, {"from": "gpt", "value": "y"}]}],
}  # fmt: skip
NASTY: list[Any] = [None, True, -1, 0, 10**30, 1.5, 1e300, "", "x", "-1", [], [[]], ["x"], [None], {}, {"x": {}}]


def changed(value: Any) -> Iterator[Any]:
    """``value`` with one thing in it replaced by each nasty one, or taken away; wherever in it that is."""
    yield from NASTY
    if isinstance(value, dict):
        for key in value:
            yield {other: held for other, held in value.items() if other != key}
            yield from ({**value, key: one} for one in changed(value[key]))
    if isinstance(value, list):
        for i in range(len(value)):
            yield [*value[:i], *value[i + 1 :]]
            yield from ([*value[:i], one, *value[i + 1 :]] for one in changed(value[i]))


@pytest.mark.parametrize("name", sorted(SAMPLES))
def test_a_good_file_with_one_thing_wrong(name: str, tmp_path: Path) -> None:
    file = tmp_path / "trace.jsonl"
    file.write_text(json.dumps(SAMPLES[name]))
    assert read_trace(file, name).sessions
    for number, lines in enumerate(changed(SAMPLES[name])):
        file.write_text(json.dumps(lines))
        try:
            check(file, name)
        except Exception as error:
            raise AssertionError(f"change {number} of {name}: {json.dumps(lines)}") from error


def check(file: Path, name: str) -> None:
    trace, said = None, str(file)
    try:
        trace = read_trace(file, name)
    except ConfigError as error:
        said = str(error)
    assert str(file) in said
    if trace is None:
        return
    offsets_ns = trace.offsets_ns
    assert list(offsets_ns) == sorted(offsets_ns)
    for session in trace.sessions:
        assert graph_fault(session.steps) is None
        for step in session.steps:
            if isinstance(step, TurnOutline):
                assert step.think_ns >= 0
                assert step.output_tokens is None or step.output_tokens >= 1
                assert isinstance(step.prompt, str) or step.prompt.tokens >= 1
