"""What ``latprof report`` does, and what is told of any run when it is over: its report, its summary, its page."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

from latprof.commands.output import check_writable, print_with_json, tell_figures
from latprof.errors import Exit, UsageError
from latprof.opening import Opened, exit_code_of, open_run

if TYPE_CHECKING:
    from latprof.commands.export import Exports
    from latprof.gates.budget import Budget
    from latprof.report.values import Report


def report_and_print(
    folder: Path,
    *,
    json_file: Path | None,
    html: Path | None = None,
    figures: Path | None = None,
    budget_file: Path | None = None,
    exports: Exports | None = None,
) -> Exit:
    """``latprof report``, of a run or of a sweep, with its page and its figures; ``exports`` of a run are written beside it."""
    from latprof.commands.export import check, export
    from latprof.pages.figures import check_figures, write_figures
    from latprof.sweep.stored import is_sweep

    check_writable(json_file)
    check_writable(html, "--html")
    if figures is not None:
        check_figures(figures)
    budget = _promised(budget_file, shown=html is not None or figures is not None)
    if exports is not None:
        check(exports, json_file)
    if is_sweep(folder):
        from latprof.commands.sweep import report_sweep_and_print

        if budget is not None:
            raise UsageError(f"{folder}: is a sweep; --budget marks what is promised on the page of one run: name one of those in it")
        if exports:
            raise UsageError(f"{folder}: is a sweep; --perfetto, --folded and --otlp are of one run: name one of those in it")
        return report_sweep_and_print(folder, json_file=json_file, html=html, figures=figures)
    opened = open_run(folder)
    print_report(opened.report, json_file, stderr=exports is not None and exports.on_stdout)
    if html is not None:
        write_html(opened, html, budget)
    if figures is not None:
        tell_figures(write_figures(opened, figures, budget), figures)
    if exports:
        export(opened, exports)
    return exit_code_of(opened.report)


def _promised(budget_file: Path | None, *, shown: bool) -> Budget | None:
    from latprof.gates.budget import load_budget

    if budget_file is not None and not shown:
        raise UsageError(
            "--budget marks what is promised on the page and the figures; give --html FILE or --figures DIR as well"
            " (latprof gate RUN --budget FILE judges it)"
        )
    return None if budget_file is None else load_budget(budget_file)


def print_report(report: Report, json_file: Path | None, *, stderr: bool = False) -> None:
    """The report on standard output (``stderr``: on standard error), and its summary in ``json_file`` (``-``: on standard output, the report then on standard error)."""
    from latprof.report.summary import summary
    from latprof.report.terminal import render

    kept = f"; the run itself is in {report.folder}"
    print_with_json(lambda beside: render(report, stderr=stderr or beside), summary(report), json_file, kept)


def write_html(opened: Opened, file: Path | None = None, budget: Budget | None = None, *, quiet: bool = False) -> None:
    """The page of a run, by default in its folder; where it is goes to standard error.

    Raises:
        UsageError: it was asked for as ``file`` and cannot be written. One that nobody asked for takes no run down with it.
    """
    from latprof.pages.html import write_page
    from latprof.report.inert import plain

    try:
        told = f"page: {write_page(opened, file, budget)}"
    except UsageError as error:
        if file is not None:
            raise
        told = f"no page: {error}"
    except Exception as error:  # the run is measured and told: a fault in its page must not turn its exit code
        if file is not None:
            raise
        told = f"no page: {type(error).__name__}: {error}; latprof report {opened.observed.folder} --html FILE shows where"
    if not quiet:
        sys.stderr.write(f"{plain(told)}\n")
