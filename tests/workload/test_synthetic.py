from __future__ import annotations

import hashlib
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from latprof import config
from latprof.config import Workload, load_config
from latprof.errors import ConfigError
from latprof.workload.figures import Figures, figures
from latprof.workload.load import load_outlines, load_workload
from latprof.workload.outline import Made, Outline, TurnOutline, graph_fault
from latprof.workload.presets import PRESETS
from latprof.workload.prompts import load_prompts
from latprof.workload.sessions import NO_CONTEXT, Tool, joined, messages


def workload(**keys: Any) -> Workload:
    return Workload.model_validate(keys)


def outlines(count: int, seed: int = 1, **keys: Any) -> list[Outline]:
    outline = load_outlines(workload(**keys), seed).outline
    return [outline(number) for number in range(count)]


def told(sessions: list[Outline]) -> Figures:
    return figures(sessions, len, is_timed=False)


def contexts(session: Outline) -> dict[int, int]:
    """The length of each turn's whole prompt, by step."""
    after: dict[int, int] = {NO_CONTEXT: 0}
    whole: dict[int, int] = {}
    for number, step in enumerate(session.steps):
        if isinstance(step, TurnOutline):
            assert isinstance(step.prompt, Made)
            whole[number] = after[step.context] + step.prompt.tokens
            after[number] = whole[number] + (step.output_tokens or 0)
    return whole


def test_the_default_is_one_turn() -> None:
    (session,) = outlines(1)
    assert session.steps == (TurnOutline(Made(256), 8),)


def test_a_conversation_grows() -> None:
    (session,) = outlines(1, turns=3, prompt_tokens=100, reply_tokens=20, output_tokens=7, think="2s")
    assert list(contexts(session).values()) == [100, 127, 154]
    assert [(turn.after, turn.context, turn.think_ns) for turn in session.turns] == [
        ((), -1, 0),
        ((0,), 0, 2 * 10**9),
        ((1,), 1, 2 * 10**9),
    ]


def test_planned_answers_are_as_long_as_asked_and_the_last_needs_none() -> None:
    session = load_workload(workload(turns=3, output_tokens=30), 1).session(4)
    count = load_prompts().count_tokens
    assert session.is_planned
    assert [None if turn.answer is None else count(joined(turn.answer)) for turn in session.turns] == [30, 30, None]
    assert sum(count(joined(message.text)) for message in messages(session, 2)) == 3 * 256 + 2 * 30


def test_real_answers_are_left_to_come() -> None:
    session = load_workload(workload(turns=3, answers="real"), 1).session(4)
    assert not session.is_planned
    assert [turn.answer for turn in session.turns] == [None] * 3


def test_what_is_shared_is_the_beginning_of_every_session() -> None:
    made = load_workload(workload(prompt_tokens=1000, cached_share=0.6), 1)
    one, other = (joined(made.session(number).turns[0].prompt).split() for number in (0, 1 << 30))
    assert one[:600] == other[:600]
    assert one[600:616] != other[600:616]


@pytest.mark.parametrize(
    ("keys", "digest"),
    [
        ({"prompt_tokens": {"dist": "lognormal", "mean": 300}, "cached_share": 0.6}, "2d9af201c0712ff1"),
        ({"preset": "chat"}, "d9742e96442f4421"),
    ],
)
def test_a_fixed_share_makes_the_texts_it_always_made(keys: dict[str, Any], digest: str) -> None:
    made = load_workload(workload(**keys), 7)
    told_ = "\n".join(joined(turn.prompt) for number in range(3) for turn in made.session(number).turns)
    assert hashlib.sha256(told_.encode()).hexdigest()[:16] == digest


@pytest.mark.parametrize("more", [{}, {"turns": 3, "restart_share": 1}])
def test_shares_are_drawn_for_every_beginning_and_disturb_no_other_draw(more: dict[str, Any]) -> None:
    keys = {"prompt_tokens": {"dist": "lognormal", "mean": 1000}, **more}
    law = {"dist": "uniform", "mean": 0.5, "cv": 0.5}
    sessions = outlines(200, cached_share=law, **keys)
    fixed = outlines(200, cached_share=0.5, **keys)
    assert sessions == outlines(200, cached_share=law, **keys) != outlines(200, seed=2, cached_share=law, **keys)
    assert [contexts(one) for one in sessions] == [contexts(one) for one in fixed]
    begun = [turn.prompt for one in sessions for turn in one.turns]
    shares = [prompt.block_tokens / prompt.tokens for prompt in begun if isinstance(prompt, Made)]
    assert len(shares) == len(begun)
    assert sum(shares) / len(shares) == pytest.approx(0.5, abs=0.05)
    assert min(shares) < 0.1
    assert max(shares) > 0.9


def test_a_constant_law_is_the_number_and_is_kept_as_one() -> None:
    written, bare = ({"workload": {"prompt_tokens": 1000, "cached_share": share}} for share in ({"mean": 0.25}, 0.25))
    one, other = load_config(None, written), load_config(None, bare)
    assert one.hash() == other.hash()
    assert other.model_dump(mode="json")["workload"]["cached_share"] == 0.25
    law = {"dist": "empirical", "values": [0.0, 0.9]}
    kept = load_config(None, {"workload": {"cached_share": law}}).model_dump(mode="json", exclude_defaults=True)
    assert kept == {"workload": {"cached_share": law}}


def test_tools_run_side_by_side_and_their_findings_go_on() -> None:
    (session,) = outlines(1, calls=2, tools=3, tool_time="1s", tool_tokens=50)
    assert [type(step) for step in session.steps] == [TurnOutline, Tool, Tool, Tool, TurnOutline]
    assert [step.after for step in session.steps] == [(), (0,), (0,), (0,), (1, 2, 3)]
    assert session.turns[1].prompt == Made(150)
    assert session.turns[1].context == 0


@pytest.mark.parametrize(("forks", "context"), [(1, 0), (0, NO_CONTEXT)])
def test_subagents_fork_the_conversation_or_begin_one(forks: int, context: int) -> None:
    (session,) = outlines(1, calls=2, tools=2, subagents=1, subagent_calls=2, subagent_forks=forks)
    turns = [(number, step) for number, step in enumerate(session.steps) if isinstance(step, TurnOutline)]
    caller, first, _, second, _, last = (number for number, _ in turns)
    steps = session.steps
    assert steps[first].after == steps[second].after == (caller,)
    assert {step.context for number, step in turns if number in {first, second}} == {context}
    assert set(steps[last].after) == {number for number, _ in turns} - {caller, first, second, last}
    assert turns[-1][1].context == caller


def test_a_restart_shares_no_more_than_the_beginning() -> None:
    sessions = outlines(1, turns=3, restart_share=1, prompt_tokens=1000, cached_share=0.25)
    assert [turn.context for turn in sessions[0].turns] == [NO_CONTEXT] * 3
    assert [turn.after for turn in sessions[0].turns] == [(), (0,), (1,)]


def test_no_conversation_grows_beyond_its_bound() -> None:
    for session in outlines(30, turns=20, prompt_tokens=3000, output_tokens=100, max_context_tokens=9_000):
        whole = contexts(session)
        assert max(whole.values()) <= 9_000
        assert sum(turn.context == NO_CONTEXT for turn in session.turns) > 1


LAW = st.fixed_dictionaries(
    {"dist": st.sampled_from(["constant", "geometric", "lognormal"]), "mean": st.integers(1, 6), "max": st.just(12)}
)


@settings(max_examples=50, deadline=None)
@given(
    laws=st.fixed_dictionaries(dict.fromkeys(("turns", "calls", "tools", "subagent_calls", "prompt_tokens", "tool_tokens"), LAW)),
    shares=st.fixed_dictionaries({key: st.floats(0, 1) for key in ("subagents", "subagent_forks", "restart_share", "cached_share")}),
    session=st.integers(0, 2**31),
)
def test_every_session_is_a_graph(laws: dict[str, Any], shares: dict[str, float], session: int) -> None:
    outline = load_outlines(workload(**laws, **shares), 1).outline
    told_ = outline(session)
    assert graph_fault(told_.steps) is None
    assert told_ == outline(session)
    # A turn that continues another comes after it, by way of tools or not.
    reached: list[set[int]] = []
    for step in told_.steps:
        reached.append(set(step.after).union(*(reached[before] for before in step.after)))
        if isinstance(step, TurnOutline) and step.context != NO_CONTEXT:
            assert step.context in reached[-1]


def test_no_draw_depends_on_another_session() -> None:
    forwards = outlines(20, preset="agent")
    outline = load_outlines(workload(preset="agent"), 1).outline
    assert [outline(number) for number in reversed(range(20))] == forwards[::-1]
    assert outlines(20, seed=2, preset="agent") != forwards


# --- presets ------------------------------------------------------------------------------------------------------------------------------


def test_chat_is_as_published() -> None:
    found = told(outlines(4000, preset="chat"))
    assert found.prompt_tokens.percentiles[:3] == pytest.approx((6909, 27_367, 85_400), rel=0.15)
    assert found.output_tokens.percentiles[:2] == pytest.approx((350, 597), rel=0.05)
    assert found.cached_share == pytest.approx(0.37, abs=0.02)


def test_code_is_as_published() -> None:
    found = told(outlines(4000, preset="code"))
    assert found.prompt_tokens.percentiles[0] == pytest.approx(1469, rel=0.05)
    assert found.output_tokens.percentiles[0] == pytest.approx(13, abs=1)
    assert found.requests == found.sessions


def test_agent_is_as_published() -> None:
    sessions = outlines(1000, preset="agent")
    found = told(sessions)
    assert found.turns_per_session.mean == pytest.approx(3.95 * 7.83, rel=0.05)
    assert found.prompt_tokens.mean == pytest.approx(67_800, rel=0.05)
    assert found.output_tokens.mean == pytest.approx(527, rel=0.05)
    assert found.cached_share == pytest.approx(0.857, abs=0.015)
    assert found.tool_s is not None
    assert found.tool_s.cv > 2
    assert found.branching_share > 0.5
    forks = [session for session in sessions if len({turn.context for turn in session.turns}) < len(session.turns)]
    assert forks


def test_the_texts_of_an_agent_are_exact() -> None:
    session = load_workload(workload(preset="agent"), 1).session(2)
    count = load_prompts().count_tokens
    for turn in session.turns:
        assert count(joined(turn.prompt)) == turn.prompt_tokens
        assert turn.answer is None or count(joined(turn.answer)) == turn.output_tokens


def test_what_is_given_beside_a_preset_comes_first() -> None:
    settings_ = load_config(None, {"workload": {"preset": "agent", "output_tokens": 5}}).workload
    session = load_outlines(settings_, 1).outline(0)
    assert {turn.output_tokens for turn in session.turns} == {5}
    assert len(session.turns) > 1


@pytest.mark.parametrize("preset", PRESETS)
def test_presets_are_valid_workloads(preset: str) -> None:
    assert set(PRESETS[preset]) <= set(load_config(None, {"workload": PRESETS[preset]}).workload.model_dump(by_alias=True))
    assert set(PRESETS) == set(config.Workload.model_fields["preset"].annotation.__args__[0].__args__)  # type: ignore[union-attr]


def test_a_preset_and_a_trace_exclude_each_other() -> None:
    with pytest.raises(ConfigError, match=r"workload\.preset and workload\.trace exclude each other"):
        load_outlines(workload(preset="chat", trace="x.jsonl"), 1)


def test_a_law_that_cannot_be_meant_is_named() -> None:
    with pytest.raises(ConfigError, match=r"workload\.turns\.mean must lie between min and max"):
        load_outlines(workload(turns={"mean": 5, "max": 3}), 1)
    with pytest.raises(ConfigError, match=r"workload\.cached_share\.cv must be at most 0\.577 for dist uniform"):
        load_outlines(workload(cached_share={"dist": "uniform", "mean": 0.5, "cv": 0.9}), 1)
