"""A trace's times at any scale: what the driver's course makes of them, in virtual time."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from outlines import lines

from latprof.config import Workload
from latprof.units import NS_PER_MS
from latprof.workload.load import load_outlines, load_workload
from latprof.workload.outline import Made, Outline, TurnOutline, graph_fault, in_order, scaled
from latprof.workload.sessions import Session, Tool, Turn

ANSWER_NS = 700


def starts_ns(session: Session, start_ns: int) -> dict[int, int]:
    """The intended start of each turn of a session when every answer takes `ANSWER_NS`, by the rules of `latprof.workload.sessions`."""
    ends: dict[int, int] = {}
    starts: dict[int, int] = {}
    for number, step in enumerate(session.steps):
        last_ns = max((ends[before] for before in step.after), default=start_ns)
        if isinstance(step, Turn):
            starts[number] = max(last_ns + step.think_ns, start_ns + (step.at_ns or 0))
            ends[number] = starts[number] + ANSWER_NS
        else:
            ends[number] = last_ns + step.takes_ns
    return starts


@pytest.mark.parametrize("time_scale", [0.1, 1, 3, 60])
def test_turns_with_times_of_their_own_keep_them(tmp_path: Path, time_scale: float) -> None:
    said = [(0.5, 1, -1), (2.25, 2, 1), (9.125, 3, -1), (60, 4, 2), (333.3, 5, 4)]
    requests: list[dict[str, Any]] = [
        {"timestamp": at_s, "chat_id": chat, "parent_chat_id": parent, "input_length": 5, "output_length": 1, "hash_ids": [1], "turn": 1}
        for at_s, chat, parent in said
    ]
    workload = load_workload(Workload(trace=lines(tmp_path, *requests), time_scale=time_scale), 1)
    assert workload.trace_offsets_ns is not None
    starts = sorted(
        at_ns
        for number, offset_ns in enumerate(workload.trace_offsets_ns)
        for at_ns in starts_ns(workload.session(number), offset_ns).values()
    )
    wanted = [(at_s - 0.5) * 1e9 / time_scale for at_s, *_ in said]
    assert max(abs(mine - theirs) for mine, theirs in zip(starts, wanted, strict=True)) < NS_PER_MS


def test_think_times_and_tools_go_faster_as_well() -> None:
    session = Outline(900, (TurnOutline(Made(1), 1, at_ns=30), Tool("t", 600, (0,)), TurnOutline(Made(1), 1, think_ns=90, after=(1,))), "s")
    faster = scaled(session, 3)
    assert faster == Outline(
        300, (TurnOutline(Made(1), 1, at_ns=10), Tool("t", 200, (0,)), TurnOutline(Made(1), 1, think_ns=30, after=(1,))), "s"
    )
    assert scaled(session, 1) is session


def test_sessions_past_the_last_begin_again_with_other_texts(tmp_path: Path) -> None:
    requests = [{"timestamp": i, "input_length": 20, "output_length": 1, "hash_ids": [0]} for i in range(3)]
    workload = load_workload(Workload(trace=lines(tmp_path, *requests)), 1)
    again = workload.session(4)
    assert again.turns[0].prompt_tokens == 20
    assert again.turns[0].prompt != workload.session(1).turns[0].prompt
    # Inside one copy of the trace the block is the same.
    assert workload.session(0).turns[0].prompt == workload.session(1).turns[0].prompt
    assert again.turns[0].prompt == workload.session(5).turns[0].prompt


def test_a_trace_without_its_times(tmp_path: Path) -> None:
    requests = [{"timestamp": i, "input_length": 20, "output_length": 1, "hash_ids": [0]} for i in range(3)]
    settings = Workload(trace=lines(tmp_path, *requests), trace_times=False)
    assert load_workload(settings, 1).trace_offsets_ns is None
    assert load_outlines(settings, 1).outline(3) == load_outlines(settings, 1).outline(0)


def test_traces_begin_at_nothing_and_ascend() -> None:
    trace = in_order([Outline(at_ns, (), str(at_ns)) for at_ns in (50, 20, 90, 20)], window_ns=70)
    assert trace.offsets_ns == (0, 0, 30)
    assert all(before <= after for before, after in pairwise(trace.offsets_ns))
    assert in_order([]).sessions == ()


@pytest.mark.parametrize(
    ("steps", "fault"),
    [
        ((Tool("t", 1),), "a session needs at least one turn"),
        ((TurnOutline(Made(1), 1, after=(0,)),), "step 0 comes after step 0, but a step can only look back"),
        ((TurnOutline(Made(1), 1), TurnOutline(Made(1), 1, after=(-1,))), "step 1 comes after step -1"),
        ((TurnOutline(Made(1), 1, context=3),), "step 0 continues step 3, but a step can only look back"),
        ((Tool("t", 1), TurnOutline(Made(1), 1, context=0)), "step 1 continues step 0, which is a tool"),
        ((TurnOutline(Made(1), 1), TurnOutline(Made(1), 1, after=(0,), context=0)), None),
    ],
)
def test_what_is_no_session_is_told(steps: tuple[TurnOutline | Tool, ...], fault: str | None) -> None:
    found = graph_fault(steps)
    assert found == fault if fault is None else found is not None and found.startswith(fault)
