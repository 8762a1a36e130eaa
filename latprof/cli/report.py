"""The flags of ``latprof report``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from latprof.cli.flags import JsonFile


def report(
    run_folder: Annotated[Path, typer.Argument(metavar="RUN", help="a run folder")],
    *,
    json_file: JsonFile = None,
    html: Annotated[Path | None, typer.Option(metavar="FILE", help="the report as one HTML file that opens offline")] = None,
    figures: Annotated[Path | None, typer.Option(metavar="DIR", help="its figures as SVG and PNG, for papers and pull requests")] = None,
    budget: Annotated[Path | None, typer.Option(metavar="FILE", help="of --html and --figures: mark what this budget promises")] = None,
    perfetto: Annotated[Path | None, typer.Option(metavar="FILE", help="single requests as a trace, for ui.perfetto.dev")] = None,
    folded: Annotated[Path | None, typer.Option(metavar="FILE", help="the TTFT budget as stacks, for flame graphs")] = None,
    at: Annotated[str | None, typer.Option(metavar="p99", help="the percentile of --folded, or mean")] = None,
    otlp: Annotated[str | None, typer.Option(metavar="URL", help="send client spans with their layers to a collector (OTLP/HTTP)")] = None,
    otlp_header: Annotated[
        list[str] | None, typer.Option(metavar="NAME=VARIABLE", help="header for it, its value from the environment; repeatable")
    ] = None,
    genai_metrics: Annotated[bool, typer.Option("--genai-metrics", help="send the GenAI client metrics too")] = False,
) -> None:
    """Print a run's report again, from its folder alone; write it for other tools."""
    from latprof.commands.export import Exports
    from latprof.commands.report import report_and_print

    exports = Exports(perfetto, folded, at, otlp, tuple(otlp_header or ()), genai_metrics)
    raise typer.Exit(report_and_print(run_folder, json_file=json_file, html=html, figures=figures, budget_file=budget, exports=exports))
