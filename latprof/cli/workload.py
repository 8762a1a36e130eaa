"""The flags of ``latprof workload``; what it does is in `latprof.commands.workload`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from latprof.cli.flags import ConfigFile
from latprof.cli.said import Said, flags_named, nested
from latprof.errors import UsageError

if TYPE_CHECKING:
    from latprof.config import Workload

workload_app = typer.Typer(help="Traces and workloads, told and converted.", no_args_is_help=True, rich_markup_mode=None)

TraceFormat = Annotated[str | None, typer.Option("--from", metavar="FORMAT", help="of the trace; told from its content by default")]
Window = Annotated[str | None, typer.Option("--trace-window", metavar="10m", help="only the trace's first part")]
Preset = Annotated[str | None, typer.Option("--preset", metavar="chat|code|agent", help="laws fitted to a published trace")]


@workload_app.command("inspect")
def workload_inspect(
    what: Annotated[Path | None, typer.Argument(metavar="[TRACE|CONFIG.yaml]", help="none: the workload of --preset")] = None,
    *,
    trace_format: TraceFormat = None,
    trace_window: Window = None,
    preset: Preset = None,
    tokenizer: Annotated[Path | None, typer.Option(metavar="tokenizer.json", help="counts recorded texts")] = None,
    sessions: Annotated[int, typer.Option(min=1, help="of a synthetic workload")] = 1000,
    seed: Annotated[int, typer.Option(help="of a synthetic workload")] = 1,
    json_file: Annotated[Path | None, typer.Option("--json", metavar="FILE", help="write the figures here; - for standard output")] = None,
) -> None:
    """Tell a workload in numbers: lengths, turns, tools, arrivals, and how much of it a prefix cache would know."""
    from latprof.commands.workload import inspect_and_print

    settings = _workload(
        Said("workload.trace_format", "--from", trace_format),
        Said("workload.trace_window", "--trace-window", trace_window),
        Said("workload.preset", "--preset", preset),
        Said("workload.tokenizer", "--tokenizer", tokenizer),
    )
    raise typer.Exit(inspect_and_print(what, settings, sessions=sessions, seed=seed, json_file=json_file))


@workload_app.command("convert")
def workload_convert(
    source: Annotated[Path, typer.Argument(metavar="IN", help="a trace")],
    to: Annotated[Path, typer.Argument(metavar="OUT", help="a file; - for standard output")],
    *,
    to_format: Annotated[str, typer.Option("--to", metavar="native", help="latprof's own form, one session graph a line")] = "native",
    trace_format: TraceFormat = None,
    trace_window: Window = None,
    time_scale: Annotated[float | None, typer.Option(help="divide all times by this")] = None,
) -> None:
    """Turn a trace into latprof's own form, one session graph a line."""
    from latprof.commands.workload import convert

    if to_format != "native":
        raise UsageError(f"--to must be native, got {to_format!r}; latprof writes no other form")
    settings = _workload(
        Said("workload.trace_format", "--from", trace_format),
        Said("workload.trace_window", "--trace-window", trace_window),
        Said("workload.time_scale", "--time-scale", time_scale),
    )
    raise typer.Exit(convert(source, to, settings))


@workload_app.command("generate")
def workload_generate(
    config: ConfigFile = None,
    *,
    out: Annotated[Path, typer.Option("--out", metavar="FILE", help="a native trace; - for standard output")],
    preset: Preset = None,
    sessions: Annotated[int, typer.Option(min=1)] = 1000,
    rate: Annotated[float, typer.Option(min=1e-9, help="sessions per second, Poisson")] = 1.0,
    seed: Annotated[int, typer.Option(help="same seed, same file")] = 1,
) -> None:
    """Write the sessions of a preset, or of a configuration's synthetic workload, as a native trace."""
    from latprof.commands.workload import generate

    settings = _workload(Said("workload.preset", "--preset", preset))
    raise typer.Exit(generate(config, settings, sessions=sessions, rate_per_s=rate, seed=seed, to=out))


def _workload(*said: Said) -> Workload:
    """The workload section that flags ask for."""
    from latprof.config import load_config

    with flags_named(said):
        return load_config(None, nested(said)).workload
