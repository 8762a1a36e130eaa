"""Reads the Azure LLM inference traces of 2023 and 2024 (Azure/AzurePublicDataset, CC-BY; Patel et al., Splitwise, ISCA 2024).

    TIMESTAMP,ContextTokens,GeneratedTokens
    2023-11-16 18:17:03.9799600,4808,10

Each call is a session. A call that generated 0 tokens is replayed with 1: no API lets an answer of none be asked for.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

from latprof.errors import ConfigError
from latprof.units import NS_PER_S
from latprof.workload.outline import Made, Outline, Trace, in_order, one_turn
from latprof.workload.trace import Row, in_window, rows, tokens

COLUMNS = ("TIMESTAMP", "ContextTokens", "GeneratedTokens")
HEADER = ",".join(COLUMNS)

# Seven fractional digits in 2023, six and a zone in 2024; datetime alone would drop the seventh.
_STAMP = re.compile(r"(\d{4}-\d\d-\d\d[ T]\d\d:\d\d:\d\d)(?:\.(\d{1,9}))?(?:\+00:00|Z)?")


def read_azure(file: Path, window_ns: int | None = None) -> Trace:
    """The calls of ``file`` that came less than ``window_ns`` after its first one; what lies behind the window is not looked at.

    Raises:
        ConfigError: the file cannot be read, or a line of it (named by number) is not what the format says.
    """
    calls = tuple(_calls(file, window_ns))
    if not calls:
        raise ConfigError(f"workload.trace {file}:2: the file ends after its header; wanted at least one call below {HEADER}")
    return in_order(calls)


def _calls(file: Path, window_ns: int | None) -> Iterator[Outline]:
    for (where, fields), offset_ns in in_window(_stamped(file), "TIMESTAMP", window_ns):
        prompt_tokens = tokens(where, "ContextTokens", fields["ContextTokens"], at_least=1)
        output_tokens = max(1, tokens(where, "GeneratedTokens", fields["GeneratedTokens"]))
        yield one_turn(offset_ns, Made(prompt_tokens), output_tokens)


def _stamped(file: Path) -> Iterator[tuple[Row, int]]:
    return ((row, _unix_ns(row.where, row.fields["TIMESTAMP"])) for row in rows(file, [COLUMNS], "an Azure LLM trace"))


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
