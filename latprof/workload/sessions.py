"""The nouns of a workload: a session is a conversation or an agent task, a turn one exchange in it."""

from __future__ import annotations

from collections.abc import Callable
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
    """Sessions by number, made when asked for: how many are needed is the schedule's to say, and no draw depends on it.

    ``trace_offsets_ns`` are the start offsets of a replayed trace, session 0 first: ns from its first row, time scale applied.
    """

    session: Callable[[int], Session]
    trace_offsets_ns: tuple[int, ...] | None = None
