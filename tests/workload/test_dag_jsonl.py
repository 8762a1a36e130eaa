from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from outlines import graph, lines

from latprof.errors import ConfigError
from latprof.units import NS_PER_MS
from latprof.workload.formats import guessed
from latprof.workload.readers.dag_jsonl import read_dag_jsonl


def turn(text: str, **more: Any) -> dict[str, Any]:
    return {"messages": [{"role": "user", "content": text}], **more}


def conversation(name: str, *turns: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {"session_id": name, "turns": list(turns), **more}


def test_spawns_begin_anew_and_are_waited_for(tmp_path: Path) -> None:
    file = lines(
        tmp_path,
        conversation(
            "root", turn("plan", spawns=["a", {"children": ["b"], "join_at": 2}]), turn("meanwhile"), turn("sum up", max_tokens=7)
        ),
        conversation("a", turn("task a", delay=250), turn("more a")),
        conversation("b", turn("task b")),
    )
    assert guessed(file) == "dag_jsonl"
    (session,) = read_dag_jsonl(file).sessions
    assert [step.prompt for step in session.turns] == ["plan", "task a", "more a", "task b", "meanwhile", "sum up"]
    assert graph(session) == [
        ("turn", (), -1),
        ("turn", (0,), -1), ("turn", (1,), 1),
        ("turn", (0,), -1),
        ("turn", (0, 2), 0),
        ("turn", (4, 3), 4),
    ]  # fmt: skip
    assert [step.think_ns for step in session.turns] == [0, 250 * NS_PER_MS, 0, 0, 0, 0]
    assert [step.output_tokens for step in session.turns] == [256, 256, 256, 256, 256, 7]


def test_forks_inherit_the_conversation_and_run_beside_it(tmp_path: Path) -> None:
    file = lines(
        tmp_path,
        conversation("root", turn("ask", forks=["a", {"child": "b", "background": True}]), turn("on")),
        conversation("a", turn("left")),
        conversation("b", turn("right")),
    )
    (session,) = read_dag_jsonl(file).sessions
    assert graph(session) == [("turn", (), -1), ("turn", (0,), 0), ("turn", (0,), 0), ("turn", (0,), 0)]


def test_nobody_waits_for_what_was_spawned_before_the_session(tmp_path: Path) -> None:
    file = lines(tmp_path, conversation("root", turn("ask"), turn("on"), pre_session_spawns=["a"]), conversation("a", turn("early")))
    (session,) = read_dag_jsonl(file).sessions
    assert graph(session) == [("turn", (), -1), ("turn", (), -1), ("turn", (1,), 1)]
    assert session.turns[0].prompt == "early"


def test_every_root_is_a_session_and_several_messages_are_one(tmp_path: Path) -> None:
    said = {
        "messages": [
            {"role": "system", "content": "brief"},
            {"role": "tool", "content": [{"type": "text", "text": "found"}], "tool_call_id": "x"},
            {"role": "user", "content": "go on"},
        ]
    }
    one, other = read_dag_jsonl(lines(tmp_path, conversation("one", said), conversation("two", turn("b")))).sessions
    assert (one.name, one.turns[0].system, one.turns[0].prompt) == ("one", "brief", "found\n\ngo on")
    assert other.turns[0].prompt == "b"


@pytest.mark.parametrize(
    ("lines_", "said"),
    [
        ([conversation("a", turn("x")), conversation("a", turn("y"))], r":2: session_id 'a' stands for two conversations"),
        ([conversation("a", turn("x", spawns=["b"])), conversation("b", turn("y", spawns=["a"]))], r":1: every conversation is forked"),
        (
            [
                conversation("r", turn("x", spawns=["a"])),
                conversation("a", turn("y", forks=["b"])),
                conversation("b", turn("z", forks=["a"])),
            ],
            r":2: 'a' descends from itself; cut the circle",
        ),
        ([conversation("a", turn("x", forks=["nobody"]))], r":1: turns\[0\]: there is no conversation with session_id 'nobody'"),
        (
            [conversation("a", turn("x", spawns=[{"children": ["b"], "join_at": 0}])), conversation("b", turn("y"))],
            r":1: .*join_at must be the number",
        ),
        ([conversation("a", turn("x", temperature=1))], r":1: turns\[0\]: temperature is not a key of a turn"),
        ([conversation("a", {"messages": [{"role": "assistant", "content": "I said"}]})], r":1: .*role 'assistant' is not in the subset"),
        (
            [conversation("a", {"messages": [{"role": "user", "content": [{"type": "image_url"}]}]})],
            r":1: .*only text is in the subset .* got 'image_url'",
        ),
        ([conversation("a", {"messages": []})], r":1: turns\[0\]: messages hold no text"),
        ([conversation("a", turn("x", max_tokens=0))], r":1: .*max_tokens must be at least 1"),
        ([conversation("a")], r":1: turns must hold at least one turn"),
        (
            [conversation("a", turn("x"), {"messages": [{"role": "system", "content": "s"}, {"role": "user", "content": "u"}]})],
            r":1: turns\[1\]: a system",
        ),
    ],
)
def test_what_is_not_in_the_subset_is_named(tmp_path: Path, lines_: list[dict[str, Any]], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        read_dag_jsonl(lines(tmp_path, *lines_))
