"""From configuration to workload."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from latprof import config
from latprof.errors import ConfigError
from latprof.workload.formats import read_trace
from latprof.workload.outline import Outline, Trace, scaled
from latprof.workload.prompts import load_prompts
from latprof.workload.sessions import Session, Workload
from latprof.workload.synthetic import LAWS, synthetic_outline, with_preset
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
        return Outlines(partial(synthetic_outline, with_preset(settings), seed))
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
    trace = outlines.trace if settings.trace_times else None
    if trace is not None and not trace.is_timed:
        raise ConfigError(
            f"workload.trace {settings.trace}: does not say when its sessions start; set workload.trace_times to false and give"
            " load.rate_per_s or load.concurrency"
        )
    pen = Pen(load_prompts(settings.tokenizer), seed, settings.answers == "planned")
    return Workload(partial(_written, pen, outlines), None if trace is None else trace.offsets_ns)


def _written(pen: Pen, outlines: Outlines, session: int) -> Session:
    lap = 0 if outlines.trace is None else session // len(outlines.trace.sessions)
    return written(pen, outlines.outline(session), session, lap)


def _of_trace(trace: Trace, session: int) -> Outline:
    return trace.sessions[session % len(trace.sessions)]
