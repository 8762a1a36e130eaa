"""The flags of ``latprof simulate``."""

from __future__ import annotations

from typing import Annotated

import typer

from latprof.cli.flags import (
    Concurrency,
    ConfigFile,
    Goodput,
    Html,
    Isl,
    JsonFile,
    MaxConcurrency,
    NumPrompts,
    Osl,
    Out,
    Preset,
    Rate,
    Set,
    TimeScale,
    TraceFile,
    TraceWindow,
    Warmup,
)
from latprof.cli.said import Said, assignments, flags_named, goodput_said, length_said, load_said, nested, workload_said


def simulate(
    config: ConfigFile = None,
    *,
    request_rate: Rate = None,
    concurrency: Concurrency = None,
    max_concurrency: MaxConcurrency = None,
    num_prompts: NumPrompts = None,
    duration: Annotated[str | None, typer.Option(metavar="60s", help="virtual time measured; it takes none of yours")] = None,
    warmup: Warmup = None,
    isl: Isl = None,
    osl: Osl = None,
    trace: TraceFile = None,
    trace_window: TraceWindow = None,
    time_scale: TimeScale = None,
    preset: Preset = None,
    seed: Annotated[int | None, typer.Option(help="of the schedule, the sessions and the stack: the same seed, the same bytes")] = None,
    goodput: Goodput = None,
    out: Out = None,
    json_file: JsonFile = None,
    html: Html = True,
    allow_unstable: Annotated[bool, typer.Option(help="play it even if a layer is asked for more than it can do")] = False,
    set_: Set = None,
) -> None:
    """Play a configuration in virtual time: the same run folder and report as `run`, of the stack in a box, without a clock."""
    from latprof.commands.simulate import simulate_and_print
    from latprof.config import load_config

    said = (
        *load_said(request_rate, concurrency, max_concurrency),
        *length_said(num_prompts, duration, warmup),
        Said("load.seed", "--seed", seed),
        Said("stub.seed", "--seed", seed),
        *workload_said(isl, osl, trace, trace_window, time_scale, preset),
        Said("goodput", "--goodput", goodput_said(goodput)),
        Said("out", "--out", out),
        *assignments(set_),
    )
    with flags_named(said):
        settings = load_config(config, nested(said))
        raise typer.Exit(simulate_and_print(settings, json_file=json_file, allow_unstable=allow_unstable, html=html))
