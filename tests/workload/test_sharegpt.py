from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from outlines import graph, lines

from latprof import config
from latprof.errors import ConfigError
from latprof.workload.load import load_workload
from latprof.workload.prompts import load_prompts
from latprof.workload.readers.sharegpt import read_sharegpt
from latprof.workload.sessions import Message, messages


def said(*pairs: tuple[str, str]) -> dict[str, Any]:
    return {"id": "c", "conversations": [{"from": who, "value": text} for who, text in pairs]}


TALK = said(
    ("system", "be brief"),
    ("gpt", "hello"),
    ("human", "what is up?"),
    ("gpt", "the sky"),
    ("human", "and down?"),
    ("gpt", "the earth below"),
)


def test_turns_hold_the_recorded_texts(tmp_path: Path) -> None:
    (session,) = read_sharegpt(lines(tmp_path, TALK)).sessions
    assert graph(session) == [("turn", (), -1), ("turn", (0,), 0)]
    assert [(turn.system, turn.prompt, turn.answer) for turn in session.turns] == [
        ("be brief", "what is up?", "the sky"),
        (None, "and down?", "the earth below"),
    ]


def test_planned_answers_are_the_recorded_ones_and_lengths_are_counted(tmp_path: Path) -> None:
    file = lines(tmp_path, TALK)
    count = load_prompts().count_tokens
    session = load_workload(config.Workload(trace=file, trace_times=False), 1).session(0)
    assert [turn.prompt_tokens for turn in session.turns] == [count("what is up?"), count("and down?")]
    assert [turn.output_tokens for turn in session.turns] == [count("the sky"), count("the earth below")]
    assert messages(session, 1) == (
        Message("system", "be brief"), Message("user", "what is up?"), Message("assistant", "the sky"), Message("user", "and down?"),
    )  # fmt: skip
    real = load_workload(config.Workload(trace=file, trace_times=False, answers="real"), 1).session(0)
    assert [turn.answer for turn in real.turns] == [None, None]
    assert [turn.output_tokens for turn in real.turns] == [count("the sky"), count("the earth below")]


def test_one_array_over_many_lines(tmp_path: Path) -> None:
    file = tmp_path / "share.json"
    file.write_text(json.dumps([TALK, said(("human", "nobody answers")), TALK], indent=2))
    assert len(read_sharegpt(file).sessions) == 2


def test_a_file_without_times_wants_them_from_the_load_section(tmp_path: Path) -> None:
    file = lines(tmp_path, TALK)
    with pytest.raises(ConfigError, match=r"does not say when its sessions start; set workload\.trace_times to false"):
        load_workload(config.Workload(trace=file), 1)
    with pytest.raises(ConfigError, match=r"workload\.trace_window means nothing for .*: ShareGPT holds no times"):
        read_sharegpt(file, 5)


def test_a_bad_conversation_is_named_with_its_line(tmp_path: Path) -> None:
    file = tmp_path / "share.json"
    bad = said(("human", "a"), ("martian", "b"))
    file.write_text("[\n" + json.dumps(TALK) + ",\n" + json.dumps(bad) + "\n]")
    with pytest.raises(ConfigError, match=r"share\.json:3: conversations\[1\]: from must be human, gpt or system, got 'martian'"):
        read_sharegpt(file)
    file.write_text('[\n{"id": 1, "conversations": 5}]')
    with pytest.raises(ConfigError, match=r"share\.json:2: conversations must be a list of messages"):
        read_sharegpt(file)
    file.write_text('[\n{"id": 1,\n "conversations": [}]')
    with pytest.raises(ConfigError, match=r"share\.json:3: is not JSON"):
        read_sharegpt(file)
