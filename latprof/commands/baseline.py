"""What ``latprof baseline`` does: keep the figures of good runs, and print what is kept."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

from latprof.errors import Exit, RunFailedError


def save_baseline(runs: Sequence[Path], to: Path, ceiling: str | None) -> Exit:
    """``latprof baseline save``."""
    from latprof.analysis.verdicts.replications import FEW
    from latprof.analysis.verdicts.trust import about_layers
    from latprof.gates.arms import arm_of_runs, runs_at
    from latprof.gates.baseline import ceiling_keys, save
    from latprof.gates.words import share

    ceiling_share = None if ceiling is None else share("--ceiling", ceiling)
    arm = arm_of_runs([folder for path in runs for folder in runs_at(path)])
    fatal = next((doubt for doubt in arm.doubts if doubt.level == "fatal"), None)
    if fatal is not None:
        raise RunFailedError(f"{arm.name}: cannot be a baseline, for it is not valid: {fatal.text}; {fatal.remedy}")
    baseline = save(arm, to, ceiling_share=ceiling_share)
    few = f"; with fewer than {FEW} runs only medians can be held against it" if len(arm.seeds) < FEW else ""
    sys.stdout.write(
        f"{to}: the baseline of {len(arm.seeds)} run{'' if len(arm.seeds) == 1 else 's'}, seeds {', '.join(map(str, arm.seeds))}{few}\n"
    )
    doubt = about_layers(arm.doubts)
    if doubt is not None and arm.layers:
        sys.stdout.write(f"no layer can be held against it: {doubt.text}; {doubt.remedy}\n")
    sys.stdout.write(f"ceilings: {', '.join(f'{key} {value / 1e6:.2f} ms' for key, value in baseline.ceilings_ns.items()) or 'none'}\n")
    for key in ceiling_keys(arm):
        if key not in baseline.ceilings_ns:
            sys.stdout.write(f"no ceiling for {key}: {arm.figure(key).why or 'too few requests'}\n")
    return Exit.DONE


def show_baseline(path: Path) -> Exit:
    """``latprof baseline show``."""
    from latprof.gates.baseline import load
    from latprof.report.gate.kept import render

    baseline = load(path)
    render(baseline.arm, baseline.ceilings_ns)
    return Exit.DONE
