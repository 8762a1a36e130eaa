"""The budget as a grid of text: cells that add up as printed, and a bar."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from latprof.layers.vocabulary import UNATTRIBUTED
from latprof.report.rounding import rounded_to_sum
from latprof.report.values import Budget, LayerRow
from latprof.units import NS_PER_MS

UNTOLD = "-"
BAR_WIDTH = 16


@dataclass(frozen=True, slots=True)
class Line:
    """One printed row. ``cells`` are the columns in ms; ``bar_wait`` and ``bar_rest`` are lengths in characters."""

    layer: str
    cells: tuple[str, ...]
    share: str
    wait: str
    service: str
    source: str
    coverage: str
    bar_wait: int = 0
    bar_rest: int = 0


@dataclass(frozen=True, slots=True)
class Grid:
    """The budget as printed. ``hidden`` layers print as zero in every column and are left out; ``total`` is the sum of what is printed."""

    head: tuple[str, ...]
    lines: tuple[Line, ...]
    total: Line
    hidden: tuple[str, ...]

    @property
    def has_merged(self) -> bool:
        """Whether a layer stands for neighbours that could not be told apart."""
        return any("+" in line.layer for line in self.lines)

    @property
    def has_unattributed(self) -> bool:
        """Whether there is time that no layer claims."""
        return any(line.layer.startswith(UNATTRIBUTED) for line in self.lines)

    @property
    def has_untold_parts(self) -> bool:
        """Whether some layer's wait and service could not be told apart."""
        return any(UNTOLD in (line.wait, line.service) for line in self.lines)


def grid(budget: Budget, bar_width: int = BAR_WIDTH) -> Grid:
    """Lay the budget out. Every column of cells, the shares, and wait + service (+ what was not told apart) = the first cell, add up as printed."""
    decimals = _decimals(max(column.value_ns for column in budget.columns))
    unit_ns = NS_PER_MS / 10**decimals
    labels = [column.label for column in budget.columns]
    columns = [rounded_to_sum([row.total_ns[label] for row in budget.rows], unit_ns) for label in labels]
    shares = rounded_to_sum([row.share for row in budget.rows], 0.01)
    parts = [_parts(row, labels[0], unit_ns, cell) for row, cell in zip(budget.rows, columns[0], strict=True)]
    longest = max((row.share for row in budget.rows), default=0.0) or 1.0

    def text(units: int) -> str:
        return f"{units / 10**decimals:.{decimals}f}"

    lines = []
    for index, row in enumerate(budget.rows):
        wait, service = parts[index]
        told = wait + service > 0 or columns[0][index] == 0
        full = round(bar_width * row.share / longest)
        waited = round(full * row.wait_ns[labels[0]] / row.total_ns[labels[0]]) if row.total_ns[labels[0]] > 0 else 0
        lines.append(
            Line(
                layer=row.layer,
                cells=tuple(text(column[index]) for column in columns),
                share=f"{shares[index]}%",
                wait=text(wait) if told else UNTOLD,
                service=text(service) if told else UNTOLD,
                source=row.source,
                coverage=f"{int(100 * row.coverage + 1e-9)}%",
                bar_wait=waited,
                bar_rest=full - waited,
            )
        )
    zero = [index for index in range(len(lines)) if not any(column[index] for column in columns)]
    total = Line(
        layer=budget.metric.upper(),
        cells=tuple(text(sum(column)) for column in columns),
        share=f"{sum(shares)}%",
        wait=text(sum(wait for wait, _ in parts)),
        service=text(sum(service for _, service in parts)),
        source="",
        coverage="",
    )
    shown = tuple(line for index, line in enumerate(lines) if index not in zero)
    return Grid(tuple(labels), shown, total, tuple(lines[index].layer for index in zero))


def _parts(row: LayerRow, label: str, unit_ns: float, cell: int) -> tuple[int, int]:
    """Wait and service so that with what was not told apart they make up the printed cell."""
    wait_ns, service_ns = row.wait_ns[label], row.service_ns[label]
    rest_ns = max(0.0, row.total_ns[label] - wait_ns - service_ns)
    # Float noise of a fully told cell is not a third part: it must not win the last digit.
    if rest_ns <= 1e-6 * row.total_ns[label]:
        rest_ns = 0.0
        wait, service = rounded_to_sum([wait_ns, service_ns], unit_ns, cell)
        return wait, service
    wait, service, _ = rounded_to_sum([wait_ns, service_ns, rest_ns], unit_ns, cell)
    return wait, service


def _decimals(largest_ns: float) -> int:
    """Seven characters hold every cell: 10 us steps below a second, 100 us below 100 s."""
    largest_ms = round(largest_ns) / NS_PER_MS
    return 2 if largest_ms < 1_000 else 1 if largest_ms < 100_000 else 0


def broken(name: str, width: int) -> str:
    """A merged name on several lines, broken after its plus signs, where it is wider than ``width``."""
    if len(name) <= width:
        return name
    lines = [""]
    for part in _with_plus(name.split("+")):
        if lines[-1] and len(lines[-1]) + len(part) > width:
            lines.append(" ")
        lines[-1] += part
    return "\n".join(lines)


def _with_plus(parts: Sequence[str]) -> list[str]:
    return [f"{part}+" for part in parts[:-1]] + [parts[-1]]
