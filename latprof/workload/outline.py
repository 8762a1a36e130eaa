"""A session before its text is made: its graph, its times and its lengths, and the text itself where a trace has it.

Readers and synthetic workloads make outlines; `writing` turns one into a session for one tokenizer. Outlines are small: what a workload is can be
told, and written to a file, without a word of text. A simulation draws them by the million: a tuple takes a quarter of the time that a frozen
class takes to make.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

from latprof.workload.sessions import NO_CONTEXT, Role, Tool

BlockId = int | str
"""The name of a block of text. Equal ids are equal text in the whole workload."""


@dataclass(frozen=True, slots=True)
class Made:
    """A text to be made, of exactly ``tokens`` tokens (>= 1).

    It begins with ``blocks``, of ``block_tokens`` tokens each (the last may be cut to fit), which it shares with every text that names them;
    what follows them is the session's own. A block cut short is the beginning of the whole one.
    """

    tokens: int
    blocks: tuple[BlockId, ...] = ()
    block_tokens: int = 0

    @property
    def shared_tokens(self) -> int:
        """How many of its tokens the blocks make up."""
        return min(self.tokens, len(self.blocks) * self.block_tokens)


Told = str | Made
"""A text as it was told: recorded, or to be made."""


class TurnOutline(NamedTuple):
    """One exchange, as `latprof.workload.sessions.Turn` has it; ``prompt`` is the new message alone.

    ``output_tokens`` None: as long as the recorded answer. ``answer`` None: a planned one of ``output_tokens`` is made.
    """

    prompt: Told
    output_tokens: int | None
    think_ns: int = 0
    after: tuple[int, ...] = ()
    context: int = NO_CONTEXT
    system: Told | None = None
    answer: Told | None = None
    role: Role = "user"
    at_ns: int | None = None


StepOutline = TurnOutline | Tool


class Outline(NamedTuple):
    """One session: its start, ns from the start of its workload, and its steps. ``name`` is what its trace calls it."""

    offset_ns: int
    steps: tuple[StepOutline, ...]
    name: str = ""

    @property
    def turns(self) -> tuple[TurnOutline, ...]:
        """The turns alone, in order."""
        return tuple(step for step in self.steps if isinstance(step, TurnOutline))


@dataclass(frozen=True, slots=True)
class Trace:
    """The sessions of a file in order of their starts, the first at 0. ``is_timed``: the file says when they start."""

    sessions: tuple[Outline, ...]
    is_timed: bool = True

    @property
    def offsets_ns(self) -> tuple[int, ...]:
        """When each session starts, unscaled."""
        return tuple(session.offset_ns for session in self.sessions)


def one_turn(offset_ns: int, prompt: Told, output_tokens: int, name: str = "") -> Outline:
    """A session of one exchange."""
    return Outline(offset_ns, (TurnOutline(prompt, output_tokens),), name)


def in_order(sessions: Sequence[Outline], *, window_ns: int | None = None, is_timed: bool = True) -> Trace:
    """The trace of sessions that came in any order and with any zero; those that start ``window_ns`` after the first, or later, are left out."""
    ordered = sorted(sessions, key=lambda session: session.offset_ns)
    first_ns = ordered[0].offset_ns if ordered else 0
    shifted = (session._replace(offset_ns=session.offset_ns - first_ns) for session in ordered)
    return Trace(tuple(session for session in shifted if window_ns is None or session.offset_ns < window_ns), is_timed)


def scaled(session: Outline, time_scale: float) -> Outline:
    """Every time of the session divided by ``time_scale``: starts, bounds, think times and tools alike, so that only the stack keeps its pace."""
    if time_scale == 1:
        return session

    def sooner(step: StepOutline) -> StepOutline:
        if isinstance(step, Tool):
            return replace(step, takes_ns=round(step.takes_ns / time_scale))
        at_ns = None if step.at_ns is None else round(step.at_ns / time_scale)
        return step._replace(think_ns=round(step.think_ns / time_scale), at_ns=at_ns)

    return Outline(round(session.offset_ns / time_scale), tuple(map(sooner, session.steps)), session.name)


def continuing(context_tokens: int, prompt_tokens: int) -> int | None:
    """How long the new message is when a whole prompt of ``prompt_tokens`` continues a conversation; None where it is too short for that.

    Traces tell whole prompts. One that is longer than all that was said before is taken to continue it; a shorter one (a summary, another
    agent) begins anew.
    """
    return prompt_tokens - context_tokens if prompt_tokens > context_tokens else None


def graph_fault(steps: Sequence[StepOutline]) -> str | None:
    """What keeps ``steps`` from being a session, in words; None where nothing does."""
    if not any(isinstance(step, TurnOutline) for step in steps):
        return "a session needs at least one turn"
    for number, step in enumerate(steps):
        for before in step.after:
            if not 0 <= before < number:
                return f"step {number} comes after step {before}, but a step can only look back; order the steps as they could run"
        if isinstance(step, TurnOutline) and step.context != NO_CONTEXT:
            if not 0 <= step.context < number:
                return f"step {number} continues step {step.context}, but a step can only look back; order the steps as they could run"
            if isinstance(steps[step.context], Tool):
                return f"step {number} continues step {step.context}, which is a tool; a conversation is continued from a turn"
    return None
