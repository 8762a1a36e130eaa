"""Responses as lists of bytes with a stamp per read: no sockets."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scripted_peer import ANSWER, CHUNKED, DONE, FOUR, HEAD, ROLE, STOP, TAIL, TWO, USAGE, chunk, delta, event, new_attempt, plain

from latprof.client.answer import Answer, Ending
from latprof.client.dialects.openai_chat import OPENAI_CHAT
from latprof.client.http1 import Ended, ResponseReader
from latprof.client.redact import ERROR_TEXT_LENGTH, REDACTED, Redactor
from latprof.client.stamps import Attempt, ChunkLog, ErrorClass
from latprof.units import MISSING_NS

WRITTEN_NS = 500
CLOSED_NS = 9_999


def take_in(reads: list[bytes], *, close: str | None = None, chunks: ChunkLog | None = None) -> tuple[Attempt, ResponseReader]:
    """The reads arrive at 1000, 2000, ...; ``close`` then ends the connection with this text."""
    attempt = new_attempt(3)
    answer = Answer(attempt, chunks if chunks is not None else ChunkLog(), OPENAI_CHAT, Redactor(["hunter22"]))
    reader = ResponseReader(answer, WRITTEN_NS)
    for index, data in enumerate(reads, 1):
        reader.feed(data, 1000 * index)
    if close is not None:
        reader.close(CLOSED_NS, close)
    if reader.ended is not None:
        answer.end(*reader.ended)
    return attempt, reader


def ended(reader: ResponseReader) -> Ended:
    assert reader.ended is not None
    return reader.ended


def test_every_stamp_is_of_the_read_that_completed_the_thing() -> None:
    log = ChunkLog()
    reads = [
        HEAD,  # 1000: headers not complete yet
        b"transfer-encoding: chunked\r\n\r\n",  # 2000
        chunk(b": keep-alive\n\n"),  # 3000
        chunk(ROLE),  # 4000
        chunk(TWO)[:20],  # 5000: the first part of a token is not a token
        chunk(TWO)[20:] + chunk(FOUR),  # 6000: two events in one read
        chunk(STOP),  # 7000
        chunk(USAGE),  # 8000
        chunk(DONE) + TAIL,  # 9000
    ]
    attempt, reader = take_in(reads, chunks=log)
    assert ended(reader) == (Ending.COMPLETE, 9000, "")
    assert attempt.succeeded
    assert (attempt.headers_ns, attempt.first_byte_ns, attempt.first_event_ns) == (2000, 3000, 4000)
    assert (attempt.before_first_token_ns, attempt.first_token_ns, attempt.first_answer_ns) == (5000, 6000, 6000)
    assert (attempt.last_token_ns, attempt.end_ns, attempt.token_chunks, attempt.first_channel) == (6000, 9000, 2, "content")
    assert list(log.at_ns) == [4000, 6000, 6000, 7000, 8000, 9000]
    assert list(log.channel) == [0, 1, 1, 0, 0, 0]
    assert list(log.size) == [len(part) for part in (ROLE, TWO, FOUR, STOP, USAGE, DONE)]
    assert set(log.request) == {3}
    assert (attempt.prompt_tokens, attempt.output_tokens, attempt.cached_tokens, attempt.reasoning_tokens) == (8, 7, 3, 2)
    assert (attempt.tokens_source, attempt.response_id, attempt.status) == ("usage", "chatcmpl-1", 200)
    assert reader.keep_alive


def test_a_token_in_the_first_read_lies_after_the_request_was_written() -> None:
    attempt, _ = take_in([b"".join(part for part in ANSWER if isinstance(part, bytes))])
    assert (attempt.before_first_token_ns, attempt.first_token_ns) == (WRITTEN_NS, 1000)


def test_reasoning_ends_ttft_and_content_ends_ttfo() -> None:
    thought = delta('"reasoning_content":"hm"')
    attempt, _ = take_in([CHUNKED, chunk(ROLE), chunk(thought), chunk(thought), chunk(TWO), chunk(STOP) + chunk(DONE) + TAIL])
    assert (attempt.first_token_ns, attempt.first_answer_ns, attempt.last_token_ns, attempt.first_channel) == (
        3000,
        5000,
        5000,
        "reasoning",
    )
    assert (attempt.output_tokens, attempt.tokens_source, attempt.prompt_tokens) == (3, "chunks", MISSING_NS)


def test_a_tool_call_is_an_answer() -> None:
    call = delta('"tool_calls":[{"index":0,"id":"c","function":{"name":"add","arguments":""}}]')
    attempt, _ = take_in([CHUNKED, chunk(ROLE), chunk(call), chunk(STOP) + chunk(DONE) + TAIL])
    assert (attempt.first_token_ns, attempt.first_answer_ns, attempt.first_channel) == (3000, 3000, "tool")


def test_every_split_of_a_chunked_response_says_the_same() -> None:
    whole = b"HTTP/1.1 103 Early Hints\r\nlink: x\r\n\r\n" + b"".join(part for part in ANSWER if isinstance(part, bytes))
    for cut in range(1, len(whole)):
        log = ChunkLog()
        attempt, reader = take_in([whole[:cut], whole[cut:]], chunks=log)
        assert attempt.succeeded, cut
        assert reader.keep_alive
        assert (attempt.token_chunks, attempt.output_tokens, len(log.at_ns), sum(log.size)) == (2, 7, 6, _body_bytes()), cut
        assert attempt.headers_ns <= attempt.first_byte_ns <= attempt.first_event_ns <= attempt.first_token_ns <= attempt.last_token_ns
        assert attempt.before_first_token_ns < attempt.first_token_ns


def _body_bytes() -> int:
    return sum(len(part) for part in (ROLE, TWO, FOUR, STOP, USAGE, DONE))


@given(st.lists(st.integers(1, 700), max_size=20))
def test_any_splits_keep_the_stamps_in_order(cuts: list[int]) -> None:
    whole = b"".join(part for part in ANSWER if isinstance(part, bytes))
    edges = [0, *sorted({cut % len(whole) for cut in cuts} - {0}), len(whole)]
    log = ChunkLog()
    attempt, _ = take_in([whole[a:b] for a, b in itertools.pairwise(edges)], chunks=log)
    assert attempt.succeeded
    assert list(log.at_ns) == sorted(log.at_ns)
    assert attempt.first_token_ns in log.at_ns
    assert attempt.end_ns >= attempt.last_token_ns >= attempt.first_token_ns > attempt.before_first_token_ns


def test_bodies_with_a_length_and_until_close() -> None:
    body = TWO + STOP + DONE
    attempt, reader = take_in([HEAD + b"content-length: %d\r\n\r\n" % len(body), body])
    assert (attempt.succeeded, reader.keep_alive, attempt.end_ns) == (True, True, 2000)
    attempt, reader = take_in([HEAD + b"connection: close\r\n\r\n", body], close="")
    assert (attempt.succeeded, reader.keep_alive, attempt.end_ns) == (True, False, CLOSED_NS)
    attempt, reader = take_in([b"HTTP/1.0 200 OK\r\n\r\n" + body], close="")
    assert (attempt.succeeded, reader.keep_alive) == (True, False)


def test_a_usage_of_no_tokens_is_no_count_of_those_that_came() -> None:
    zeros = event('{"choices":[],"usage":{"prompt_tokens":0,"completion_tokens":0,"total_tokens":0}}')
    attempt, _ = take_in([CHUNKED, chunk(TWO), chunk(FOUR), chunk(STOP), chunk(zeros), chunk(DONE) + TAIL])
    assert (attempt.succeeded, attempt.output_tokens, attempt.tokens_source) == (True, 2, "chunks")
    attempt, _ = take_in([CHUNKED, chunk(STOP), chunk(zeros), chunk(DONE) + TAIL])
    assert (attempt.error_class, attempt.output_tokens, attempt.tokens_source) == (ErrorClass.NO_TOKENS, 0, "usage")


def test_a_last_event_without_its_empty_line_still_ends_the_stream() -> None:
    attempt, _ = take_in([HEAD + b"\r\n", TWO, DONE[:-2]], close="")
    assert attempt.succeeded
    assert attempt.error_text == ""


def test_bytes_after_the_response_make_the_connection_unfit() -> None:
    whole = b"".join(part for part in ANSWER if isinstance(part, bytes))
    for rest in (b"HTTP/1.1 200 OK\r\n\r\n", b"rubbish"):
        attempt, reader = take_in([whole + rest])
        assert attempt.succeeded
        assert not reader.keep_alive


CUT = chunk(TWO)[:30]


@pytest.mark.parametrize(
    ("reads", "close", "error_class", "text"),
    [
        (plain("401 Unauthorized", b'{"error":"bad key hunter22"}'), None, ErrorClass.AUTH, f"bad key {REDACTED}"),
        (plain("403 Forbidden", b"no"), None, ErrorClass.AUTH, "no"),
        (plain("404 Not Found", b'{"detail":"no model m"}'), None, ErrorClass.NOT_FOUND, "no model m"),
        (plain("429 Too Many", b"slow down"), None, ErrorClass.RATE_LIMITED, "slow down"),
        (plain("400 Bad", b"x" * 5000), None, ErrorClass.BAD_REQUEST, "x" * 300),
        (plain("422 Bad", b"\xff\xfe\n\n  two"), None, ErrorClass.BAD_REQUEST, "two"),
        (
            plain("307 Moved", b"", "location: http://u:hunter22@h/\r\n"),
            None,
            ErrorClass.BAD_REQUEST,
            f"redirected to http://{REDACTED}@h/",
        ),
        (plain("500 Oops", b"trace"), None, ErrorClass.SERVER, "trace"),
        (plain("503 Busy", b""), None, ErrorClass.SERVER, "HTTP 503 without a body"),
        ([b"HTTP/1.1 500 Oops\r\ncontent-length: 10\r\n\r\nhalf"], "", ErrorClass.SERVER, "half"),
        (plain("200 OK", b'{"choices":[{"message":{"content":"4"}}]}'), None, ErrorClass.NOT_SSE, "choices"),
        (plain("200 OK", b"", ""), None, ErrorClass.NOT_SSE, "an empty body"),
        ([b"HTTP/1.1 204 No Content\r\n\r\n"], None, ErrorClass.NOT_SSE, "an empty body"),
        ([CHUNKED, chunk(TWO), CUT], "", ErrorClass.TRUNCATED, "in mid-event, after 1 events"),
        ([CHUNKED, chunk(TWO), CUT], "(reset)", ErrorClass.TRUNCATED, "(reset)"),
        ([CHUNKED, chunk(TWO), TAIL], None, ErrorClass.TRUNCATED, "without its end mark, after 1 events"),
        ([CHUNKED, chunk(TWO), chunk(STOP), chunk(FOUR[:20]), TAIL], None, ErrorClass.TRUNCATED, "in mid-event"),
        ([CHUNKED, chunk(TWO), chunk(STOP)], "", ErrorClass.TRUNCATED, "without its end mark"),
        ([CHUNKED, TAIL], None, ErrorClass.TRUNCATED, "after 0 events"),
        ([CHUNKED, chunk(TWO), chunk(event('{"choices": [')), chunk(DONE), TAIL], None, ErrorClass.MALFORMED, '{"choices": ['),
        ([CHUNKED, b"zz\r\n"], None, ErrorClass.MALFORMED, "not an HTTP/1.x response"),
        ([b"SSH-2.0-OpenSSH\r\n"], None, ErrorClass.MALFORMED, "SSH-2.0"),
        ([b"rubbish" * 8 + b"hunter22"], None, ErrorClass.MALFORMED, REDACTED),
        ([b"HTTP/1.1 101 Up\r\nupgrade: x\r\nconnection: upgrade\r\n\r\n"], None, ErrorClass.MALFORMED, "not an HTTP/1.x response"),
        ([CHUNKED, chunk(TWO), chunk(event('{"error":{"message":"OOM"}}')), chunk(DONE), TAIL], None, ErrorClass.ERROR_EVENT, "OOM"),
        ([], "", ErrorClass.DISCONNECTED, "before it answered"),
        ([b"HTTP/1.1 200"], "", ErrorClass.DISCONNECTED, "inside the response headers"),
        ([CHUNKED, chunk(ROLE), chunk(STOP), chunk(DONE), TAIL], None, ErrorClass.NO_TOKENS, "none of its 3 events"),
    ],
)
def test_what_goes_wrong_has_a_class_and_a_text(reads: list[bytes], close: str | None, error_class: ErrorClass, text: str) -> None:
    attempt, _ = take_in(reads, close=close)
    assert attempt.error_class == error_class
    assert text in attempt.error_text
    assert "hunt" not in attempt.error_text
    assert len(attempt.error_text) <= 300
    assert attempt.end_ns != MISSING_NS
    assert not attempt.succeeded


def test_a_stream_that_is_done_is_whole_even_where_http_was_cut() -> None:
    attempt, reader = take_in([CHUNKED, chunk(TWO), chunk(DONE)], close="(reset)")
    assert attempt.succeeded
    assert not reader.keep_alive


def test_tokens_before_a_failure_are_counted() -> None:
    attempt, _ = take_in([CHUNKED, chunk(TWO), chunk(FOUR)], close="")
    assert (attempt.output_tokens, attempt.tokens_source, attempt.last_token_ns) == (2, "chunks", 3000)


def test_timing_headers_are_kept_as_they_stand_and_nothing_else_is() -> None:
    kept = [
        ("Server-Timing", "gw;dur=1.5"),
        ("server-timing", "lb;dur=0.2"),
        ("x-litellm-response-duration-ms", "12.5"),
        ("X-Envoy-Upstream-Service-Time", "31"),
        ("x-haproxy-tr", "30"),
        ("llm_provider-server-timing", "db;dur=2"),
        ("openai-processing-ms", "44"),
        ("x-request-id", "r-1"),
    ]
    dropped = [
        ("set-cookie", "a=b"),
        ("x-ratelimit-limit-requests", "1"),
        ("x-litellm-key-spend", "2"),
        ("x-kong-api-key", "k"),
        ("date", "now"),
    ]
    lines = "".join(f"{name}: {value}\r\n" for name, value in [*kept, *dropped])
    body = chunk(TWO) + chunk(DONE)
    attempt, _ = take_in([CHUNKED[:-2] + lines.encode() + b"\r\n" + body + b"0\r\nServer-Timing: engine;dur=9\r\n\r\n"])
    assert attempt.timing_headers == [*kept, ("Server-Timing", "engine;dur=9")]


def test_an_interim_response_leaves_no_trace() -> None:
    attempt, _ = take_in([b"HTTP/1.1 103 Early Hints\r\nserver-timing: x;dur=1\r\n\r\n", *(p for p in ANSWER if isinstance(p, bytes))])
    assert attempt.timing_headers == []
    assert (attempt.status, attempt.headers_ns) == (200, 2000)


def test_body_timings_of_the_last_event_win() -> None:
    first, last = (event('{"choices":[{"delta":{"content":"a"}}],"timings":{"prompt_ms":' + ms + "}}") for ms in ("1.5", "2.25"))
    attempt, _ = take_in([CHUNKED, chunk(first), chunk(last), chunk(DONE), TAIL])
    assert attempt.body_timings == '{"prompt_ms":2.25}'


@given(st.binary(max_size=200), st.booleans())
def test_a_peer_that_sends_anything_ends_as_a_row(data: bytes, after_head: bool) -> None:
    attempt, _ = take_in([CHUNKED if after_head else b"", data], close="")
    assert attempt.end_ns != MISSING_NS
    assert attempt.error_class != ErrorClass.NONE or after_head


def test_a_text_is_never_cut_through_a_redacted_secret() -> None:
    for before in range(ERROR_TEXT_LENGTH - 30, ERROR_TEXT_LENGTH + 3):
        told = Redactor(["hush-hush"]).excerpt("x" * before + " hush-hush, and so on and so on, for as long as anybody likes to read")
        assert len(told) <= ERROR_TEXT_LENGTH
        assert "[" not in told.replace("[redacted]", ""), told[-20:]
        assert "hush" not in told
