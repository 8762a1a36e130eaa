"""``sweep.json``: which runs make up a sweep. Every figure is computed again from the run folders beside it."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from latprof.analysis.sweeps.highest import Search
from latprof.errors import ConfigError
from latprof.report.sweep.values import Axis, Leverages, Point, SweepReport, SweptRun, build
from latprof.sweep.asked import Sweep

SCHEMA = "latprof.sweep/1"
FILE = "sweep.json"


def name_of(setting: Mapping[str, float], number: int) -> str:
    """The folder of one run below the sweep's: ``decode=4,r0``."""
    return ",".join([*(f"{axis}={value:g}" for axis, value in setting.items()), f"r{number}"])


def write(
    folder: Path,
    axes: Sequence[Axis],
    points: Sequence[Point],
    asked: Sweep,
    *,
    is_complete: bool,
    leverages: Leverages | None = None,
    search: Search | None = None,
) -> None:
    """Put the index of what was made so far in the place of ``sweep.json``, at once; ``leverages`` are kept, their runs take much room.

    ``search`` is what the points were made for, where that was a search; its answer is found in the runs again.
    """
    told = {
        "schema": SCHEMA,
        "status": "complete" if is_complete else "running",
        "axes": [{"name": axis.name, "kind": axis.kind, "values": list(axis.values)} for axis in axes],
        "together": asked.is_zipped,
        "simulated": asked.is_simulated,
        "worthwhile_ns": asked.worthwhile_ns,
        "points": [
            {
                "setting": dict(point.setting),
                "runs": [
                    {
                        "number": run.number,
                        "folder": run.folder.name,
                        "seed": run.seed,
                        "used": run.is_used,
                        "failure": run.failure,
                        "refused": run.refused,
                    }
                    for run in point.runs
                ],
            }
            for point in points
        ],
        "leverages": leverages,
        "flags": list(asked.flags),
        "search": None if search is None else asdict(search),
    }
    draft = folder / f"{FILE}.draft"
    draft.write_text(json.dumps(told, indent=2) + "\n", encoding="utf-8")
    draft.replace(folder / FILE)


def flags_of(folder: Path) -> list[str] | None:
    """The flags that asked for the sweep; None where an older version wrote the folder."""
    flags: list[str] | None = _told(folder).get("flags")
    return flags or None


def search_of(folder: Path) -> Search | None:
    """What the folder's points were made for; None of a plain sweep, and where the search did not come to its end."""
    told = _told(folder)
    search = told.get("search") if told["status"] == "complete" else None
    return None if search is None else Search(**search)


def is_sweep(folder: Path) -> bool:
    """Whether the folder is that of a sweep."""
    return (folder / FILE).is_file()


def read(folder: Path) -> SweepReport:
    """The report of a sweep from its folder alone.

    Raises:
        ConfigError: ``sweep.json`` is damaged, or a run folder is missing.
    """
    told = _told(folder)
    points = [Point(point["setting"], tuple(_run(folder, run) for run in point["runs"])) for point in told["points"]]
    return build(
        points,
        [Axis(axis["name"], axis["kind"], tuple(axis["values"])) for axis in told["axes"]],
        is_zipped=told["together"],
        is_simulated=told["simulated"],
        leverages=None if told["leverages"] is None else {int(index): found for index, found in told["leverages"].items()},
        worthwhile_ns=told["worthwhile_ns"],
        folder=folder,
    )


def _run(folder: Path, run: Mapping[str, Any]) -> SweptRun:
    from dataclasses import replace

    from latprof.sweep.runs import understood

    if run["failure"]:
        refused = run.get("refused", False)
        return SweptRun(run["number"], folder / run["folder"], run["seed"], failure=run["failure"], refused=refused)
    return replace(understood(folder / run["folder"]), number=run["number"])


def _told(folder: Path) -> dict[str, Any]:
    path = folder / FILE
    try:
        told = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ConfigError(f"{path}: cannot be read ({error}); wanted the file as latprof wrote it; sweep again") from None
    if not isinstance(told, dict) or told.get("schema") != SCHEMA:
        raise ConfigError(f"{path}: its schema must be {SCHEMA}; name the folder of a sweep that this latprof wrote")
    return told
