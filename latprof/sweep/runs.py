"""Runs of a sweep: live ones one after another, simulated ones side by side; each becomes a run folder like any other."""

from __future__ import annotations

import multiprocessing
import os
import random
import signal
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ProcessPoolExecutor, as_completed
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from latprof.config import Config
from latprof.errors import ConfigError, LatprofError, UsageError
from latprof.report.sweep.values import SweptRun

if TYPE_CHECKING:
    from latprof.analysis.sweeps.operational import Loop
    from latprof.layers.table import Layers
    from latprof.observations.folder import Run


@dataclass(frozen=True, slots=True)
class Job:
    """One run to make: the replication ``number`` of the point at ``setting``. ``config`` names the folder it is to leave."""

    setting: Mapping[str, float]
    number: int
    config: Config


Runner = Callable[[Config], Path]
"""What makes a run, live or simulated, and says in which folder it is."""

Done = tuple[Job, SweptRun]
RunAll = Callable[[Sequence[Job]], Iterator[Done]]
"""What makes runs, in an order of its own; each is handed out as it is done."""


def live(jobs: Sequence[Job], *, seed: int = 1) -> Iterator[Done]:
    """One after another on the live stack: replication by replication, the points of each in an order drawn from ``seed``.

    So no point is always the one before another, and a machine that slows down for a while hits every point alike (a randomised block design).
    """
    drawn = random.Random(seed)  # noqa: S311 - an order, not a secret
    shuffled = sorted(jobs, key=lambda job: (job.number, drawn.random()))
    for job in shuffled:
        done = _made(_run_live, job)
        yield job, done
        if done.interrupted:
            return


def simulated(jobs: Sequence[Job], *, processes: int | None = None, allow_unstable: bool = False) -> Iterator[Done]:
    """Side by side in virtual time, in ``processes`` (as many as there are cores)."""
    return in_processes(jobs, partial(_made, partial(_simulate, allow_unstable=allow_unstable)), processes)


def _run_live(config: Config) -> Path:
    from latprof.pipeline import run

    return run(config).folder


def _simulate(config: Config, *, allow_unstable: bool) -> Path:
    from latprof.pipeline.simulated import simulate_into_folder

    return simulate_into_folder(config, allow_unstable=allow_unstable)


def in_processes(jobs: Sequence[Job], made: Callable[[Job], SweptRun], processes: int | None = None) -> Iterator[Done]:
    """Jobs in a pool of fresh processes; here, one by one, where one process is enough."""
    count = min(processes or os.cpu_count() or 1, len(jobs))
    if count <= 1:
        for job in jobs:
            yield job, made(job)
        return
    fresh = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(count, mp_context=fresh, initializer=_ignore_interrupts) as pool:
        going: dict[Future[SweptRun], Job] = {pool.submit(made, job): job for job in jobs}
        try:
            for done in as_completed(going):
                yield going[done], done.result()
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise


def _ignore_interrupts() -> None:
    """A Ctrl-C in the terminal is for the process that started the pool, which ends the others."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)


def _made(run: Runner, job: Job) -> SweptRun:
    """A run that fails, or that is refused at its setting, is missing and says why; what cannot be used at all ends the sweep."""
    try:
        folder = run(job.config)
    except ConfigError as error:  # the sweep's own configuration was checked: it is this load that the stack cannot serve
        return _missing(job, error, refused=True)
    except UsageError:
        raise
    except LatprofError as error:
        return _missing(job, error, refused=False)
    return replace(understood(folder), number=job.number)


def _missing(job: Job, error: LatprofError, *, refused: bool) -> SweptRun:
    return SweptRun(job.number, job.config.out or Path(), job.config.load.seed, failure=str(error).splitlines()[0], refused=refused)


def understood(folder: Path) -> SweptRun:
    """A run folder as a replication (number 0).

    Raises:
        ConfigError: it is not a run folder.
    """
    from latprof.opening import open_run

    opened = open_run(folder)
    told, observed = opened.report, opened.observed
    return SweptRun(
        number=0,
        folder=folder,
        seed=told.seed,
        doubts=told.doubts,
        interrupted=told.interrupted,
        arrival_model=told.arrival_model,
        completed_per_s=told.rate.completed_per_s,
        asked_per_s=told.facts.asked_per_s,
        good=told.goodput.good if told.goodput is not None else 0,
        recorded=int(observed.requests.measured.sum()) if told.goodput is not None else 0,
        tables={metric: _in_order(table, observed) for metric, table in opened.layers.items()},
        servers=observed.meta.get("stations", {}),
        loop=_loop(observed),
        presets=told.presets,
    )


def _in_order(table: Layers, observed: Run) -> Layers:
    """Rows by intended start, which is what tells how independent they are."""
    order = np.argsort(observed.requests.intended_ns[table.rows], kind="stable")
    return replace(
        table,
        rows=table.rows[order],
        total_ns=table.total_ns[order],
        wait_ns=table.wait_ns[order],
        service_ns=table.service_ns[order],
        present=table.present[order],
        conflicts=(),
        off_path=(),
    )


def _loop(observed: Run) -> Loop:
    """Who decides when requests go, by the run's own configuration."""
    from latprof.analysis.sweeps.operational import Loop, think_ns

    load = observed.meta.get("config", {}).get("load", {})
    places = [part.get("concurrency") for part in (load.get("phases") or [load]) if part.get("name") != "warmup"]
    if all(place is None for place in places):
        return Loop("open")
    if None in places or len(set(places)) > 1:
        return Loop("mixed")
    return Loop("closed", float(places[0]), think_ns(observed.requests.select(observed.requests.measured)))
