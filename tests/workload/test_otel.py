from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from outlines import graph, lengths, lines

from latprof.errors import ConfigError
from latprof.units import NS_PER_MS
from latprof.workload.formats import guessed
from latprof.workload.outline import Made, TurnOutline, graph_fault
from latprof.workload.readers.otel import _after, _Span, read_otel
from latprof.workload.sessions import Tool

CLIENT, SERVER = 3, 2


def span(
    name: str, begin_ms: float, end_ms: float, trace: str = "t1", parent: str = "", kind: object = CLIENT, **said: Any
) -> dict[str, Any]:
    def held(value: object) -> dict[str, Any]:
        return {"intValue": str(value)} if isinstance(value, int) else {"stringValue": value}

    attributes = [{"key": f"gen_ai.{key.replace('__', '.')}", "value": held(value)} for key, value in said.items()]
    return {
        "traceId": trace, "spanId": name, "parentSpanId": parent, "name": name, "kind": kind, "attributes": attributes,
        "startTimeUnixNano": str(round((1_000_000 + begin_ms) * NS_PER_MS)), "endTimeUnixNano": str(round((1_000_000 + end_ms) * NS_PER_MS)),
    }  # fmt: skip


def chat(name: str, begin_ms: float, end_ms: float, prompt: int, output: int, **more: Any) -> dict[str, Any]:
    usage: dict[str, Any] = {"usage__input_tokens": prompt, "usage__output_tokens": output}
    return span(name, begin_ms, end_ms, operation__name="chat", **usage, **more)


def tool(name: str, begin_ms: float, end_ms: float, **more: Any) -> dict[str, Any]:
    return span(name, begin_ms, end_ms, kind=1, operation__name="execute_tool", tool__name=name, **more)


def export(*spans: dict[str, Any]) -> dict[str, Any]:
    return {"resourceSpans": [{"resource": {"attributes": []}, "scopeSpans": [{"scope": {"name": "s"}, "spans": list(spans)}]}]}


def test_an_agent_task_becomes_a_graph(tmp_path: Path) -> None:
    agent = span("agent", 0, 5000, kind=1, operation__name="invoke_agent")
    one = export(agent, tool("grep", 1100, 1400, parent="agent"), chat("first", 0, 1000, 900, 40, parent="agent"))
    two = export(tool("read", 1150, 3000, parent="agent"), chat("second", 3200, 4000, 3000, 60, parent="agent"))
    file = lines(tmp_path, one, two)
    assert guessed(file) == "otel"
    (session,) = read_otel(file).sessions
    assert graph(session) == [("turn", (), -1), ("grep", (0,), None), ("read", (0,), None), ("turn", (1, 2), 0)]
    assert lengths(session) == [(900, 40), (3000 - 940, 60)]
    # What passed before a tool began is part of it.
    assert [step.takes_ns // NS_PER_MS for step in session.steps if isinstance(step, Tool)] == [400, 2000]
    assert session.turns[1].think_ns == 200 * NS_PER_MS


def test_a_conversation_id_joins_traces(tmp_path: Path) -> None:
    said = {"conversation__id": "c"}
    file = lines(
        tmp_path,
        export(
            chat("a", 0, 100, 50, 10, trace="t1", **said),
            chat("b", 5000, 5100, 80, 10, trace="t2", **said),
            chat("c", 50, 60, 7, 1, trace="t3"),
        ),
    )
    one, other = read_otel(file).sessions
    assert (one.name, lengths(one), one.turns[1].think_ns) == ("c", [(50, 10), (20, 10)], 4900 * NS_PER_MS)
    assert (other.name, other.offset_ns) == ("t3", 50 * NS_PER_MS)


def test_calls_side_by_side_fork_the_conversation(tmp_path: Path) -> None:
    file = lines(
        tmp_path, export(chat("a", 0, 10, 100, 10), chat("b", 20, 90, 150, 5), chat("c", 21, 80, 170, 5), chat("d", 100, 110, 300, 5))
    )
    (session,) = read_otel(file).sessions
    assert graph(session) == [("turn", (), -1), ("turn", (0,), 0), ("turn", (0,), 0), ("turn", (1, 2), 2)]
    assert lengths(session) == [(100, 10), (40, 5), (60, 5), (125, 5)]


def test_the_same_call_told_twice_counts_once_and_servers_do_not(tmp_path: Path) -> None:
    outer = chat("outer", 0, 100, 50, 5)
    layer = span("http", 5, 95, parent="outer")
    inner = chat("inner", 10, 90, 50, 5, parent="http")
    server = chat("server", 20, 80, 50, 5, parent="inner", kind=SERVER)
    named = chat("named", 200, 210, 90, 5, kind="SPAN_KIND_CLIENT")
    (session,) = read_otel(lines(tmp_path, export(inner, layer, outer, server, named))).sessions
    assert lengths(session) == [(50, 5), (35, 5)]


def test_a_tool_that_is_an_agent_is_told_by_its_calls(tmp_path: Path) -> None:
    file = lines(
        tmp_path,
        export(
            chat("a", 0, 10, 100, 10), tool("helper", 10, 95), span("loop", 12, 90, parent="helper"), chat("b", 20, 50, 30, 5, parent="loop"),
            tool("ls", 50, 55, parent="loop"), chat("c", 60, 80, 60, 5, parent="loop"), chat("d", 100, 110, 150, 5),
        ),
    )  # fmt: skip
    (session,) = read_otel(file).sessions
    assert graph(session) == [("turn", (), -1), ("turn", (0,), -1), ("ls", (1,), None), ("turn", (2,), 1), ("turn", (3,), 0)]
    assert session.turns[-1].think_ns == 20 * NS_PER_MS


def test_calls_without_usage_are_left_out(tmp_path: Path) -> None:
    failed = span("failed", 0, 10, operation__name="chat")
    (session,) = read_otel(lines(tmp_path, export(failed, chat("a", 20, 30, 5, 1)))).sessions
    assert len(session.turns) == 1
    with pytest.raises(ConfigError, match=r":1: no client span with gen_ai\.operation\.name .* and usage was found"):
        read_otel(lines(tmp_path, export(failed)))


def test_one_document_over_many_lines(tmp_path: Path) -> None:
    file = tmp_path / "export.json"
    file.write_text(json.dumps(export(chat("a", 0, 10, 5, 1)), indent=1))
    assert guessed(file) == "otel"
    assert len(read_otel(file).sessions) == 1


def test_a_bad_span_is_named_with_its_line(tmp_path: Path) -> None:
    bad = chat("b", 0, 1, 5, 1) | {"endTimeUnixNano": "soon"}
    with pytest.raises(ConfigError, match=r"trace\.jsonl:2: endTimeUnixNano must be a number of ns, got 'soon'"):
        read_otel(lines(tmp_path, export(chat("a", 0, 10, 5, 1)), export(bad)))
    with pytest.raises(ConfigError, match=r"trace\.jsonl:1: resourceSpans must be a list, got '5'"):
        read_otel(lines(tmp_path, {"resourceSpans": 5}))


SPANS = st.lists(
    st.tuples(st.integers(0, 30), st.integers(0, 10), st.booleans(), st.integers(1, 500), st.integers(1, 50)), min_size=1, max_size=12
)


@settings(deadline=None)
@given(SPANS)
def test_a_step_comes_after_all_that_had_ended_and_names_no_more_than_needed(drawn: list[tuple[int, int, bool, int, int]]) -> None:
    spans = sorted(
        _Span(begin, begin + lasting, "t" if is_tool else "", prompt, output) for begin, lasting, is_tool, prompt, output in drawn
    )
    reached: list[set[int]] = []
    for number, one in enumerate(spans):
        after = _after(spans, number)
        reached.append(set(after).union(*(reached[before] for before in after)))
        ended = {before for before in range(number) if spans[before].end_ns <= one.start_ns}
        assert reached[number] == ended
        assert not any(before in reached[other] for before in after for other in after)


@settings(deadline=None)
@given(SPANS)
def test_whole_prompts_are_as_the_spans_say(drawn: list[tuple[int, int, bool, int, int]]) -> None:
    from latprof.workload.readers.otel import _outline

    spans = sorted(
        _Span(begin, begin + lasting, "t" if is_tool else "", prompt, output) for begin, lasting, is_tool, prompt, output in drawn
    )
    steps = _outline("s", spans).steps
    whole: dict[int, int] = {-1: 0}
    for number, step in enumerate(steps):
        if isinstance(step, TurnOutline):
            assert isinstance(step.prompt, Made)
            assert step.prompt.tokens >= 1
            assert whole[step.context] + step.prompt.tokens == spans[number].prompt_tokens
            whole[number] = spans[number].prompt_tokens + spans[number].output_tokens
    assert graph_fault(steps) in {None, "a session needs at least one turn"}
