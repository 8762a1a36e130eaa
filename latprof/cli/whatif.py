"""The flags of ``latprof whatif``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def whatif(
    run_folder: Annotated[Path, typer.Argument(metavar="RUN", help="a run folder")],
    *,
    speedup: Annotated[
        list[str] | None, typer.Option(metavar="LAYER=K", help="divide a layer's service, e.g. decode=8 or gateway=2; repeatable")
    ] = None,
    layer: Annotated[
        list[str] | None, typer.Option(metavar="LAYER=CHANGE", help="gateway.safety=-50%, router=+2ms, prefill=12ms (sets); repeatable")
    ] = None,
    servers: Annotated[list[str] | None, typer.Option(metavar="LAYER=N", help="servers of a station, e.g. prefill=4; repeatable")] = None,
    arrivals: Annotated[
        str | None, typer.Option(metavar="recorded|open|closed", help="how requests come in the prediction; as they came, by default")
    ] = None,
    places: Annotated[int | None, typer.Option(metavar="N", help="of a closed loop: so many sessions always on")] = None,
    shapley: Annotated[bool, typer.Option("--shapley", help="share the saving among 2 to 6 changes (2^n replays)")] = False,
    json_file: Annotated[Path | None, typer.Option("--json", metavar="FILE", help="write the answer here; - for standard output")] = None,
) -> None:
    """Predict what a change would do to a recorded run: its requests replayed through its stations; docs/whatif.md."""
    from latprof.commands.whatif import Question, answer_and_print

    question = Question(tuple(speedup or ()), tuple(layer or ()), tuple(servers or ()), arrivals, places, shapley)
    raise typer.Exit(answer_and_print(run_folder, question, json_file=json_file))
