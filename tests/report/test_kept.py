"""A baseline on a terminal gives no percentile that too few requests lie beyond."""

from __future__ import annotations

import io
from dataclasses import replace
from pathlib import Path

import pytest

from harness.queue_runs import replication
from latprof.analysis.verdicts.arms import arm_of
from latprof.gates.baseline import load, save
from latprof.report.gate.kept import render


@pytest.mark.parametrize(("runs", "n", "dashes"), [(1, 60, 3), (1, 5_000, 0), (3, 600, 0), (3, 60, 1)])
def test_cells_of_too_few_requests_are_dashes_with_the_reason(runs: int, n: int, dashes: int, tmp_path: Path) -> None:
    made = [replication((seed,), 0.05, n) for seed in range(runs)]
    save(arm_of("runs", [replace(one, meta={**one.meta, "seed": seed}) for seed, one in enumerate(made)]), tmp_path / "b.json")
    kept, stream = load(tmp_path / "b.json"), io.StringIO()
    render(kept.arm, kept.ceilings_ns, stream)
    text = stream.getvalue()
    (row,) = (line.split() for line in text.splitlines() if line.split()[:1] == ["ttft"])
    assert row.count("-") == dashes
    assert ("too few requests lie beyond that percentile" in text) == bool(dashes)
