"""The flags of ``latprof doctor``."""

from __future__ import annotations

from typing import Annotated

import typer


def doctor(*, as_json: Annotated[bool, typer.Option("--json", help="print everything measured as JSON")] = False) -> None:
    """Measure what this machine can measure: stamps, timers, requests and chunks per second, limits. About ten seconds."""
    from latprof.commands.doctor import diagnose_and_print

    raise typer.Exit(diagnose_and_print(as_json=as_json))
