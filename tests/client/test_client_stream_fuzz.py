"""Streams cut anywhere: the same events, each stamped by the read that completed it, and never a crash.

Whatever short way a read takes (a known shape, a chunk that the HTTP parser never sees), it must say what the long way says.
"""

from __future__ import annotations

import json
from itertools import pairwise

from hypothesis import example, given, settings
from hypothesis import strategies as st

from latprof.client.answer import Answer
from latprof.client.dialects import DIALECTS
from latprof.client.http1 import ResponseReader
from latprof.client.redact import Redactor
from latprof.client.sse import SseScanner
from latprof.client.stamps import CHANNEL_CODES, Attempt, Channel, ChunkLog

DIALECT = DIALECTS["openai-chat"]
HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
PLAIN = ["a", " the", ",", " token of several words"]
ODD = ['"', "\\", "\n", "é", "日本", "\x7f", "\u2028", '"}]}', "data: ", " a\tb", '\\"content\\":\\"', "", "\U0001f600"]

texts = st.one_of(st.sampled_from(PLAIN), st.sampled_from(ODD), st.text(max_size=8))
kinds = st.sampled_from(["content", "content", "content", "content", "reasoning", "tool", "role", "usage", "finish", "comment", "rubbish"])


def event(kind: str, text: str, *, spaced: bool) -> bytes:
    if kind == "comment":
        return b": keep-alive\n\n"
    if kind == "rubbish":
        return b"data: {" + text.encode("utf-8", "replace").replace(b"\n", b"").replace(b"\r", b"") + b"\n\n"
    delta = {
        "content": {"content": text},
        "reasoning": {"reasoning_content": text},
        "tool": {"tool_calls": [{"index": 0, "function": {"arguments": text}}]},
        "role": {"role": "assistant", "content": ""},
    }.get(kind, {})
    message: dict[str, object] = {
        "id": "c-1",
        "choices": [{"index": 0, "delta": delta, "finish_reason": "stop" if kind == "finish" else None}],
    }
    if kind == "usage":
        message = {"id": "c-1", "choices": [], "usage": {"prompt_tokens": 1, "completion_tokens": len(text)}}
    separators = (", ", ": ") if spaced else (",", ":")
    return b"data: " + json.dumps(message, ensure_ascii=spaced, separators=separators).encode("utf-8", "replace") + b"\n\n"


events = st.lists(st.tuples(kinds, texts), min_size=1, max_size=30)


def framed(bodies: list[bytes], upper: bool) -> bytes:
    form = b"%X\r\n%b\r\n" if upper else b"%x\r\n%b\r\n"
    return b"".join(form % (len(body), body) for body in bodies) + b"0\r\n\r\n"


def cut(stream: bytes, at: list[int]) -> list[bytes]:
    places = sorted({place % (len(stream) + 1) for place in at} | {0, len(stream)})
    return [stream[begin:end] for begin, end in pairwise(places)]


def heard(reads: list[bytes]) -> tuple[Attempt, ChunkLog, str]:
    attempt, chunks = Attempt(0, 0, 0, 0, "measured", "", "", 1, 1), ChunkLog()
    answer = Answer(attempt, chunks, DIALECT, Redactor(), keeps_text=True)
    reader = ResponseReader(answer, 0)
    for number, read in enumerate(reads, start=1):
        reader.feed(read, number)
    if reader.ended is None:
        reader.close(len(reads) + 1)
    assert reader.ended is not None
    answer.end(*reader.ended)
    return attempt, chunks, answer.text


def plainly(bodies: list[bytes]) -> tuple[list[tuple[int, int]], str]:
    """The long way: every event parsed by itself; (size, channel) of each, and the answer's text."""
    rows, text = [], ""
    for event in SseScanner().feed(b"".join(bodies)):
        reading = DIALECT.read(event)
        rows.append((event.size, CHANNEL_CODES[reading.channel]))
        text += reading.text if reading.channel is not Channel.NONE else ""
    return rows, text


@settings(max_examples=400, deadline=None)
@given(events, st.lists(st.integers(0, 1 << 20), max_size=40), st.booleans(), st.booleans(), st.booleans())
@example([("content", text) for text in PLAIN * 3], [], False, False, False)
@example([("content", text) for text in PLAIN * 3], [], False, False, True)
def test_any_split_says_the_same(parts: list[tuple[str, str]], at: list[int], spaced: bool, upper: bool, whole: bool) -> None:
    bodies = [event(kind, text, spaced=spaced) for kind, text in parts] + [b"data: [DONE]\n\n"]
    stream = framed([b"".join(bodies)] if whole else bodies, upper)
    rows, text = plainly(bodies)
    for reads in (
        [HEAD, stream],
        [HEAD, *cut(stream, at)],
        [HEAD, *(framed([body], upper)[:-5] for body in bodies), b"0\r\n\r\n"],
        [bytes([byte]) for byte in HEAD + stream],
    ):
        attempt, chunks, said = heard(reads)
        assert list(zip(chunks.size, chunks.channel, strict=True)) == rows
        assert said == text
        assert attempt.token_chunks == sum(channel > 0 for _, channel in rows)


@settings(max_examples=200, deadline=None)
@given(events, st.lists(st.integers(0, 1 << 20), max_size=40))
def test_a_stamp_is_that_of_the_read_that_completed_the_event(parts: list[tuple[str, str]], at: list[int]) -> None:
    bodies = [event(kind, text, spaced=False) for kind, text in parts]
    reads = [HEAD, *cut(framed(bodies, upper=False), at)]
    _, chunks, _ = heard(reads)
    ends, position = [], 0
    for body in bodies:
        position += len(b"%x\r\n" % len(body)) + len(body)
        ends += [position] * len(SseScanner().feed(body))
        position += 2
    borders, position = [], 0
    for read in reads[1:]:
        position += len(read)
        borders.append(position)
    # The read that brought the event's last byte; the first one (number 1) is the head.
    assert list(chunks.at_ns) == [next(number for number, border in enumerate(borders, start=2) if border >= end) for end in ends]


@settings(max_examples=300, deadline=None)
@given(st.binary(max_size=400), st.lists(st.integers(0, 1 << 20), max_size=10), st.booleans())
def test_rubbish_never_crashes(rubbish: bytes, at: list[int], after_head: bool) -> None:
    attempt, chunks, _ = heard([HEAD if after_head else b"", *cut(rubbish, at)][0 if after_head else 1 :])
    assert not attempt.succeeded or attempt.token_chunks
    assert len(chunks.at_ns) == len(chunks.size) == len(chunks.channel)


@settings(max_examples=200, deadline=None)
@given(events, st.binary(max_size=40), st.integers(0, 1 << 20), st.lists(st.integers(0, 1 << 20), max_size=10))
def test_a_damaged_stream_never_crashes(parts: list[tuple[str, str]], rubbish: bytes, where: int, at: list[int]) -> None:
    stream = framed([event(kind, text, spaced=False) for kind, text in parts], upper=False)
    place = where % len(stream)
    heard([HEAD, *cut(stream[:place] + rubbish + stream[place + 1 :], at)])
