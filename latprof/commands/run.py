"""What the commands do with a run: tell the plan, print the report, write the summary, keep the stack in a box up."""

from __future__ import annotations

import asyncio
import contextlib
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from latprof.config import Config
from latprof.errors import Exit, RunFailedError, UsageError
from latprof.opening import Opened, exit_code_of, open_run
from latprof.pipeline import run
from latprof.pipeline.loop import ENDING_SIGNALS, new_runner

if TYPE_CHECKING:
    from latprof.commands.export import Exports
    from latprof.gates.budget import Budget
    from latprof.report.values import Report

_LOOK_EVERY_S = 1.0


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


def tell_figures(files: Sequence[Path], folder: Path) -> None:
    """Where the figures are, on standard error."""
    from latprof.report.inert import plain

    names = ", ".join(dict.fromkeys(file.stem for file in files))
    sys.stderr.write(plain(f"figures: {folder} has {names}, each as SVG and PNG") + "\n")


def diagnose_and_print(*, as_json: bool) -> Exit:
    """``latprof doctor``."""
    import orjson

    from latprof.doctor import report
    from latprof.doctor.host import read_limits
    from latprof.doctor.measure import measure
    from latprof.doctor.verdict import findings, is_fit

    limits = read_limits()  # before anything here adds to the load average
    floor = measure()
    found = findings(floor, limits)
    if as_json:
        sys.stdout.buffer.write(orjson.dumps(report.as_json(found, floor, limits), option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE))
    else:
        sys.stdout.write("".join(f"{line}\n" for line in report.lines(found)))
    return Exit.DONE if is_fit(found) else Exit.UNTRUSTED


def keep_stub_up(config: Config, *, port: int, otlp_http_endpoint: str | None, truth: Path | None) -> Exit:
    """``latprof stub up``."""
    with new_runner() as runner:
        return runner.run(_keep_stub_up(config, port, otlp_http_endpoint, truth))


async def _keep_stub_up(config: Config, port: int, otlp_http_endpoint: str | None, truth: Path | None) -> Exit:
    from latprof.stub.stack import start

    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in ENDING_SIGNALS:
        loop.add_signal_handler(number, stop.set)
    async with await start(config.stub, otlp_http_endpoint, truth, {"gateway": port}, config.workload.tokenizer) as stub:
        where = f"spans go to {otlp_http_endpoint}" if otlp_http_endpoint else "no spans are sent (--otlp URL sends them)"
        sys.stdout.write(f"the stack in a box answers at {stub.url}/v1 (any model name); {where}. Ctrl-C ends it.\n")
        sys.stdout.flush()
        while not stop.is_set():
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(stop.wait(), _LOOK_EVERY_S)
            if died := stub.died():
                raise RunFailedError(f"the stack in a box did not last: {died}; start it again")
    return Exit.DONE


def check_writable(json_file: Path | None, flag: str = "--json") -> None:
    """Found out before the run, not after it."""
    if json_file is None or str(json_file) == "-":
        return
    try:
        existed = json_file.exists()
        json_file.open("ab").close()
    except OSError as error:
        raise UsageError(f"{flag} {json_file}: cannot be written ({error.strerror}); name a file in a folder that can be") from None
    if not existed:
        json_file.unlink()


def print_report(report: Report, json_file: Path | None, *, stderr: bool = False) -> None:
    """The report on standard output (``stderr``: on standard error), and its summary in ``json_file`` (``-``: on standard output, the report then on standard error)."""
    import orjson

    from latprof.report.summary import summary
    from latprof.report.terminal import render

    text = orjson.dumps(summary(report), option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE)
    on_stdout = str(json_file) == "-"
    # The reader of our output may leave (`| head`); rich then ends the process with 1, which stands for a failed gate.
    with contextlib.suppress(BrokenPipeError, SystemExit):
        if on_stdout:
            sys.stdout.buffer.write(text)
            sys.stdout.flush()
        render(report, stderr=stderr or on_stdout)
    if json_file is not None and not on_stdout:
        try:
            json_file.write_bytes(text)
        except OSError as error:
            raise UsageError(f"--json {json_file}: cannot be written ({error.strerror}); the run itself is in {report.folder}") from None


def _is_far(config: Config) -> bool:
    """Whether the load goes to another machine."""
    from latprof.client.address import read_address

    hosts = [read_address(target.url).host for target in config.every_target if target.url is not None]
    return any(host not in {"localhost", "::1"} and not host.startswith("127.") for host in hosts)
