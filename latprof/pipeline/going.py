"""A live run on its way."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from latprof.clock import WallAnchor
from latprof.config import Config

if TYPE_CHECKING:
    from latprof.live.watch import Watch
    from latprof.observations.streams import Answered
    from latprof.schedule.plan import Plan


@dataclass(slots=True)
class Going:
    """What one run holds while it goes."""

    config: Config
    folder: Path
    plan: Plan
    run_id: str
    anchor: WallAnchor
    quiet: bool
    stop: asyncio.Event
    watch: Watch | None = None  # of a run that is shown as it goes
    meta: dict[str, Any] = field(default_factory=dict)
    answered: Answered | None = None  # what spans are waited for
