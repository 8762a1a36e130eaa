"""Sessions drawn from laws: conversations, and agents with tools, sub-agents and a growing context.

    message of the user ── call ──┬── tool ─────────────────┬── call ── ... ── answer ── think time ── next message
                                  ├── tool ─────────────────┤
                                  └── sub-agent: call ── ... ┘   forks the conversation, or begins one

Every draw is keyed by (seed, session, step, purpose): a session is the same whatever else is drawn, before or after it.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache

from latprof import config
from latprof.config import ServiceTime, ShareLaw, TokenCount
from latprof.workload.draws import chance, check_law, counter, drawn_share, duration_ns, sharer, token_count
from latprof.workload.outline import Made, Outline, StepOutline, TurnOutline
from latprof.workload.presets import PRESETS
from latprof.workload.sessions import NO_CONTEXT, Tool

_SHARED_BEGINNING = "beginning"
LAWS = ("prompt_tokens", "output_tokens", "turns", "reply_tokens", "calls", "tools", "tool_tokens", "subagent_calls")
"""The keys of a workload that hold laws of counts."""


def with_preset(laws: config.Workload) -> config.Workload:
    """``laws`` laid over those of its preset, key by key.

    Raises:
        ConfigError: a law cannot be meant.
    """
    if laws.preset is not None:
        preset = config.Workload.model_validate(PRESETS[laws.preset])
        taken = {key: getattr(preset, key) for key in preset.model_fields_set - laws.model_fields_set}
        laws = laws.model_copy(update=taken)
    for key in (*LAWS, "cached_share"):
        law: TokenCount | ShareLaw | None = getattr(laws, key)
        if law is not None:
            check_law(law, f"workload.{key}")
    return laws


def synthetic(laws: config.Workload, seed: int) -> Callable[[int], Outline]:
    """Sessions by number, drawn from ``laws`` (a preset already laid under them); their starts are the schedule's to say."""
    if _is_one(laws.turns) and _is_one(laws.calls):
        return _single_calls(laws, seed)
    return lambda session: Outline(0, _Drawing(laws, seed, session).steps())


def _is_one(law: TokenCount) -> bool:
    return law.dist == "constant" and token_count(law, 0, 0, 0, "") == 1


def _single_calls(laws: config.Workload, seed: int) -> Callable[[int], Outline]:
    """Sessions of one call: as `_Drawing` has them, at a third of the time. Most workloads are such, and a simulation draws them by the million."""
    prompt_tokens, output_tokens = counter(laws.prompt_tokens, "prompt_tokens"), counter(laws.output_tokens, "output_tokens")
    cached_share, most_tokens = sharer(laws.cached_share, "cached_share"), laws.max_context_tokens

    def outline(session: int) -> Outline:
        asked = _beginning(min(prompt_tokens(seed, session, 0), most_tokens), cached_share(seed, session, 0))
        return Outline(0, (TurnOutline(asked, output_tokens(seed, session, 0)),))

    return outline


@lru_cache(maxsize=1 << 14)
def _beginning(prompt_tokens: int, cached_share: float) -> Made:
    """The text that begins a conversation: what all sessions share, and then its own."""
    shared_tokens = round(prompt_tokens * cached_share)
    return Made(prompt_tokens, (_SHARED_BEGINNING,), shared_tokens) if shared_tokens else Made(prompt_tokens)


class _Drawing:
    """One session being drawn: its steps so far, and how long the conversation is behind each of its calls."""

    def __init__(self, laws: config.Workload, seed: int, session: int) -> None:
        self._laws = laws
        self._key = seed, session
        self._steps: list[StepOutline] = []
        self._said_tokens: dict[int, int] = {NO_CONTEXT: 0}

    def steps(self) -> tuple[StepOutline, ...]:
        last = NO_CONTEXT
        for turn in range(self._count(self._laws.turns, "turns", 0)):
            last = self._message(last, is_first=turn == 0)
        return tuple(self._steps)

    def _message(self, context: int, *, is_first: bool) -> int:
        """A message of the user and all calls that answer it; the number of the last."""
        laws = self._laws
        number = len(self._steps)
        think_ns = 0 if is_first else self._duration(laws.think, "think", number)
        after = () if is_first else (context,)
        if is_first or chance(laws.restart_share, *self._key, number, "restart"):
            last = self._begin(after)
        else:
            message_tokens = self._count(laws.reply_tokens or laws.prompt_tokens, "reply_tokens", number)
            last = self._call(message_tokens, context, after)
        if think_ns:
            self._steps[number] = self._turn(number)._replace(think_ns=think_ns)
        for _ in range(self._count(laws.calls, "calls", number) - 1):
            last = self._after_tools(last, may_delegate=True)
        return last

    def _after_tools(self, caller: int, *, may_delegate: bool) -> int:
        """Tools side by side, and the call that goes on with all that they found."""
        laws = self._laws
        ends: list[int] = []
        found_tokens = 0
        for i in range(self._count(laws.tools, "tools", caller)):
            purpose = f"tool{i}"
            found_tokens += self._count(laws.tool_tokens, f"{purpose}_tokens", caller)
            if may_delegate and chance(laws.subagents, *self._key, caller, f"{purpose}_is_agent"):
                ends.append(self._subagent(caller, purpose))
            else:
                self._steps.append(Tool("tool", self._duration(laws.tool_time, f"{purpose}_time", caller), (caller,)))
                ends.append(len(self._steps) - 1)
        return self._call(found_tokens, caller, tuple(ends))

    def _subagent(self, caller: int, purpose: str) -> int:
        """A conversation that ``caller`` started; the number of its last call."""
        laws = self._laws
        if chance(laws.subagent_forks, *self._key, caller, f"{purpose}_forks"):
            last = self._call(self._count(laws.reply_tokens or laws.prompt_tokens, f"{purpose}_task", caller), caller, (caller,))
        else:
            last = self._begin((caller,))
        for _ in range(self._count(laws.subagent_calls, f"{purpose}_calls", caller) - 1):
            last = self._after_tools(last, may_delegate=False)
        return last

    def _begin(self, after: tuple[int, ...]) -> int:
        """A call that begins a conversation."""
        number = len(self._steps)
        prompt_tokens = min(self._count(self._laws.prompt_tokens, "prompt_tokens", number), self._laws.max_context_tokens)
        share = drawn_share(self._laws.cached_share, *self._key, number, "cached_share")
        return self._add(_beginning(prompt_tokens, share), NO_CONTEXT, after)

    def _call(self, message_tokens: int, context: int, after: tuple[int, ...]) -> int:
        if self._said_tokens[context] + message_tokens > self._laws.max_context_tokens:
            return self._begin(after)
        return self._add(Made(message_tokens), context, after)

    def _add(self, made: Made, context: int, after: tuple[int, ...]) -> int:
        number = len(self._steps)
        output_tokens = self._count(self._laws.output_tokens, "output_tokens", number)
        self._steps.append(TurnOutline(made, output_tokens, after=after, context=context))
        self._said_tokens[number] = self._said_tokens[context] + made.tokens + output_tokens
        return number

    def _turn(self, number: int) -> TurnOutline:
        step = self._steps[number]
        assert isinstance(step, TurnOutline), "a message of the user is a call"  # noqa: S101 - for the type checker
        return step

    def _count(self, law: TokenCount, purpose: str, step: int) -> int:
        return token_count(law, *self._key, step, purpose)

    def _duration(self, law: ServiceTime, purpose: str, step: int) -> int:
        return duration_ns(law, *self._key, step, purpose)
