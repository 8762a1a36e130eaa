"""The search for the highest load that meets a goodput: from its runs to a sweep of the loads it tried, and again from the folder alone."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from latprof.analysis.sweeps.highest import Search, Searched
from latprof.report.sweep_values import Axis, Point, SweepReport, SweptRun, build
from latprof.sweep import stored
from latprof.sweep.runs import RunAll
from latprof.sweep.sweeping import Sweep, Told, probe_of, share_of


def search(asked: Search, sweep: Sweep, folder: Path, run_all: RunAll, told: Told = lambda _: None) -> SweepReport:
    """Make the runs of a search below ``folder``, which is there and empty; ``sweep`` is what else is known of them, its axes aside.

    ``sweep.json`` there says what was made, also after a kill.

    Raises:
        RunFailedError: the very first run failed.
        UsageError: a run cannot be made as configured.
    """
    made: dict[float, list[SweptRun]] = {}

    def keep(load: float, run: SweptRun) -> None:
        made.setdefault(load, []).append(run)
        write(is_complete=False)

    def write(*, is_complete: bool) -> None:
        stored.write(folder, (axis(),), points(), sweep, is_complete=is_complete, search=asked)

    def axis() -> Axis:
        return Axis(asked.axis, "rate" if asked.axis == "rate" else "concurrency", tuple(sorted(made)))

    def points() -> list[Point]:
        return [Point({asked.axis: load}, tuple(runs)) for load, runs in sorted(made.items())]

    found = asked.among(probe_of(sweep.config, asked.axis, folder, run_all, told, keep))
    write(is_complete=True)
    report = build(points(), (axis(),), is_simulated=sweep.is_simulated, worthwhile_ns=sweep.worthwhile_ns, folder=folder)
    return replace(report, searched=Searched(asked, found))


def read(folder: Path) -> SweepReport:
    """The report of a sweep or a search from its folder alone.

    Raises:
        ConfigError: ``sweep.json`` is damaged, or a run folder is missing.
    """
    report, asked = stored.read(folder), stored.search_of(folder)
    if asked is None:
        return report
    runs = {(point.point.setting[asked.axis], run.number): run for point in report.points for run in point.point.runs}
    return replace(report, searched=Searched(asked, asked.among(lambda load, nth: share_of(runs[load, nth]))))
