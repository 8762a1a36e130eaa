"""Arms from what lies on a disk: a baseline file, a run folder, or a folder of run folders that repeat one experiment."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from latprof.analysis.verdicts.arms import Arm, arm_of
from latprof.gates.baseline import load
from latprof.opening import replication_of


def runs_at(path: Path) -> list[Path]:
    """The run folders that ``path`` means: itself, or those directly in it, by name."""
    if (path / "run.json").exists() or not path.is_dir():
        return [path]
    return sorted(below.parent for below in path.glob("*/run.json")) or [path]


def read_arm(path: Path, objectives_ms: Mapping[str, float] | None = None) -> Arm:
    """One side of a comparison: a baseline file, a run folder, or a folder of run folders that repeat one experiment.

    Raises:
        ConfigError: it is none of these.
        UsageError: the runs do not repeat the same thing.
    """
    if path.is_file():
        return load(path).arm
    return arm_of_runs(runs_at(path), objectives_ms)


def arm_of_runs(folders: Sequence[Path], objectives_ms: Mapping[str, float] | None = None) -> Arm:
    """Run folders that repeat one experiment, as an arm.

    Raises:
        ConfigError: one is not a run folder.
        UsageError: they do not repeat the same thing.
    """
    name = str(folders[0]) if len(folders) == 1 else f"{folders[0].parent} ({len(folders)} runs)"
    return arm_of(name, [replication_of(folder, objectives_ms) for folder in folders])
