from __future__ import annotations

import json
import socket

import pytest
from scripted_peer import ANSWER, CHUNKED, DONE, RUN_ID, STOP, TAIL, TURN, TWO, Do, Script, chunk, client, plain, scripted

from latprof.client.preflight import preflight
from latprof.client.stamps import ErrorClass
from latprof.errors import Exit, RunFailedError, UsageError
from latprof.units import MISSING_NS
from latprof.workload.sessions import Session

SESSION = Session(5, (TURN,))
NO_USAGE: Script = [CHUNKED, chunk(TWO), chunk(STOP), chunk(DONE), TAIL]


def asked_for_usage(request: bytes) -> bool:
    return "stream_options" in json.loads(request.split(b"\r\n\r\n", 1)[1])


async def test_a_server_that_answers_with_usage() -> None:
    async with scripted(ANSWER) as peer, client(peer.url) as transport:
        found = await preflight(transport, SESSION, run_id=RUN_ID, seed=1)
        assert (found.include_usage, found.usage_came, found.findings) == (True, True, ())
        assert found.attempt.succeeded
        assert found.attempt.trace_id.startswith(RUN_ID)
        assert [asked_for_usage(request) for request in peer.requests] == [True]


@pytest.mark.parametrize("refusal", [plain("400 Bad Request", b"unknown field"), plain("422 Unprocessable", b"stream_options: extra")])
async def test_stream_options_refused_are_dropped_and_said(refusal: Script) -> None:
    async with scripted(refusal, NO_USAGE) as peer, client(peer.url) as transport:
        found = await preflight(transport, SESSION, run_id=RUN_ID, seed=1)
        assert [asked_for_usage(request) for request in peer.requests] == [True, False]
    assert (found.include_usage, found.usage_came) == (False, False)
    assert "refuses stream_options" in found.findings[0]
    assert "counted" in found.findings[1]


async def test_a_bad_request_for_another_reason_keeps_usage_and_is_a_finding() -> None:
    async with scripted(plain("400 Bad Request", b"max_tokens too large")) as peer, client(peer.url) as transport:
        found = await preflight(transport, SESSION, run_id=RUN_ID, seed=1)
    assert found.include_usage
    assert "max_tokens too large" in found.findings[0]


@pytest.mark.parametrize("script", [plain("500 Oops", b"trace"), plain("429 Busy", b"later"), [Do.CLOSE]])
async def test_other_failures_are_findings(script: Script) -> None:
    async with scripted(script) as peer, client(peer.url) as transport:
        found = await preflight(transport, SESSION, run_id=RUN_ID, seed=1)
    assert "the run goes on" in found.findings[0]
    assert (f", HTTP {found.attempt.status})" in found.findings[0]) == (found.attempt.status != MISSING_NS)
    assert found.attempt.error_class in {ErrorClass.SERVER, ErrorClass.RATE_LIMITED, ErrorClass.DISCONNECTED}


@pytest.mark.parametrize(
    ("target", "advice"),
    [
        ({"api_key_env": "KEY"}, "came from KEY"),
        ({"headers": {"x-api-key": "k-123456"}}, "--header"),
        ({}, "--api-key-env NAME"),
    ],
)
async def test_a_refused_key_ends_the_run(target: dict[str, object], advice: str) -> None:
    refused = plain("401 Unauthorized", b"bad key k-123456")
    async with scripted(refused) as peer, client(f"{peer.url}/v1?key=k-123456", {"KEY": "k-123456"}, **target) as transport:
        with pytest.raises(RunFailedError, match=advice) as failed:
            await preflight(transport, SESSION, run_id=RUN_ID, seed=1)
    assert "k-123456" not in str(failed.value)
    assert failed.value.exit_code is Exit.UNTRUSTED


async def test_an_unknown_model_or_path_ends_the_run() -> None:
    async with scripted(plain("404 Not Found", b"no such model")) as peer, client(peer.url) as transport:
        with pytest.raises(RunFailedError, match=r"/v1/chat/completions answered 404 for model 'm'.*no such model"):
            await preflight(transport, SESSION, run_id=RUN_ID, seed=1)


async def test_no_connection_is_a_usage_error() -> None:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        port = sock.getsockname()[1]
    async with client(f"http://127.0.0.1:{port}") as transport:
        with pytest.raises(UsageError, match=f"127.0.0.1:{port}.*--url"):
            await preflight(transport, SESSION, run_id=RUN_ID, seed=1)


async def test_no_such_name_is_a_usage_error() -> None:
    async with client("http://no-such-host.invalid") as transport:
        with pytest.raises(UsageError, match=r"no-such-host\.invalid cannot be resolved"):
            await preflight(transport, SESSION, run_id=RUN_ID, seed=1)


async def test_a_server_that_never_answers_is_a_finding() -> None:
    async with scripted([Do.HANG]) as peer, client(peer.url, timeout="50ms") as transport:
        found = await preflight(transport, SESSION, run_id=RUN_ID, seed=1)
    assert found.attempt.error_class == ErrorClass.TIMEOUT
