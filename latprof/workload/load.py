"""From configuration to workload."""

from __future__ import annotations

from latprof import config
from latprof.workload.azure import read_azure
from latprof.workload.prompts import load_prompts
from latprof.workload.sessions import Workload
from latprof.workload.synthetic import replayed, synthetic
from latprof.workload.trace import Reader

READERS: dict[str, Reader] = {"azure": read_azure}
"""Trace formats by their configured name."""


def load_workload(settings: config.Workload, seed: int) -> Workload:
    """The workload that ``settings`` ask for; a session's draws depend on ``seed`` and its number alone.

    The same seed gives the same prompts in every run: an endpoint with a prefix cache may still know them from the last one.

    Raises:
        ConfigError: the trace or a law cannot be used.
        UsageError: the tokenizer cannot.
    """
    if settings.trace is None:
        return synthetic(settings, seed, load_prompts(settings.tokenizer))
    trace = READERS[settings.trace_format](settings.trace, settings.trace_window_ns)
    return replayed(trace, settings.time_scale, seed, load_prompts(settings.tokenizer))
