"""Server-sent events, read from bytes as they come: any split, LF or CRLF, comments, several data lines, a byte order mark.

Pure, and never raises: what is not an event stream yields no events. (A lone CR as a line end, which the standard also allows, is not
taken for one: no serving stack sends it, and it would make the end of a line that a read cut after CR undecidable.)
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import partial
from typing import Any, NamedTuple

_BOM = b"\xef\xbb\xbf"
# As numbers: to look for a piece of bytes in bytes costs five times as much.
_LF, _CR = b"\n\r"


class SseEvent(NamedTuple):
    """One event: its data lines joined by LF, its name (empty for the default), and the bytes it took on the wire."""

    data: bytes
    name: bytes
    size: int


_event: Callable[[Iterable[Any]], SseEvent] = partial(tuple.__new__, SseEvent)
"""An event of its three fields, made in C: the constructor that a NamedTuple has is a Python function, at three times the price."""


class SseScanner:
    """Finds the events in a stream of bytes; keeps what belongs to one not yet complete. ``at_start``: nothing of the stream came before."""

    __slots__ = ("_at_start", "_data", "_name", "_pieces", "_size")

    def __init__(self, *, at_start: bool = True) -> None:
        # Pieces of a line whose end has not come: joined once, so that a long line in many reads costs linear time.
        self._pieces: list[bytes] = []
        self._data: list[bytes] = []
        self._name = b""
        self._size = 0
        self._at_start = at_start

    @property
    def is_between(self) -> bool:
        """Whether what was fed so far ended with the end of an event."""
        return self._size == 0 and not self._pieces and not self._at_start

    def feed(self, data: bytes) -> list[SseEvent]:
        """The events that ``data`` completes."""
        events: list[SseEvent] = []
        if b"\n" not in data:
            self._pieces.append(data)
            return events
        if self._pieces:
            self._pieces.append(data)
            data = b"".join(self._pieces)
        lines = data.split(b"\n")
        rest = lines.pop()
        self._pieces = [rest] if rest else []
        if self._at_start:
            lines[0] = self._without_bom(lines[0])
        for line in lines:
            self._size += len(line) + 1
            bare = line[:-1] if line.endswith(b"\r") else line
            if bare.startswith(b"data: "):  # nearly every line: a shorter way to what `_field` does
                self._data.append(bare[6:])
            elif bare:
                self._field(bare)
            else:
                self._end_event(events)
        return events

    def finish(self) -> SseEvent | None:
        """What the end of the stream left unfinished: an event without its empty line, or None.

        The standard drops it. The caller decides: some servers close right after ``data: [DONE]``, and anything else was cut.
        """
        line = b"".join(self._pieces)
        self._pieces = []
        self._size += len(line)
        if self._at_start:
            line = self._without_bom(line)
        self._field(line.rstrip(b"\r"))
        events: list[SseEvent] = []
        self._end_event(events)
        return events[0] if events else None

    def _without_bom(self, line: bytes) -> bytes:
        self._at_start = False
        if not line.startswith(_BOM):
            return line
        self._size += len(_BOM)
        return line[len(_BOM) :]

    def _field(self, line: bytes) -> None:
        name, _, value = line.partition(b":")
        if value.startswith(b" "):
            value = value[1:]
        if name == b"data":
            self._data.append(value)
        elif name == b"event":
            self._name = value

    def _end_event(self, events: list[SseEvent]) -> None:
        if self._data:
            data = self._data[0] if len(self._data) == 1 else b"\n".join(self._data)
            events.append(_event((data, self._name, self._size)))
            self._data = []
        self._name = b""
        self._size = 0


def plain_events(data: bytes) -> list[SseEvent]:
    """The events of ``data`` where it is whole events of one ``data: `` line each, as nearly every read is; none where it is anything else.

    To be asked at the start of a stream or between two events; whatever it does not take is the scanner's.
    """
    if data[:6] != b"data: " or data[-2:] != b"\n\n":
        return []
    events = []
    for part in data[6:-2].split(b"\n\ndata: "):
        if _LF in part or _CR in part:  # another line in it, or two events of which the second is none of these
            return []
        events.append(_event((part, b"", len(part) + 8)))
    return events
