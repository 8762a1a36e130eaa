"""A sweep from its axes to its report: the grid, further runs where layers cross, and runs a little off for the leverage."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from latprof.errors import ConfigError, RunFailedError
from latprof.report.sweep.lines import lines
from latprof.report.sweep.values import Leverages, Point, SweepReport, SweptRun, build
from latprof.sweep import stored
from latprof.sweep.asked import Sweep
from latprof.sweep.axes import config_at, settings
from latprof.sweep.leverage import leverages
from latprof.sweep.runs import Done, Job, RunAll

# Neighbours on the grid this close together tell nothing new.
_FINE = 1.1

Told = Callable[[str], None]
"""Is told how far the sweep is, a line at a time."""


@dataclass(slots=True)
class _Going:
    """A sweep on its way: what has been made so far, by setting."""

    sweep: Sweep
    folder: Path
    run_all: RunAll
    told: Told
    made: dict[tuple[float, ...], list[SweptRun]] = field(default_factory=dict)
    runs: int = 0
    interrupted: bool = False

    def go(self, wanted: Sequence[Mapping[str, float]]) -> None:
        """Make every replication of the wanted settings."""
        jobs = [
            Job(setting, number, config_at(self.sweep.config, setting, number, self.folder / stored.name_of(setting, number)))
            for setting in wanted
            for number in range(self.sweep.replications)
        ]
        for done, (job, replication) in enumerate(self.run_all(jobs), start=1):
            self.made.setdefault(tuple(job.setting.values()), []).append(replication)
            self.interrupted = self.interrupted or replication.interrupted
            self.told(f"{done}/{len(jobs)}  {Point(job.setting, ()).name}, replication {job.number}{_how(replication)}")
            stored.write(self.folder, self.sweep.axes, self.points(), self.sweep, is_complete=False)

    def points(self) -> list[Point]:
        names = [axis.name for axis in self.sweep.axes]
        return [
            Point(dict(zip(names, values, strict=True)), tuple(sorted(runs, key=lambda run: run.number)))
            for values, runs in sorted(self.made.items())
        ]

    def report(self, found: Leverages | None = None) -> SweepReport:
        return build(
            self.points(),
            self.sweep.axes,
            is_zipped=self.sweep.is_zipped,
            is_simulated=self.sweep.is_simulated,
            leverages=found,
            worthwhile_ns=self.sweep.worthwhile_ns,
            folder=self.folder,
        )


def foretold(run_all: RunAll, told: Told) -> RunAll:
    """``run_all``, with a word before of every setting at which the stack in a box will not keep up; of a real endpoint nobody knows."""

    def made(jobs: Sequence[Job]) -> Iterator[Done]:
        from latprof.pipeline.offered import overloads

        for job in jobs:
            found = overloads(job.config) if job.number == 0 and job.config.uses_stub else ()
            for one in found:
                told(f"{Point(job.setting, ()).name}: {one.line}")
        yield from run_all(jobs)

    return made


def _how(replication: SweptRun) -> str:
    return "" if replication.is_used else f": {replication.failure or 'left out, it is not to be trusted'}"


def sweep(asked: Sweep, folder: Path, run_all: RunAll, told: Told = lambda _: None) -> SweepReport:
    """Make all runs below ``folder``, which is there and empty, and understand them. ``sweep.json`` there says what was made, also after a kill.

    Raises:
        RunFailedError: not one run succeeded; with what the first one said.
        UsageError: a run cannot be made as configured.
    """
    going = _Going(asked, folder, run_all, told)
    going.go(settings(asked.axes, is_zipped=asked.is_zipped))
    _refuse_if_nothing(going)
    for _ in range(asked.refine):
        wanted = [] if going.interrupted or asked.is_zipped else closer(going.report())
        if not wanted:
            break
        going.told(f"closing in on crossings at {', '.join(Point(setting, ()).name for setting in wanted)}")
        going.go(wanted)
    report, found = going.report(), None
    if asked.finds_leverage and not going.interrupted:
        found = leverages(report, asked.config, folder / "leverage", run_all, told)
        report = going.report(found)
    stored.write(folder, asked.axes, going.points(), asked, is_complete=not going.interrupted, leverages=found)
    return report


def _refuse_if_nothing(going: _Going) -> None:
    runs = [run for replications in going.made.values() for run in replications]
    if runs and all(run.refused for run in runs):
        raise ConfigError(runs[0].failure)
    if runs and all(run.failure for run in runs):
        raise RunFailedError(f"not one run of the sweep succeeded; the first said: {runs[0].failure}")


def closer(report: SweepReport) -> list[Mapping[str, float]]:
    """Settings in the middle (geometric) of every two neighbours between which layers cross, unless they are close together already."""
    wanted: dict[tuple[float, ...], Mapping[str, float]] = {}
    for line in lines(report):
        for low, high in line.brackets():
            if high / low > _FINE:
                middle = float(f"{math.sqrt(low * high):.4g}")
                setting = {axis.name: middle if axis.name == line.axis else line.fixed[axis.name] for axis in report.axes}
                wanted[tuple(setting.values())] = setting
    return [wanted[key] for key in sorted(wanted)]
