"""The flags of ``latprof budget``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

budget_app = typer.Typer(help="A first latency budget, and what is spent.", no_args_is_help=True, rich_markup_mode=None)


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
