"""Runs from configuration to report: live (`live`) and in virtual time (`simulated`), and several of them in turns (`interleave`)."""

from __future__ import annotations

from latprof.pipeline.live import run, run_async
from latprof.pipeline.outcome import Outcome
from latprof.pipeline.simulated import simulate
from latprof.pipeline.stub import keep_stub_up_during

__all__ = ["Outcome", "keep_stub_up_during", "run", "run_async", "simulate"]
