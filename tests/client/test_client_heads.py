"""Heads seen before change nothing but what a response costs."""

from __future__ import annotations

import dataclasses
from typing import Any

import httptools
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scripted_peer import CHUNKED, DONE, FOUR, HEAD, STOP, TAIL, TWO, USAGE, chunk, new_attempt

from latprof.client.answer import Answer
from latprof.client.dialects.openai_chat import OPENAI_CHAT
from latprof.client.heads import Heads
from latprof.client.http1 import ResponseReader
from latprof.client.redact import Redactor
from latprof.client.stamps import ChunkLog

BODY = TWO + STOP + DONE
TIMED = b"server-timing: gw;dur=1.5\r\nX-Request-Id: hunter22\r\nserver-timing: lb;dur=2\r\n"


def sized(body: bytes, more: bytes = b"", head: bytes = HEAD) -> bytes:
    return head + more + b"content-length: %d\r\n\r\n" % len(body) + body


RESPONSES = [
    sized(BODY),
    sized(TWO + USAGE + DONE),
    sized(BODY, TIMED),
    sized(BODY, b"date: Sat, 21 Nov 2026 19:00:01 GMT\r\n"),
    sized(BODY, b"connection: close\r\n"),
    sized(BODY, b"content-length: %d\r\n" % len(BODY)),
    sized(BODY, b"transfer-encoding: chunked\r\n"),
    sized(BODY, head=HEAD.replace(b"1.1", b"1.0")),
    sized(BODY, b"", HEAD.replace(b"1.1 200", b"1.0 200") + b"connection: keep-alive\r\n"),
    sized(BODY, head=b"HTTP/1.1 200 OK\ncontent-type: text/event-stream\n"),
    sized(BODY).replace(b"\r\n\r\n", b"\n\n", 1),
    sized(BODY).replace(b"content-length: ", b"content-length:  "),
    sized(BODY).replace(b"content-length: ", b"Content-Length: 0"),
    sized(BODY) + b"HTTP/1.1 200 OK\r\n",
    sized(BODY) + b"\r\n",
    sized(BODY)[:-1],
    sized(BODY + b"\r\n\r\n" + BODY),
    sized(b""),
    sized(b'{"error":{"message":"slow down"}}', head=b"HTTP/1.1 429 Too Many\r\n"),
    b"HTTP/1.1 304 Not Modified\r\ncontent-length: 40\r\n\r\n",
    b"HTTP/1.1 304 Not Modified\r\ncontent-length: 20\r\n\r\n" + b"x" * 20,
    b"HTTP/1.1 103 Early Hints\r\nlink: x\r\n\r\n" + sized(BODY),
    b"HTTP/1.1 100 Continue\r\ncontent-length: 40\r\n\r\n" + sized(BODY),
    CHUNKED + chunk(TWO) + chunk(STOP) + chunk(DONE) + TAIL,
    HEAD + b"\r\n" + BODY,
    b"rubbish",
]


def taken_in(reads: list[bytes], heads: Heads | None) -> tuple[dict[str, Any], list[list[int]], object, bool]:
    """All that is known after the reads came at 1000, 2000, ... and the peer closed."""
    log = ChunkLog()
    attempt = new_attempt(3)
    answer = Answer(attempt, log, OPENAI_CHAT, Redactor(["hunter22"]), keeps_text=True)
    reader = ResponseReader(answer, 500, heads=heads)
    for number, data in enumerate(reads, 1):
        if reader.ended is None:
            reader.feed(data, 1000 * number)
    keep_alive = reader.keep_alive
    reader.close(9_999)
    assert reader.ended is not None
    answer.end(*reader.ended)
    columns = [list(column) for column in (log.request, log.at_ns, log.size, log.channel)]
    return {**dataclasses.asdict(attempt), "text": answer.text, "previous_ns": answer.previous_ns}, columns, reader.ended, keep_alive


@pytest.mark.parametrize("before", RESPONSES)
def test_a_response_reads_the_same_whatever_came_before(before: bytes) -> None:
    for response in RESPONSES:
        heads = Heads()
        for _ in range(2):
            taken_in([before], heads)
        assert taken_in([response], heads) == taken_in([response], None)


@given(st.sampled_from(RESPONSES), st.sampled_from(RESPONSES), st.integers(0, 500), st.binary(max_size=3), st.integers(0, 500))
def test_so_does_one_that_was_changed_a_little(before: bytes, after: bytes, at: int, put: bytes, cut: int) -> None:
    heads = Heads()
    taken_in([before], heads)
    changed = after[:at] + put + after[at + len(put) :]
    for reads in ([changed], [changed[:cut], changed[cut:]] if 0 < cut < len(changed) else [changed + put]):
        assert taken_in(reads, heads) == taken_in(reads, None)


def test_a_known_head_needs_no_parser(monkeypatch: pytest.MonkeyPatch) -> None:
    heads = Heads()
    first = taken_in([sized(BODY, TIMED)], heads)

    def refuse(_: object) -> None:
        raise AssertionError("parsed again")

    monkeypatch.setattr(httptools, "HttpResponseParser", refuse)
    assert taken_in([sized(BODY, TIMED)], heads) == first
    # Another text of the same length under the same head.
    other = BODY.replace(b"two", b"six")
    assert taken_in([sized(other, TIMED)], heads)[0]["text"] == "six"
    for unknown in (sized(BODY), sized(BODY + FOUR, TIMED), sized(BODY, TIMED)[:-1]):
        with pytest.raises(AssertionError, match="parsed again"):
            taken_in([unknown], heads)


def test_no_more_heads_are_kept_than_a_few() -> None:
    heads = Heads()
    for number in range(1_000):
        taken_in([sized(BODY, b"x-number: %d\r\n" % number)], heads)
        assert len(heads) <= 32
    taken_in([sized(BODY, b"x-long: %b\r\n" % (b"x" * 5_000))], heads)
    assert all(len(head) < 5_000 for head in heads)


def test_a_fault_of_our_own_reaches_whoever_sent_the_request(monkeypatch: pytest.MonkeyPatch) -> None:
    heads = Heads()
    taken_in([sized(BODY)], heads)
    faults: list[Exception] = []
    for known in (heads, None):
        answer = Answer(new_attempt(3), ChunkLog(), OPENAI_CHAT, Redactor())
        reader = ResponseReader(answer, 500, on_fault=faults.append, heads=known)
        with monkeypatch.context() as patch:
            patch.setattr(Answer, "on_headers", lambda *_, **__: 1 / 0)
            reader.feed(sized(BODY), 1_000)
    assert isinstance(faults[0], ZeroDivisionError)
    assert isinstance(faults[1].__context__, ZeroDivisionError)
