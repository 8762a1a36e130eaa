"""The configuration: YAML validated into typed, frozen models.

Durations are written with their unit (``250ms``, ``10s``) and held in ns; the YAML key has no suffix, the attribute ends in ``_ns``.
One file for each section, by the key under which it stands; `reading` makes the whole out of a file.
Every key has a default, so that no configuration at all is the quickstart. An unknown key is an error that names the nearest known one.
"""

from __future__ import annotations

from latprof.config.inject import Inject
from latprof.config.load import Arrival, Load, LoadPhase, Rate, Sine
from latprof.config.reading import load_config
from latprof.config.spans import Spans
from latprof.config.stub import STAGES, BalancingPolicy, Decode, Engine, Fault, Gateway, Prefill, Router, Stage, Station, Stub
from latprof.config.target import DialectName, NamedTarget, Target
from latprof.config.values import DurationNs, PositiveInt, Section, ServiceTime, Share, ShareLaw, TokenCount
from latprof.config.whole import Config
from latprof.config.workload import BUNDLED_TOKENIZER, Workload

__all__ = [
    "BUNDLED_TOKENIZER",
    "STAGES",
    "Arrival",
    "BalancingPolicy",
    "Config",
    "Decode",
    "DialectName",
    "DurationNs",
    "Engine",
    "Fault",
    "Gateway",
    "Inject",
    "Load",
    "LoadPhase",
    "NamedTarget",
    "PositiveInt",
    "Prefill",
    "Rate",
    "Router",
    "Section",
    "ServiceTime",
    "Share",
    "ShareLaw",
    "Sine",
    "Spans",
    "Stage",
    "Station",
    "Stub",
    "Target",
    "TokenCount",
    "Workload",
    "load_config",
]
