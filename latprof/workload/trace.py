"""Reading a trace: lines, values and times, each mistake with its file and line number."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from decimal import Decimal, InvalidOperation
from pathlib import Path
from typing import Any, NamedTuple, TextIO, TypeVar

import orjson

from latprof.errors import ConfigError, unreadable
from latprof.units import NS_PER_MS, NS_PER_S
from latprof.workload.outline import Trace

T = TypeVar("T")
Line = TypeVar("Line", "Value", "Row")

Reader = Callable[[Path, int | None], Trace]
"""Reads a file up to a window (ns from its first start; None: all of it). Raises ConfigError with the file and the line number."""

# Epoch times above this are in ms: it is the year 5138 in s, and March 1973 in ms.
_MS_ABOVE = 100_000_000_000


class Value(NamedTuple):
    """One JSON object of a file, and where it stands, for messages."""

    where: str
    fields: dict[str, Any]


class Row(NamedTuple):
    """One line of a CSV file: its fields by column."""

    where: str
    fields: dict[str, str]


def rows(file: Path, columns: Sequence[Sequence[str]], about: str) -> Iterator[Row]:
    """The lines of a CSV file whose header is one of ``columns``; empty lines are passed over.

    Raises:
        ConfigError: another header, a line with another number of fields, a file that cannot be read.
    """
    wanted = ",".join(columns[0])
    with opened(file, f"give the path of a CSV file with {wanted}") as lines:
        header = next(lines, "").strip().removeprefix("\ufeff")
        if header not in {",".join(known) for known in columns}:
            got = f"{header[:80]!r}" if header else "an empty line or file"
            raise ConfigError(f"workload.trace {file}:1: wanted the header {wanted}, got {got}; is this {about}?")
        names = header.split(",")
        for number, line in enumerate(lines, start=2):
            if not line.strip():
                continue
            where, fields = f"workload.trace {file}:{number}", line.strip().split(",")
            if len(fields) != len(names):
                raise ConfigError(
                    f"{where}: wanted {len(names)} fields ({header}), got {len(fields)} in {line.strip()[:80]!r}; mend or drop the line"
                )
            yield Row(where, dict(zip(names, fields, strict=True)))


def values(file: Path) -> Iterator[Value]:
    """The JSON objects of a file: one a line, the elements of one array, or a single object over many lines.

    Raises:
        ConfigError: what stands there is not JSON, or not objects; the file cannot be read or holds none.
    """
    is_empty = True
    with opened(file, "give the path of a file with one JSON object a line, or of one JSON array") as lines:
        first = next((line for line in lines if line.strip()), "").lstrip("\ufeff")
        lines.seek(0)
        is_by_line = not first.lstrip().startswith("[") and _loads(first) is not None
        for value in _by_line(file, lines) if is_by_line else _of_document(file, lines.read()):
            is_empty = False
            yield value
    if is_empty:
        raise ConfigError(f"workload.trace {file}:1: the file holds no JSON object; wanted at least one")


@contextmanager
def opened(file: Path, wanted: str) -> Iterator[TextIO]:
    """The file as text. What cannot be opened or decoded is told with ``wanted``."""
    try:
        with file.open(encoding="utf-8", newline="") as lines:
            yield lines
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"workload.trace {file}: cannot be read ({unreadable(error)}); {wanted}") from None


def _by_line(file: Path, lines: Iterable[str]) -> Iterator[Value]:
    for number, line in enumerate(lines, start=1):
        text = line.lstrip("\ufeff")
        if not text.strip():
            continue
        where = f"workload.trace {file}:{number}"
        try:
            yield _object(where, orjson.loads(text))
        except orjson.JSONDecodeError as error:
            raise ConfigError(f"{where}: is not JSON ({error}); got {text.strip()[:80]!r}: mend or drop the line") from None


def _of_document(file: Path, text: str) -> Iterator[Value]:
    """One array or one object over many lines: element by element, so that each knows its line, and no more is read than is asked for."""
    decoder, at = json.JSONDecoder(), _past_gap(text, 0)
    at += text[at : at + 1] == "["
    line, counted_to = 1, 0
    while True:
        at = _past_gap(text, at)
        if at >= len(text) or text[at] == "]":
            return
        line, counted_to = line + text.count("\n", counted_to, at), at
        try:
            value, at = decoder.raw_decode(text, at)
        except json.JSONDecodeError as error:
            raise ConfigError(f"workload.trace {file}:{error.lineno}: is not JSON ({error.msg}); mend the file") from None
        yield _object(f"workload.trace {file}:{line}", value)


def _past_gap(text: str, at: int) -> int:
    match = _GAP.match(text, at)
    return at if match is None else match.end()


# Commas are not insisted upon: a list cut in two by a text editor still tells all its elements.
_GAP = re.compile(r"[\s,\ufeff]*")


def _loads(text: str) -> object:
    try:
        found: object = orjson.loads(text)
    except orjson.JSONDecodeError:
        return None
    return found


def _object(where: str, value: object) -> Value:
    if not isinstance(value, dict):
        raise ConfigError(f"{where}: wanted a JSON object, got {str(value)[:80]!r}; mend or drop the line")
    return Value(where, value)


# --- single values ------------------------------------------------------------------------------------------------------------------------


def tokens(where: str, key: str, value: object, at_least: int = 0) -> int:
    """A whole number of tokens, written as a number or (in CSV) as text."""
    if isinstance(value, str) and value.isascii() and value.isdigit():
        value = int(value)
    if not isinstance(value, int) or isinstance(value, bool) or value < 0:
        raise ConfigError(f"{where}: {key} must be a whole number of tokens, got {str(value)[:40]!r}; mend or drop the line")
    if value < at_least:
        raise ConfigError(f"{where}: {key} must be at least {at_least}, got {value}; a request needs a prompt: drop the line")
    return value


def item(value: Value, key: str, kind: type[T], wanted: str) -> T:
    """What stands under ``key``, which must be there.

    Raises:
        ConfigError: it is missing, or is something else.
    """
    found = value.fields.get(key)
    if not isinstance(found, kind):
        got = f"got {str(found)[:60]!r}" if key in value.fields else f"there are {', '.join(list(value.fields)[:8]) or 'no keys'}"
        raise ConfigError(f"{value.where}: {key} must be {wanted}, {got}; mend or drop the line")
    return found


def items(value: Value, key: str) -> list[Value]:
    """The JSON objects in the list under ``key``; none where the key is missing or null."""
    if value.fields.get(key) is None:
        return []
    return [_object(f"{value.where}: {key}[{i}]", one) for i, one in enumerate(item(value, key, list, "a list"))]


def span_ns(where: str, key: str, value: object, unit_ns: int = NS_PER_S) -> int:
    """A duration, or a time since some zero, in units of ``unit_ns``; all of its digits count."""
    try:
        if isinstance(value, bool) or not isinstance(value, int | float | str):
            raise InvalidOperation
        exact = Decimal(str(value).strip())
        if not exact.is_finite() or exact < 0:
            raise InvalidOperation
    except InvalidOperation:
        unit = "s" if unit_ns == NS_PER_S else "ms" if unit_ns == NS_PER_MS else "ns"
        raise ConfigError(f"{where}: {key} must be a number of {unit}, got {str(value)[:40]!r}; mend or drop the line") from None
    return int((exact * unit_ns).to_integral_value())


def unix_ns(where: str, key: str, value: object) -> int:
    """A point in time: ISO 8601 (without a zone: UTC), or a number of seconds or milliseconds since 1970."""
    if isinstance(value, str) and not value.replace(".", "", 1).isdigit():
        try:
            moment = datetime.fromisoformat(value)
        except ValueError:
            wanted = "a time such as 2026-05-04T10:15:00.250Z, or a number of seconds or ms since 1970"
            raise ConfigError(f"{where}: {key} must be {wanted}, got {value[:40]!r}; mend or drop the line") from None
        since = (moment if moment.tzinfo else moment.replace(tzinfo=UTC)) - _EPOCH
        return (since.days * 86_400 + since.seconds) * NS_PER_S + since.microseconds * 1000
    in_s = span_ns(where, key, value)
    return in_s // 1000 if in_s > _MS_ABOVE * NS_PER_S else in_s


_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def in_window(stamped: Iterable[tuple[Line, int]], column: str, window_ns: int | None) -> Iterator[tuple[Line, int]]:
    """Lines with their time, counted from the first one, as far as the window goes; what lies behind it is not looked at.

    Raises:
        ConfigError: a line is earlier than the one above: then what lies behind the window could not be told without reading it.
    """
    first_ns = previous_ns = None
    for line, now_ns in stamped:
        if previous_ns is not None and now_ns < previous_ns:
            raise ConfigError(f"{line.where}: its {column} is earlier than the line above; sort the file by {column}")
        first_ns, previous_ns = now_ns if first_ns is None else first_ns, now_ns
        if window_ns is not None and now_ns - first_ns >= window_ns:
            return
        yield line, now_ns - first_ns
