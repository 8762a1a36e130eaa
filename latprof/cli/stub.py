"""The flags of ``latprof stub``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from latprof.cli.flags import ConfigFile, Set
from latprof.cli.said import assignments, flags_named, nested

stub_app = typer.Typer(help="The serving stack in a box.", no_args_is_help=True, rich_markup_mode=None)


@stub_app.command("up")
def stub_up(
    config: ConfigFile = None,
    *,
    port: Annotated[int, typer.Option(min=0, max=65535, help="the gateway's port; 0 takes a free one")] = 8000,
    otlp: Annotated[str | None, typer.Option(metavar="URL", help="OTLP/HTTP endpoint for spans, e.g. http://127.0.0.1:4318")] = None,
    truth: Annotated[Path | None, typer.Option(metavar="DIR", help="write what every stage really did")] = None,
    set_: Set = None,
) -> None:
    """Keep the stack in a box running for other tools, until Ctrl-C."""
    from latprof.commands.stub import keep_stub_up
    from latprof.config import load_config

    said = tuple(assignments(set_))
    with flags_named(said):
        settings = load_config(config, nested(said))
        raise typer.Exit(keep_stub_up(settings, port=port, otlp_http_endpoint=otlp, truth=truth))
