"""One HTTP/1.1 response, read from bytes: no socket, no clock."""

from __future__ import annotations

from typing import NamedTuple

import httptools

from latprof.client.answer import Answer, Ending
from latprof.units import MISSING_NS

# The answer redacts and shortens it; cut here only so that a read of 64 KiB is not decoded for 300 characters.
_SHOWN_BYTES = 4096


class Ended(NamedTuple):
    """How an exchange ended, the stamp of the read that ended it, and what is known about why."""

    ending: Ending
    at_ns: int
    text: str = ""


class ResponseReader:
    """Feeds one response into an `Answer`. Interim (1xx) responses are skipped; ``ended`` is None until the response is over.

    ``previous_ns`` is the stamp of the read before (at first: of the end of the request), ``keep_alive`` whether the peer will take another
    request on this connection.
    """

    def __init__(self, answer: Answer, written_ns: int = MISSING_NS) -> None:
        self.answer = answer
        self.previous_ns = written_ns
        self.heard = False
        self.ended: Ended | None = None
        self.keep_alive = False
        self._at_ns = MISSING_NS
        self._headers: list[tuple[bytes, bytes]] = []
        self._has_headers = False
        self._has_length = False
        # Parser and reader hold each other; `_end` cuts that, because the garbage collector is off during a run.
        self._parser: httptools.HttpResponseParser | None = httptools.HttpResponseParser(self)

    def feed(self, data: bytes, at_ns: int) -> None:
        """The bytes of one read, stamped ``at_ns``. An error in latprof's own handling is raised, never one of the peer's."""
        self.heard = True
        self._at_ns = at_ns
        parser = self._parser
        try:
            if parser is not None:
                parser.feed_data(data)
        except httptools.HttpParserCallbackError:
            raise
        except (httptools.HttpParserError, httptools.HttpParserUpgrade) as error:
            self.keep_alive = False
            self._end(Ending.BAD_HTTP, f"{error}; got {data[:_SHOWN_BYTES].decode('latin-1')}")
        self.previous_ns = at_ns

    def close(self, at_ns: int, text: str = "") -> None:
        """The connection was closed: by the peer's end of stream, or by an error told in ``text``."""
        self._at_ns = at_ns
        self.keep_alive = False
        if not self.heard:
            self._end(Ending.SILENT, text)
        elif self._has_headers and not self._has_length and not text:
            self._end(Ending.COMPLETE)  # a body without framing lasts until the connection closes
        else:
            self._end(Ending.CUT, text)

    def _end(self, ending: Ending, text: str = "") -> None:
        if self.ended is None:
            self.ended = Ended(ending, self._at_ns, text)
        self._parser = None

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
        headers, self._headers = self._headers, []
        status = self._parser.get_status_code()
        if status < 200:
            self._has_length = False
            return
        self._has_headers = True
        for name, value in headers:
            self.answer.on_header(name, value)
        self.answer.on_headers(status, self._at_ns)

    def on_body(self, body: bytes) -> None:
        """A piece of the body, chunk framing taken off."""
        if self.ended is None:
            self.answer.on_body(body, self._at_ns, self.previous_ns)

    def on_message_complete(self) -> None:
        """The response is over by its own framing."""
        if self._has_headers and self.ended is None and self._parser is not None:
            self.keep_alive = self._parser.should_keep_alive()
            self._end(Ending.COMPLETE)
