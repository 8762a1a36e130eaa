"""What the files of observations are called. Every worker writes streams of its own, so that no two processes write to one file.

requests.w0.arrows            finished attempts of worker 0, batch after batch
requests.w0.inflight.arrows   its attempts not finished, replaced each time
chunks.w0.arrows              its chunks, batch after batch
steps.arrows                  the graphs of sessions, written by the profiler itself as it hands them out
inject.arrows                 what the injecting hop did to each request, written by the hop
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Literal

Kind = Literal["requests", "requests.inflight", "chunks"]

REQUESTS_PARQUET = "requests.parquet"
CHUNKS_PARQUET = "chunks.parquet"
STEPS_PARQUET = "steps.parquet"
STEPS_STREAM = "steps.arrows"
INJECT_PARQUET = "inject.parquet"
INJECT_STREAM = "inject.arrows"


def stream_name(kind: Kind, worker: int) -> str:
    """The file of one worker's stream."""
    table, _, state = kind.partition(".")
    return f"{table}.w{worker}{'.' if state else ''}{state}.arrows"


def streams_of(folder: Path, kind: Kind) -> list[Path]:
    """The streams of a kind that are in ``folder``, by worker; a folder from when there was one writer has them without a number."""
    table, _, state = kind.partition(".")
    ending = f".{state}.arrows" if state else ".arrows"
    pattern = re.compile(rf"{table}(?:\.w(\d+))?{re.escape(ending)}")
    found = [(int(match[1] or -1), path) for path in folder.iterdir() if (match := pattern.fullmatch(path.name))]
    return [path for _, path in sorted(found)]


def draft_of(path: Path) -> Path:
    """Where a file is written before it takes its name; a kill can leave it behind, and nobody reads it."""
    return path.with_name(f"{path.name}.draft")
