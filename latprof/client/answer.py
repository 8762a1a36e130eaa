"""One answer as it comes in: headers and body bytes become stamps of the attempt and rows of the chunk log."""

from __future__ import annotations

from enum import Enum, auto
from functools import lru_cache
from typing import Final

from latprof.client.dialects.dialect import DONE, Dialect, Reading, Usage
from latprof.client.redact import Redactor
from latprof.client.shapes import PLAIN, Shapes
from latprof.client.sse import SseEvent, SseScanner, plain_events
from latprof.client.stamps import CHANNEL_CODES, Attempt, Channel, ChunkLog, ErrorClass
from latprof.units import MISSING_NS

_TIMING_HEADERS: Final = frozenset(
    {
        "server-timing",
        "x-request-id",
        "traceresponse",
        "x-envoy-upstream-service-time",
        "openai-processing-ms",
        "llm_provider-server-timing",  # LiteLLM passes the upstream's headers on under this prefix
        "llm_provider-x-request-id",
        "llm_provider-x-envoy-upstream-service-time",
        "llm_provider-openai-processing-ms",
    }
)
_TIMING_PREFIXES: Final = (
    "x-litellm-response-duration",
    "x-litellm-overhead",
    "x-litellm-callback",
    "x-litellm-timing",
    "x-haproxy-",
    "x-kong-",
    "llm_provider-x-haproxy-",
)
# A prefix lets nothing through that a plug-in may have named like a secret or a limit.
_NEVER: Final = ("key", "auth", "cookie", "token", "secret", "limit")

# What an HTTP chunk of so many bytes in all begins with, in the form that nearly every server gives it: lower-case hex, no extension.
_FRAMED_BYTES: Final = 4_096


def _frames() -> list[bytes]:
    frames = [b"\0"] * _FRAMED_BYTES  # there is none of this length
    for size in range(1, _FRAMED_BYTES):
        head = b"%x\r\n" % size
        if len(head) + size + 2 < _FRAMED_BYTES:
            frames[len(head) + size + 2] = head
    return frames


_FRAMES: Final = _frames()
_CONTENT: Final = CHANNEL_CODES[Channel.CONTENT]
# A member looked up on its enumeration costs several times what is then done with it.
_NO_CHANNEL: Final = Channel.NONE

# Bytes of a body kept for an error text: enough for any error document's first lines.
_KEPT_BODY_BYTES = 4096

_BY_STATUS: Final = {
    401: ErrorClass.AUTH,
    403: ErrorClass.AUTH,
    404: ErrorClass.NOT_FOUND,
    429: ErrorClass.RATE_LIMITED,
}


class Ending(Enum):
    """How an exchange ended on the wire."""

    COMPLETE = auto()  # the whole message, by its own framing
    SILENT = auto()  # closed before a single byte of a response
    CUT = auto()  # closed in mid-message
    BAD_HTTP = auto()  # not HTTP/1.x


_COMPLETE: Final = Ending.COMPLETE


class Answer:
    """Takes one response in.

    Whoever reads sets ``at_ns``, the stamp of the read in hand, and ``previous_ns``, that of the read before it (or of the end of the request),
    and then calls `on_header`, `on_headers` and `on_body`, or `on_event` where events come without an event stream.

    The first thing that went wrong is the attempt's error; what comes after it is still stamped.
    """

    __slots__ = (
        "_after",
        "_after_chunk",
        "_before",
        "_chunks",
        "_done_ns",
        "_events",
        "_finished",
        "_is_between",
        "_is_event_stream",
        "_is_shut",
        "_kept",
        "_read",
        "_redact",
        "_scanner",
        "_shapes",
        "_text_from",
        "_text_to",
        "_texts",
        "_usage",
        "at_ns",
        "attempt",
        "previous_ns",
    )

    def __init__(self, attempt: Attempt, chunks: ChunkLog, dialect: Dialect, redact: Redactor, *, keeps_text: bool = False) -> None:
        self.attempt = attempt
        self.at_ns = self.previous_ns = MISSING_NS
        self._chunks = chunks
        self._read = dialect.read
        self._redact = redact
        self._scanner: SseScanner | None = None
        self._events = 0
        self._finished = False
        self._done_ns = MISSING_NS
        self._usage: Usage | None = None
        self._is_event_stream = False
        self._kept = b""
        self._shapes: Shapes | None = None
        # The shape on the wire, once it is known: an event begins and ends with these. (No body piece begins with NUL before.)
        self._before = self._after = self._after_chunk = b"\0"
        self._text_from, self._text_to = 1, -1
        self._is_between = self._is_shut = False
        self._texts: list[str] | None = [] if keeps_text else None

    @property
    def text(self) -> str:
        """The answer's text, if it was to be kept."""
        return "".join(self._texts or ())

    @property
    def is_done(self) -> bool:
        """Whether the stream's end mark came, whatever the connection does next."""
        return self._done_ns != MISSING_NS

    def on_header(self, name: bytes, value: bytes) -> None:
        """One header or trailer line, as it stands."""
        kind = _kind_of(name)
        if kind is _HeaderKind.CONTENT_TYPE:
            self._is_event_stream = is_event_stream(value)
        elif kind is _HeaderKind.TIMING:
            self.attempt.timing_headers.append((name.decode("latin-1"), self._redact(value.decode("latin-1"))))
        elif kind is _HeaderKind.LOCATION:
            self._kept += b"redirected to " + value + b" "

    def on_headers(self, status: int, *, is_stream: bool = False) -> None:
        """The headers are complete; ``is_stream``: their type says so, where `on_header` was not told it."""
        if is_stream:
            self._is_event_stream = True
        self.attempt.status = status
        self.attempt.headers_ns = self.at_ns

    def on_chunk(self, data: bytes) -> bool:
        """A read that is one HTTP chunk which holds one event with one plain token: the way of nearly every read of a long answer.

        False for anything else: then nothing was done, and the HTTP parser must see it. To be called only between two HTTP chunks.
        """
        length = len(data)
        frame = _FRAMES[length] if length < _FRAMED_BYTES else b"\0"
        if not (
            data.endswith(self._after_chunk) and data.startswith(frame) and data.startswith(self._before, len(frame)) and self._is_between
        ):
            return False
        text = data[len(frame) + self._text_from : self._text_to - 2]
        if not text or text.translate(None, PLAIN):
            return False
        attempt = self.attempt
        attempt.last_token_ns = at_ns = self.at_ns
        attempt.token_chunks += 1
        self._events += 1
        self._chunks.append(attempt.request, at_ns, length - len(frame) - 2, _CONTENT)
        if self._texts is not None:
            self._texts.append(text.decode("ascii"))
        return True

    def on_body(self, data: bytes) -> None:
        """Body bytes of the read in hand."""
        if self._is_between and data.startswith(self._before) and data.endswith(self._after):
            text = data[self._text_from : self._text_to]
            if text and not text.translate(None, PLAIN):
                self._on_plain_token(text, len(data))
                return
        attempt = self.attempt
        if self._is_shut:
            return
        if attempt.first_byte_ns == MISSING_NS:
            attempt.first_byte_ns = self.at_ns
        is_success = 200 <= attempt.status < 300
        if not (is_success and self._is_event_stream) and not self._events and len(self._kept) < _KEPT_BODY_BYTES:
            self._kept += data[:_KEPT_BODY_BYTES]
        if not is_success:
            return
        plain = plain_events(data) if self._is_between or self._scanner is None else None
        for event in plain or self._scanned(data):
            self.on_event(event)
        if plain:
            self._is_between = True

    def _scanned(self, data: bytes) -> list[SseEvent]:
        """The events of a read that is anything but whole plain ones."""
        if self._scanner is None:
            self._scanner = SseScanner(at_start=not self._events)
        events = self._scanner.feed(data)
        self._is_between = self._scanner.is_between
        return events

    def shut(self) -> None:
        """The response is over: bytes that still come are not its own."""
        self._is_shut = True
        self._before = self._after = self._after_chunk = b"\0"

    def on_event(self, event: SseEvent) -> None:
        """One event that the read in hand completed."""
        shapes = self._shapes
        if shapes is not None and shapes.known is not None and (text := shapes.known.text_in(event)) is not None:
            self._on_plain_token(text, event.size)
            return
        reading = self._read(event)
        attempt, at_ns, channel = self.attempt, self.at_ns, reading.channel
        self._events += 1
        self._chunks.append(attempt.request, at_ns, event.size, CHANNEL_CODES[channel])
        if attempt.first_event_ns == MISSING_NS:
            attempt.first_event_ns = at_ns
        if reading is DONE:  # nothing more to it
            if self._done_ns == MISSING_NS:
                self._done_ns = at_ns
            return
        self._note(reading)
        if channel is not _NO_CHANNEL:
            self._note_token(reading)
            # Not from the first token: an answer of one has no use for a shape.
            if attempt.token_chunks > 1:
                self._learn_shape(event, reading)

    def _learn_shape(self, event: SseEvent, reading: Reading) -> None:
        if self._shapes is None:
            self._shapes = Shapes(self._read)
        if self._shapes.learn(event, reading) and self._shapes.known is not None:
            self._before, self._after = self._shapes.known.on_the_wire
            self._after_chunk = self._after + b"\r\n"
            self._text_from, self._text_to = len(self._before), -len(self._after)

    def _on_plain_token(self, text: bytes, size: int) -> None:
        """One answer token, not the first, and nothing else."""
        attempt = self.attempt
        attempt.last_token_ns = self.at_ns
        attempt.token_chunks += 1
        self._events += 1
        self._chunks.append(attempt.request, self.at_ns, size, _CONTENT)
        if self._texts is not None:
            self._texts.append(text.decode("ascii"))

    def _note_token(self, reading: Reading) -> None:
        attempt, at_ns = self.attempt, self.at_ns
        if attempt.first_token_ns == MISSING_NS:
            attempt.first_token_ns = at_ns
            attempt.before_first_token_ns = self.previous_ns
            attempt.first_channel = reading.channel
        if reading.answers and attempt.first_answer_ns == MISSING_NS:
            attempt.first_answer_ns = at_ns
        attempt.last_token_ns = at_ns
        attempt.token_chunks += 1
        if self._texts is not None:
            self._texts.append(reading.text)

    def _note(self, reading: Reading) -> None:
        """What an event says beside tokens."""
        attempt = self.attempt
        if reading.usage is not None:
            # Some servers tell it in every chunk, others a part at the beginning and a part at the end.
            self._usage = reading.usage if self._usage is None else self._usage.with_later(reading.usage)
        if reading.body_timings:
            attempt.body_timings = self._redact(reading.body_timings)
        if reading.response_id and not attempt.response_id:
            attempt.response_id = self._redact.excerpt(reading.response_id)
        if reading.finished:
            self._finished = True
        if reading.done and self._done_ns == MISSING_NS:
            self._done_ns = self.at_ns
        if reading.error:
            self.fail(ErrorClass.ERROR_EVENT, reading.error)
        elif reading.malformed:
            self.fail(ErrorClass.MALFORMED, f"an event that is not a JSON object: {reading.malformed}")

    def fail(self, error_class: ErrorClass, text: str) -> None:
        """Note what went wrong, unless something did before."""
        if self.attempt.error_class == ErrorClass.NONE:
            self.attempt.error_class = error_class
            self.attempt.error_text = self._redact.excerpt(text)

    def end(self, ending: Ending, at_ns: int, text: str = "") -> None:
        """The exchange is over: classify it, count the tokens, stamp the end."""
        attempt = self.attempt
        attempt.end_ns = self.at_ns = at_ns
        if not (ending is _COMPLETE and self._is_whole()):
            self._classify(ending, text)
        if self._usage is not None or attempt.token_chunks:
            self._count_tokens()

    def _is_whole(self) -> bool:
        """Nearly every answer: its end mark came, nothing after it, and a token before."""
        attempt = self.attempt
        return self._done_ns != MISSING_NS and self._is_between and attempt.first_token_ns != MISSING_NS and 200 <= attempt.status < 300

    def _classify(self, ending: Ending, text: str) -> None:
        status = self.attempt.status
        if ending is Ending.SILENT:
            self.fail(ErrorClass.DISCONNECTED, f"the peer closed the connection before it answered {text}".rstrip())
        elif ending is Ending.BAD_HTTP:
            self.fail(ErrorClass.MALFORMED, f"not an HTTP/1.x response: {text}")
        elif status == MISSING_NS:
            self.fail(ErrorClass.DISCONNECTED, f"the peer closed the connection inside the response headers {text}".rstrip())
        elif not _is_success(status):
            self._fail_by_status()
        else:
            self._end_stream(ending, text)

    def give_up(self, error_class: ErrorClass, text: str, at_ns: int) -> None:
        """The client ended it. A stream whose end mark came is whole, even where the server never ended the message."""
        self.attempt.end_ns = self._done_ns if self.is_done else at_ns
        if not self.is_done:
            self.fail(error_class, text)
        elif self.attempt.first_token_ns == MISSING_NS:
            self._fail_without_tokens()
        self._count_tokens()

    def _fail_by_status(self) -> None:
        status = self.attempt.status
        other = ErrorClass.SERVER if status >= 500 else ErrorClass.BAD_REQUEST
        self.fail(_BY_STATUS.get(status, other), self._kept.decode("utf-8", "replace") or f"HTTP {status} without a body")

    def _end_stream(self, ending: Ending, text: str) -> None:
        rest = None if self._is_between or self._scanner is None else self._scanner.finish()
        if rest is not None and self._read(rest).done:
            self.on_event(rest)
        elif rest is not None and not self.is_done:
            self.fail(ErrorClass.TRUNCATED, f"the stream was cut in mid-event, after {self._events} events {text}".rstrip())
        if not self._events and not self._is_event_stream:
            self._not_sse()
        elif not self.is_done and (ending is Ending.CUT or not self._finished):
            self.fail(ErrorClass.TRUNCATED, f"the stream ended without its end mark, after {self._events} events {text}".rstrip())
        elif self.attempt.first_token_ns == MISSING_NS:
            self._fail_without_tokens()

    def _fail_without_tokens(self) -> None:
        self.fail(ErrorClass.NO_TOKENS, f"the stream was complete, but none of its {self._events} events bore a token")

    def _not_sse(self) -> None:
        # It outranks a "cut" event: a document that is not a stream cannot be cut in mid-event.
        self.attempt.error_class = ErrorClass.NONE
        self.fail(ErrorClass.NOT_SSE, f"wanted an event stream, got: {self._kept.decode('utf-8', 'replace') or 'an empty body'}")

    def _count_tokens(self) -> None:
        attempt, usage = self.attempt, self._usage
        if usage is not None:
            attempt.prompt_tokens = usage.prompt_tokens
            attempt.reasoning_tokens = usage.reasoning_tokens
            attempt.cached_tokens = usage.cached_tokens
            attempt.output_tokens = usage.output_tokens
        # Gateways have been seen to write zeros where they do not know: no tokens, in an answer that brought some, is no count.
        if attempt.output_tokens > 0 or (attempt.output_tokens == 0 and not attempt.token_chunks):
            attempt.tokens_source = "usage"
        elif attempt.token_chunks:
            attempt.output_tokens = attempt.token_chunks
            attempt.tokens_source = "chunks"


def _is_success(status: int) -> bool:
    return 200 <= status < 300


@lru_cache(maxsize=64)
def is_event_stream(content_type: bytes) -> bool:
    """Whether a body of this type is server-sent events."""
    return content_type.lower().startswith(b"text/event-stream")


class _HeaderKind(Enum):
    """What a response header is good for."""

    CONTENT_TYPE = auto()
    TIMING = auto()
    LOCATION = auto()
    OTHER = auto()


def says_something(name: bytes) -> bool:
    """Whether a response header of this name is good for anything here."""
    return _kind_of(name) is not _HeaderKind.OTHER


@lru_cache(maxsize=1024)
def _kind_of(name: bytes) -> _HeaderKind:
    """By name, in whatever case; remembered, because a server sends the same names with every answer."""
    lower = name.decode("latin-1").lower()
    if lower == "content-type":
        return _HeaderKind.CONTENT_TYPE
    if lower == "location":
        return _HeaderKind.LOCATION
    is_timing = lower.startswith(_TIMING_PREFIXES) and not any(part in lower for part in _NEVER)
    return _HeaderKind.TIMING if is_timing or lower in _TIMING_HEADERS else _HeaderKind.OTHER
