from __future__ import annotations

import asyncio
import json
import pickle
import re
from collections import Counter
from pathlib import Path

import pytest
import yaml
from scripted_peer import ANSWER, RUN_ID, scripted
from websocket_peer import socket_peer

from latprof.client.stamps import Attempt, ChunkLog
from latprof.client.targets import Targets, TargetsTransport, encoder_of, open_transport, resolve_targets
from latprof.client.trace_ids import trace_ids
from latprof.client.transport import HttpTransport
from latprof.client.websocket import WebSocketTransport
from latprof.config import Config
from latprof.errors import ConfigError, UsageError
from latprof.workload.sessions import Session, Turn

SHARED = {"model": "m", "timeout": "5s", "headers": {"X-Team": "a"}}


def targets_of(*targets: dict[str, object], seed: int = 1, **environment: str) -> Targets:
    config = Config.model_validate({"target": SHARED, "targets": targets, "load": {"seed": seed}})
    return resolve_targets(config, "http://127.0.0.1:1", environment)


def test_sessions_are_drawn_by_weight_and_stay() -> None:
    targets = targets_of({"name": "a", "weight": 3}, {"name": "b"}, {"name": "c", "weight": 0.5})
    drawn = [targets.index_of(session) for session in range(9000)]
    shares = [count / 9000 for _, count in sorted(Counter(drawn).items())]
    assert shares == pytest.approx([3 / 4.5, 1 / 4.5, 0.5 / 4.5], abs=0.02)
    again = pickle.loads(pickle.dumps(targets.shared_by(3)))  # noqa: S301 - our own bytes
    assert [again.index_of(session) for session in range(9000)] == drawn
    other = targets_of({"name": "a", "weight": 3}, {"name": "b"}, {"name": "c", "weight": 0.5}, seed=2)
    assert [other.index_of(session) for session in range(9000)] != drawn
    assert again.endpoints[0].max_connections == -(-4096 // 3)


def test_what_a_target_leaves_out_is_the_common_one() -> None:
    targets = targets_of(
        {"name": "a", "url": "http://a:1", "headers": {"X-Own": "b"}},
        {"name": "b", "url": "http://b:2/v1", "model": "n", "dialect": "anthropic-messages", "api_key_env": "KEY"},
        KEY="k-12345",
    )
    a, b = targets.endpoints
    assert (str(a.address), a.model, a.dialect_name, a.timeout_ns) == ("http://a:1/v1/chat/completions", "m", "openai-chat", 5 * 10**9)
    assert (str(b.address), b.model, b.dialect_name) == ("http://b:2/v1/messages", "n", "anthropic-messages")
    assert b"x-own: b" in a.head
    assert b"x-team" not in a.head
    assert b"x-team: a" in b.head
    assert b"x-api-key: k-12345" in b.head
    assert b"k-12345" not in a.head


def test_what_cannot_be_meant_is_refused() -> None:
    with pytest.raises(ValueError, match="names of their own, got a more than once"):
        Config.model_validate({"targets": [{"name": "a"}, {"name": "a"}]})
    with pytest.raises(ValueError, match="give all of them a url, or none"):
        Config.model_validate({"targets": [{"name": "a", "url": "http://a"}, {"name": "b"}]})
    with pytest.raises(ValueError, match="weight"):
        Config.model_validate({"targets": [{"name": "a", "weight": 0}]})
    with pytest.raises(UsageError, match="KEY"):
        targets_of({"name": "a", "api_key_env": "KEY"})


def test_no_mistake_in_a_list_of_targets_tells_a_key() -> None:
    from latprof.config import load_config

    with pytest.raises(ConfigError) as refused:
        load_config(None, {"targets": [{"name": "a", "headers": {"Authorization": ["hunter22"]}}]})
    assert "targets.0.headers" in str(refused.value)
    assert "hunter22" not in str(refused.value)


async def test_one_target_needs_nobody_to_tell_it_apart() -> None:
    one = resolve_targets(Config.model_validate({"target": {"url": "http://127.0.0.1:1"}}), None, {})
    socket = resolve_targets(Config.model_validate({"target": {"url": "ws://127.0.0.1:1", "dialect": "openai-responses-ws"}}), None, {})
    transports = [open_transport(one), open_transport(socket), open_transport(targets_of({"name": "a"}))]
    assert [type(transport) for transport in transports] == [HttpTransport, WebSocketTransport, TargetsTransport]
    for transport in transports:
        assert transport.sockets() == []
        await transport.close()


async def test_each_session_goes_to_its_target_in_its_dialect() -> None:
    async with scripted(ANSWER) as chat, socket_peer() as socket:
        targets = targets_of(
            {"name": "chat", "url": f"http://127.0.0.1:{chat.port}", "model": "one"},
            {"name": "socket", "url": socket.url, "model": "two", "dialect": "openai-responses-ws"},
        )
        transport = open_transport(targets)
        encode = pickle.loads(pickle.dumps(encoder_of(targets, include_usage=True)))  # noqa: S301 - our own bytes

        async def ask(number: int) -> Attempt:
            session = Session(number, (Turn(f"s{number} hi", 3, 4),))
            trace_id, span_id = trace_ids(RUN_ID, 1, number, 0, 0)
            attempt = Attempt(number, number, 0, 0, "measured", trace_id, span_id, 3, 4)
            await transport.send(encode(session, 0), attempt, ChunkLog())
            return attempt

        attempts = await asyncio.gather(*(ask(number) for number in range(40)))
        await transport.close()
    assert [attempt.error_class for attempt in attempts] == [""] * 40
    drawn = Counter(attempt.target for attempt in attempts)
    assert (drawn["chat"], drawn["socket"]) == (len(chat.requests), len(socket.heard))
    assert min(drawn.values()) > 5
    assert {json.loads(request.partition(b"\r\n\r\n")[2])["model"] for request in chat.requests} == {"one"}
    assert {heard.message["model"] for heard in socket.heard} == {"two"}


def test_the_document_shows_targets_that_can_be_used() -> None:
    text = (Path(__file__).parents[2] / "docs" / "dialects.md").read_text()
    (shown,) = re.findall(r"```yaml\n(.*?)```", text, re.DOTALL)
    targets = resolve_targets(Config.model_validate(yaml.safe_load(shown)), None, {"STAGING_KEY": "k-1234", "OTHER_KEY": "k-5678"})
    assert targets.names == ("current", "canary", "other")
    assert [endpoint.address.path for endpoint in targets.endpoints] == ["/v1/chat/completions", "/v1/responses", "/v1/messages"]
