"""What a run left behind."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from latprof.errors import Exit
from latprof.opening import Opened, exit_code_of, open_run

if TYPE_CHECKING:
    from latprof.report.values import Report


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a run left behind: its folder, and what that says when it is read."""

    folder: Path
    opened: Opened
    exit_code: Exit

    @property
    def report(self) -> Report:
        """The report made from the folder."""
        return self.opened.report


def outcome_of(folder: Path) -> Outcome:
    """Read the folder of a run that is over."""
    opened = open_run(folder)
    return Outcome(folder, opened, exit_code_of(opened.report))
