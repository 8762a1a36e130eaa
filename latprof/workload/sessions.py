"""The nouns of a workload: a session is a conversation or an agent task, a turn one exchange in it."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Turn:
    """One exchange: what is sent and how much answer is asked for.

    ``prompt`` is the text of the user message; ``prompt_tokens`` its exact length under the run's tokenizer, without any chat template.
    ``think_ns`` lies between the end of the turn before and the intended start of this one.
    """

    prompt: str
    prompt_tokens: int
    output_tokens: int
    think_ns: int = 0


@dataclass(frozen=True, slots=True)
class Session:
    """Turns in order, under an id that keys every random draw made for them."""

    session: int
    turns: tuple[Turn, ...]


@dataclass(frozen=True, slots=True)
class Workload:
    """Sessions, and when a trace was replayed its own start offsets (ns from its first row, time scale applied)."""

    sessions: tuple[Session, ...]
    trace_offsets_ns: tuple[int, ...] | None = None
