"""Rates that change over a phase, by time change: unit-rate arrivals are drawn as ever, and time is stretched so that the rate is as asked.

    expected(t) = integral of the rate from 0 to t        arrival k comes when expected(t) = u_k, the k-th unit-rate arrival

Nothing is thinned out, so every law of gaps (also constant ones) can follow every shape, and the same seed gives the same schedule.
Times are float seconds from the start of the phase, rates per second; all arrays have shape (n,).
"""

from __future__ import annotations

import csv
import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np

from latprof.errors import ConfigError, unreadable
from latprof.schedule.arrivals import ARRIVALS, FloatArray, IntArray
from latprof.units import NS_PER_S, duration_ns

Expected = Callable[[FloatArray], FloatArray]

# Halvings of a phase's length until a start is known to the ns: a phase of ten days has 2^50 of them.
_HALVINGS = 52


@dataclass(frozen=True, slots=True)
class Shape:
    """A rate over a phase: how many arrivals are expected by each instant, and the shape in words."""

    expected: Expected
    words: str


def ramp(from_per_s: float, to_per_s: float, over_s: float) -> Shape:
    """From one rate to the other in a straight line over ``over_s``."""

    def expected(t_s: FloatArray) -> FloatArray:
        return from_per_s * t_s + (to_per_s - from_per_s) * t_s**2 / (2 * over_s)

    return Shape(expected, f"{from_per_s:g} to {to_per_s:g}/s")


def sine(mean_per_s: float, amplitude_per_s: float, period_s: float) -> Shape:
    """A wave around ``mean_per_s`` that begins there and rises first."""

    def expected(t_s: FloatArray) -> FloatArray:
        turn = 2 * math.pi / period_s
        return mean_per_s * t_s + amplitude_per_s / turn * (1 - np.cos(turn * t_s))

    return Shape(expected, f"{mean_per_s:g} ± {amplitude_per_s:g}/s in waves of {period_s:g} s")


def series(starts_s: Sequence[float], rates_per_s: Sequence[float]) -> Shape:
    """Each rate holds from its own start to the next one's, the last one for good; before the first start nothing comes."""
    knots = np.array([*starts_s, math.inf])
    rates = np.array([0.0, *rates_per_s])
    before = np.concatenate([[0.0], np.cumsum(rates[1:-1] * np.diff(knots[:-1]))])

    def expected(t_s: FloatArray) -> FloatArray:
        at = np.searchsorted(knots[:-1], t_s, side="right")
        since = t_s - knots[np.maximum(at - 1, 0)]
        return np.asarray(np.where(at > 0, before[np.maximum(at - 1, 0)] + rates[at] * since, 0.0))

    return Shape(expected, f"{len(rates_per_s)} rates from {min(rates_per_s):g} to {max(rates_per_s):g}/s")


def steps(rates_per_s: Sequence[float], over_s: float) -> Shape:
    """One rate after the other, each for an equal part of ``over_s``."""
    each_s = over_s / len(rates_per_s)
    shape = series([index * each_s for index in range(len(rates_per_s))], rates_per_s)
    return Shape(shape.expected, f"steps of {', '.join(f'{rate:g}' for rate in rates_per_s)}/s")


def shaped(
    shape: Shape, arrival: str, rng: np.random.Generator, *, duration_ns: int, count: int | None = None, burstiness: float = 1.0
) -> IntArray:
    """Start offsets in ns, shape (n,), ascending: the first ``count`` before ``duration_ns`` of the process ``arrival`` under ``shape``."""
    length_s = duration_ns / NS_PER_S
    in_all = float(shape.expected(np.array([length_s]))[0])
    units = ARRIVALS[arrival](1.0, rng, count=count, duration_ns=math.ceil(in_all * NS_PER_S), burstiness=burstiness) / NS_PER_S
    offsets_ns = np.rint(_when(shape.expected, units, length_s) * NS_PER_S).astype(np.int64)
    return offsets_ns[(units < in_all) & (offsets_ns < duration_ns)]


def _when(expected: Expected, units: FloatArray, length_s: float) -> FloatArray:
    """The earliest instants by which so many are expected: ``expected`` never falls, so halving finds them."""
    low, high = np.zeros_like(units), np.full_like(units, length_s)
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        reached = expected(middle) >= units
        high = np.where(reached, middle, high)
        low = np.where(reached, low, middle)
    return high


# --- a series in a file -------------------------------------------------------------------------------------------------------------------


def read_series(file: Path) -> tuple[list[float], list[float]]:
    """A CSV file of ``time,rate`` lines: seconds (or with a unit: 500ms, 2m) from the start of the phase, and requests per second.

    A first line that holds no number is a header.

    Raises:
        ConfigError: the file cannot be read, or a line of it (named by number) is not what is wanted.
    """
    try:
        lines = file.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"load.phases series {file}: cannot be read ({unreadable(error)}); give a CSV file of time,rate lines") from None
    rows = [(number, row) for number, row in enumerate(csv.reader(lines), start=1) if any(field.strip() for field in row)]
    if rows and not _is_number(rows[0][1][-1]):
        rows = rows[1:]
    points = [_point(f"load.phases series {file}:{number}", row) for number, row in rows]
    return check_series(points, f"load.phases series {file}")


def check_series(points: Iterable[tuple[float, float]], where: str) -> tuple[list[float], list[float]]:
    """Starts in s and rates, each in a list.

    Raises:
        ConfigError: there is nothing in it, its times do not rise, or a rate is below 0.
    """
    known = list(points)
    if not known:
        raise ConfigError(f"{where}: holds no rates; wanted at least one (time, rate)")
    for (earlier, _), (later, _) in pairwise(known):
        if later <= earlier:
            raise ConfigError(f"{where}: times must rise, got {later:g} s after {earlier:g} s; sort them, and drop doubles")
    if any(not (math.isfinite(rate) and rate >= 0) for _, rate in known) or not any(rate for _, rate in known):
        raise ConfigError(f"{where}: rates must be finite, not below 0 and not all 0")
    return [at_s for at_s, _ in known], [rate for _, rate in known]


def _point(where: str, row: Sequence[str]) -> tuple[float, float]:
    if len(row) != 2 or not _is_number(row[1]):
        raise ConfigError(f"{where}: wanted time,rate such as 10s,50 or 10,50, got {','.join(row)[:60]!r}; mend or drop the line")
    try:
        return duration_ns(row[0]) / NS_PER_S, float(row[1])
    except ValueError as error:
        raise ConfigError(f"{where}: the time {error}; mend or drop the line") from None


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True
