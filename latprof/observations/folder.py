r"""The run folder: everything a report is made from.

run.json            configuration, seed, versions, host facts, wall anchor, status; replaced as a whole
requests.parquet    one row per attempt      \  or, until the end of the run and after a kill, the streams
chunks.parquet      one row per chunk        /  of `latprof.observations.streams`
segments.parquet    of a simulated run, in place of chunks: what made its tokens (`latprof.observations.segments`)
steps.parquet       the graphs of sessions with several steps (`latprof.observations.graph`)
"""

from __future__ import annotations

import contextlib
import json
import re
import secrets
import shutil
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from latprof.errors import ConfigError, UsageError
from latprof.observations.columns import CHUNKS_SCHEMA, Chunks, Requests
from latprof.observations.host import host_facts
from latprof.observations.scrub import scrub
from latprof.observations.segments import Segments, has_segments, load_segments
from latprof.observations.streams import Stored, compact, has_chunks, has_requests, read_chunks, read_requests
from latprof.units import NS_PER_S

__all__ = ["SCHEMA", "Run", "compact", "create", "discard", "has_requests", "host_facts", "load", "read_meta", "scrub", "write_meta"]

SCHEMA = "latprof.run/1"
"""Additions keep the number: unknown columns and keys are left aside, missing columns read as missing values."""

META = "run.json"
STATUSES = ("running", "complete", "interrupted", "failed")


@dataclass(frozen=True, eq=False)
class Run:
    """Raw observations of one run. ``partial``: it did not get to its end, or not all of it was written; ``partial_reason`` says which."""

    folder: Path
    meta: dict[str, Any]
    requests: Requests
    chunks: Chunks
    partial: bool = False
    partial_reason: str = ""
    segments: Segments | None = None
    """In place of chunks, which a simulated run has none of."""

    @property
    def is_simulated(self) -> bool:
        """Whether nothing was measured: the run was played in virtual time."""
        return bool(self.meta.get("is_simulated"))


def create(path: Path | None = None, unix_ns: Callable[[], int] = time.time_ns) -> Path:
    """Make the folder of a new run: ``path``, or ``runs/<UTC time>-<4 hex>`` here.

    Raises:
        UsageError: there is something in it already, or it cannot be made.
    """
    if path is None:
        began = datetime.fromtimestamp(unix_ns() // NS_PER_S, UTC)
        path = Path("runs") / f"{began:%Y%m%dT%H%M%SZ}-{secrets.token_hex(2)}"
    try:
        path.mkdir(parents=True, exist_ok=True)
        found = next((entry.name for entry in sorted(path.iterdir())), None)
    except OSError as error:
        raise UsageError(f"{path}: cannot be made a run folder ({error.strerror}); name one that can be written with --out") from None
    if found is not None:
        what = "holds a run already" if (path / META).exists() else f"is not empty (there is {found})"
        raise UsageError(f"{path}: {what}, and a run is never overwritten; name a new folder with --out, or remove this one first")
    return path


def discard(folder: Path) -> None:
    """Remove a folder that `create` made, with what the run wrote there: it was empty then, so nothing else is in it."""
    for entry in folder.iterdir():
        shutil.rmtree(entry) if entry.is_dir() else entry.unlink()
    with contextlib.suppress(OSError):  # someone's working directory, or a mount point: it was there before
        folder.rmdir()


def write_meta(folder: Path, meta: Mapping[str, Any]) -> None:
    """Put ``meta`` in the place of ``run.json``, at once; its ``schema`` is set, and its ``config`` scrubbed once more.

    Raises:
        UsageError: the folder cannot be written.
    """
    if meta["status"] not in STATUSES:
        raise ValueError(f"status must be one of {', '.join(STATUSES)}, got {meta['status']!r}")
    written = {**meta, "schema": SCHEMA}
    if "config" in written:
        written["config"] = scrub(written["config"])  # no caller can forget it
    draft = folder / f"{META}.draft"
    try:
        draft.write_text(json.dumps(written, indent=2, ensure_ascii=False, default=_json_of) + "\n", encoding="utf-8")
        draft.replace(folder / META)
    except OSError as error:
        raise UsageError(
            f"{folder / META}: cannot be written ({error.strerror}); free some space, or name another folder with --out"
        ) from None


def _json_of(value: object) -> str:
    if isinstance(value, Path):
        return str(value)
    raise TypeError(f"run.json holds plain values and paths, got {type(value).__name__}")


def load(folder: Path) -> Run:
    """Read a run: complete, killed, or still going.

    Requests come by (request, attempt), chunks in order of arrival. Of a killed run everything that was flushed is there, and what was in
    flight has error class ``unfinished``.

    Raises:
        ConfigError: it is not a run folder, it is of a newer schema, or a file in it is damaged.
    """
    meta = read_meta(folder)
    ended = meta["status"] in {"complete", "interrupted"}
    is_simulated = bool(meta.get("is_simulated"))
    for has, name, wanted in (
        (has_requests, "requests", True),
        (has_chunks, "chunks", not is_simulated),
        (has_segments, "segments", is_simulated),
    ):
        if ended and wanted and not has(folder):
            raise ConfigError(
                f"{folder}: {name}.parquet is missing, wanted the folder as latprof wrote it; copy it again, or measure again"
            )
    try:
        requests = read_requests(folder)
        chunks = Stored(CHUNKS_SCHEMA.empty_table(), whole=True) if is_simulated else read_chunks(folder)
        segments = load_segments(folder)
    except OSError as error:
        raise ConfigError(f"{folder}: cannot be read ({error.strerror}); check its permissions") from None
    reason = _partial_reason(meta["status"], requests, chunks)
    return Run(folder, meta, Requests.from_arrow(requests.table), Chunks.from_arrow(chunks.table), bool(reason), reason, segments)


def _partial_reason(status: str, requests: Stored, chunks: Stored) -> str:
    if status == "running":
        return "it was killed, or is still going: of its last second some requests and chunks may be missing"
    if status == "failed":
        return "it ended in an error before its load was over"
    if not (requests.whole and chunks.whole):
        return "its files end before its load did, as after a full disk"
    return ""


def read_meta(folder: Path) -> dict[str, Any]:
    """``run.json`` alone.

    Raises:
        ConfigError: it is not that of a run folder, it is of a newer schema, or damaged.
    """
    path = folder / META
    try:
        meta = json.loads(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, NotADirectoryError):
        raise ConfigError(_not_a_run(folder)) from None
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read ({error.strerror}); check its permissions") from None
    except ValueError as error:  # not UTF-8, or not JSON
        raise ConfigError(f"{path}: is damaged ({error}); wanted the JSON latprof wrote; copy the run folder again") from None
    if not isinstance(meta, dict) or meta.get("status") not in STATUSES:
        raise ConfigError(f"{path}: has no status of {', '.join(STATUSES)}; wanted a run.json of latprof; name a run folder")
    _check_schema(path, meta.get("schema"))
    return meta


def _check_schema(path: Path, schema: object) -> None:
    known = int(SCHEMA.rpartition("/")[2])
    match = re.fullmatch(r"latprof\.run/(\d+)", str(schema))
    if match is None:
        raise ConfigError(f"{path}: schema must be {SCHEMA}, got {schema!r}; name a run folder that latprof wrote")
    if int(match[1]) > known:
        raise ConfigError(f"{path}: schema is {schema}, this latprof reads up to {SCHEMA}; install a newer latprof")


def _not_a_run(folder: Path) -> str:
    below = sorted(folder.glob(f"*/{META}"), key=lambda path: path.stat().st_mtime) if folder.is_dir() else []
    if below:
        return f"{folder}: is not a run folder, but has {len(below)} of them in it; did you mean {below[-1].parent}?"
    what = "has no run.json" if folder.is_dir() else "is not a folder" if folder.exists() else "does not exist"
    return f"{folder}: {what}; wanted a run folder such as runs/20260131T120000Z-1a2b: latprof run writes one and names it"
