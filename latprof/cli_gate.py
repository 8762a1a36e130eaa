"""The flags of ``latprof gate`` and ``latprof budget``; what they do is in `latprof.commands.gate` and `latprof.commands.budget`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, cast

import typer

from latprof.errors import UsageError
from latprof.flags import config_of

if TYPE_CHECKING:
    from latprof.report.gate_values import Inconclusive

BudgetFile = Annotated[Path | None, typer.Option("--budget", metavar="FILE", help="what is promised; docs/ci.md")]
BaselineFile = Annotated[Path | None, typer.Option("--baseline", metavar="FILE", help="what regressions are measured against")]
Replications = Annotated[
    int | None, typer.Option("--replications", "-R", help="independent runs, each with seeds of its own; 5 is a good number")
]
EarlyStop = Annotated[bool, typer.Option("--early-stop", help="end as soon as the verdict is clear; the looks share the 5 %")]
TakenFor = Annotated[
    str | None,
    typer.Option("--inconclusive", metavar="pass|warn|fail", help="what an inconclusive gate is taken for; exit code 3 by default"),
]
Ci = Annotated[
    Path | None, typer.Option("--ci", metavar="DIR", help="write junit.xml, summary.md, gate.json, benchmark.json, otava.csv here")
]
Junit = Annotated[Path | None, typer.Option("--junit", metavar="FILE", help="write JUnit XML here")]
Json = Annotated[Path | None, typer.Option("--json", metavar="FILE", help="write the verdicts here; - for standard output")]

budget_app = typer.Typer(help="A first latency budget, and what is spent.", no_args_is_help=True, rich_markup_mode=None)


def gate_command(
    runs: Annotated[list[Path] | None, typer.Argument(metavar="RUN...", help="run folders, or folders of them: replications")] = None,
    *,
    budget: BudgetFile = None,
    baseline: BaselineFile = None,
    simulate: Annotated[
        Path | None,
        typer.Option("--simulate", metavar="CONFIG.yaml", help="play this configuration in virtual time instead of taking runs"),
    ] = None,
    replications: Replications = None,
    early_stop: EarlyStop = False,
    inconclusive: TakenFor = None,
    json_file: Json = None,
    junit: Junit = None,
    ci: Ci = None,
    out: Annotated[Path | None, typer.Option(metavar="DIR", help="keep the simulated runs here")] = None,
    set_: Annotated[list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="any key of the simulated configuration")] = None,
) -> None:
    """Hold runs against a budget: pass (0), fail (1), inconclusive (3), or not valid (4)."""
    from latprof.commands.gate import Asked, gate_and_print, simulate_and_gate

    if budget is None:
        raise UsageError("latprof gate needs --budget FILE; latprof budget init RUN writes a first one")
    asked = Asked(budget, baseline, taken_for(inconclusive), json_file, junit, ci, 5 if replications is None else replications, early_stop)
    if simulate is None:
        if not runs:
            raise UsageError("latprof gate needs a run folder, or --simulate CONFIG.yaml, got neither")
        for flag, value in (("--replications", replications), ("--early-stop", early_stop), ("--out", out), ("--set", set_)):
            if value is not None and value is not False:
                raise UsageError(f"{flag} belongs to --simulate; runs that are there already are taken as they are")
        raise typer.Exit(gate_and_print(runs, asked))
    if runs:
        raise UsageError("latprof gate takes run folders or --simulate CONFIG.yaml, got both; drop one")
    raise typer.Exit(simulate_and_gate(config_of(simulate, set_, out), asked))


def taken_for(word: str | None) -> Inconclusive:
    """What ``--inconclusive`` says."""
    if word not in {None, "pass", "warn", "fail"}:
        raise UsageError(f"--inconclusive must be pass, warn or fail, got {word!r}; leave it out for exit code 3")
    return cast("Inconclusive", word or "exit-3")


@budget_app.command("init")
def budget_init(
    runs: Annotated[list[Path], typer.Argument(metavar="RUN...", help="run folders, or folders of them")],
    *,
    to: Annotated[Path | None, typer.Option("--to", metavar="FILE", help="a new file; standard output by default")] = None,
    headroom: Annotated[float, typer.Option(min=0, help="above what was seen, in percent")] = 20.0,
) -> None:
    """Write a first budget from what a run shows."""
    from latprof.commands.budget import init_and_print

    raise typer.Exit(init_and_print(runs, to=to, headroom=headroom / 100))


@budget_app.command("show")
def budget_show(
    runs: Annotated[list[Path], typer.Argument(metavar="RUN...", help="run folders, or folders of them")],
    *,
    budget: Annotated[Path, typer.Option("--budget", metavar="FILE", help="with a latency_budget")],
    json_file: Annotated[
        Path | None, typer.Option("--json", metavar="FILE", help="made to be kept and compared; - for standard output")
    ] = None,
) -> None:
    """Print what runs spend of a latency budget, layer by layer."""
    from latprof.commands.budget import show_and_print

    raise typer.Exit(show_and_print(runs, budget, json_file))


@budget_app.command("diff")
def budget_diff(
    before: Annotated[Path, typer.Argument(metavar="BEFORE.json", help="from budget show --json, or gate --json")],
    after: Annotated[Path, typer.Argument(metavar="AFTER.json")],
) -> None:
    """Print what changed between two, promises and spending."""
    from latprof.commands.budget import diff_and_print

    raise typer.Exit(diff_and_print(before, after))
