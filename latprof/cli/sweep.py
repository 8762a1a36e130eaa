"""The flags of ``latprof sweep``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from latprof.cli.flags import ConfigFile, FindGoodput, Goodput, Html, JsonFile, Quiet, Set, Warmup
from latprof.cli.said import Said, assignments, flags_named, goodput_said, length_said, nested


def sweep(
    config: ConfigFile = None,
    *,
    speedup: Annotated[
        list[str] | None,
        typer.Option(metavar="LAYER=K,K,...", help="make a layer of the stack in a box faster, e.g. decode=1,2,4,8; repeatable"),
    ] = None,
    vary: Annotated[
        list[str] | None,
        typer.Option(metavar="KEY=V,V,...", help="any key that holds a number, e.g. stub.prefill.replicas=1,2,4; repeatable"),
    ] = None,
    rate: Annotated[str | None, typer.Option("--rate", "--request-rate", metavar="R,R,...", help="open loop at these rates")] = None,
    concurrency: Annotated[str | None, typer.Option(metavar="N,N,...", help="closed loop with so many requests in flight")] = None,
    together: Annotated[bool, typer.Option(help="move all axes at once instead of through their grid")] = False,
    simulate: Annotated[bool, typer.Option(help="in virtual time, side by side on all cores")] = False,
    replications: Annotated[
        int, typer.Option("--replications", "-R", help="independent runs of every point; 5 give intervals throughout")
    ] = 1,
    refine: Annotated[
        int | None, typer.Option(min=0, help="rounds of further runs where layers cross; 2 with --simulate, else none")
    ] = None,
    leverage: Annotated[bool, typer.Option(help="find the leverage by running again, 5 % off (--simulate)")] = False,
    worthwhile: Annotated[float, typer.Option(metavar="MS", help="what one more doubling must save", min=0)] = 30.0,
    allow_unstable: Annotated[bool, typer.Option(help="simulate points even where a layer is asked for more than it can do")] = False,
    find_goodput: FindGoodput = None,
    goodput: Goodput = None,
    num_prompts: Annotated[int | None, typer.Option("--num-prompts", "--num-requests", help="measured requests of each run")] = None,
    duration: Annotated[str | None, typer.Option(metavar="60s", help="measured time of each run")] = None,
    warmup: Warmup = None,
    seed: Annotated[int | None, typer.Option(help="of the first replication; the next one's is one more")] = None,
    out: Annotated[Path | None, typer.Option(metavar="DIR", help="folder of the sweep; runs/<time> by default")] = None,
    json_file: JsonFile = None,
    html: Html = True,
    quiet: Quiet = False,
    set_: Set = None,
) -> None:
    """Run a configuration along speed-ups of layers, rates or concurrencies, and print which layer is the bottleneck at each."""
    from latprof.commands.sweep import Asked, sweep_and_print
    from latprof.config import load_config

    said = (
        *length_said(num_prompts, duration, warmup),
        Said("load.seed", "--seed", seed),
        Said("stub.seed", "--seed", seed),
        Said("goodput", "--goodput", goodput_said(goodput)),
        Said("out", "--out", out),
        *assignments(set_),
    )
    asked = Asked(
        speedups=tuple(speedup or ()),
        varied=tuple(vary or ()),
        rate=rate,
        concurrency=concurrency,
        together=together,
        simulate=simulate,
        replications=replications,
        refine=refine,
        leverage=leverage,
        worthwhile_ms=worthwhile,
        find_goodput=find_goodput,
        allow_unstable=allow_unstable,
    )
    with flags_named(said):
        settings = load_config(config, nested(said))
        raise typer.Exit(sweep_and_print(settings, asked, json_file=json_file, quiet=quiet, html=html))
