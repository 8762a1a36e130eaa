"""What ``latprof simulate`` does: play the configuration, print the report."""

from __future__ import annotations

from pathlib import Path

from latprof.commands import check_writable, print_report
from latprof.config import Config
from latprof.errors import Exit
from latprof.pipeline import simulate


def simulate_and_print(config: Config, *, json_file: Path | None, allow_unstable: bool) -> Exit:
    """``latprof simulate``."""
    check_writable(json_file)
    outcome = simulate(config, allow_unstable=allow_unstable)
    print_report(outcome.report, json_file)
    return outcome.exit_code
