"""Trace formats by their configured name, and how a file tells which one it is."""

from __future__ import annotations

import re
from pathlib import Path

import orjson

from latprof.errors import ConfigError
from latprof.workload.outline import Trace, graph_fault
from latprof.workload.readers.azure import HEADER, read_azure
from latprof.workload.readers.bailian import read_bailian
from latprof.workload.readers.burstgpt import COLUMNS, WITHOUT_SESSIONS, read_burstgpt
from latprof.workload.readers.copilot import read_copilot
from latprof.workload.readers.dag_jsonl import read_dag_jsonl
from latprof.workload.readers.mooncake import read_mooncake
from latprof.workload.readers.native import read_native
from latprof.workload.readers.otel import read_otel
from latprof.workload.readers.sharegpt import read_sharegpt
from latprof.workload.trace import Reader

READERS: dict[str, Reader] = {
    "azure": read_azure,
    "bailian": read_bailian,
    "burstgpt": read_burstgpt,
    "copilot": read_copilot,
    "dag_jsonl": read_dag_jsonl,
    "mooncake": read_mooncake,
    "native": read_native,
    "otel": read_otel,
    "sharegpt": read_sharegpt,
}
"""Trace formats by their configured name."""

_CSV = {HEADER: "azure", ",".join(COLUMNS): "burstgpt", ",".join(WITHOUT_SESSIONS): "burstgpt"}
# The keys of a JSON object that tell its format, the most telling first.
_JSON = {
    "otel": {"resourceSpans"},
    "bailian": {"chat_id", "hash_ids"},
    "mooncake": {"timestamp", "hash_ids"},
    "native": {"steps"},
    "sharegpt": {"conversations"},
    "copilot": {"turns", "llm_calls"},
    "dag_jsonl": {"session_id", "turns"},
}
_LOOKED_AT = 1 << 16
_KEY = re.compile(r'"(\w+)"\s*:')


def read_trace(file: Path, trace_format: str = "auto", window_ns: int | None = None) -> Trace:
    """The sessions of ``file``; ``auto`` lets the file say which format it has.

    Raises:
        ConfigError: the format cannot be told, or the file is not what it says.
    """
    trace = READERS[guessed(file) if trace_format == "auto" else trace_format](file, window_ns)
    if not trace.sessions:
        raise ConfigError(f"workload.trace {file}: holds no session with a request; give another file")
    for session in trace.sessions:
        if fault := graph_fault(session.steps):
            raise ConfigError(f"workload.trace {file}: session {session.name!r}: {fault}")
    return trace


def guessed(file: Path) -> str:
    """The format that the beginning of ``file`` looks like.

    Raises:
        ConfigError: it looks like none, or cannot be read.
    """
    try:
        with file.open(encoding="utf-8", errors="replace") as opened:
            beginning = opened.read(_LOOKED_AT).lstrip("\ufeff \r\n\t")
    except OSError as error:
        raise ConfigError(f"workload.trace {file}: cannot be read ({error.strerror or error}); give the path of a trace") from None
    if not beginning.strip():
        raise ConfigError(f"workload.trace {file}: the file is empty; wanted a trace with at least one request")
    first, _, _ = beginning.partition("\n")
    if first.strip() in _CSV:
        return _CSV[first.strip()]
    keys = _keys(first, beginning)
    for name, telling in _JSON.items():
        if telling <= keys:
            return name
    known = ", ".join(sorted(READERS))
    raise ConfigError(
        f"workload.trace {file}:1: looks like none of {known}, it begins {first.strip()[:80]!r}; say which with workload.trace_format"
    )


def _keys(first: str, beginning: str) -> set[str]:
    """The keys of the first line's object, and of what it holds where that could be a format's; else all that look like keys.

    Text in a trace may hold JSON of its own, so a whole first line is read, not searched.
    """
    try:
        value = orjson.loads(first)
    except orjson.JSONDecodeError:
        return set(_KEY.findall(beginning))
    value = value[0] if isinstance(value, list) and value else value
    if not isinstance(value, dict):
        return set()
    turns = value.get("turns")
    within = turns[0] if isinstance(turns, list) and turns and isinstance(turns[0], dict) else {}
    return set(value) | set(within)
