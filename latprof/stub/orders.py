"""What the processes of the stack are told: one line of JSON on stdin, from ``stack`` to ``server`` and ``scribe``."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from latprof.config import Stage

READY = b"ready\n"
"""A stage's one line on stdout, once it serves."""


@dataclass(frozen=True, slots=True)
class StageOrder:
    """Descriptors are inherited: a listening socket, and the writing end of a pipe to the scribe (None: no spans)."""

    stage: Stage
    stub: Mapping[str, Any]  # config.Stub as JSON
    socket_fd: int
    upstream: Mapping[Stage, str]  # base URLs
    tokenizer: str
    truth: str | None
    spans_fd: int | None


@dataclass(frozen=True, slots=True)
class ScribeOrder:
    """Where to send spans, and per stage the reading end of its pipe and its process id."""

    endpoint: str
    stages: Mapping[Stage, tuple[int, int]]
