"""What every experiment prints: its head (n, seed, tolerances), one line per figure, and a control that must fail."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Figure:
    """One figure held against what is asked of it. ``low`` and ``high`` are inclusive bounds; None leaves that side open."""

    name: str
    value: float
    low: float | None = None
    high: float | None = None
    unit: str = "ms"

    @property
    def passed(self) -> bool:
        """Inside its bounds. A figure that is not a number never is."""
        return (self.low is None or self.value >= self.low) and (self.high is None or self.value <= self.high) and self.value == self.value

    @property
    def asked(self) -> str:
        """The bounds in words."""
        if self.low is not None and self.high is not None:
            return f"{self.low:g} .. {self.high:g}"
        return f"<= {self.high:g}" if self.high is not None else f">= {self.low:g}" if self.low is not None else "shown"


def show(title: str, head: str, figures: Sequence[Figure]) -> bool:
    """Print the table; True when every figure is inside its bounds."""
    print(f"\n{title}\n  {head}")
    width = max((len(figure.name) for figure in figures), default=0)
    for figure in figures:
        mark = "ok  " if figure.passed else "MISS"
        print(f"  {mark} {figure.name:<{width}} {figure.value:>12.4g} {figure.unit:<4} asked: {figure.asked}")
    sys.stdout.flush()
    return all(figure.passed for figure in figures)


def control(name: str, figures: Sequence[Figure]) -> bool:
    """The negative control: figures of a run that was made wrong on purpose. True when at least one of them misses."""
    missed = [figure.name for figure in figures if not figure.passed]
    print(f"  control: {name}: {'caught by ' + ', '.join(missed[:3]) if missed else 'NOT CAUGHT'}")
    sys.stdout.flush()
    return bool(missed)


def end(*, passed: bool) -> None:
    """Leave with exit code 1 when a figure missed or a control was not caught."""
    print("PASS" if passed else "FAIL")
    sys.exit(0 if passed else 1)
