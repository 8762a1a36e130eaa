"""Graphs of sessions in the run folder: what was handed out comes back, after a kill too."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

from latprof.errors import ConfigError, UsageError
from latprof.observations.graph import StepLog, compact_steps, load_steps
from latprof.observations.names import STEPS_PARQUET, STEPS_STREAM
from latprof.units import MISSING_NS
from latprof.workload.sessions import Session, Tool, Turn, chain

MS = 1_000_000


def branching(number: int) -> Session:
    """0 turn -> 1 tool, 2 tool -> 3 turn, which continues 0."""
    return Session(
        number,
        (
            Turn("ask", 4, 8, answer="so", at_ns=0),
            Tool("search", 5 * MS, after=(0,)),
            Tool("read", 7 * MS, after=(0,)),
            Turn("go on", 4, 8, think_ns=3 * MS, after=(1, 2), context=0, answer="so"),
        ),
    )


def written(folder: Path, *sessions: Session, phase: str = "measured", close: bool = True) -> StepLog:
    log = StepLog(folder)
    for session in sessions:
        log.add([(phase, session)])
    if close:
        log.close()
    return log


def test_a_graph_comes_back_as_it_was_handed_out(tmp_path: Path) -> None:
    written(tmp_path, branching(7))
    for compacted in (False, True):
        if compacted:
            compact_steps(tmp_path)
            assert [path.name for path in tmp_path.iterdir()] == [STEPS_PARQUET]
        steps = load_steps(tmp_path)
        assert steps.session.tolist() == [7] * 4
        assert steps.phase.tolist() == ["measured"] * 4
        assert steps.step.tolist() == [0, 1, 2, 3]
        assert steps.kind.tolist() == ["turn", "tool", "tool", "turn"]
        assert steps.is_turn.tolist() == [True, False, False, True]
        assert steps.turn.tolist() == [0, MISSING_NS, MISSING_NS, 3]
        assert steps.name.tolist() == ["", "search", "read", ""]
        assert steps.think_ns.tolist() == [0, MISSING_NS, MISSING_NS, 3 * MS]
        assert steps.takes_ns.tolist() == [MISSING_NS, 5 * MS, 7 * MS, MISSING_NS]
        assert steps.at_ns.tolist() == [0, MISSING_NS, MISSING_NS, MISSING_NS]  # a bound of 0 is one, none is none
        assert [steps.after_of(row) for row in range(4)] == [(), (0,), (0,), (0, 1, 2)]  # the turn it continues is waited for


def test_sessions_of_one_step_have_no_row_and_cost_no_file(tmp_path: Path) -> None:
    written(tmp_path, chain(1, (Turn("one", 4, 8),)))
    compact_steps(tmp_path)
    assert list(tmp_path.iterdir()) == []
    assert len(load_steps(tmp_path)) == 0
    assert list(load_steps(tmp_path).by_session()) == []


def test_a_single_turn_that_is_not_due_at_once_says_when(tmp_path: Path) -> None:
    late = (Turn("one", 4, 8, think_ns=5 * MS), Turn("one", 4, 8, at_ns=6 * MS), Turn("one", 4, 8, at_ns=0))
    written(tmp_path, *(Session(number, (turn,)) for number, turn in enumerate(late)))
    assert load_steps(tmp_path).session.tolist() == [0, 1]


def test_sessions_are_told_apart_whatever_the_order_they_came_in(tmp_path: Path) -> None:
    written(tmp_path, branching(9), chain(2, (Turn("a", 4, 8), Turn("b", 4, 8))), branching(5))
    steps = load_steps(tmp_path)
    found = {number: steps.kind[rows].tolist() for number, rows in steps.by_session()}
    assert found == {2: ["turn", "turn"], 5: ["turn", "tool", "tool", "turn"], 9: ["turn", "tool", "tool", "turn"]}
    assert list(found) == [2, 5, 9]
    assert steps.after_of(1) == (0,)


def test_phases_stay_with_their_sessions(tmp_path: Path) -> None:
    log = written(tmp_path, branching(1), phase="warmup", close=False)
    log.add([("measured", branching(2)), ("measured", branching(3))])
    log.close()
    assert load_steps(tmp_path).phase.tolist() == ["warmup"] * 4 + ["measured"] * 8


def test_a_kill_loses_nothing_that_was_handed_out(tmp_path: Path) -> None:
    written(tmp_path, branching(1), branching(2), close=False)  # nobody closes it
    assert len(load_steps(tmp_path)) == 8
    stream = tmp_path / STEPS_STREAM
    stream.write_bytes(stream.read_bytes()[:-40])  # killed in the middle of a write: whole sessions stay whole
    assert load_steps(tmp_path).session.tolist() == [1] * 4
    compact_steps(tmp_path)
    assert load_steps(tmp_path).session.tolist() == [1] * 4


def test_compacting_can_be_cut_off_and_repeated(tmp_path: Path) -> None:
    written(tmp_path, branching(1))
    stream = (tmp_path / STEPS_STREAM).read_bytes()
    compact_steps(tmp_path)
    (tmp_path / STEPS_STREAM).write_bytes(stream)  # cut off before the stream was removed
    assert len(load_steps(tmp_path)) == 4
    compact_steps(tmp_path)
    compact_steps(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == [STEPS_PARQUET]


def test_threads_may_hand_out_at_once(tmp_path: Path) -> None:
    log = StepLog(tmp_path)

    def hand_out(first: int) -> None:
        for number in range(first, first + 50):
            log.add([("measured", branching(number))])

    threads = [threading.Thread(target=hand_out, args=(first,)) for first in (0, 50, 100)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    log.close()
    steps = load_steps(tmp_path)
    assert [number for number, _ in steps.by_session()] == list(range(150))
    assert all(steps.step[rows].tolist() == [0, 1, 2, 3] for _, rows in steps.by_session())


def test_a_folder_that_is_gone_is_said_at_the_end(tmp_path: Path) -> None:
    log = StepLog(tmp_path / "gone")
    log.add([("measured", branching(1))])  # does not raise: the load goes on
    for _ in range(2):
        with pytest.raises(UsageError, match=r"steps\.arrows: cannot be written"):
            log.close()


def test_a_damaged_file_is_named(tmp_path: Path) -> None:
    (tmp_path / STEPS_PARQUET).write_bytes(b"PAR1 is not enough")
    with pytest.raises(ConfigError, match=r"steps\.parquet: is damaged"):
        load_steps(tmp_path)
