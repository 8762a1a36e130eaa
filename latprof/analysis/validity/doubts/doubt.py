"""A reason to distrust a run, as a value: what was seen, the likely cause, the remedy."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Level = Literal["note", "warning", "fatal"]


@dataclass(frozen=True, slots=True)
class Doubt:
    """One reason. ``text`` says what was seen and what likely caused it, ``remedy`` what to do."""

    id: str
    level: Level
    text: str
    remedy: str
