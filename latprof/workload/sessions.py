"""The nouns of a workload: a session is a conversation or an agent task, a turn one exchange in it, a tool a step of the client between turns.

A session is a graph. Steps are numbered in an order in which they could run: a step only looks back.

    after      which steps must have ended before this one is due           (branches: several steps after one; join: one step after several)
    context    the turn whose conversation a turn continues                  (fork: several turns with the same context)

        0 turn ── 1 tool ── 3 turn          3.after = (1, 2), 3.context = 0
             └─── 2 tool ──┘
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Literal, NamedTuple

Text = str | tuple[str, ...]
"""Text, or pieces of it that follow each other without anything between: shared pieces are held, escaped and encoded once."""

Role = Literal["system", "user", "assistant", "tool"]

NO_CONTEXT = -1
"""A turn that begins a conversation."""

Answers = Mapping[int, str]
"""Step number of a turn -> the text its real answer had."""

NO_ANSWERS: Answers = {}


class Message(NamedTuple):
    """One message of a conversation."""

    role: Role
    text: Text


@dataclass(frozen=True, slots=True)
class Turn:
    """One exchange: what is sent and how much answer is asked for.

    ``prompt`` is the text of the new message; ``prompt_tokens`` its exact length under the run's tokenizer, without any chat template and without
    the context. ``answer`` stands for this turn's answer in the turns that continue it; None takes the answer that really came. The turn is
    due ``think_ns`` after the last of ``after`` has ended (the session's start where there is none), and not before ``at_ns`` (None: no such
    bound) from the session's start.
    """

    prompt: Text
    prompt_tokens: int
    output_tokens: int
    think_ns: int = 0
    after: tuple[int, ...] = ()
    context: int = NO_CONTEXT
    system: Text = ""
    answer: Text | None = None
    role: Role = "user"
    at_ns: int | None = None


@dataclass(frozen=True, slots=True)
class Tool:
    """A step of the client: it takes ``takes_ns`` from the end of the last of ``after``."""

    name: str
    takes_ns: int
    after: tuple[int, ...] = ()


Step = Turn | Tool


@dataclass(frozen=True, slots=True)
class Session:
    """Steps under an id that keys every random draw made for them."""

    session: int
    steps: tuple[Step, ...]

    @property
    def turns(self) -> tuple[Turn, ...]:
        """The turns alone, in order."""
        return tuple(step for step in self.steps if isinstance(step, Turn))

    @property
    def is_planned(self) -> bool:
        """Whether every request can be written before the run: no turn continues an answer that has yet to come."""
        continued = {step.context for step in self.steps if isinstance(step, Turn)} - {NO_CONTEXT}
        return all(step.answer is not None for number, step in enumerate(self.steps) if number in continued and isinstance(step, Turn))


@dataclass(frozen=True, slots=True)
class Workload:
    """Sessions by number, made when asked for: how many are needed is the schedule's to say, and no draw depends on it.

    ``trace_offsets_ns`` are the start offsets of a replayed trace, session 0 first: ns from its first row, time scale applied. ``is_ahead``: a
    plan makes its sessions before the run, as far as it knows which will go; else each when it is looked at.
    """

    session: Callable[[int], Session]
    trace_offsets_ns: tuple[int, ...] | None = None
    is_ahead: bool = True


def chain(session: int, turns: tuple[Turn, ...]) -> Session:
    """A plain conversation: each turn follows the one before and continues it."""
    return Session(session, tuple(turn if i == 0 else replace(turn, after=(i - 1,), context=i - 1) for i, turn in enumerate(turns)))


def new_messages(session: Session, step: int) -> tuple[Message, ...]:
    """What turn ``step`` adds to the conversation that it continues: its system text, if any, and its message."""
    turn = turn_of(session, step)
    system = (Message("system", turn.system),) if turn.system else ()
    return (*system, Message(turn.role, turn.prompt))


def messages(session: Session, step: int, answers: Answers = NO_ANSWERS) -> tuple[Message, ...]:
    """The whole conversation that turn ``step`` sends: its context from the beginning, answers in their places, and its own message.

    Raises:
        KeyError: the answer of a turn in its context is not planned and not among ``answers``.
    """
    path = [step]
    while (context := turn_of(session, path[-1]).context) != NO_CONTEXT:
        path.append(context)
    told: list[Message] = []
    for number in reversed(path):
        told += new_messages(session, number)
        if number != step:
            planned = turn_of(session, number).answer
            told.append(Message("assistant", answers[number] if planned is None else planned))
    return tuple(told)


def sent_tokens(session: Session) -> dict[int, int]:
    """Step number of each turn -> the tokens of all that it sends: its context with the answers as long as asked for, and its message."""
    sent: dict[int, int] = {}
    for number, step in enumerate(session.steps):
        if isinstance(step, Turn):
            context = 0 if step.context == NO_CONTEXT else sent[step.context] + turn_of(session, step.context).output_tokens
            sent[number] = context + step.prompt_tokens
    return sent


def joined(text: Text) -> str:
    """The text in one piece."""
    return text if isinstance(text, str) else "".join(text)


def turn_of(session: Session, step: int) -> Turn:
    """Step ``step``, which is a turn.

    Raises:
        TypeError: it is a tool.
    """
    found = session.steps[step]
    if not isinstance(found, Turn):
        raise TypeError(f"step {step} of session {session.session} is a tool, wanted a turn")
    return found
