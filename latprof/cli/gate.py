"""The flags of ``latprof gate``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, cast

import typer

from latprof.cli.flags import BaselineFile, BudgetFile, Ci, EarlyStop, Junit, Replications, TakenFor
from latprof.cli.said import config_of
from latprof.errors import UsageError

if TYPE_CHECKING:
    from latprof.report.gate.values import Inconclusive

Json = Annotated[Path | None, typer.Option("--json", metavar="FILE", help="write the verdicts here; - for standard output")]


def gate(
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
