"""One function from bytes per parser. It reads them whole, cut, and in crumbs, and raises where these do not say the same.

The first bytes of an input say how it is cut, so that a fuzzer can look for cuts as it looks for streams; seeds and findings are such inputs.
"""

from __future__ import annotations

import base64
import dataclasses
import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import pairwise
from typing import Any, Final

from websockets.frames import Opcode

from latprof.client.answer import Answer
from latprof.client.dialects import DIALECTS
from latprof.client.dialects.dialect import Dialect
from latprof.client.frames import Frames
from latprof.client.http1 import ResponseReader
from latprof.client.redact import Redactor
from latprof.client.sse import SseEvent, SseScanner
from latprof.client.stamps import CHANNEL_CODES, Attempt, Channel, ChunkLog

Parser = Callable[[bytes], None]

HEAD: Final = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
_OVER_HTTP: Final = tuple(dialect for dialect in DIALECTS.values() if dialect.over == "http")
_MOST_CUTS = 8
_MOST_CRUMBS = 128
_ACCEPT = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"  # RFC 6455
# What a stamp is depends on the reads, and what is quoted of rubbish on the read it came in.
_OF_THE_READS: Final = frozenset({"reads", "user_stamps", "error_text"})


class DisagreementError(AssertionError):
    """Two ways to read the same bytes do not say the same."""


def encoded(choice: int, cuts: Sequence[int], stream: bytes) -> bytes:
    """An input: which variant of a parser, where to cut, and what."""
    places = b"".join(place.to_bytes(2, "big") for place in cuts[:_MOST_CUTS])
    return bytes([choice, len(places) // 2]) + places + stream


def decoded(given: bytes) -> tuple[int, list[bytes]]:
    """The variant, and the stream in pieces; any bytes are an input."""
    choice, count = given[0] if given else 0, given[1] % (_MOST_CUTS + 1) if len(given) > 1 else 0
    head, stream = given[2 : 2 + 2 * count], given[2 + 2 * count :]
    places = {int.from_bytes(head[at : at + 2], "big") % (len(stream) + 1) for at in range(0, len(head), 2)}
    return choice, [stream[begin:end] for begin, end in pairwise(sorted(places | {0, len(stream)}))]


def _crumbs(stream: bytes) -> list[bytes]:
    """Byte by byte; a long stream in some hundred pieces, or the search would see forty inputs a second."""
    size = max(1, len(stream) // _MOST_CRUMBS)
    return [stream[at : at + size] for at in range(0, len(stream), size)]


def _agree(ways: Mapping[str, Any]) -> None:
    (first, wanted), *others = ways.items()
    for name, told in others:
        if told != wanted:
            raise DisagreementError(f"{first}: {wanted!r}\n{name}: {told!r}")


# --- server-sent events -------------------------------------------------------------------------------------------------------------------


def sse(given: bytes, scanner: Callable[[], SseScanner] = SseScanner) -> None:
    """Events, what is left at the end, and whether the end of an event was the end of it."""
    _, reads = decoded(given)
    stream = b"".join(reads)
    _agree({name: _scanned(scanner(), some) for name, some in (("whole", [stream]), ("cut", reads), ("in crumbs", _crumbs(stream)))})


def _scanned(scanner: SseScanner, reads: Sequence[bytes]) -> tuple[list[SseEvent], bool, SseEvent | None]:
    events = [event for read in reads for event in scanner.feed(read)]
    return events, scanner.is_between, scanner.finish()


class ForgetfulScanner(SseScanner):
    """The control: what has come of a line is lost if it begins with ``id``. No seed has such a line: it must be searched for."""

    def feed(self, data: bytes) -> list[SseEvent]:  # noqa: D102
        events = super().feed(data)
        line = b"".join(self._pieces)
        if line[:1] == b"i" and line[1:2] == b"d":
            self._pieces = []
        return events


# --- one answer over HTTP -----------------------------------------------------------------------------------------------------------------


def http(given: bytes) -> None:
    """An answer in one dialect: rows of the chunk log, text and outcome. Raw bytes behind the head, or an event stream framed in chunks."""
    choice, reads = decoded(given)
    dialect = _OVER_HTTP[choice % len(_OVER_HTTP)]
    if choice & 0x80:
        frames = [b"%x\r\n%b\r\n" % (len(read), read) for read in reads if read]
        framed = b"".join(frames) + b"0\r\n\r\n"
        ways = {"whole": [framed], "a read per chunk": [*frames, b"0\r\n\r\n"], "in crumbs": _crumbs(framed)}
        plain = {"plainly": _plainly(dialect, b"".join(reads))}
    else:
        stream = b"".join(reads)
        ways, plain = {"whole": [stream], "cut": reads, "in crumbs": _crumbs(stream)}, {}
    told = {name: _heard(dialect, [HEAD, *some]) for name, some in ways.items()}
    _agree(told)
    _agree({name: rows for name, (rows, _, _) in told.items()} | plain)


def _heard(dialect: Dialect, reads: Sequence[bytes]) -> tuple[list[tuple[int, int]], str, dict[str, Any]]:
    attempt, chunks = Attempt(0, 0, 0, 0, "measured", "", "", 1, 1), ChunkLog()
    answer = Answer(attempt, chunks, dialect, Redactor(), keeps_text=True)
    reader = ResponseReader(answer, 0)
    for number, read in enumerate(reads, start=1):
        if reader.ended is None:
            reader.feed(read, number)
    if reader.ended is None:
        reader.close(len(reads) + 1)
    if reader.ended is None:
        raise DisagreementError("a connection that was closed has no end")
    answer.end(*reader.ended)
    said = dataclasses.asdict(attempt)
    outcome = {name: value for name, value in said.items() if not name.endswith("_ns") and name not in _OF_THE_READS}
    return list(zip(chunks.size, chunks.channel, strict=True)), answer.text, outcome


def _plainly(dialect: Dialect, stream: bytes) -> list[tuple[int, int]]:
    """Every event parsed by itself, without the short ways; what an end without an empty line leaves counts where it ends the stream."""
    scanner = SseScanner()
    events = scanner.feed(stream)
    between, rest = scanner.is_between, scanner.finish()
    if not between and rest is not None and dialect.read(rest).done:
        events.append(rest)
    return [(event.size, CHANNEL_CODES[dialect.read(event).channel]) for event in events]


# --- readers of events --------------------------------------------------------------------------------------------------------------------


def dialects(given: bytes) -> None:
    """Any event is read without harm, and the same by the short way once its shape is known."""
    choice, reads = decoded(given)
    dialect = tuple(DIALECTS.values())[choice % len(DIALECTS)]
    name, _, data = b"".join(reads).partition(b"\n")
    event = SseEvent(data, name, len(data))
    reading = dialect.read(event)
    if reading != dialect.read(event):
        raise DisagreementError(f"{dialect.name} reads an event in two ways")
    if reading.channel is Channel.NONE and (reading.answers or reading.text):
        raise DisagreementError(f"{dialect.name}: no token, and yet {reading!r}")
    attempt, chunks = Attempt(0, 0, 0, 0, "measured", "", "", 1, 1), ChunkLog()
    answer = Answer(attempt, chunks, dialect, Redactor(), keeps_text=True)
    for at_ns in range(1, 6):
        answer.at_ns = at_ns
        answer.on_event(event)
    _agree({"read": [(event.size, CHANNEL_CODES[reading.channel])] * 5, "by shape": list(zip(chunks.size, chunks.channel, strict=True))})
    _agree({"read": 5 * (reading.text if reading.channel is not Channel.NONE else ""), "by shape": answer.text})


# --- WebSocket ----------------------------------------------------------------------------------------------------------------------------


class _Wire:
    """What `Frames` needs of a connection."""

    def __init__(self) -> None:
        self.is_open = True
        self.on_read: Callable[[bytes, int], None]
        self.on_closed: Callable[[int, str], None]
        self.sent = b""

    def send(self, pieces: Sequence[bytes]) -> None:
        self.sent += b"".join(pieces)

    def close(self) -> None:
        self.is_open = False


def websocket(given: bytes) -> None:
    """Messages, whether the connection is lost, and what is said back to it. Raw bytes behind the handshake, or whole frames."""
    choice, reads = decoded(given)
    stream = b"".join(_frames(reads)) if choice & 0x80 else b"".join(reads)
    pieces = [stream[at : at + 1 + choice % 64] for at in range(0, len(stream), 1 + choice % 64)]
    _agree({name: _spoken(some) for name, some in (("whole", [stream]), ("cut", pieces), ("in crumbs", _crumbs(stream)))})


def _frames(parts: Sequence[bytes]) -> Iterator[bytes]:
    """Each part a frame; its first byte says of which kind, and whether it is the last of its message. What no peer may send is sent, too."""
    kinds = (Opcode.TEXT, Opcode.CONT, Opcode.BINARY, Opcode.PING, Opcode.PONG, Opcode.TEXT, Opcode.CONT, Opcode.CLOSE)
    for part in parts:
        said, data = (part[0], part[1:]) if part else (0, b"")
        length = bytes([len(data)]) if len(data) < 126 else b"\x7e" + len(data).to_bytes(2, "big")
        yield bytes([(0 if said & 0x40 else 0x80) | kinds[said % len(kinds)]]) + length + data


def _spoken(reads: Sequence[bytes]) -> tuple[list[bytes], bool]:
    wire = _Wire()
    frames = Frames(wire)  # type: ignore[arg-type]
    messages: list[bytes] = []
    frames.on_message = lambda message, _: messages.append(message)
    accept = base64.b64encode(hashlib.sha1(frames._protocol.key.encode() + _ACCEPT).digest())  # noqa: S324, SLF001 - as RFC 6455 has it
    head = b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: %b\r\n\r\n" % accept
    for at_ns, read in enumerate([head, *reads]):
        if wire.is_open:
            wire.on_read(read, at_ns)
    return messages, wire.is_open


PARSERS: Final[Mapping[str, Parser]] = {"sse": sse, "http": http, "dialects": dialects, "websocket": websocket}

CONTROLS: Final[Mapping[str, Parser]] = {"sse, half a line lost that no seed has": lambda given: sse(given, ForgetfulScanner)}
"""Parsers that were made wrong: the fuzzer must say so."""
