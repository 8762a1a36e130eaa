"""Where requests end: byte lists, cut anywhere."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from latprof.inject.framing import MOST_HEAD_BYTES, Framer, FramingError, Part, addressed_to, trace_of

TRACE, SPAN = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
GET = b"GET /v1/models HTTP/1.1\r\nhost: x\r\n\r\n"
HEAD = b"POST /v1 HTTP/1.1\r\nHost: x\r\nTraceParent: 00-%s-%s-01\r\nContent-Length: 11\r\n\r\n" % (TRACE.encode(), SPAN.encode())
CHUNKED_HEAD = b"POST /v1 HTTP/1.1\r\nTransfer-Encoding: gzip, chunked\r\n\r\n"
CHUNKED_BODY = b"5\r\nhello\r\n6;name=value\r\n world\r\n0\r\nTrailer: x\r\n\r\n"
EMPTY = b"POST /v1 HTTP/1.1\r\ncontent-length: 0\r\n\r\n"
REQUESTS = [(GET, b""), (HEAD, b"hello\r\n\r\nGET"[:11]), (CHUNKED_HEAD, CHUNKED_BODY), (EMPTY, b""), (GET, b"")]
STREAM = b"".join(head + body for head, body in REQUESTS)


def framed(pieces: list[bytes]) -> list[tuple[bytes, bytes]]:
    """Requests as (head, body), from what a framer makes of ``pieces``."""
    framer, found = Framer(), []
    for piece in pieces:
        for part in framer.feed(piece):
            if part.is_head:
                found.append((part.data, b""))
            else:
                head, body = found.pop()
                found.append((head, body + part.data))
    return found


def test_requests_of_every_kind_are_told_apart() -> None:
    assert framed([STREAM]) == REQUESTS


@given(st.lists(st.integers(1, len(STREAM) - 1), max_size=12))
def test_however_the_bytes_are_cut(cuts: list[int]) -> None:
    ends = sorted({*cuts, len(STREAM)})
    assert framed([STREAM[begin:end] for begin, end in zip([0, *ends], ends, strict=False)]) == REQUESTS


def test_a_body_goes_on_as_it_comes_and_a_head_only_whole() -> None:
    framer = Framer()
    assert list(framer.feed(HEAD[:-2])) == []
    assert list(framer.feed(HEAD[-2:] + b"hel")) == [Part(HEAD, is_head=True), Part(b"hel")]
    assert list(framer.feed(b"lo")) == [Part(b"lo")]


@pytest.mark.parametrize("wrong", [b"x" * (MOST_HEAD_BYTES + 1), CHUNKED_HEAD + b"zz\r\n", CHUNKED_HEAD + b"1" * 9000])
def test_what_is_no_request_is_said(wrong: bytes) -> None:
    with pytest.raises(FramingError):
        list(Framer().feed(wrong))


def test_http_2_is_told_what_to_do() -> None:
    with pytest.raises(FramingError, match=r"it is HTTP/2, .* set HTTP/1\.1 for this upstream"):
        list(Framer().feed(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"))


def test_the_hops_own_address_becomes_that_of_the_upstream_and_no_other_does() -> None:
    head = b"POST /v1 HTTP/1.1\r\nHOST: 127.0.0.1:9100\r\nx: 127.0.0.1:9100\r\n\r\n"
    assert addressed_to(head, 9100, "vllm:8001") == b"POST /v1 HTTP/1.1\r\nHOST: vllm:8001\r\nx: 127.0.0.1:9100\r\n\r\n"
    assert addressed_to(head, 9101, "vllm:8001") == head
    assert addressed_to(GET, 9100, "vllm:8001") == GET


def test_the_trace_is_read_from_the_head_whatever_its_case() -> None:
    assert trace_of(HEAD) == (TRACE, SPAN)
    assert trace_of(HEAD.replace(TRACE.encode(), TRACE.upper().encode())) == (TRACE, SPAN)
    assert trace_of(GET) == ("", "")
    assert trace_of(b"GET / HTTP/1.1\r\nx: traceparent: 00-%s-%s-01\r\n\r\n" % (TRACE.encode(), SPAN.encode())) == ("", "")
