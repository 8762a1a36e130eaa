"""From plan to what the simulator plays: a phase's sessions one by one, when they are asked for, so that a million of them need no memory."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from latprof.schedule.plan import OnDemand, Phase, Plan, Scheduled
from latprof.stub.virtual.call import VirtualPhase, VirtualSession, VirtualTool, VirtualTurn
from latprof.workload.bare import Bare, Naming, bare_session
from latprof.workload.load import Outlines, lap_of
from latprof.workload.outline import Outline, TurnOutline
from latprof.workload.sessions import NO_CONTEXT, Session, Tool

Began = Callable[[str, Session], None]
"""Told of every session with several steps, and of the phase its rows are of, before it begins."""


@dataclass(frozen=True, slots=True)
class Source:
    """Where the sessions of a workload come from, by number."""

    outlines: Outlines
    naming: Naming

    def outline(self, number: int) -> Outline:
        """The session, without texts."""
        return self.outlines.outline(number)

    def steps(self, outline: Outline, number: int) -> tuple[VirtualTurn | VirtualTool, ...]:
        """Its steps as the simulator takes them."""
        lap, steps = lap_of(self.outlines, number), outline.steps
        if len(steps) == 1 and isinstance(steps[0], TurnOutline):
            return (self._turn(steps[0], self.naming.only_turn(steps[0], number, lap)),)
        sent = self.naming.turns(outline, number, lap)
        return tuple(
            VirtualTool(step.takes_ns, step.after) if isinstance(step, Tool) else self._turn(step, sent[index])
            for index, step in enumerate(outline.steps)
        )

    def _turn(self, step: TurnOutline, asked: Bare) -> VirtualTurn:
        message_tokens, prompt_tokens, blocks, lone_blocks = asked
        output_tokens = self.naming.output_tokens(step) or 1  # a recorded answer can be empty
        # A turn needs the answer that it continues, whatever else it comes after.
        before = step.after if step.context == NO_CONTEXT else (*step.after, step.context)
        return VirtualTurn(
            prompt_tokens, blocks, output_tokens, step.think_ns, before, step.at_ns, message_tokens, step.context, lone_blocks
        )


def phase_names(plan: Plan) -> tuple[str, ...]:
    """What the plan's rows are called, each once: what `VirtualSession.phase` counts."""
    return tuple(dict.fromkeys(name for phase in plan.phases for name in _names(phase)))


def _names(phase: Phase) -> Sequence[str]:
    return [part.name for part in phase.parts] or [phase.name]


def virtual_phases(plan: Plan, source: Source, began: Began) -> list[VirtualPhase]:
    """The plan's phases for the simulator."""
    names = phase_names(plan)
    return [
        VirtualPhase(_sessions(phase, source, names, began), phase.concurrency, phase.max_concurrency, phase.duration_ns)
        for phase in plan.phases
    ]


def _sessions(phase: Phase, source: Source, names: Sequence[str], began: Began) -> Iterator[VirtualSession]:
    for number, offset_ns, name in _starts(phase):
        outline = source.outline(number)
        if len(outline.steps) > 1:
            began(name, bare_session(source.naming, outline, number))
        yield VirtualSession(number, offset_ns, source.steps(outline, number), names.index(name))


def _starts(phase: Phase) -> Iterator[tuple[int, int | None, str]]:
    """Number, offset and name of every session; none of them is made for it."""
    planned = phase.planned
    if isinstance(planned, Scheduled):
        for index, number in enumerate(planned.numbers):
            yield number, planned.offsets_ns[index], planned.names[index] if planned.names else phase.name
    elif isinstance(planned, OnDemand):
        for number in planned.numbers:
            yield number, None, phase.name
    else:
        for one in planned:
            yield one.session.session, one.offset_ns, one.phase or phase.name
