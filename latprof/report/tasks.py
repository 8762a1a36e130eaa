"""What the report says of agent tasks beside their budget."""

from __future__ import annotations

import math
from collections.abc import Iterator

from latprof.report.values import TaskFigures
from latprof.units import NS_PER_MS

_REASONS = {
    "failed": "in which a turn failed",
    "cut": "that the end of the run cut short",
    "untold": "whose graph or layers nothing tells",
}
_FEW = 3


def sentences(tasks: TaskFigures) -> Iterator[str]:
    """How many there were, what they are made of, and what they hid."""
    yield f"{tasks.complete} {'task' if tasks.complete == 1 else 'tasks'} came to an end{_incomplete(tasks)}"
    if not tasks.complete:
        return
    path = "" if math.isclose(tasks.turns, tasks.turns_on_path) else f" ({tasks.turns_on_path:.3g} of them on the path)"
    yield f"{tasks.turns:.3g} calls{path} in {tasks.steps:.3g} steps each; the client cost {_ms(tasks.client_ns)} ms a turn"
    most = sorted(tasks.hidden_ns.items(), key=lambda item: -item[1])
    if most:
        told = ", ".join(f"{name} {_ms(ns)} ms" for name, ns in most[:_FEW])
        more = f" and {len(most) - _FEW} more" if len(most) > _FEW else ""
        yield f"hidden beside the path, a task: {told}{more}"


def _incomplete(tasks: TaskFigures) -> str:
    if not tasks.incomplete:
        return ""
    told = ", ".join(f"{number} {_REASONS[reason]}" for reason, number in sorted(tasks.incomplete.items()))
    return f", not counted: {told}"


def _ms(value_ns: float) -> str:
    value = value_ns / NS_PER_MS
    return "-" if math.isnan(value) else f"{value:.2f}" if value < 1_000 else f"{value:.0f}"
