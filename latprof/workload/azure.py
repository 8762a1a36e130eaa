"""Reads the Azure LLM inference traces of 2023 and 2024 (Azure/AzurePublicDataset, CC-BY; Patel et al., Splitwise, ISCA 2024).

    TIMESTAMP,ContextTokens,GeneratedTokens
    2023-11-16 18:17:03.9799600,4808,10

A call that generated 0 tokens is replayed with 1: no API lets an answer of none be asked for.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple

from latprof.errors import ConfigError
from latprof.units import NS_PER_S
from latprof.workload.trace import Trace

HEADER = "TIMESTAMP,ContextTokens,GeneratedTokens"

# Seven fractional digits in 2023, six and a zone in 2024; datetime alone would drop the seventh.
_STAMP = re.compile(r"(\d{4}-\d\d-\d\d[ T]\d\d:\d\d:\d\d)(?:\.(\d{1,9}))?(?:\+00:00|Z)?")


class _Call(NamedTuple):
    unix_ns: int
    prompt_tokens: int
    output_tokens: int


def read_azure(file: Path, window_ns: int | None = None) -> Trace:
    """The calls of ``file`` that came less than ``window_ns`` after its first one; what lies behind the window is not looked at.

    Raises:
        ConfigError: the file cannot be read, or a line of it (named by number) is not what the format says.
    """
    try:
        with file.open(encoding="utf-8", newline="") as lines:
            calls = list(_calls(file, lines, window_ns))
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"workload.trace {file}: cannot be read ({error}); give the path of a CSV file with {HEADER}") from None
    if not calls:
        raise ConfigError(f"workload.trace {file}:2: the file ends after its header; wanted at least one call below {HEADER}")
    first_ns = calls[0].unix_ns
    return Trace(
        tuple(call.unix_ns - first_ns for call in calls),
        tuple(call.prompt_tokens for call in calls),
        tuple(call.output_tokens for call in calls),
    )


def _calls(file: Path, lines: Iterator[str], window_ns: int | None) -> Iterator[_Call]:
    header = next(lines, "").strip().removeprefix("\ufeff")
    if header != HEADER:
        got = f"{header[:80]!r}" if header else "an empty line or file"
        raise ConfigError(f"workload.trace {file}:1: wanted the header {HEADER}, got {got}; is this an Azure LLM trace?")
    first_ns = previous_ns = None
    for number, line in enumerate(lines, start=2):
        if not line.strip():
            continue
        call = _call(f"workload.trace {file}:{number}", line.strip())
        if previous_ns is not None and call.unix_ns < previous_ns:
            raise ConfigError(
                f"workload.trace {file}:{number}: {line[:40].strip()!r} is earlier than the line above; sort the file by TIMESTAMP"
            )
        first_ns = call.unix_ns if first_ns is None else first_ns
        if window_ns is not None and call.unix_ns - first_ns >= window_ns:
            return
        previous_ns = call.unix_ns
        yield call


def _call(where: str, line: str) -> _Call:
    fields = line.split(",")
    if len(fields) != 3:
        raise ConfigError(f"{where}: wanted 3 fields ({HEADER}), got {len(fields)} in {line[:80]!r}; mend or drop the line")
    prompt_tokens = _tokens(where, "ContextTokens", fields[1])
    if prompt_tokens == 0:
        raise ConfigError(f"{where}: ContextTokens must be at least 1, got 0; a request needs a prompt: drop the line")
    return _Call(_unix_ns(where, fields[0]), prompt_tokens, max(1, _tokens(where, "GeneratedTokens", fields[2])))


def _tokens(where: str, column: str, text: str) -> int:
    if not (text.isascii() and text.isdigit()):
        raise ConfigError(f"{where}: {column} must be a whole number of tokens, got {text[:40]!r}; mend or drop the line")
    return int(text)


def _unix_ns(where: str, text: str) -> int:
    match = _STAMP.fullmatch(text)
    try:
        if match is None:
            raise ValueError
        whole_s = int(datetime.fromisoformat(match[1]).replace(tzinfo=UTC).timestamp())
    except ValueError:
        wanted = "a time such as 2023-11-16 18:17:03.9799600"
        raise ConfigError(f"{where}: TIMESTAMP must be {wanted}, got {text[:40]!r}; mend or drop the line") from None
    return whole_s * NS_PER_S + int((match[2] or "").ljust(9, "0"))
