"""The flags of ``latprof compare``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from latprof.cli.flags import JsonFile, Quiet, Set
from latprof.cli.said import assignments, flags_named, nested


def compare(
    a: Annotated[str, typer.Argument(metavar="A", help="a run folder, a folder of them, a baseline; to be measured: a URL or CONFIG.yaml")],
    b: Annotated[str, typer.Argument(metavar="B", help="the same, held against A")],
    *,
    metric: Annotated[str, typer.Option(metavar="ttft|e2el|task", help="whose layers are compared")] = "ttft",
    tolerance: Annotated[str, typer.Option(metavar="5%", help="a change up to this share of A is none")] = "0%",
    min_abs: Annotated[str, typer.Option(metavar="1ms", help="nor is one up to this time")] = "0ms",
    interleave: Annotated[bool, typer.Option(help="measure A and B now, in turns: two URLs, or two configurations of the stub")] = False,
    simulate: Annotated[bool, typer.Option(help="play two configurations now, in virtual time with the same seeds")] = False,
    config: Annotated[Path | None, typer.Option(metavar="CONFIG.yaml", help="the load for two URLs")] = None,
    pairs: Annotated[int, typer.Option(help="runs of each side, an even number")] = 6,
    out: Annotated[Path | None, typer.Option(metavar="DIR", help="where the runs go; runs/<time> by default")] = None,
    json_file: JsonFile = None,
    html: Annotated[Path | None, typer.Option(metavar="FILE", help="the comparison as one HTML file that opens offline")] = None,
    quiet: Quiet = False,
    set_: Set = None,
) -> None:
    """Hold B against A: what changed end to end and in each layer, how surely, and what a change would have had to be to be seen."""
    from latprof.commands.compare import Asked, compare_and_print

    said = tuple(assignments(set_))
    asked = Asked(metric, tolerance, min_abs, interleave, simulate, config, pairs, out, nested(said))
    with flags_named(said):
        raise typer.Exit(compare_and_print(a, b, asked, json_file=json_file, html=html, quiet=quiet))
