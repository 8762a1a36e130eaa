from __future__ import annotations

import pytest

from latprof.spans.screen import LONGEST_TEXT, holds_credential, screened, screened_text
from latprof.spans.span import Span, SpanEvent, SpanKind

SECRET = "sk-abcdefghijklmnop"


def span_with(attributes: dict[str, str | int | float | bool], **rest: object) -> Span:
    return Span("a" * 32, "b" * 16, "", str(rest.get("name", "call")), SpanKind.SERVER, 1, 2, attributes)


@pytest.mark.parametrize(
    "key",
    [
        "http.request.header.authorization",
        "http.request.header.x-api-key",
        "http.request.header.Cookie",
        "http.response.header.set-cookie",
        "http.request.header.x-amz-security-token",
        "rpc.request.metadata.header.x-goog-session",
        "Authorization",
        "api_key",
        "litellm.apiKey",
        "metadata.user_api_key_hash",
        "db.password",
        "client_secret",
        "oauth.access_token",
        "id_token",
        "aws.credentials",
        "token",
        "llm.token",
        "url.query",
        "process.command_args",
        "process.environment_variable.HF_HOME",
    ],
)
def test_credentials_are_dropped(key: str) -> None:
    assert holds_credential(key)
    assert screened(span_with({key: "x", "kept": 1})).attributes == {"kept": 1}


@pytest.mark.parametrize(
    "key",
    [
        "gen_ai.latency.time_to_first_token",
        "gen_ai.server.time_per_output_token",
        "gen_ai.usage.prompt_tokens",
        "gen_ai.usage.cache_read.input_tokens",
        "llm.invalid_tokens",
        "gen_ai.token.type",
        "session.id",
        "http.request.method",
        "http.response.header.server-timing",
        "http.response.header.openai-processing-ms",
        "http.status_code",
        "gateway.auth.wait_ns",
        "latprof.layer",
        "routing.key_blocks",
    ],
)
def test_measurements_are_kept(key: str) -> None:
    assert screened(span_with({key: 3})).attributes == {key: 3}


@pytest.mark.parametrize(
    "text",
    [
        f"Incorrect API key provided: {SECRET}",
        f"Authorization: Bearer {SECRET.replace('sk-', '')}",
        f'{{"headers": {{"x-api-key": "{SECRET[3:]}"}}}}',
        f"{{'api_key': '{SECRET[3:]}', 'model': 'm'}}",
        f'"{{\\"user_api_key\\": \\"{SECRET[3:]}\\"}}"',
        f"[('x-api-key', '{SECRET[3:]}'), (b'cookie', b'{SECRET[3:]}')]",
        f'{{"password": "a\\"{SECRET[3:]}"}}',
        f'{{"access_token":"{SECRET[3:]}"}}',
        f"GET https://host/v1/chat?key={SECRET[3:]}",
        f"https://user:{SECRET[3:]}@host/",
    ],
)
def test_credentials_inside_a_text_are_blotted_out(text: str) -> None:
    assert SECRET[3:] not in screened_text(text)
    assert SECRET[3:] not in screened(span_with({"llm.request": text}, name=text)).name


def test_a_credential_next_to_others_takes_nothing_with_it() -> None:
    text = screened_text('{"api_key":"abcdef","model":"m","usage":{"prompt_tokens":"7"}}')
    assert text == '{"api_key":"[redacted]","model":"m","usage":{"prompt_tokens":"7"}}'


def test_a_url_loses_its_query() -> None:
    kept = screened(
        span_with({"url.full": "http://h/v1/chat?api-version=1&sig=abc", "http.target": "/a?b=c", "url.path": "/a?"})
    ).attributes
    assert kept == {"url.full": "http://h/v1/chat", "http.target": "/a", "url.path": "/a?"}


def test_a_prompt_is_cut_and_says_so() -> None:
    prompt = "word " * 10_000
    kept = screened(span_with({"gen_ai.prompt.0.content": prompt, "short": "word " * 10})).attributes
    assert kept["gen_ai.prompt.0.content"] == prompt[:LONGEST_TEXT] + "… [cut: 50000 characters]"
    assert kept["short"] == "word " * 10


def test_a_credential_across_the_cut_is_seen_whole() -> None:
    text = "x" * (LONGEST_TEXT - 8) + " " + SECRET + "y" * 5000
    assert "sk-" not in screened_text(text)


def test_events_and_resources_are_screened_as_well() -> None:
    span = Span(
        "a" * 32,
        "b" * 16,
        "",
        "call",
        SpanKind.SERVER,
        1,
        2,
        events=(SpanEvent("exception", 1, {"exception.message": f"bad key {SECRET}", "password": "p"}),),
        resource={"service.name": "s", "api_key": SECRET},
    )
    kept = screened(span)
    assert kept.resource == {"service.name": "s"}
    assert kept.events == (SpanEvent("exception", 1, {"exception.message": "bad key [redacted]"}),)
