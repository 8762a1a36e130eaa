"""Reads OTLP JSON with GenAI spans (the collector's file exporter: one export a line; or one document) and makes session graphs of them.

A session is what shares a `gen_ai.conversation.id`, or a trace where there is none. Client spans of the operations chat, text_completion and
generate_content are turns, execute_tool spans are tools; others are looked through. What had ended when a step began, and nothing after it, is
what the step comes after; the rest of the gap is think time:

    chat ──┐  ┌─ tool ─┐  ┌─ chat        the second chat comes after both tools
           └──┴─ tool ─┴──┘

A tool span with calls inside it is an agent, and its calls stand for it. Lengths come from `gen_ai.usage.*`; the words are made, whatever the spans
may hold of the real ones. A call continues the longest conversation that had ended by then and that its prompt has room for. Calls without usage
(they failed) are left out.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from latprof.errors import ConfigError
from latprof.workload.outline import Made, Outline, StepOutline, Trace, TurnOutline, in_order
from latprof.workload.sessions import NO_CONTEXT, Tool
from latprof.workload.trace import Value, items, span_ns, tokens, values

_TURNS = {"chat", "text_completion", "generate_content"}
_TOOL = "execute_tool"
# A gateway's own span (SERVER) tells of the same call as its client's; UNSPECIFIED is what some exporters write for INTERNAL.
_KINDS = {"0", "1", "3", "SPAN_KIND_UNSPECIFIED", "SPAN_KIND_INTERNAL", "SPAN_KIND_CLIENT"}
_INPUT = ("gen_ai.usage.input_tokens", "gen_ai.usage.prompt_tokens")
_OUTPUT = ("gen_ai.usage.output_tokens", "gen_ai.usage.completion_tokens")


class _Span(NamedTuple):
    """One step as the spans tell it; ``prompt_tokens`` is the whole prompt of a turn, 0 for a tool."""

    start_ns: int
    end_ns: int
    tool: str
    prompt_tokens: int
    output_tokens: int


def read_otel(file: Path, window_ns: int | None = None) -> Trace:
    """The sessions of ``file`` that start less than ``window_ns`` after the first of them, each whole.

    Raises:
        ConfigError: the file cannot be read, a span of it (named by line) is not OTLP, or no span of it is a client's GenAI call.
    """
    spans = [(value.where, span) for value in values(file) for span in _spans(value)]
    of_calls = {_id(span.fields) for _, span in spans if _operation(span) in _TURNS and _is_clients(span.fields)}
    parents = {_id(span.fields): _id(span.fields, "parentSpanId") for _, span in spans}
    around = {call: _ancestors(call, parents) for call in of_calls}
    # A tool that is an agent is told by its own calls.
    of_agents = set().union(*around.values())
    sessions: dict[str, list[_Span]] = {}
    for where, span in spans:
        step, one = _step(where, span), _id(span.fields)
        # A library's span and its HTTP layer's may tell the same call twice: the outer one counts.
        is_told_elsewhere = one in of_agents if step is not None and step.tool else bool(around.get(one, set()) & of_calls)
        if step is not None and not is_told_elsewhere:
            sessions.setdefault(_session(span), []).append(step)
    outlines = [_outline(name, steps) for name, steps in sessions.items() if any(not step.tool for step in steps)]
    if not outlines:
        raise ConfigError(
            f"workload.trace {file}:1: no client span with gen_ai.operation.name {', '.join(sorted(_TURNS))} and usage was found;"
            " export the agent's own spans, with gen_ai.usage.input_tokens and output_tokens"
        )
    return in_order(outlines, window_ns=window_ns)


def _spans(value: Value) -> Iterator[Value]:
    for resource in items(value, "resourceSpans"):
        for scope in items(resource, "scopeSpans"):
            yield from items(scope, "spans")


def _step(where: str, span: Value) -> _Span | None:
    said = _attributes(span)
    operation = said.get("gen_ai.operation.name")
    is_turn = operation in _TURNS and _is_clients(span.fields)
    if not is_turn and operation != _TOOL:
        return None
    start_ns, end_ns = (span_ns(where, key, span.fields.get(key), 1) for key in ("startTimeUnixNano", "endTimeUnixNano"))
    end_ns = max(start_ns, end_ns)
    if not is_turn:
        return _Span(start_ns, end_ns, str(said.get("gen_ai.tool.name") or span.fields.get("name") or "tool"), 0, 0)
    prompt, output = (next((said[key] for key in keys if key in said), None) for keys in (_INPUT, _OUTPUT))
    if not prompt:
        return None
    return _Span(start_ns, end_ns, "", tokens(where, _INPUT[0], prompt, at_least=1), max(1, tokens(where, _OUTPUT[0], output or 0)))


def _attributes(span: Value) -> dict[str, Any]:
    """Attributes by name; 64-bit integers are texts in OTLP JSON."""
    found: dict[str, Any] = {}
    for attribute in items(span, "attributes"):
        held = attribute.fields.get("value")
        single = next(iter(held.values()), None) if isinstance(held, dict) else None
        if isinstance(single, str | int | float):  # lists and maps tell of words, which are not replayed
            found[str(attribute.fields.get("key"))] = single
    return found


def _is_clients(fields: Mapping[str, Any]) -> bool:
    return str(fields.get("kind", 0)) in _KINDS


def _operation(span: Value) -> object:
    return _attributes(span).get("gen_ai.operation.name")


def _session(span: Value) -> str:
    return str(_attributes(span).get("gen_ai.conversation.id") or span.fields.get("traceId"))


def _id(fields: Mapping[str, Any], key: str = "spanId") -> tuple[str, str]:
    return str(fields.get("traceId")), str(fields.get(key))


def _ancestors(span: tuple[str, str], parents: Mapping[tuple[str, str], tuple[str, str]]) -> set[tuple[str, str]]:
    """The spans around ``span``, as far as they were exported."""
    found: set[tuple[str, str]] = set()
    while (span := parents.get(span, ("", ""))) in parents and span not in found:
        found.add(span)
    return found


def _outline(name: str, spans: Sequence[_Span]) -> Outline:
    ordered = sorted(spans)
    start_ns = ordered[0].start_ns
    steps: list[StepOutline] = []
    for number, span in enumerate(ordered):
        after = _after(ordered, number)
        idle_ns = span.start_ns - max((ordered[one].end_ns for one in after), default=start_ns)
        if span.tool:
            # A tool has no think time of its own: what passed before it is part of it.
            steps.append(Tool(span.tool, idle_ns + span.end_ns - span.start_ns, after))
            continue
        context = _context(ordered, number)
        said = 0 if context == NO_CONTEXT else ordered[context].prompt_tokens + ordered[context].output_tokens
        steps.append(TurnOutline(Made(span.prompt_tokens - said), span.output_tokens, idle_ns, after, context))
    return Outline(start_ns, tuple(steps), name)


def _after(ordered: Sequence[_Span], number: int) -> tuple[int, ...]:
    """The steps that had ended when ``number`` began, without those that another of them comes after."""
    began_ns = ordered[number].start_ns
    ended = [one for one in range(number) if ordered[one].end_ns <= began_ns]
    # The last of them to begin came after every one that had ended by then.
    return tuple(one for one in ended if one == ended[-1] or ordered[one].end_ns > ordered[ended[-1]].start_ns)


def _context(ordered: Sequence[_Span], number: int) -> int:
    """The longest conversation that had ended when ``number`` began, and that its prompt is longer than."""
    span = ordered[number]
    fits = [
        (one.prompt_tokens + one.output_tokens, index)
        for index, one in enumerate(ordered[:number])
        if not one.tool and one.end_ns <= span.start_ns and one.prompt_tokens + one.output_tokens < span.prompt_tokens
    ]
    return max(fits, default=(0, NO_CONTEXT))[1]
