"""The command line. Everything heavy is imported inside the command that needs it: ``latprof --help`` answers in under 0.3 s."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from latprof.cli.baseline import baseline_app
from latprof.cli.budget import budget_app
from latprof.cli.compare import compare
from latprof.cli.doctor import doctor
from latprof.cli.gate import gate
from latprof.cli.report import report
from latprof.cli.run import run
from latprof.cli.simulate import simulate
from latprof.cli.stub import stub_app
from latprof.cli.sweep import sweep
from latprof.cli.whatif import whatif
from latprof.cli.workload import workload_app
from latprof.errors import Exit, LatprofError

app = typer.Typer(
    name="latprof",
    help="Where the time to first token goes, layer by layer: drive load at an LLM serving stack and print a latency budget that adds up.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,  # rich's help costs 0.1 s
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 120},
)

# Those that do something first, in this order also in --help; then those that have commands of their own.
app.command(short_help="Drive load and print the TTFT budget by layer.")(run)
app.command(short_help="Run a grid of speed-ups, rates, sizes.")(sweep)
app.command(short_help="Play a configuration in virtual time.")(simulate)
app.command(short_help="Print a run again; write it for others.")(report)
app.command(short_help="Predict what a change would do to a run.")(whatif)
app.command(short_help="Hold run B against run A.")(compare)
app.command(short_help="Hold runs against a budget; exit code 1 fails.")(gate)
app.command(short_help="Measure what this machine can measure.")(doctor)
app.add_typer(stub_app, name="stub")
app.add_typer(workload_app, name="workload")
app.add_typer(baseline_app, name="baseline")
app.add_typer(budget_app, name="budget")


def _print_version(asked: bool) -> None:
    if asked:
        from importlib.metadata import version

        print(f"latprof {version('latprof')}")
        raise typer.Exit


@app.callback()
def latprof(
    *, version: Annotated[bool, typer.Option("--version", callback=_print_version, is_eager=True, help="print the version")] = False
) -> None:
    """Where the time to first token goes, layer by layer: drive load at an LLM serving stack, print a latency budget that adds up."""


def main() -> None:
    """The console script: errors become one message and an exit code."""
    try:
        app()
    except LatprofError as error:
        from latprof.report.inert import plain

        said = plain(str(error), keep="\n")  # it may quote a server
        sys.stderr.write(f"latprof: {said}\n")
        sys.exit(error.exit_code)
    except KeyboardInterrupt:
        sys.exit(Exit.INTERRUPTED)
    except BrokenPipeError:
        sys.exit(Exit.DONE)  # the reader of our output left
    except Exception:  # noqa: BLE001 - the last line of defence: a bug gets its own exit code
        import traceback

        sys.stderr.write(
            f"latprof: internal error; this is a bug in latprof, not in your stack. Please report it with these lines:\n{traceback.format_exc()}"
        )
        sys.exit(Exit.INTERNAL)
