"""The flags of ``latprof baseline``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

baseline_app = typer.Typer(help="What a gate remembers of good runs.", no_args_is_help=True, rich_markup_mode=None)


@baseline_app.command("save")
def baseline_save(
    runs: Annotated[list[Path], typer.Argument(metavar="RUN...", help="run folders that repeat one experiment, or a folder of them")],
    *,
    to: Annotated[Path, typer.Option("--to", metavar="FILE", help="a JSON file, for git")],
    ceiling: Annotated[
        str | None, typer.Option(metavar="20%", help="set new ceilings so far above; those of a file that is there stay otherwise")
    ] = None,
) -> None:
    """Keep the figures of good runs, to hold later ones against them."""
    from latprof.commands.baseline import save_baseline

    raise typer.Exit(save_baseline(runs, to, ceiling))


@baseline_app.command("show")
def baseline_show(file: Annotated[Path, typer.Argument(metavar="FILE", help="a baseline")]) -> None:
    """Print a baseline: its conditions, figures and ceilings."""
    from latprof.commands.baseline import show_baseline

    raise typer.Exit(show_baseline(file))
