"""The search for the highest load that meets a goodput: from its runs to a sweep of the loads it tried, and again from the folder alone."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from latprof.analysis.sweeps.highest import Probe, Search, Searched, Share
from latprof.config import Config
from latprof.errors import RunFailedError
from latprof.report.sweep.values import Axis, Point, SweepReport, SweptRun, build
from latprof.sweep import stored
from latprof.sweep.asked import Sweep
from latprof.sweep.axes import config_at
from latprof.sweep.runs import Job, RunAll
from latprof.sweep.sweeping import Told


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


# Doubts that say how the stack did, not that the run was made badly: such a run is a miss like any other.
_OUTCOMES = {"no_success", "failures", "unstable"}


def probe_of(
    config: Config,
    axis: str,
    folder: Path,
    run_all: RunAll,
    told: Told = lambda _: None,
    keep: Callable[[float, SweptRun], None] = lambda _load, _run: None,
) -> Probe:
    """What a search asks: one run of ``config`` at a load, in a folder of its own below ``folder``, each time with other seeds.

    ``keep`` is given every run that counts for the answer, or against it.

    The probe raises RunFailedError when the very first run of the search fails, and KeyboardInterrupt when someone ends one.
    """
    has_run = False

    def probe(load: float, nth: int) -> Share:
        nonlocal has_run
        setting = {axis: load}
        job = Job(setting, nth, config_at(config, setting, nth, folder / stored.name_of(setting, nth)))
        ((_, run),) = run_all([job])
        if run.interrupted:
            raise KeyboardInterrupt
        if run.failure and not run.refused and not has_run:
            raise RunFailedError(run.failure)
        has_run = True
        keep(load, run)
        share = share_of(run)
        meets = run.failure or f"{run.good} of {run.recorded} meet the objectives"
        told(f"{Point(setting, ()).name}: {meets}{'' if share.trusted else ', not to be trusted'}")
        return share

    return probe


def share_of(run: SweptRun) -> Share:
    """What a run says to a search."""
    trusted = run.refused or (not run.failure and all(doubt.level != "fatal" or doubt.id in _OUTCOMES for doubt in run.doubts))
    return Share(run.good, run.recorded, trusted)
