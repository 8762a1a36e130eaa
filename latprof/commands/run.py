"""What ``latprof run`` does: tell the plan, make the run, print its report."""

from __future__ import annotations

import sys
from pathlib import Path

from latprof.commands.output import check_writable
from latprof.commands.report import print_report, write_html
from latprof.config import Config
from latprof.errors import Exit
from latprof.pipeline import run


def run_and_print(config: Config, *, json_file: Path | None, dry_run: bool, quiet: bool, live: bool = False, html: bool = True) -> Exit:
    """``latprof run``; ``html``: with a page in the run folder."""
    from latprof.observations.scrub import scrub_url
    from latprof.schedule.build import build_plan
    from latprof.schedule.size import plan_size

    check_writable(json_file)
    is_far = _is_far(config)  # reads the address first of all: a wrong one is told before a plan is made
    if dry_run or is_far:
        where = ", ".join(scrub_url(target.url) if target.url else "the stack in a box" for target in config.every_target)
        sys.stderr.write(f"{plan_size(build_plan(config)).sentence(where)}\n")
        if dry_run:
            _foretell(config)
            return Exit.DONE
    outcome = run(config, quiet=quiet, live=live)
    print_report(outcome.report, json_file)
    if html:
        write_html(outcome.opened, quiet=quiet)
    return outcome.exit_code


def _foretell(config: Config) -> None:
    """Say what the stack in a box would not keep up with; of a real endpoint nobody knows."""
    if not config.uses_stub:
        return
    from latprof.pipeline.offered import overloads

    for one in overloads(config):
        sys.stderr.write(f"{one.line}\n")


def _is_far(config: Config) -> bool:
    """Whether the load goes to another machine."""
    from latprof.client.address import read_address

    hosts = [read_address(target.url).host for target in config.every_target if target.url is not None]
    return any(host not in {"localhost", "::1"} and not host.startswith("127.") for host in hosts)
