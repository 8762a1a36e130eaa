"""What the client writes down about one attempt at a turn: time stamps as they happened, and what the answer said.

All stamps are this process's monotonic ns; ``MISSING_NS`` where the thing never happened.
"""

from __future__ import annotations

from array import array
from dataclasses import dataclass, field
from enum import StrEnum

from latprof.units import MISSING_NS, NS_PER_MS

STALE_NS = 100 * NS_PER_MS
"""A kept connection that closes without a word this soon after a request was dead before it, and the request is sent again. Longer than a reset
takes to come back over most networks, shorter than an answer worth measuring takes to fail."""


class ErrorClass(StrEnum):
    """Why an attempt failed; empty for success. A failed request is a row of its class."""

    NONE = ""
    DNS = "dns"
    CONNECT = "connect"
    TLS = "tls"
    TIMEOUT = "timeout"
    DISCONNECTED = "disconnected"  # the peer closed before the answer was complete
    AUTH = "auth"  # 401, 403
    NOT_FOUND = "not_found"  # 404: the path or the model
    RATE_LIMITED = "rate_limited"  # 429
    BAD_REQUEST = "bad_request"  # any other 4xx
    SERVER = "server"  # 5xx
    NOT_SSE = "not_sse"  # 200, but no event stream
    TRUNCATED = "truncated"  # the stream ended without its end mark, or in mid-event
    MALFORMED = "malformed"  # an event that does not parse, or HTTP that does not
    ERROR_EVENT = "error_event"  # an error inside the stream
    NO_TOKENS = "no_tokens"  # a complete stream without a single token
    INTERRUPTED = "interrupted"  # the run ended first
    UNFINISHED = "unfinished"  # no end was recorded: the run was killed


class Channel(StrEnum):
    """What the first token belonged to."""

    NONE = ""
    CONTENT = "content"
    REASONING = "reasoning"
    TOOL = "tool"


# Codes of ChunkLog.channel; one chunk may carry several channels, the first non-empty one counts.
CHANNEL_CODES: dict[Channel, int] = {Channel.NONE: 0, Channel.CONTENT: 1, Channel.REASONING: 2, Channel.TOOL: 3}


@dataclass(slots=True)
class Attempt:
    """One request: an attempt at a turn. Filled in as it goes; written to the run folder as one row.

    ``intended_ns`` when it should have gone; ``built_ns`` when its body was ready, where it could only be written during the run (it continues a
    real answer); ``ready_ns`` when the driver woke for it; ``start_ns`` when it was let go (after a wait for the
    concurrency cap). DNS, connect and TLS stamps are missing on a reused connection. ``send_ns`` just before the first byte was written,
    ``written_ns`` after the last. ``headers_ns`` the read that completed the response headers, ``first_byte_ns`` the first body byte,
    ``first_event_ns`` the first event of any kind, ``first_token_ns`` the first token of any channel (TTFT), ``first_answer_ns`` the first
    token of the answer (TTFO), ``last_token_ns`` the last token, ``end_ns`` the end of the stream or of the failure.
    """

    request: int
    session: int
    turn: int
    attempt: int
    phase: str
    trace_id: str  # 32 hex
    span_id: str  # 16 hex
    asked_prompt_tokens: int
    asked_output_tokens: int
    intended_ns: int = MISSING_NS
    built_ns: int = MISSING_NS
    ready_ns: int = MISSING_NS
    start_ns: int = MISSING_NS
    dns_start_ns: int = MISSING_NS
    dns_end_ns: int = MISSING_NS
    connect_start_ns: int = MISSING_NS
    connect_end_ns: int = MISSING_NS
    tls_end_ns: int = MISSING_NS
    send_ns: int = MISSING_NS
    written_ns: int = MISSING_NS
    headers_ns: int = MISSING_NS
    first_byte_ns: int = MISSING_NS
    first_event_ns: int = MISSING_NS
    first_token_ns: int = MISSING_NS
    first_answer_ns: int = MISSING_NS
    last_token_ns: int = MISSING_NS
    end_ns: int = MISSING_NS
    # The read before the one that brought the first token: the token arrived in (this, first_token_ns].
    before_first_token_ns: int = MISSING_NS
    token_chunks: int = 0
    reads: int = 0  # reads that brought this answer
    user_stamps: int = 0  # those among them without a kernel stamp
    first_channel: str = Channel.NONE
    prompt_tokens: int = MISSING_NS
    output_tokens: int = MISSING_NS
    reasoning_tokens: int = MISSING_NS
    cached_tokens: int = MISSING_NS
    tokens_source: str = ""  # "usage", "tokenizer", "chunks", or empty
    status: int = MISSING_NS
    error_class: str = ErrorClass.NONE
    error_text: str = ""  # first 300 characters, secrets redacted
    timing_headers: list[tuple[str, str]] = field(default_factory=list)  # verbatim, in order, repeated lines kept
    body_timings: str = ""  # JSON text of llama.cpp's `timings` or Cerebras' `time_info`, verbatim
    response_id: str = ""
    worker: int = 0  # the process that sent it
    target: str = ""  # its name, where there are several

    @property
    def succeeded(self) -> bool:
        """Whether the whole answer came, with at least one token."""
        # An empty text is no error; an enumeration's member costs ten times a comparison to look up, and this is asked three times a request.
        return not self.error_class and self.end_ns != MISSING_NS


@dataclass(slots=True)
class ChunkLog:
    """Every chunk of every stream in order of arrival: parallel columns, appended on the hot path, drained by the recorder."""

    request: array[int] = field(default_factory=lambda: array("q"))
    at_ns: array[int] = field(default_factory=lambda: array("q"))
    size: array[int] = field(default_factory=lambda: array("i"))  # bytes of the event as received
    channel: array[int] = field(default_factory=lambda: array("b"))  # CHANNEL_CODES; 0 carries no token

    def append(self, request: int, at_ns: int, size: int, channel: int) -> None:
        """Record one event that arrived with the read stamped ``at_ns``."""
        self.request.append(request)
        self.at_ns.append(at_ns)
        self.size.append(size)
        self.channel.append(channel)
