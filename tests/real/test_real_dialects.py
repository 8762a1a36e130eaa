"""The dialects against servers that are not ours: LiteLLM's proxy and llama.cpp's own server, both on loopback."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from dataclasses import dataclass

import pytest

from harness.chain.processes import free_ports
from harness.chain.stack import Chain, base_url, real_chain
from latprof.client.endpoint import resolve_endpoint
from latprof.client.stamps import Attempt, Channel, ChunkLog
from latprof.client.trace_ids import trace_ids
from latprof.client.transport import HttpTransport
from latprof.config import Target
from latprof.units import MISSING_NS
from latprof.workload.sessions import Session, Turn, chain

pytestmark = [pytest.mark.real, pytest.mark.timeout(300)]

KEY = "LATPROF_TEST_KEY"
TOKENS = 16  # the least that the Responses API takes: LiteLLM raises what is less, and it asks by that API for two dialects


@pytest.fixture(scope="module")
def going() -> Iterator[Chain]:
    (otlp_grpc_port,) = free_ports(1)
    with real_chain(otlp_grpc_port=otlp_grpc_port) as stack:
        yield stack


@dataclass(frozen=True)
class Talked:
    attempts: list[Attempt]
    texts: list[str]
    channels: list[int]


def talk(url: str, dialect: str, stack: Chain) -> Talked:
    """Three turns that continue real answers, with a system text and a tool's result among them."""
    turns = (
        Turn("tell me of the red fox", 8, TOKENS, system="be brief"),
        Turn("the fox sleeps", 4, TOKENS, role="tool"),
        Turn("and then what did it do", 6, TOKENS),
    )
    return asyncio.run(
        _talk(url, Target.model_validate({"model": stack.model, "dialect": dialect, "api_key_env": KEY}), stack, chain(3, turns))
    )


async def _talk(url: str, target: Target, stack: Chain, session: Session) -> Talked:
    transport = HttpTransport(resolve_endpoint(target, url, {KEY: stack.api_key}))
    encode, log, attempts, answers = transport.encoder(), ChunkLog(), [], dict[int, str]()
    try:
        for step, turn in enumerate(session.turns):
            trace_id, span_id = trace_ids("00112233aabbccdd", 1, session.session, step, 0)
            attempt = Attempt(step, session.session, step, 0, "measured", trace_id, span_id, turn.prompt_tokens, turn.output_tokens)
            answers[step] = await transport.send(encode(session, step, answers), attempt, log)
            attempts.append(attempt)
    finally:
        await transport.close()
    return Talked(attempts, list(answers.values()), [code for code in log.channel if code])


def check(talked: Talked) -> None:
    assert [(attempt.error_class, attempt.error_text) for attempt in talked.attempts] == [("", "")] * 3
    assert set(talked.channels) == {1}
    assert talked.texts[0]
    assert talked.texts[1]
    for attempt in talked.attempts:
        assert attempt.first_channel == Channel.CONTENT
        assert attempt.tokens_source == "usage"
        assert attempt.output_tokens == TOKENS
        assert 1 <= attempt.token_chunks <= TOKENS + 1
        assert attempt.response_id
        assert attempt.send_ns < attempt.headers_ns <= attempt.first_event_ns <= attempt.first_token_ns <= attempt.last_token_ns
    prompts = [attempt.prompt_tokens for attempt in talked.attempts]
    assert prompts == sorted(set(prompts))  # each turn's is longer than the one before
    assert MISSING_NS not in prompts
    connected = [attempt.connect_start_ns != MISSING_NS for attempt in talked.attempts]
    assert connected[0]


@pytest.mark.parametrize("dialect", ["openai-chat", "openai-completions", "openai-responses", "anthropic-messages"])
def test_litellm(going: Chain, dialect: str) -> None:
    check(talk(base_url(going.ports.litellm), dialect, going))


@pytest.mark.parametrize("dialect", ["openai-chat", "openai-completions", "openai-responses", "anthropic-messages"])
def test_llamacpp(going: Chain, dialect: str) -> None:
    talked = talk(base_url(going.ports.llamacpp), dialect, going)
    check(talked)
    if dialect in {"openai-chat", "openai-completions"}:
        assert all('"prompt_ms"' in attempt.body_timings for attempt in talked.attempts)
