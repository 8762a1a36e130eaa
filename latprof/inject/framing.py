"""Where one request ends and the next begins, in the bytes of a connection. Pure: bytes go in, parts come out, nothing is changed.

Answers need no framing: whatever the server sends is passed on as it comes.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from enum import Enum, auto
from typing import NamedTuple

MOST_HEAD_BYTES = 256 * 1024
"""A head that is longer is no head."""

_HEAD_END = b"\r\n\r\n"
_TRACEPARENT = re.compile(rb"\r\ntraceparent:[ \t]*[0-9a-f]{2}-([0-9a-f]{32})-([0-9a-f]{16})-[0-9a-f]{2}", re.IGNORECASE)
_HOST = re.compile(rb"(\r\nhost:[ \t]*)[^\r\n]*:(\d+)[ \t]*\r\n", re.IGNORECASE)
_LENGTH = re.compile(rb"\r\ncontent-length:[ \t]*(\d+)[ \t]*\r\n", re.IGNORECASE)
_CHUNKED = re.compile(rb"\r\ntransfer-encoding:[^\r\n]*\bchunked[ \t]*\r\n", re.IGNORECASE)
_SIZE = re.compile(rb"\s*([0-9a-fA-F]{1,16})\s*(?:;[^\r\n]*)?")
_MOST_LINE_BYTES = 8192
_HTTP_2 = b"PRI * HTTP/2"


class Part(NamedTuple):
    """Some bytes of a request. ``is_head``: they are a whole head, and a request begins with them."""

    data: bytes
    is_head: bool = False


class FramingError(Exception):
    """What came is no HTTP/1.1 request."""


class _State(Enum):
    HEAD = auto()
    BODY = auto()  # so many bytes
    SIZE = auto()  # the line before a chunk
    CHUNK = auto()  # a chunk and the line end after it
    TRAILER = auto()  # lines up to an empty one


class Framer:
    """The requests of one connection, one after the other."""

    def __init__(self) -> None:
        self._held = b""
        self._state = _State.HEAD
        self._left = 0

    def feed(self, data: bytes) -> Iterator[Part]:
        """The parts that ``data`` completes: heads whole, bodies as they come.

        Raises:
            FramingError: a head without end or of HTTP/2, or a chunk without a size.
        """
        self._held += data
        step = {
            _State.HEAD: self._head,
            _State.BODY: self._body,
            _State.SIZE: self._size,
            _State.CHUNK: self._body,
            _State.TRAILER: self._trailer,
        }
        while self._held:
            part = step[self._state]()
            if part is None:
                return
            yield part

    def _take(self, count: int) -> bytes:
        taken, self._held = self._held[:count], self._held[count:]
        return taken

    def _head(self) -> Part | None:
        # Empty lines before a request line are allowed, and belong to nothing.
        end = self._held.find(_HEAD_END)
        if end < 0:
            if len(self._held) > MOST_HEAD_BYTES:
                raise FramingError(f"no end of the request's head within {MOST_HEAD_BYTES} bytes")
            return None
        if self._held.startswith(_HTTP_2):
            raise FramingError("it is HTTP/2, and only HTTP/1.1 is read; set HTTP/1.1 for this upstream")
        head = self._take(end + len(_HEAD_END))
        length = _LENGTH.search(head)
        if _CHUNKED.search(head):
            self._state = _State.SIZE
        elif length is not None and int(length[1]):
            self._state, self._left = _State.BODY, int(length[1])
        return Part(head, is_head=True)

    def _body(self) -> Part | None:
        taken = self._take(self._left)
        self._left -= len(taken)
        if not self._left:
            self._state = _State.SIZE if self._state is _State.CHUNK else _State.HEAD
        return Part(taken)

    def _size(self) -> Part | None:
        line = self._line()
        if line is None:
            return None
        match = _SIZE.fullmatch(line.rstrip(b"\r\n"))
        if match is None:
            raise FramingError("a chunk of the body has no size")
        size = int(match[1], 16)
        self._state, self._left = (_State.CHUNK, size + 2) if size else (_State.TRAILER, 0)
        return Part(line)

    def _trailer(self) -> Part | None:
        line = self._line()
        if line is not None and not line.strip():
            self._state = _State.HEAD
        return None if line is None else Part(line)

    def _line(self) -> bytes | None:
        end = self._held.find(b"\n")
        if end < 0:
            if len(self._held) > _MOST_LINE_BYTES:
                raise FramingError("a line of a chunked body has no end")
            return None
        return self._take(end + 1)


def addressed_to(head: bytes, port: int, authority: str) -> bytes:
    """``head`` with ``authority`` for its ``Host`` where that names ``port``; as it is where it names another place."""
    match = _HOST.search(head)
    if match is None or int(match[2]) != port:
        return head
    return b"".join((head[: match.start()], match[1], authority.encode(), b"\r\n", head[match.end() :]))


def trace_of(head: bytes) -> tuple[str, str]:
    """Trace id and span id of a head's ``traceparent``, lower-case hex; two empty texts where there is none."""
    match = _TRACEPARENT.search(head)
    return ("", "") if match is None else (match[1].decode().lower(), match[2].decode().lower())
