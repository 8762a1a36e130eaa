"""The HTML reports of run folders, sweeps and comparisons: what they are made of, read from the folders alone."""

from __future__ import annotations

import math
import shlex
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import yaml

from latprof.analysis.verdicts.replications import SHARES
from latprof.config import Config
from latprof.errors import UsageError
from latprof.observations.folder import load
from latprof.observations.graph import load_steps
from latprof.pipeline import Opened, courses_of
from latprof.report.page.run import Shown, page
from latprof.units import ms

if TYPE_CHECKING:
    from latprof.analysis.verdicts.compare import Comparison
    from latprof.budget import Budget
    from latprof.report.sweep_values import SweepReport

PAGE = "report.html"
CONFIG = "config.yaml"


def write_page(opened: Opened, file: Path | None = None, budget: Budget | None = None) -> Path:
    """Write the page of a run to ``file``, by default into its folder beside the configuration that repeats it; where it is now.

    What ``budget`` promises end to end is a tick on its bars.

    Raises:
        UsageError: it cannot be written.
    """
    folder = opened.observed.folder
    text = page(shown_of(opened, budget))
    if file is None and not (folder / CONFIG).exists():
        _write(folder / CONFIG, config_of(opened))
    return _write(folder / PAGE if file is None else file, text)


def write_sweep_page(report: SweepReport, folder: Path, file: Path | None = None) -> Path:
    """Write the page of a sweep to ``file``, by default into its folder; where it is now.

    Raises:
        UsageError: it cannot be written.
    """
    from latprof.report.page.sweep import page as page_of_sweep

    return _write(folder / PAGE if file is None else file, page_of_sweep(report, " ".join(_sweep_again(report, folder))))


def write_comparison_page(told: Comparison, refused: Sequence[str], arms: tuple[Path, Path], file: Path) -> Path:
    """Write the page of a comparison; ``arms`` are what was compared: run folders, folders of them, baselines.

    Raises:
        UsageError: it cannot be written.
    """
    from latprof.baseline import runs_at
    from latprof.report.page.comparison import page as page_of_comparison
    from latprof.report.page.distribution import of_run

    samples = {
        name: [] if path.is_file() else [of_run(load(folder)) for folder in runs_at(path)] for name, path in zip("AB", arms, strict=True)
    }
    again = f"latprof compare {shlex.join(map(str, arms))} --metric {told.metric}"
    return _write(file, page_of_comparison(told, refused, samples, again))


def _sweep_again(report: SweepReport, folder: Path) -> Iterator[str]:
    """The command that makes the sweep again, with the configuration that its folder keeps."""
    if not (folder / CONFIG).exists():
        return
    yield f"latprof sweep {shlex.quote(str(folder / CONFIG))}"
    flags = {"speedup": "--speedup ", "key": "--vary ", "rate": "--", "concurrency": "--"}
    for axis in report.axes:
        yield f"{flags[axis.kind]}{axis.name}={','.join(f'{value:g}' for value in axis.values)}"
    yield from (flag for flag, is_set in (("--together", report.is_zipped), ("--simulate", report.is_simulated)) if is_set)
    if report.replications > 1:
        yield f"--replications {report.replications}"


def _write(file: Path, text: str) -> Path:
    try:
        file.write_text(text, encoding="utf-8")
    except OSError as error:
        raise UsageError(f"{file}: cannot be written ({error.strerror}); name a file in a folder that can be") from None
    return file


def shown_of(opened: Opened, budget: Budget | None = None) -> Shown:
    """What the page and its pictures are made of."""
    observed = opened.observed
    command = "latprof simulate" if observed.is_simulated else "latprof run"
    return Shown(
        report=opened.report,
        run=observed,
        layers={"ttft": opened.tables.ttft} | dict(opened.layers),
        steps=load_steps(observed.folder),
        courses=partial(courses_of, opened),
        repeat=f"{command} {shlex.quote(str(observed.folder / CONFIG))}",
        config=config_of(opened),
        limits_ms=_limits_ms(budget),
    )


def _limits_ms(budget: Budget | None) -> dict[str, dict[str, float]]:
    """Metric -> column label -> the strictest promise for the whole of it."""
    found: dict[str, dict[str, float]] = {}
    for limit in () if budget is None else budget.every_limit:
        if limit.is_upper and not limit.selector.layer and limit.selector.metric not in SHARES:
            label = "mean" if limit.p is None else f"p{100 * limit.p:g}"
            told = found.setdefault(limit.selector.metric, {})
            told[label] = min(told.get(label, math.inf), ms(limit.bound))
    return found


def config_of(opened: Opened) -> str:
    """What the run was made from, as a configuration that makes it again: only what differs from the defaults. Secrets are not in a run folder."""
    kept = opened.observed.meta.get("config")
    return config_text(Config.model_validate(kept), opened.report.run_id) if kept else ""


def config_text(config: Config, of: str = "") -> str:
    """A configuration as a file, only what differs from the defaults; where it writes to is left out."""
    told = config.model_dump(mode="json", by_alias=True, exclude_defaults=True, exclude={"out"})
    text: str = yaml.safe_dump(told, sort_keys=False, allow_unicode=True) if told else "{}\n"
    return f"# latprof {of or 'run'}\n{text}"
