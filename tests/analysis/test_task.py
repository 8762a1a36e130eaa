"""The task: its layers are the truth of what the session waited for, whatever ran beside."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from made_sessions import LATE_NS, REST_NS, call, call_table, graphs, ran, tasks_of

from latprof.analysis.contributions import columns
from latprof.analysis.task import Tasks, task_layers
from latprof.client.stamps import ErrorClass
from latprof.observations.columns import Requests
from latprof.units import NS_PER_MS
from latprof.workload.sessions import NO_CONTEXT, Session, Step, Tool, Turn, chain

MS = NS_PER_MS
START = 5_000 * MS


def turn(*after: int, think_ms: int = 0, at_ms: int | None = None) -> Turn:
    return Turn("x", 8, 8, think_ns=think_ms * MS, after=after, answer="y", at_ns=None if at_ms is None else at_ms * MS)


def tool(takes_ms: int, *after: int) -> Tool:
    return Tool("search", takes_ms * MS, after)


def one_task(folder: Path, *steps: Step, calls_ms: dict[int, int]) -> Tasks:
    session = Session(1, steps)
    folder.mkdir(exist_ok=True)
    attempts, _ = ran(session, START, lambda step: calls_ms[step] * MS)
    return tasks_of(folder, attempts, [session])


def told(tasks: Tasks, row: int = 0) -> dict[str, float]:
    """ms by layer, those of nothing left out."""
    return {name: ns / MS for name, ns in zip(tasks.layers.names, tasks.layers.total_ns[row].tolist(), strict=True) if ns}


def hidden(tasks: Tasks, row: int = 0) -> dict[str, float]:
    return {name: ns / MS for name, ns in zip(tasks.layers.names, tasks.hidden_ns[row].tolist(), strict=True) if ns}


# --- what holds the end up, and what does not ---------------------------------------------------------------------------------------------


def test_a_chain_of_calls_tools_and_thinking_is_all_on_the_path(tmp_path: Path) -> None:
    """0 |=100=|.7.|-- 1 tool 30 --|.5.| 2 =200= |"""
    tasks = one_task(tmp_path, turn(think_ms=7), tool(30, 0), turn(1, think_ms=5), calls_ms={0: 100, 2: 200})
    assert tasks.task_ns.tolist() == [(7 + 100 + 30 + 5 + 200) * MS]
    assert told(tasks)["tool"] == 30
    assert told(tasks)["think"] == 12
    assert told(tasks)["client.lateness"] == 2 * LATE_NS / MS  # what the client cost, once per turn
    assert told(tasks)["stream"] == 2 * REST_NS / MS
    assert hidden(tasks) == {}
    assert (tasks.turns[0], tasks.turns_on_path[0], tasks.steps[0]) == (2, 2, 3)
    assert tasks.start_ns.tolist() == [START]


def test_of_parallel_tools_only_the_longest_counts(tmp_path: Path) -> None:
    """0 |==|  1 |-20-|  2 |---70---|  3 |-69.-|   then 4"""
    tasks = one_task(tmp_path, turn(), tool(20, 0), tool(70, 0), tool(69, 0), turn(1, 2, 3), calls_ms={0: 100, 4: 50})
    assert tasks.task_ns.tolist() == [(100 + 70 + 50) * MS]
    assert told(tasks)["tool"] == 70
    assert hidden(tasks) == {"tool": 20 + 69}


def test_coverage_is_of_calls_and_not_of_tasks(tmp_path: Path) -> None:
    session = Session(1, (turn(), turn(0), turn(1), turn(2)))
    attempts, _ = ran(session, START, lambda _: 100 * MS)
    made = Requests.from_attempts(attempts)
    table = call_table(made)
    silent = np.arange(4) > 0  # the first of four calls alone tells of its prefill
    present = table.present & ~(silent[:, None] & np.isin(table.names, "prefill"))
    tasks = task_layers(replace(table, present=present), made, graphs(tmp_path, [session]))
    coverage = dict(zip(tasks.layers.names, tasks.layers.coverage().tolist(), strict=True))
    assert (coverage["prefill"], coverage["decode"]) == (0.25, 1.0)
    assert tasks.layers.present.all()


def test_a_tool_hidden_behind_a_call_gets_nothing(tmp_path: Path) -> None:
    """0 |==|  1 tool |-40-|  2 call |=====300=====|   then 3: V15, the hidden layer has about 0"""
    tasks = one_task(tmp_path, turn(), tool(40, 0), turn(0), turn(1, 2), calls_ms={0: 100, 2: 300, 3: 50})
    assert tasks.task_ns.tolist() == [450 * MS]
    assert "tool" not in told(tasks)
    assert "tool" in tasks.layers.names  # shown as nothing, not left out
    assert tasks.layers.present[0, tasks.layers.names.index("tool")]
    assert hidden(tasks) == {"tool": 40}


def test_a_call_hidden_behind_a_tool_is_listed_with_its_layers(tmp_path: Path) -> None:
    tasks = one_task(tmp_path, turn(), tool(400, 0), turn(0, think_ms=3), turn(1, 2), calls_ms={0: 100, 2: 300, 3: 50})
    assert tasks.task_ns.tolist() == [(100 + 400 + 50) * MS]
    assert told(tasks)["tool"] == 400
    assert "think" not in told(tasks)
    assert hidden(tasks)["think"] == 3
    assert sum(hidden(tasks).values()) == pytest.approx(303)
    assert (tasks.turns[0], tasks.turns_on_path[0]) == (3, 2)


def test_branches_that_fork_and_join_twice(tmp_path: Path) -> None:
    r"""0 -< 1 tool 10 - 2 call 80 \    > 4 -< 5 call 30, 6 tool 31 > 7
    \ 3 tool 95 - - - - - /"""
    steps = (turn(), tool(10, 0), turn(1), tool(95, 0), turn(2, 3), turn(4), tool(31, 4), turn(5, 6))
    tasks = one_task(tmp_path, *steps, calls_ms={0: 5, 2: 80, 4: 7, 5: 30, 7: 3})
    assert tasks.task_ns.tolist() == [(5 + 95 + 7 + 31 + 3) * MS]
    assert told(tasks)["tool"] == 95 + 31
    assert hidden(tasks)["tool"] == 10
    assert tasks.turns_on_path.tolist() == [3]


def test_a_branch_that_nothing_joins_can_be_the_end(tmp_path: Path) -> None:
    tasks = one_task(tmp_path, turn(), turn(0), tool(900, 0), calls_ms={0: 100, 1: 200})
    assert tasks.task_ns.tolist() == [1000 * MS]
    assert told(tasks)["tool"] == 900
    assert sum(hidden(tasks).values()) == pytest.approx(200)


def test_a_session_may_begin_with_tools_and_wait_for_an_hour_of_the_day(tmp_path: Path) -> None:
    tasks = one_task(tmp_path, tool(30, *()), tool(50, *()), turn(0, 1, at_ms=80), calls_ms={2: 10})
    assert tasks.start_ns.tolist() == [START]
    assert told(tasks)["think"] == 80  # its tools were done at 50, and nobody waited for them
    assert hidden(tasks) == {"tool": 30 + 50}
    assert tasks.task_ns.tolist() == [90 * MS]
    tasks = one_task(tmp_path / "soon", tool(30, *()), tool(90, *()), turn(0, 1, at_ms=80), calls_ms={2: 10})
    assert (told(tasks)["tool"], hidden(tasks)["tool"]) == (90, 30)
    assert "think" not in told(tasks)


def test_a_turn_waits_for_the_answer_it_continues_too(tmp_path: Path) -> None:
    """2 comes after tool 1 (short), and continues turn 0."""
    steps = (turn(), tool(1), Turn("x", 8, 8, after=(1,), context=0, answer="y"))
    tasks = one_task(tmp_path, *steps, calls_ms={0: 100, 2: 10})
    assert tasks.task_ns.tolist() == [110 * MS]
    assert hidden(tasks) == {"tool": 1}


# --- property: the derivative is the truth ------------------------------------------------------------------------------------------------


@st.composite
def sessions(draw: st.DrawFn) -> tuple[Session, dict[int, int]]:
    """A graph of up to nine steps, and how long each call takes; lengths are powers of three apart, so that no two paths are equally long."""
    count = draw(st.integers(2, 9))
    lengths = draw(st.permutations([3**n * 100 + 3_000 for n in range(count)]))
    steps: list[Step] = []
    calls: dict[int, int] = {}
    for number in range(count):
        after = tuple(sorted(draw(st.sets(st.integers(0, number - 1), max_size=3)))) if number else ()
        if number == 0 or draw(st.booleans()):
            calls[number] = lengths[number]
            think_ns = draw(st.sampled_from([0, 0, 17]))
            at_ns = draw(st.sampled_from([None, None, 0, 40_000]))
            turns = [one for one in after if isinstance(steps[one], Turn)]
            steps.append(Turn("x", 1, 1, think_ns, after, draw(st.sampled_from([NO_CONTEXT, *turns])), answer="y", at_ns=at_ns))
        else:
            steps.append(Tool("t", lengths[number], after))
    return Session(1, tuple(steps)), calls


@given(sessions())
def test_layers_are_what_the_end_waited_for(made: tuple[Session, dict[int, int]]) -> None:
    """A nanosecond more of a step is a nanosecond more of the task if the step is on the path, and none if it is hidden."""
    session, calls = made
    attempts, end_ns = ran(session, START, calls.__getitem__)
    with TemporaryDirectory() as folder:
        tasks = tasks_of(Path(folder), attempts, [session])
    assert tasks.task_ns.tolist() == [end_ns - START]
    assert tasks.incomplete == {}
    assert (tasks.layers.total_ns >= 0).all()
    assert (tasks.layers.wait_ns + tasks.layers.service_ns <= tasks.layers.total_ns).all()
    later = {number: _end_with_one_more(session, calls, number) - end_ns for number in range(len(session.steps))}
    tools = sum(step.takes_ns for number, step in enumerate(session.steps) if isinstance(step, Tool) and later[number])
    assert round(told(tasks).get("tool", 0) * MS) == tools
    on_path = [number for number in calls if later[number]]
    of_calls = sum(calls[number] for number in on_path)
    names = tasks.layers.names
    in_calls = [index for index, name in enumerate(names) if name not in {"tool", "think"}]
    assert tasks.layers.total_ns[0, in_calls].sum() == of_calls
    assert tasks.turns_on_path.tolist() == [len(on_path)]
    assert tasks.hidden_ns[0, in_calls].sum() == sum(calls.values()) - of_calls


def _end_with_one_more(session: Session, calls: dict[int, int], number: int) -> int:
    steps = list(session.steps)
    step = steps[number]
    if isinstance(step, Tool):
        steps[number] = Tool(step.name, step.takes_ns + 1, step.after)
    return ran(Session(1, tuple(steps)), START, lambda turn: calls[turn] + (turn == number))[1]


# --- many sessions ------------------------------------------------------------------------------------------------------------------------


def test_sessions_are_rows_in_order_of_their_start_and_feed_the_budget(tmp_path: Path) -> None:
    many = [chain(number, (turn(), turn(think_ms=3))) if number % 3 else Session(number, (turn(),)) for number in range(60)]
    rng = np.random.default_rng(4)
    attempts = [
        one
        for session in reversed(many)
        for one in ran(session, START + session.session * 10 * MS, lambda _: int(rng.integers(20 * MS, 90 * MS)))[0]
    ]
    tasks = tasks_of(tmp_path, attempts, many)
    assert tasks.session.tolist() == list(range(60))
    assert (np.diff(tasks.start_ns) > 0).all()
    assert tasks.have_several_steps
    ends = {session.session: max(a.end_ns for a in attempts if a.session == session.session) for session in many}
    assert tasks.task_ns.tolist() == [ends[n] - START - n * 10 * MS for n in range(60)]
    shown = columns(tasks.layers, tasks.start_ns)
    assert shown[0].kind == "percentile"
    for column in shown:
        assert column.total_ns.sum() == pytest.approx(column.value_ns, rel=1e-9)


def test_single_turns_alone_are_tasks_of_one_call(tmp_path: Path) -> None:
    many = [Session(number, (turn(),)) for number in range(5)]
    tasks = tasks_of(tmp_path, [ran(one, START, lambda _: 50 * MS)[0][0] for one in many], many)
    assert tasks.task_ns.tolist() == [50 * MS] * 5
    assert not tasks.have_several_steps
    assert "think" not in tasks.layers.names


def test_retries_belong_to_their_turn(tmp_path: Path) -> None:
    session = chain(1, (turn(), turn()))
    attempts, end_ns = ran(session, START, lambda _: 50 * MS)
    failed = call(1, 1, attempts[1].intended_ns, attempts[1].intended_ns + 5 * MS, error_class=ErrorClass.SERVER)
    attempts[1].attempt, failed.request = 1, 7
    tasks = tasks_of(tmp_path, [attempts[0], failed, attempts[1]], [session])
    assert tasks.task_ns.tolist() == [end_ns - START]
    assert tasks.incomplete == {}


# --- what did not come to its end ---------------------------------------------------------------------------------------------------------


def test_a_failed_turn_makes_its_session_incomplete_and_counted(tmp_path: Path) -> None:
    good, bad, cut, short = (chain(number, (turn(), turn())) for number in range(4))
    attempts = [one for session in (good, bad, cut, short) for one in ran(session, START, lambda _: 50 * MS)[0]]
    attempts[3].error_class = ErrorClass.SERVER
    attempts[5].error_class = ErrorClass.INTERRUPTED
    tasks = tasks_of(tmp_path, attempts[:7], [good, bad, cut, short])  # the last turn of `short` was never sent
    assert tasks.session.tolist() == [0]
    assert tasks.incomplete == {"failed": 1, "cut": 2}


def test_what_nothing_tells_is_counted_too(tmp_path: Path) -> None:
    known, no_graph, no_layers, early = (chain(number, (turn(), turn())) for number in range(4))
    attempts = [one for session in (known, no_graph, no_layers, early) for one in ran(session, START, lambda _: 50 * MS)[0]]
    attempts[7].intended_ns -= 90 * MS  # before what it comes after had ended: the clock, or the folder, is wrong
    made = Requests.from_attempts(attempts)
    table = call_table(made)
    table.rows[4] = 0  # no layers for one call of session 2
    tasks = task_layers(table, made, graphs(tmp_path, [known, no_layers, early]))
    assert tasks.incomplete == {"untold": 3}
    assert tasks.session.tolist() == [0]


def test_warm_up_is_no_task_and_no_task_is_an_empty_table(tmp_path: Path) -> None:
    session = chain(1, (turn(), turn()))
    attempts, _ = ran(session, START, lambda _: 50 * MS, phase="warmup")
    tasks = tasks_of(tmp_path, attempts, [session])
    assert len(tasks.session) == 0
    assert tasks.layers.total_ns.shape == (0, len(tasks.layers.names))
    assert not tasks.have_several_steps
