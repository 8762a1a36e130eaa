"""From configuration to workload."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

from latprof import config
from latprof.errors import ConfigError
from latprof.workload.bare import Naming, bare_session
from latprof.workload.formats import read_trace
from latprof.workload.outline import Outline, Trace, scaled
from latprof.workload.prompts import Prompts, load_prompts
from latprof.workload.sessions import Session, Workload
from latprof.workload.synthetic import LAWS, synthetic, with_preset
from latprof.workload.writing import Pen, written

_SYNTHETIC = (
    "preset", *LAWS, "cached_share", "think", "restart_share", "tool_time", "subagents", "subagent_forks", "max_context_tokens",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Outlines:
    """A workload without its texts: a session's outline by number, and the trace it comes from, if any, time scale applied."""

    outline: Callable[[int], Outline]
    trace: Trace | None = None


def load_outlines(settings: config.Workload, seed: int) -> Outlines:
    """What ``settings`` ask for, as outlines.

    Session i of a trace is its i-th session; numbers past the last begin again with the first.

    Raises:
        ConfigError: the trace or a law cannot be used.
    """
    if settings.trace is None:
        return Outlines(synthetic(with_preset(settings), seed))
    for key in _SYNTHETIC:
        if getattr(settings, key) != getattr(config.Workload(), key):
            raise ConfigError(f"workload.{key} and workload.trace exclude each other: the trace says what is asked; drop one of them")
    told = read_trace(settings.trace, settings.trace_format, settings.trace_window_ns)
    trace = Trace(tuple(scaled(session, settings.time_scale) for session in told.sessions), told.is_timed)
    return Outlines(partial(_of_trace, trace), trace)


def load_workload(settings: config.Workload, seed: int) -> Workload:
    """The workload that ``settings`` ask for; a session's draws depend on ``seed`` and its number alone.

    The same seed gives the same prompts in every run: an endpoint with a prefix cache may still know them from the last one.

    Raises:
        ConfigError: the trace or a law cannot be used.
        UsageError: the tokenizer cannot.
    """
    outlines = load_outlines(settings, seed)
    offsets_ns = _offsets_ns(settings, outlines)
    pen = Pen(load_prompts(settings.tokenizer), seed, settings.answers == "planned")
    return Workload(partial(_written, pen, outlines), offsets_ns)


def load_bare(settings: config.Workload, seed: int, block_tokens: int) -> tuple[Workload, Outlines, Naming]:
    """`load_workload` without texts, made when looked at: the same sessions and starts, with the outlines and the names of their blocks beside them.

    Raises:
        ConfigError: the trace or a law cannot be used.
        UsageError: recorded texts have to be counted, and the tokenizer cannot be used.
    """
    outlines = load_outlines(settings, seed)
    offsets_ns = _offsets_ns(settings, outlines)
    naming = Naming(block_tokens, _Encoding(settings), settings.answers == "planned")
    return Workload(lambda number: bare_session(naming, outlines.outline(number), number), offsets_ns, is_ahead=False), outlines, naming


class _Encoding:
    """The run's tokenizer, loaded when there is the first recorded text to count."""

    def __init__(self, settings: config.Workload) -> None:
        self._settings = settings
        self._prompts: Prompts | None = None

    def __call__(self, text: str) -> Sequence[int]:
        if self._prompts is None:
            self._prompts = load_prompts(self._settings.tokenizer)
        return self._prompts.encode(text)


def lap_of(outlines: Outlines, session: int) -> int:
    """How often a trace has been through before ``session``; 0 of a synthetic workload, which never begins again."""
    return 0 if outlines.trace is None else session // len(outlines.trace.sessions)


def _offsets_ns(settings: config.Workload, outlines: Outlines) -> tuple[int, ...] | None:
    trace = outlines.trace if settings.trace_times else None
    if trace is not None and not trace.is_timed:
        raise ConfigError(
            f"workload.trace {settings.trace}: does not say when its sessions start; set workload.trace_times to false and give"
            " load.rate_per_s or load.concurrency"
        )
    return None if trace is None else trace.offsets_ns


def _written(pen: Pen, outlines: Outlines, session: int) -> Session:
    return written(pen, outlines.outline(session), session, lap_of(outlines, session))


def _of_trace(trace: Trace, session: int) -> Outline:
    return trace.sessions[session % len(trace.sessions)]
