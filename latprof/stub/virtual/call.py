"""One request on its way through the stack in virtual time, and what is asked of the stack: sessions without a word of text."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, NamedTuple

from latprof.stub.models.draws import Key

NO_POOL = -1
"""Where a call's tokens are not told by a pool's iterations but one by one."""


NO_CONTEXT = -1
"""Of a turn that begins a conversation."""


class VirtualTurn(NamedTuple):
    """One exchange: ``prompt_tokens`` are all that is sent, context included; ``blocks`` the names of its full prefix-cache blocks.

    ``before`` are the steps that must have ended, those whose answer it continues included; then it is due after ``think_ns``, and not before
    ``at_ns`` from the session's start (None: no such bound).
    """

    prompt_tokens: int
    blocks: tuple[int, ...]
    output_tokens: int
    think_ns: int = 0
    before: tuple[int, ...] = ()
    at_ns: int | None = None
    message_tokens: int = 0
    """Of the prompt, what is new in this turn."""
    context: int = NO_CONTEXT
    """The turn whose conversation it continues."""
    lone_blocks: int = 0
    """Of the prompt, full blocks behind ``blocks`` that no other prompt has: they need no names."""


class VirtualTool(NamedTuple):
    """A step of the client: it takes ``takes_ns`` from the end of the last of ``before``."""

    takes_ns: int
    before: tuple[int, ...] = ()


class VirtualSession(NamedTuple):
    """Steps that only look back, under the number that keys every draw; ``offset_ns`` from its phase's start (None in a closed loop)."""

    session: int
    offset_ns: int | None
    steps: tuple[VirtualTurn | VirtualTool, ...]
    phase: int = 0
    """The number of the name that its rows have."""


@dataclass(frozen=True)
class VirtualPhase:
    """What is driven in one go: an open loop whose sessions come in order of their offsets, or ``concurrency`` places that take the next one."""

    sessions: Iterable[VirtualSession]
    concurrency: int | None = None
    max_concurrency: int | None = None
    duration_ns: int | None = None


class Call:
    """A request: what was asked, and the stamps it collects. ``marks`` are wait and service of every layer it went through, in path order.

    ``engine_first_ns`` and ``engine_last_ns`` are when the engine made the first and last token; ``first_token_ns`` and ``last_token_ns`` when
    they reached the client; ``since_ns`` when the stage it is in got it. Its gaps are those of iterations ``joined`` up to ``ended`` (exclusive) of ``pool``, unless ``own`` segments
    (start, step, count) of chunks at the client tell otherwise.
    """

    __slots__ = (
        "accepted_ns",
        "blocks",
        "cached_tokens",
        "chunks",
        "client",
        "ended",
        "engine_first_ns",
        "engine_last_ns",
        "first_token_ns",
        "intended_ns",
        "joined",
        "key",
        "last_token_ns",
        "lone_blocks",
        "marks",
        "message_tokens",
        "number",
        "output_tokens",
        "own",
        "phase",
        "pool",
        "prompt_tokens",
        "replica",
        "since_ns",
        "start_ns",
        "step",
    )

    def __init__(self, key: Key, step: int, turn: VirtualTurn, phase: int, intended_ns: int, client: Any) -> None:
        self.key, self.step, self.phase = key, step, phase
        self.prompt_tokens, self.blocks, self.output_tokens = turn.prompt_tokens, turn.blocks, turn.output_tokens
        self.message_tokens, self.lone_blocks = turn.message_tokens, turn.lone_blocks
        self.chunks = turn.output_tokens
        self.intended_ns, self.client = intended_ns, client
        self.marks: list[int] = []
        self.cached_tokens = 0
        self.own: list[tuple[int, int, int]] | None = None
        # What it meets on its way is set there.
        self.number: int
        self.start_ns: int
        self.since_ns: int
        self.accepted_ns: int
        self.replica: int  # of the pool that it is in
        self.engine_first_ns: int
        self.engine_last_ns: int
        self.first_token_ns: int
        self.last_token_ns: int
        self.pool: int
        self.joined: int
        self.ended: int


Then = Callable[[int, Call], None]
"""Where a call goes next, and when."""
