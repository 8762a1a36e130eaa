"""What is to be swept."""

from __future__ import annotations

from dataclasses import dataclass

from latprof.analysis.sweeps.crossings import WORTHWHILE_NS
from latprof.config import Config
from latprof.report.sweep.values import Axis


@dataclass(frozen=True, slots=True)
class Sweep:
    """What is to be swept, and how hard. ``refine`` is how many rounds of further runs close in on crossings; ``flags`` are those of the command, kept to be told."""

    config: Config
    axes: tuple[Axis, ...]
    is_zipped: bool = False
    is_simulated: bool = False
    replications: int = 1
    refine: int = 0
    finds_leverage: bool = False
    worthwhile_ns: float = WORTHWHILE_NS
    flags: tuple[str, ...] = ()
