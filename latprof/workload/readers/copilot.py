"""Reads the GitHub Copilot coding agent traces of 2026 (CC-BY): sessions of an agent with its calls and tools, one session a line or an array.

    {"session_id": "...", "turns": [{"llm_calls": [{"timestamp": "...", "duration_ms": 5210, "tokens": {"prompt": 48211, "completion": 310,
      "cached": 47616}}, ...], "tool_batches": [{"duration_ms": 830, "function_calls": [{"name": "grep", "duration_ms": 812}, ...]}, ...]}, ...]}

The i-th tool batch of a turn follows its i-th call: its functions run side by side, and the next call waits for all of them. What else passed
before a call began is its think time. A prompt longer than all that was said before continues the conversation; any other begins anew, with its
``cached`` tokens shared with every other beginning: the system prompt and the tools.
"""

from __future__ import annotations

from pathlib import Path

from latprof.units import NS_PER_MS
from latprof.workload.outline import Made, Outline, StepOutline, Trace, TurnOutline, continuing, in_order
from latprof.workload.sessions import NO_CONTEXT, Tool
from latprof.workload.trace import Value, item, items, span_ns, tokens, unix_ns, values

_BEGINNING = "copilot"


def read_copilot(file: Path, window_ns: int | None = None) -> Trace:
    """The sessions of ``file`` that start less than ``window_ns`` after the first of them, each whole.

    Raises:
        ConfigError: the file cannot be read, or a session of it (named by line) is not what the format says.
    """
    told = (_Telling(value).outline() for value in values(file))
    return in_order([outline for outline in told if outline.steps], window_ns=window_ns)


class _Telling:
    """One session being told: the steps so far, and where the trace's clock stands."""

    def __init__(self, value: Value) -> None:
        self._value = value
        self._steps: list[StepOutline] = []
        self._after: tuple[int, ...] = ()
        self._said_tokens = 0
        self._last_call = NO_CONTEXT
        self._start_ns = 0
        self._free_ns = 0

    def outline(self) -> Outline:
        item(self._value, "turns", list, "a list of turns")
        for turn in items(self._value, "turns"):
            calls, batches = items(turn, "llm_calls"), items(turn, "tool_batches")
            for i in range(max(len(calls), len(batches))):
                if i < len(calls):
                    self._call(calls[i])
                # Tools that no call of the session asked for tell nothing about its calls.
                if i < len(batches) and self._steps:
                    self._batch(batches[i])
        return Outline(self._start_ns, tuple(self._steps), str(self._value.fields.get("session_id", self._value.fields.get("id", ""))))

    def _call(self, call: Value) -> None:
        counted = Value(call.where, item(call, "tokens", dict, "an object with prompt and completion"))
        prompt_tokens = tokens(call.where, "tokens.prompt", counted.fields.get("prompt"), at_least=1)
        output_tokens = max(1, tokens(call.where, "tokens.completion", counted.fields.get("completion")))
        cached_tokens = tokens(call.where, "tokens.cached", counted.fields.get("cached") or 0)
        now_ns = unix_ns(call.where, "timestamp", call.fields.get("timestamp"))
        if not self._steps:
            self._start_ns = self._free_ns = now_ns
        new_tokens = continuing(self._said_tokens, prompt_tokens) if self._steps else None
        shared = min(cached_tokens, prompt_tokens)
        beginning = Made(prompt_tokens, (_BEGINNING,), shared) if shared else Made(prompt_tokens)
        think_ns = max(0, now_ns - self._free_ns)
        self._steps.append(
            TurnOutline(beginning, output_tokens, think_ns, self._after)
            if new_tokens is None
            else TurnOutline(Made(new_tokens), output_tokens, think_ns, self._after, self._last_call)
        )
        self._last_call = len(self._steps) - 1
        self._after = (self._last_call,)
        self._said_tokens = prompt_tokens + output_tokens
        self._free_ns = max(now_ns, self._free_ns) + _duration_ns(call)

    def _batch(self, batch: Value) -> None:
        functions = [(str(one.fields.get("name", "tool")), _duration_ns(one)) for one in items(batch, "function_calls")]
        took_ns = _duration_ns(batch) if batch.fields.get("duration_ms") is not None else 0
        if not functions:
            functions = [("tool", took_ns)]
        first = len(self._steps)
        self._steps += [Tool(name, takes_ns, self._after) for name, takes_ns in functions]
        self._after = tuple(range(first, len(self._steps)))
        self._free_ns += max(takes_ns for _, takes_ns in functions)


def _duration_ns(value: Value) -> int:
    return span_ns(value.where, "duration_ms", value.fields.get("duration_ms") or 0, NS_PER_MS)
