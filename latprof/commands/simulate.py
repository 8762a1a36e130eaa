"""What ``latprof simulate`` does: play the configuration, print the report."""

from __future__ import annotations

from pathlib import Path

from latprof.commands.output import check_writable
from latprof.commands.report import print_report, write_html
from latprof.config import Config
from latprof.errors import Exit
from latprof.pipeline import simulate


def simulate_and_print(config: Config, *, json_file: Path | None, allow_unstable: bool, html: bool = True) -> Exit:
    """``latprof simulate``."""
    check_writable(json_file)
    outcome = simulate(config, allow_unstable=allow_unstable)
    print_report(outcome.report, json_file)
    if html:
        write_html(outcome.opened)
    return outcome.exit_code
