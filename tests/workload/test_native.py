from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from outlines import DATA, graph, lines

from latprof.config import Workload
from latprof.errors import ConfigError
from latprof.units import NS_PER_MS, NS_PER_S
from latprof.workload.formats import READERS, guessed, read_trace
from latprof.workload.load import load_outlines
from latprof.workload.outline import Made, Outline, TurnOutline
from latprof.workload.readers.native import native_lines, native_schema, read_native
from latprof.workload.sessions import Tool

SCHEMA = Path(__file__).parents[2] / "docs" / "workload.schema.json"
TASK = {
    "id": "a", "at": "1.5s", "steps": [
        {"id": "ask", "prompt_tokens": 900, "output_tokens": 40, "blocks": ["sys", 7], "block_tokens": 128},
        {"id": "grep", "tool": "grep", "takes": "300ms", "after": ["ask"]},
        {"id": "read", "tool": "read", "takes": "1.2s", "after": ["ask"]},
        {"prompt": "so?", "answer": "so", "think": 2, "at": "9s", "after": ["grep", "read"], "context": "ask", "system": "brief"},
    ],
}  # fmt: skip


def test_a_graph_with_names(tmp_path: Path) -> None:
    early = {"at": "0.5s", "steps": [{"prompt_tokens": 1, "output_tokens": 1}, {"prompt_tokens": 2, "answer_tokens": 3, "context": 0}]}
    file = lines(tmp_path, TASK, early)
    assert guessed(file) == "native"
    first, task = read_native(file).sessions
    assert (first.offset_ns, task.offset_ns, task.name) == (0, NS_PER_S, "a")
    assert graph(first) == [("turn", (), -1), ("turn", (0,), 0)]
    assert first.turns[1].output_tokens == 3
    assert graph(task) == [("turn", (), -1), ("grep", (0,), None), ("read", (0,), None), ("turn", (1, 2), 0)]
    assert task.turns[0].prompt == Made(900, ("sys", 7), 128)
    assert task.turns[1] == TurnOutline("so?", None, 2 * NS_PER_S, (1, 2), 0, "brief", "so", "user", 9 * NS_PER_S)
    assert [step.takes_ns // NS_PER_MS for step in task.steps if isinstance(step, Tool)] == [300, 1200]


TOLD = st.one_of(
    st.text(min_size=1, max_size=8),
    st.builds(Made, st.integers(1, 99)),
    st.builds(Made, st.integers(1, 99), st.tuples(st.one_of(st.integers(0, 9), st.text(max_size=3))), st.integers(1, 64)),
)
PLAIN = st.one_of(st.none(), st.text(min_size=1, max_size=8), st.builds(Made, st.integers(1, 99)))


@st.composite
def outlines(draw: st.DrawFn) -> Outline:
    steps: list[TurnOutline | Tool] = []
    for number in range(draw(st.integers(1, 6))):
        after = tuple(draw(st.lists(st.integers(0, number - 1), unique=True, max_size=3))) if number else ()
        if number and draw(st.booleans()):
            steps.append(Tool(draw(st.text(min_size=1, max_size=4)), draw(st.integers(0, 10**12)), after))
            continue
        turns = [one for one, step in enumerate(steps) if isinstance(step, TurnOutline)]
        answer = draw(PLAIN)
        steps.append(
            TurnOutline(
                draw(TOLD),
                draw(st.one_of(st.integers(1, 99), st.none())) if isinstance(answer, str) else draw(st.integers(1, 99)),
                draw(st.integers(0, 10**12)),
                after,
                draw(st.sampled_from([-1, *turns])),
                draw(PLAIN),
                answer,
                draw(st.sampled_from(["user", "tool"])),
                draw(st.one_of(st.none(), st.integers(0, 10**12))),
            )
        )
    return Outline(0, tuple(steps), draw(st.text(max_size=4)))


@settings(deadline=None)
@given(told=outlines(), is_timed=st.booleans())
def test_what_is_written_is_read_again(told: Outline, is_timed: bool, tmp_path_factory: pytest.TempPathFactory) -> None:
    file = tmp_path_factory.mktemp("native") / "trace.jsonl"
    file.write_bytes(b"".join(native_lines([told], is_timed=is_timed)))
    trace = read_native(file)
    assert trace.sessions == (told,)
    assert trace.is_timed == is_timed


@pytest.mark.skipif(not DATA.exists(), reason=f"no published traces at {DATA}")
@pytest.mark.parametrize("name", ["mooncake-conversation.jsonl", "azure-llm-2023-code.csv"])
def test_published_traces_are_the_same_in_native_form(name: str, tmp_path: Path) -> None:
    trace = read_trace(DATA / name)
    file = tmp_path / "native.jsonl"
    file.write_bytes(b"".join(native_lines(trace.sessions)))
    assert read_trace(file) == trace


def test_synthetic_sessions_are_the_same_in_native_form(tmp_path: Path) -> None:
    told = tuple(load_outlines(Workload(preset="agent"), 1).outline(number) for number in range(20))
    file = tmp_path / "native.jsonl"
    file.write_bytes(b"".join(native_lines(told, is_timed=False)))
    assert read_native(file).sessions == told


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ({"steps": []}, r":2: steps: .*at least 1 item"),
        ({"steps": [{"output_tokens": 1}]}, r":2: steps\.0: a turn needs either prompt or prompt_tokens"),
        ({"steps": [{"prompt_tokens": 1}]}, r":2: steps\.0: a turn needs output_tokens, or an answer"),
        ({"steps": [{"prompt_tokens": 0, "output_tokens": 1}]}, r":2: steps\.0\.prompt_tokens: Input should be greater than 0"),
        ({"steps": [{"prompt_tokens": 1, "output_tokens": 1, "blocks": [1]}]}, r":2: steps\.0: blocks and block_tokens belong together"),
        ({"steps": [{"prompt_tokens": 1, "output_tokens": 1, "tokens": 1}]}, r":2: steps\.0\.tokens: Extra inputs are not permitted"),
        ({"steps": [{"prompt_tokens": 1, "output_tokens": 1, "think": "long"}]}, r":2: steps\.0\.think: must be a duration such as 250ms"),
        ({"steps": [{"tool": "t", "takes": "1s"}]}, r":2: a session needs at least one turn"),
        (
            {"steps": [{"prompt_tokens": 1, "output_tokens": 1, "after": ["later"]}]},
            r":2: steps\.0 names step 'later', and no step before it",
        ),
        ({"steps": [{"prompt_tokens": 1, "output_tokens": 1, "after": [0]}]}, r":2: steps\.0 names step 0, and no step before it"),
        (
            {"steps": [{"id": "x", "prompt_tokens": 1, "output_tokens": 1}, {"id": "x", "tool": "t"}]},
            r":2: steps\.1\.id 'x' stands for two steps",
        ),
        (
            {"steps": [{"prompt_tokens": 1, "output_tokens": 1}, {"tool": "t"}, {"prompt_tokens": 1, "output_tokens": 1, "context": 1}]},
            r":2: step 2 continues step 1, which is a tool",
        ),
        ({"at": "1s", "steps": [{"prompt_tokens": 1, "output_tokens": 1}]}, r":2: some sessions of the file have at"),
    ],
)
def test_a_bad_line_is_named(tmp_path: Path, line: dict[str, Any], said: str) -> None:
    file = lines(tmp_path, {"steps": [{"prompt_tokens": 1, "output_tokens": 1}]}, line)
    with pytest.raises(ConfigError, match=said) as refused:
        read_native(file)
    assert str(refused.value).startswith(f"workload.trace {file}:2: ")


def test_windows_need_times(tmp_path: Path) -> None:
    def at(second: int) -> dict[str, Any]:
        return {"at": f"{second}s", "steps": [{"prompt_tokens": 1, "output_tokens": 1}]}

    assert len(read_native(lines(tmp_path, at(30), at(5), at(15)), 10 * NS_PER_S).sessions) == 1
    with pytest.raises(ConfigError, match="its sessions have no at"):
        read_native(lines(tmp_path, {"steps": [{"prompt_tokens": 1, "output_tokens": 1}]}), 10)


def test_the_schema_in_the_documents_is_the_readers() -> None:
    assert json.loads(SCHEMA.read_text()) == json.loads(json.dumps(native_schema())), "write it anew: see docs/workloads.md"


# --- which format a file has --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("beginning", "name"),
    [
        ("TIMESTAMP,ContextTokens,GeneratedTokens\n", "azure"),
        ("Timestamp,Model,Request tokens,Response tokens,Total tokens,Log Type\n", "burstgpt"),
        ('{"timestamp": 0, "input_length": 1, "output_length": 1, "hash_ids": []}', "mooncake"),
        ('{"chat_id": 1, "parent_chat_id": -1, "timestamp": 0, "hash_ids": []}', "bailian"),
        ('{"session_id": "s", "turns": [{"llm_calls": [], "tool_batches": []}]}', "copilot"),
        ('[\n{"session_id": "s",\n "turns": [{"llm_calls": []}]}]', "copilot"),
        ('{"session_id": "s", "turns": [{"messages": []}]}', "dag_jsonl"),
        ('{"resourceSpans": []}', "otel"),
        ('[{"id": "x", "conversations": []}]', "sharegpt"),
        ('{"steps": [{"prompt": "talk about \\"hash_ids\\": and \\"timestamp\\":", "output_tokens": 1}]}', "native"),
    ],
)
def test_a_file_says_which_format_it_has(tmp_path: Path, beginning: str, name: str) -> None:
    file = tmp_path / "trace"
    file.write_text("\ufeff" + beginning)
    assert guessed(file) == name
    assert name in READERS


def test_a_file_that_looks_like_nothing_known(tmp_path: Path) -> None:
    file = tmp_path / "trace"
    file.write_text("once upon a time\n")
    with pytest.raises(
        ConfigError, match=r":1: looks like none of azure, bailian, .*, it begins 'once upon a time'; say which with workload\.trace_format"
    ):
        guessed(file)
    with pytest.raises(ConfigError, match=r"cannot be read \(No such file or directory\)"):
        guessed(tmp_path / "nothing")
    file.write_text("\n")
    with pytest.raises(ConfigError, match=r"trace: the file is empty; wanted a trace with at least one request"):
        guessed(file)
