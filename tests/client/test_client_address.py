from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from latprof.client.address import read_address
from latprof.client.dialects import DIALECTS
from latprof.client.dialects.dialect import Dialect
from latprof.client.endpoint import resolve_endpoint
from latprof.client.headers import head_prefix, request_headers
from latprof.client.redact import ERROR_TEXT_LENGTH, REDACTED, Redactor, secrets_in_headers, secrets_in_query
from latprof.client.trace_ids import TraceIds, trace_ids
from latprof.config import Target
from latprof.errors import UsageError


@pytest.mark.parametrize(
    ("url", "path"),
    [
        ("http://h:8000", "/v1/chat/completions"),
        ("http://h:8000/", "/v1/chat/completions"),
        ("http://h:8000/v1", "/v1/chat/completions"),
        ("http://h:8000/v1/", "/v1/chat/completions"),
        ("http://h:8000/v1/chat/completions", "/v1/chat/completions"),
        ("http://h:8000/v1/chat/completions/", "/v1/chat/completions"),
        (" http://h:8000/proxy ", "/proxy/v1/chat/completions"),
        ("http://h:8000/api/v3", "/api/v3/chat/completions"),
        ("http://h:8000/v1beta/openai", "/v1beta/openai/chat/completions"),
        ("http://h:8000/openai/deployments/gpt/chat/completions?api-version=2", "/openai/deployments/gpt/chat/completions?api-version=2"),
    ],
)
def test_url_forms(url: str, path: str) -> None:
    assert read_address(url).target == path


@pytest.mark.parametrize("dialect", DIALECTS.values(), ids=DIALECTS)
def test_url_forms_hold_for_every_dialect(dialect: Dialect) -> None:
    for base in ("", "/", "/v1", "/v1/", f"/v1{dialect.endpoint}", f"/v1{dialect.endpoint}/"):
        assert read_address(f"http://h{base}?api-version=2", dialect.endpoint).target == f"/v1{dialect.endpoint}?api-version=2"
    assert read_address("http://h/proxy", dialect.endpoint).target == f"/proxy/v1{dialect.endpoint}"


@pytest.mark.parametrize(
    ("dialect", "url", "meant"),
    [
        ("openai-completions", "http://h/v1/chat/completions", "openai-chat"),
        ("openai-chat", "http://h/v1/completions/", "openai-completions"),
        ("openai-responses-ws", "http://h/v1/messages?key=hunter22", "anthropic-messages"),
    ],
)
def test_a_url_of_another_dialect_is_refused(dialect: str, url: str, meant: str) -> None:
    with pytest.raises(UsageError, match=f"say --dialect {meant}") as refused:
        resolve_endpoint(Target.model_validate({"dialect": dialect}), url, {})
    assert "hunter22" not in str(refused.value)


def test_a_websocket_may_be_named_by_its_own_scheme() -> None:
    assert str(read_address("wss://h/v1/responses", "/responses")) == "https://h:443/v1/responses"
    assert str(read_address("ws://h:8000", "/responses")) == "http://h:8000/v1/responses"


@pytest.mark.parametrize(
    ("url", "host", "port", "host_header"),
    [
        ("http://example.org", "example.org", 80, "example.org"),
        ("https://example.org/v1", "example.org", 443, "example.org"),
        ("https://example.org:8443", "example.org", 8443, "example.org:8443"),
        ("HTTP://[::1]:9", "::1", 9, "[::1]:9"),
        ("http://bücher.example", "xn--bcher-kva.example", 80, "xn--bcher-kva.example"),
    ],
)
def test_hosts(url: str, host: str, port: int, host_header: str) -> None:
    address = read_address(url)
    assert (address.host, address.port, address.host_header) == (host, port, host_header)


@pytest.mark.parametrize(
    "url",
    [
        "localhost:8000",
        "",
        "ftp://h",
        "http://",
        "http://h:0",
        "http://h:99999",
        "http://h:x",
        "http://[::1",
        "http://h h",
        "//h",
        "http://h\x00",
    ],
)
def test_urls_that_cannot_be_used_say_what_is_wanted(url: str) -> None:
    with pytest.raises(UsageError, match="--url must"):
        read_address(url)


def test_a_missing_scheme_is_named() -> None:
    with pytest.raises(UsageError, match=r"got 'localhost:8000'; did you mean http://localhost:8000\?"):
        read_address("localhost:8000")


@pytest.mark.parametrize(
    "url",
    [
        "http://me:hunter22@h:8000",
        "https://hunter22@h",
        "me:hunter22@h:8000/v1",
        "http://me:hunter22@h:x/?key=hunter22",
        "http://me:hunter22@",
    ],
)
def test_credentials_in_a_url_are_refused_and_not_repeated(url: str) -> None:
    with pytest.raises(UsageError) as refused:
        read_address(url)
    assert "hunter22" not in str(refused.value)


def test_a_key_in_the_query_is_sent_but_not_shown() -> None:
    address = read_address("http://h/v1?key=s3cr3t&x=1")
    assert address.target.endswith("?key=s3cr3t&x=1")
    assert "s3cr3t" not in str(address)
    assert address.secrets == ["s3cr3t"]


def test_headers_and_their_order_of_precedence() -> None:
    target = Target(api_key_env="KEY", headers={"User-Agent": "mine", "X-Team": "a"})
    address = read_address("http://h:1")
    head = head_prefix(request_headers(target, address, {"KEY": " k-123456\n"}), address).decode()
    lines = head.split("\r\n")
    assert lines[0] == "POST /v1/chat/completions HTTP/1.1"
    assert {"host: h:1", "user-agent: mine", "x-team: a", "authorization: Bearer k-123456", "accept-encoding: identity"} <= set(lines)


def test_the_key_goes_where_the_dialect_wants_it() -> None:
    target = Target.model_validate({"api_key_env": "KEY", "dialect": "anthropic-messages"})
    endpoint = resolve_endpoint(target, "http://h:1", {"KEY": "k-123456"})
    lines = endpoint.head.decode("latin-1").split("\r\n")
    assert {"POST /v1/messages HTTP/1.1", "x-api-key: k-123456", "anthropic-version: 2023-06-01"} <= set(lines)
    assert not [line for line in lines if line.startswith("authorization")]
    assert endpoint.secrets == ("k-123456", "k-123456")
    newer = target.model_copy(update={"headers": {"Anthropic-Version": "2099-01-01"}})
    assert b"anthropic-version: 2099-01-01\r\n" in resolve_endpoint(newer, "http://h:1", {"KEY": "k-123456"}).head


@pytest.mark.parametrize(
    ("target", "environment", "text"),
    [
        ({"api_key_env": "KEY"}, {}, "--api-key-env names KEY"),
        ({"api_key_env": "KEY"}, {"KEY": " "}, "--api-key-env names KEY"),
        ({"api_key_env": "KEY"}, {"KEY": "s3cr3t\nx: y"}, "--api-key-env: the value of KEY"),
        ({"headers": {"x y": "1"}}, {}, "is not a header name"),
        ({"headers": {"x": "s3cr3t\r\ny: 2"}}, {}, "the value of x"),
        ({"headers": {"Content-Length": "2"}}, {}, "set by latprof itself"),
        ({"headers": {"x": "s3cr3t☃"}}, {}, "the value of x"),
    ],
)
def test_headers_that_cannot_be_sent(target: dict[str, object], environment: dict[str, str], text: str) -> None:
    with pytest.raises(UsageError, match=text) as refused:
        request_headers(Target.model_validate(target), read_address("http://h"), environment)
    assert "s3cr3t" not in str(refused.value)


def test_redaction() -> None:
    headers = {"authorization": "Bearer tok-abcdef", "cookie": "a=yummy1; b=yummy2", "x-team": "blue"}
    redact = Redactor([*secrets_in_headers(headers), *secrets_in_query("key=qqqq1&v=2")])
    text = redact("tok-abcdef yummy1 yummy2 qqqq1 blue bearer other, sk-proj-12ab***9 http://u:p@h/?api_key=zzz&v=1")
    assert (
        text
        == f"{REDACTED} {REDACTED} {REDACTED} {REDACTED} blue bearer {REDACTED}, {REDACTED} http://{REDACTED}@h/?api_key={REDACTED}&v=1"
    )


PIECES = (
    "Bearer ",
    "bearer\t",
    "BASIC ",
    "ba\u017fic ",
    "sk-",
    "hf_",
    "AIza-",
    "gsk_",
    "pk-",
    "abcd1234",
    "://",
    "u:p@",
    "h/",
    "?",
    "&key=",
    " ",
    "b",
    "ba",
    "-",
    "_",
)


@given(st.lists(st.sampled_from(PIECES) | st.text(max_size=3), max_size=8))
def test_no_text_escapes_for_looking_harmless(pieces: list[str]) -> None:
    text = "".join(pieces)
    redact = Redactor()
    # What is put behind it keeps it from being passed over, and touches nothing before.
    assert redact(text + '"?') == redact(text) + '"?'


def test_a_text_is_redacted_before_it_is_cut() -> None:
    redact = Redactor(["secret-key-of-some-length"])
    excerpt = redact.excerpt("x" * (ERROR_TEXT_LENGTH - 5) + "secret-key-of-some-length")
    assert excerpt == "x" * (ERROR_TEXT_LENGTH - 5)  # nor is half of the mark left


def test_trace_ids_drawn_by_the_column_are_the_same() -> None:
    sessions = [*range(600), 5, 4, 3, *range(2**30, 2**30 + 300), 2**31 - 3, 2**31 - 1, 7, 263, 519]
    for seed in (0, 1, -5, 2**63, 2**64 + 3):
        by_column = TraceIds("00112233aabbccdd", seed)
        for session in sessions:
            for step, attempt in ((0, 0), (0, 1), (3, 0)) if session % 50 == 0 else ((0, 0),):
                assert by_column(session, step, attempt) == trace_ids("00112233aabbccdd", seed, session, step, attempt)


def test_trace_ids_carry_the_run_and_do_not_repeat() -> None:
    keys = [(session, step, attempt) for session in (*range(100), 2**31 - 1) for step in range(5) for attempt in (0, 1)]
    ids = [trace_ids("00112233aabbccdd", seed, *key) for seed in (1, 2) for key in keys]
    assert all(len(trace) == 32 and trace.startswith("00112233aabbccdd") and len(span) == 16 for trace, span in ids)
    assert len({trace for trace, _ in ids}) == len({span for _, span in ids}) == len(ids)
    assert not any(trace.endswith("0" * 16) or span == "0" * 16 for trace, span in ids)
