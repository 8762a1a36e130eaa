from __future__ import annotations

import itertools

from hypothesis import given
from hypothesis import strategies as st

from latprof.client.sse import SseEvent, SseScanner

STREAM = (
    b"\xef\xbb\xbf: hello\n\ndata: one\n\nevent: error\r\nid: 7\r\ndata:two\r\ndata:  three\r\n\r\n:keep-alive\r\n\r\n"
    b'data\n\nretry: 10\nunknown: x\n\ndata: {"a": "b:c"}\n\ndata: [DONE]\n\n'
)
EVENTS = [
    SseEvent(b"one", b"", 11),
    SseEvent(b"two\n three", b"error", 47),
    SseEvent(b"", b"", 6),
    SseEvent(b'{"a": "b:c"}', b"", 20),
    SseEvent(b"[DONE]", b"", 14),
]


def scan(pieces: list[bytes]) -> list[SseEvent]:
    scanner = SseScanner()
    return [event for piece in pieces for event in scanner.feed(piece)]


def split(data: bytes, cuts: list[int]) -> list[bytes]:
    edges = [0, *sorted(cut % (len(data) + 1) for cut in cuts), len(data)]
    return [data[a:b] for a, b in itertools.pairwise(edges)]


def test_whole_stream_in_one_read() -> None:
    assert scan([STREAM]) == EVENTS


def test_one_byte_at_a_time() -> None:
    assert scan([bytes([byte]) for byte in STREAM]) == EVENTS


@given(st.lists(st.integers(0, len(STREAM)), max_size=12))
def test_splits_change_nothing(cuts: list[int]) -> None:
    assert scan(split(STREAM, cuts)) == EVENTS


@given(
    st.lists(st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\r\n"), max_size=40), min_size=1, max_size=8),
    st.booleans(),
    st.data(),
)
def test_what_was_written_is_read(texts: list[str], crlf: bool, data: st.DataObject) -> None:
    end = b"\r\n" if crlf else b"\n"
    stream = b"".join(b"data: " + text.encode() + end + end for text in texts)
    cuts = data.draw(st.lists(st.integers(0, len(stream)), max_size=10))
    events = scan(split(stream, cuts))
    assert [event.data.decode() for event in events] == texts
    assert sum(event.size for event in events) == len(stream)


@given(st.lists(st.binary(max_size=60), max_size=8))
def test_any_bytes_are_taken_and_splits_do_not_matter(pieces: list[bytes]) -> None:
    whole, cut = SseScanner(), SseScanner()
    assert whole.feed(b"".join(pieces)) == [event for piece in pieces for event in cut.feed(piece)]
    assert whole.finish() == cut.finish()


def test_the_end_tells_what_was_left() -> None:
    scanner = SseScanner()
    assert scanner.feed(b"data: a\n\ndata: [DO") == [SseEvent(b"a", b"", 9)]
    assert scanner.feed(b"NE]") == []
    assert scanner.finish() == SseEvent(b"[DONE]", b"", 12)
    assert scanner.finish() is None
