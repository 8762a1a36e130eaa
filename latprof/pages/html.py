"""The HTML reports of run folders, sweeps and comparisons: what they are made of, read from the folders alone."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from latprof.analysis.verdicts.replications import SHARES
from latprof.config import Config
from latprof.errors import UsageError
from latprof.observations.folder import read_meta
from latprof.observations.graph import load_steps
from latprof.opening import Opened, courses_of
from latprof.pages.again import CONFIG, comparison_again, config_text, run_again, sweep_again
from latprof.report.page.made import Made
from latprof.report.page.run import Shown, page
from latprof.units import ms

if TYPE_CHECKING:
    from latprof.analysis.verdicts.arms import Arm
    from latprof.analysis.verdicts.compare import Comparison
    from latprof.gates.budget import Budget
    from latprof.report.sweep.values import SweepReport

PAGE = "report.html"


def write_page(opened: Opened, file: Path | None = None, budget: Budget | None = None) -> Path:
    """Write the page of a run to ``file``, by default into its folder beside the configuration that repeats it; where it is now.

    What ``budget`` promises end to end is a tick on its bars.

    Raises:
        UsageError: it cannot be written.
    """
    folder = opened.observed.folder
    if file is None and not (folder / CONFIG).exists() and (text := _config_of(opened.observed.meta, opened.report.run_id or "run")):
        _write(folder / CONFIG, text)
    return _write(folder / PAGE if file is None else file, page(shown_of(opened, budget)))


def write_sweep_page(report: SweepReport, folder: Path, file: Path | None = None) -> Path:
    """Write the page of a sweep to ``file``, by default into its folder; where it is now.

    Raises:
        UsageError: it cannot be written.
    """
    from latprof.report.page.sweep import page as page_of_sweep
    from latprof.sweep.stored import flags_of

    first = next((run for point in report.points for run in point.point.told), None)
    made = None if first is None else _made(read_meta(first.folder))
    return _write(folder / PAGE if file is None else file, page_of_sweep(report, sweep_again(folder, flags_of(folder)), made))


def write_comparison_page(told: Comparison, refused: Sequence[str], arms: tuple[Path, Path], file: Path) -> Path:
    """Write the page of a comparison; ``arms`` are what was compared: run folders, folders of them, baselines.

    Raises:
        UsageError: it cannot be written.
    """
    from latprof.gates.arms import runs_at
    from latprof.report.page.comparison import page as page_of_comparison

    sides = dict(zip("AB", zip((told.a, told.b), arms, strict=True), strict=True))
    samples = {name: [one.values_ns for one in arm.runs] for name, (arm, _) in sides.items()}
    has_baseline = any(path.is_file() for path in arms)
    made = {name: _kept(arm) if has_baseline else _made(read_meta(runs_at(path)[0])) for name, (arm, path) in sides.items()}
    return _write(file, page_of_comparison(told, refused, samples, comparison_again(arms, told), made))


def _kept(arm: Arm) -> Made:
    """What a baseline keeps of an arm: flat keys of its configuration, and a few facts of its host."""
    conditions = {**arm.conditions.asked, **arm.conditions.system}
    return Made("".join(f"{key}: {value}\n" for key, value in conditions.items()), arm.conditions.place)


def _made(meta: Mapping[str, Any]) -> Made:
    return Made(_config_of(meta, "run"), meta.get("host", {}))


def _write(file: Path, text: str) -> Path:
    """The whole file or none: a page cut off in the middle would open, and show less than there is."""
    draft = file.with_name(f".{file.name}.draft")
    try:
        draft.write_text(text, encoding="utf-8")
        draft.replace(file)
    except OSError as error:
        raise UsageError(f"{file}: cannot be written ({error.strerror}); name a file in a folder that can be") from None
    return file


def shown_of(opened: Opened, budget: Budget | None = None) -> Shown:
    """What the page and its pictures are made of."""
    observed = opened.observed
    return Shown(
        report=opened.report,
        run=observed,
        layers={"ttft": opened.tables.ttft} | dict(opened.layers),
        steps=load_steps(observed.folder),
        courses=partial(courses_of, opened),
        repeat=run_again(observed.folder, observed.meta),
        config=_config_of(observed.meta, opened.report.run_id or "run"),
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


def _config_of(meta: Mapping[str, Any], of: str) -> str:
    """What the run was made from, as a configuration that makes it again."""
    kept = meta.get("config")
    return config_text(Config.model_validate(kept), of) if kept else ""
