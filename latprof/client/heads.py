"""Response heads seen before: a server says the same bytes at the head of answer after answer, but for a date once a second.

What a head means follows from its bytes alone. So where a whole response is one read, and begins with a head that the HTTP parser has read before,
the parser need not be asked again (1 µs instead of 6). Whatever does not fit is parsed as ever.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from latprof.client.answer import is_event_stream, says_something

# Of a server whose heads all differ (they are numbered, say) not all are kept.
_MOST: Final = 32
_LONGEST: Final = 4_096
_END: Final = b"\r\n\r\n"
_TYPE: Final = b"content-type"


@dataclass(frozen=True, slots=True)
class Head:
    """What stands at the head of a response with a body of a given length, after which the connection can be used again.

    ``told`` are those of its headers that an answer takes in, in order, but for the type of the body.
    """

    status: int
    is_event_stream: bool
    told: Sequence[tuple[bytes, bytes]]
    length: int


class Heads:
    """The heads of one endpoint's responses."""

    __slots__ = ("_known",)

    def __init__(self) -> None:
        self._known: dict[bytes, Head] = {}

    def __len__(self) -> int:
        return len(self._known)

    def __iter__(self) -> Iterator[bytes]:
        return iter(self._known)

    def begins(self, data: bytes) -> tuple[Head, bytes] | None:
        """The head and the body of ``data``, if it is one whole response and its head is known."""
        end = data.find(_END) + 4
        head = self._known.get(data[:end])
        return (head, data[end:]) if head is not None and len(data) - end == head.length else None

    def learn(self, data: bytes, status: int, headers: Sequence[tuple[bytes, bytes]]) -> None:
        """Keep the head of ``data``, which the parser has found to be one whole response, its connection still open, no interim one before it."""
        lengths = [value for name, value in headers if name.lower() == b"content-length"]
        if len(lengths) != 1 or not lengths[0].isdigit() or any(name.lower() == b"transfer-encoding" for name, _ in headers):
            return
        length = int(lengths[0])
        end = len(data) - length
        # A response that has a length but no body (304) ends earlier than this, in the middle of its head, and is not kept.
        if 0 < end <= _LONGEST and data.find(_END) + 4 == end:
            if len(self._known) >= _MOST:
                self._known.clear()
            types = [value for name, value in headers if name.lower() == _TYPE]
            told = [(name, value) for name, value in headers if says_something(name) and name.lower() != _TYPE]
            self._known[data[:end]] = Head(status, bool(types) and is_event_stream(types[-1]), told, length)
