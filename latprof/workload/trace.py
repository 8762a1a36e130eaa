"""A trace as its reader gives it: when each call came and how long it was."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Trace:
    """Parallel columns, one entry per call in order of arrival. ``offsets_ns`` count from the first call, unscaled."""

    offsets_ns: tuple[int, ...]
    prompt_tokens: tuple[int, ...]
    output_tokens: tuple[int, ...]


Reader = Callable[[Path, int | None], Trace]
"""Reads a file up to a window (ns from its first call; None: all of it). Raises ConfigError with the file and the line number."""
