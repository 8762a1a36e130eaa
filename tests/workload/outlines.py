"""How outlines are looked at, and files written, in these tests."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from latprof.workload.outline import Made, Outline
from latprof.workload.sessions import Tool

DATA = Path(__file__).parents[3] / "shared" / "data"


def lines(tmp_path: Path, *objects: Any, name: str = "trace.jsonl") -> Path:
    """One object a line; a text is a line as it stands."""
    file = tmp_path / name
    file.write_text("\n".join(one if isinstance(one, str) else json.dumps(one) for one in objects))
    return file


def lengths(session: Outline) -> list[tuple[int, int | None]]:
    """(new prompt tokens, output tokens) of the turns whose prompt is to be made."""
    return [(turn.prompt.tokens, turn.output_tokens) for turn in session.turns if isinstance(turn.prompt, Made)]


def graph(session: Outline) -> list[tuple[str, tuple[int, ...], int | None]]:
    """(tool's name or "turn", what it comes after, context) of each step."""
    return [(step.name, step.after, None) if isinstance(step, Tool) else ("turn", step.after, step.context) for step in session.steps]
