from __future__ import annotations

import pytest

from latprof.units import NS_PER_S
from latprof.workload.figures import Figures, figures
from latprof.workload.outline import Made, Outline, TurnOutline, one_turn
from latprof.workload.sessions import Tool


def told(*sessions: Outline, is_timed: bool = False) -> Figures:
    return figures(sessions, lambda text: len(text.split()), is_timed=is_timed)


def test_blocks_that_an_earlier_prompt_began_with_are_cached() -> None:
    one, other = one_turn(0, Made(1000, (1, 2), 512), 5), one_turn(0, Made(1100, (1, 3, 2), 512), 5)
    assert told(one, other).cached_share == 512 / 2100
    # A block is known by what stands before it: 2 after 1 is not 2 after 3.
    assert told(one, one_turn(0, Made(600, (2, 1), 512), 5)).cached_share == 0
    assert told(one, one).cached_share == 0.5


def test_what_a_conversation_said_is_cached_but_for_planned_answers() -> None:
    session = Outline(
        0, (TurnOutline(Made(100), 10), TurnOutline(Made(20), 10, after=(0,), context=0), TurnOutline(Made(5), 1, after=(1,), context=1))
    )
    found = told(session)
    assert found.prompt_tokens.percentiles[-1] == 145
    assert found.prompt_tokens.mean == (100 + 130 + 145) / 3
    assert found.cached_share == (100 + 130) / (100 + 130 + 145)
    assert found.message_tokens.mean == 125 / 3
    assert found.begun_share == 1 / 3


def test_own_text_is_nobody_elses() -> None:
    assert told(one_turn(0, Made(50), 1), one_turn(0, Made(50), 1)).cached_share == 0


def test_recorded_text_is_itself_and_is_counted() -> None:
    found = told(one_turn(0, "a b c", 4), Outline(0, (TurnOutline("a b c", None, answer="d e"),)))
    assert (found.prompt_tokens.mean, found.cached_share) == (3, 0.5)
    assert found.output_tokens.mean == 3


def test_tools_thinking_and_branches() -> None:
    plain = one_turn(0, Made(5), 1)
    task = Outline(
        0,
        (
            TurnOutline(Made(5), 1), Tool("a", NS_PER_S, (0,)), Tool("b", 3 * NS_PER_S, (0,)),
            TurnOutline(Made(5), 1, 2 * NS_PER_S, (1, 2), 0),
        ),
    )  # fmt: skip
    found = told(plain, task)
    assert (found.sessions, found.requests, found.tools, found.branching_share) == (2, 3, 2, 0.5)
    assert found.tool_s is not None
    assert found.think_s is not None
    assert (found.tool_s.mean, found.think_s.mean, found.think_s.count) == (2, 2, 1)
    assert told(plain).tool_s is told(plain).think_s is None


def test_arrivals() -> None:
    found = told(*(one_turn(at_s * NS_PER_S, Made(5), 1) for at_s in (0, 1, 4)), is_timed=True)
    assert (found.rate_per_s, found.lasts_s) == (0.5, 4)
    assert found.gap_cv == pytest.approx(0.5)
    at_once = told(one_turn(0, Made(5), 1), is_timed=True)
    assert (at_once.rate_per_s, at_once.lasts_s) == (None, 0)
    assert told(one_turn(0, Made(5), 1)).lasts_s is None
