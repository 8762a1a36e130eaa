"""A gate's result as a value: what every renderer of it shares."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from latprof.analysis.validity.doubts import Doubt
from latprof.analysis.verdicts.assertions import Verdict
from latprof.analysis.verdicts.compare import Moved
from latprof.analysis.verdicts.differences import ALPHA
from latprof.analysis.verdicts.spending import Spending
from latprof.errors import Exit

Word = Literal["pass", "fail", "inconclusive", "invalid"]
Inconclusive = Literal["exit-3", "pass", "warn", "fail"]
"""What an inconclusive gate is taken for."""


@dataclass(frozen=True, slots=True)
class GatedRun:
    """One replication, as a gate tells of it."""

    folder: str
    seed: int
    requests: int
    failed: int
    cut: str


@dataclass(frozen=True, slots=True)
class Gated:
    """The verdicts of one gate, and whether the runs behind them can be trusted. ``notes`` are said beside them; ``title`` names what was gated.

    ``presets`` are what its stack took from presets, as run.json holds it.
    """

    title: str
    verdicts: tuple[Verdict, ...]
    doubts: tuple[Doubt, ...]
    runs: tuple[GatedRun, ...]
    spending: Spending | None = None
    moved: tuple[Moved, ...] = ()
    notes: tuple[str, ...] = ()
    inconclusive: Inconclusive = "exit-3"
    alpha: float = ALPHA  # of this look: less than 5 % where several are taken
    when_unix_ns: int = 0
    commit: str = ""
    presets: tuple[Mapping[str, Any], ...] = ()

    def fails_by(self, verdict: Verdict) -> bool:
        """Whether the gate fails by ``verdict``: broken, or open where that is taken for a failure."""
        is_open = verdict.outcome == "inconclusive" and verdict.claim.level == "error"
        return verdict.breaks_the_gate or (is_open and self.inconclusive == "fail")

    @property
    def word(self) -> Word:
        """The gate in a word: no verdict counts where a run cannot be trusted, and one broken assertion breaks it."""
        if any(doubt.level == "fatal" for doubt in self.doubts):
            return "invalid"
        if any(verdict.breaks_the_gate for verdict in self.verdicts):
            return "fail"
        open_ones = any(verdict.outcome == "inconclusive" and verdict.claim.level == "error" for verdict in self.verdicts)
        return "inconclusive" if open_ones or not self.verdicts else "pass"  # where nothing was judged, nothing was kept

    @property
    def level(self) -> str:
        """Of the intervals: ``95 %``."""
        return f"{100 * (1 - self.alpha):.4g} %"

    @property
    def exit_code(self) -> Exit:
        """The exit code the gate calls for."""
        if self.word == "inconclusive":
            return {"exit-3": Exit.INCONCLUSIVE, "fail": Exit.GATE_FAILED}.get(self.inconclusive, Exit.DONE)
        return {"pass": Exit.DONE, "fail": Exit.GATE_FAILED}.get(self.word, Exit.UNTRUSTED)
