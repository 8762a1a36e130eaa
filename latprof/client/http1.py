"""One HTTP/1.1 response, read from bytes: no socket, no clock."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import partial
from typing import Any, Final, NamedTuple

import httptools

from latprof.client.answer import Answer, Ending
from latprof.client.heads import Heads
from latprof.units import MISSING_NS

# The answer redacts and shortens it; cut here only so that a read of 64 KiB is not decoded for 300 characters.
_SHOWN_BYTES = 4096


class Ended(NamedTuple):
    """How an exchange ended, the stamp of the read that ended it, and what is known about why."""

    ending: Ending
    at_ns: int
    text: str = ""


_ended: Callable[[Iterable[Any]], Ended] = partial(tuple.__new__, Ended)  # in C; its own constructor is a Python function
_COMPLETE: Final = Ending.COMPLETE
_SILENT: Final = Ending.SILENT


class ResponseReader:
    """Feeds one response into an `Answer`. Interim (1xx) responses are skipped; ``ended`` is None until the response is over.

    ``keep_alive``: whether the peer will take another request on this connection. ``on_end`` is called once, within the read that ended it;
    ``on_fault`` with an error in latprof's own handling, which is raised where there is nobody to call. ``heads`` are those known from responses
    before, and learns from this one.
    """

    __slots__ = (
        "_between_chunks",
        "_chunk_is_over",
        "_has_headers",
        "_has_length",
        "_headers",
        "_heads",
        "_on_end",
        "_on_fault",
        "_parser",
        "answer",
        "ended",
        "heard",
        "keep_alive",
        "on_body",
    )

    def __init__(
        self,
        answer: Answer,
        written_ns: int = MISSING_NS,
        on_end: Callable[[Ended], None] = lambda _: None,
        on_fault: Callable[[Exception], None] | None = None,
        heads: Heads | None = None,
    ) -> None:
        self.answer = answer
        answer.previous_ns = written_ns
        self.heard = False
        self.ended: Ended | None = None
        self.keep_alive = False
        self._on_end = on_end
        self._on_fault = on_fault
        self._heads = heads
        self._headers: list[tuple[bytes, bytes]] = []
        self._has_headers = False
        self._has_length = False
        self._chunk_is_over = self._between_chunks = False
        # Parser and reader hold each other; `_end` cuts that, because the garbage collector is off during a run.
        self._parser: httptools.HttpResponseParser | None = None

    def feed(self, data: bytes, at_ns: int) -> None:
        """The bytes of one read, stamped ``at_ns``."""
        answer = self.answer
        answer.at_ns = at_ns
        if self._between_chunks and answer.on_chunk(data):
            answer.previous_ns = at_ns
            return
        self._between_chunks = False
        try:
            if self.heard:
                self._parse(data)
            else:
                self.heard = True
                self._begin(data)
        except httptools.HttpParserCallbackError as error:
            self._fault(error)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade) as error:
            self.keep_alive = False
            self._end(Ending.BAD_HTTP, f"{error}; got {data[:_SHOWN_BYTES].decode('latin-1')}")
        except Exception as error:  # noqa: BLE001 - whoever sent the request must hear of it
            self._fault(error)
        answer.previous_ns = at_ns
        # A read that ends with a chunk's line end, and in which nothing was begun after it.
        self._between_chunks = self._chunk_is_over and data.endswith(b"\r\n")

    def close(self, at_ns: int, text: str = "") -> None:
        """The connection was closed: by the peer's end of stream, or by an error told in ``text``."""
        self.answer.at_ns = at_ns
        self.keep_alive = False
        if not self.heard:
            self._end(Ending.SILENT, text)
        elif self._has_headers and not self._has_length and not text:
            self._end(Ending.COMPLETE)  # a body without framing lasts until the connection closes
        else:
            self._end(Ending.CUT, text)

    def _begin(self, data: bytes) -> None:
        """The first read: nearly every short answer is in it as a whole, under a head like the one before."""
        answer, heads = self.answer, self._heads
        whole = heads.begins(data) if heads is not None else None
        if whole is None:
            self.on_body = answer.on_body
            self._parser = httptools.HttpResponseParser(self)
            self._parse(data)
            if heads is not None and self.keep_alive:
                heads.learn(data, answer.attempt.status, self._headers)
            return
        head, body = whole
        for name, value in head.told:
            answer.on_header(name, value)
        answer.on_headers(head.status, is_stream=head.is_event_stream)
        if body:
            answer.on_body(body)
        self.keep_alive = True
        self._end(_COMPLETE)

    def _parse(self, data: bytes) -> None:
        if self._parser is not None:
            self._parser.feed_data(data)

    def _fault(self, error: Exception) -> None:
        if self._on_fault is None:
            raise error
        self._on_fault(error)

    def _end(self, ending: Ending, text: str = "") -> None:
        if self.ended is None:
            self.ended = ended = _ended((ending, self.answer.at_ns, text))
            self._parser = None
            self._chunk_is_over = False
            if ending is not _SILENT:  # after silence the request may be sent again
                self.answer.shut()
            self._on_end(ended)

    # --- the parser calls these ----------------------------------------------------------------------------------------------------------

    def on_message_begin(self) -> None:
        """A second message means bytes that nobody asked for: the connection is out of step."""
        if self.ended is not None:
            self.keep_alive = False

    def on_header(self, name: bytes, value: bytes) -> None:
        """A header, or a trailer once the headers are complete."""
        if self.ended is not None:
            return
        if self._has_headers:
            self.answer.on_header(name, value)
            return
        self._headers.append((name, value))
        if name.lower() in {b"content-length", b"transfer-encoding"}:
            self._has_length = True

    def on_headers_complete(self) -> None:
        """The headers of this response, or of an interim one."""
        if self.ended is not None or self._parser is None:
            return
        status = self._parser.get_status_code()
        if status < 200:
            self._has_length = False
            self._headers = []
            return
        self._has_headers = True
        for name, value in self._headers:
            self.answer.on_header(name, value)
        self.answer.on_headers(status)

    def on_chunk_header(self) -> None:
        """A chunk begins."""
        self._chunk_is_over = False

    def on_chunk_complete(self) -> None:
        """A chunk is over."""
        self._chunk_is_over = True

    def on_message_complete(self) -> None:
        """The response is over by its own framing."""
        if self._has_headers and self.ended is None and self._parser is not None:
            self.keep_alive = self._parser.should_keep_alive()
            self._end(_COMPLETE)
