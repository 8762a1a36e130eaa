from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from outlines import graph, lengths, lines

from latprof.errors import ConfigError
from latprof.units import NS_PER_MS, NS_PER_S
from latprof.workload.outline import Made
from latprof.workload.readers.copilot import read_copilot
from latprof.workload.sessions import Tool


def call(timestamp: object, prompt: int, completion: int, cached: int = 0, duration_ms: float = 1000) -> dict[str, Any]:
    tokens = {"total": prompt + completion, "prompt": prompt, "completion": completion, "cached": cached, "cached_pct": 0.0}
    return {"timestamp": timestamp, "duration_ms": duration_ms, "initiator_type": "agent", "model": "m", "tokens": tokens}


def batch(*durations_ms: float) -> dict[str, Any]:
    functions = [{"name": f"t{i}", "status": "ok", "duration_ms": ms} for i, ms in enumerate(durations_ms)]
    return {"duration_ms": max(durations_ms), "auto_continue": True, "request_id": "r", "function_calls": functions}


SESSION = {
    "session_id": "s",
    "turns": [
        {
            "llm_calls": [call("2026-03-01T10:00:00Z", 9000, 100, 8000), call("2026-03-01T10:00:04.500Z", 9400, 50, 9000)],
            "tool_batches": [batch(200, 3000)],
        },
        {"llm_calls": [call("2026-03-01T10:01:05.500Z", 9600, 10, 9400), call(1_772_359_300_000, 5000, 10, 4000)], "tool_batches": []},
    ],
}


def test_calls_and_tools_become_a_graph(tmp_path: Path) -> None:
    (session,) = read_copilot(lines(tmp_path, SESSION)).sessions
    assert graph(session) == [
        ("turn", (), -1), ("t0", (0,), None), ("t1", (0,), None), ("turn", (1, 2), 0), ("turn", (3,), 3), ("turn", (4,), -1),
    ]  # fmt: skip
    assert lengths(session) == [(9000, 100), (300, 50), (150, 10), (5000, 10)]
    assert [step.takes_ns for step in session.steps if isinstance(step, Tool)] == [200 * NS_PER_MS, 3 * NS_PER_S]
    # 1 s of answer and 3 s of tools leave half a second; then a minute of thinking.
    assert [turn.think_ns for turn in session.turns][:3] == [0, NS_PER_S // 2, 60 * NS_PER_S]


def test_what_begins_anew_shares_its_cached_tokens_with_other_beginnings(tmp_path: Path) -> None:
    (session,) = read_copilot(lines(tmp_path, SESSION)).sessions
    assert session.turns[0].prompt == Made(9000, ("copilot",), 8000)
    assert session.turns[3].prompt == Made(5000, ("copilot",), 4000)


def test_sessions_come_in_order_and_the_window_takes_them_whole(tmp_path: Path) -> None:
    def at(second: int, name: str) -> dict[str, Any]:
        return {"session_id": name, "turns": [{"llm_calls": [call(second, 5, 1), call(second + 500, 20, 1)]}]}

    file = lines(tmp_path, at(70, "late"), at(10, "first"), at(30, "then"))
    assert [(session.name, session.offset_ns // NS_PER_S) for session in read_copilot(file).sessions] == [
        ("first", 0),
        ("then", 20),
        ("late", 60),
    ]
    assert [len(session.turns) for session in read_copilot(file, 60 * NS_PER_S).sessions] == [2, 2]


@pytest.mark.parametrize(
    ("session", "said"),
    [
        ({"session_id": "x"}, r":2: turns must be a list of turns, there are session_id"),
        ({"turns": [{"llm_calls": [{"timestamp": 1}]}]}, r":2: turns\[0\]: llm_calls\[0\]: tokens must be an object"),
        ({"turns": [{"llm_calls": [call("yesterday", 1, 1)]}]}, r":2: .*timestamp must be a time such as .*, got 'yesterday'"),
        ({"turns": [{"llm_calls": [call(1, 0, 1)]}]}, r":2: .*tokens\.prompt must be at least 1, got 0"),
        (
            {"turns": [{"llm_calls": [call(1, 1, 1)], "tool_batches": [{"duration_ms": -1}]}]},
            r":2: .*duration_ms must be a number of ms, got '-1'",
        ),
    ],
)
def test_a_bad_session_is_named(tmp_path: Path, session: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        read_copilot(lines(tmp_path, SESSION, session))
