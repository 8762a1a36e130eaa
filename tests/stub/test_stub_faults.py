from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Iterator
from pathlib import Path

import aiohttp
import pytest
from stub_client import bring_up, chat, events, trace_id

from latprof.config import Stub
from latprof.stub.models.draws import Key
from latprof.stub.models.faults import WARMUP_SESSION_BASE, answer_fault
from latprof.stub.stack import RunningStub

pytestmark = pytest.mark.live

KINDS = ("status", "truncate", "malformed", "error", "drop", "silent", "buffer")
FAULTY = {
    "router": {"per_chunk": "2ms"},
    "faults": [{"kind": kind, "share": 0.3, "status": 429} for kind in KINDS] + [{"kind": "freeze", "stage": "router", "for": "400ms"}],
}


@pytest.fixture(scope="module")
def faulty(tokenizer_file: Path) -> Iterator[RunningStub]:
    running = bring_up(FAULTY, tokenizer_file)
    yield running
    asyncio.run(running.stop())


def session_hit_by(kind: str | None) -> int:
    """A session that the model says will be hit by this fault; as warm-up, so that nothing freezes."""
    stub = Stub.model_validate(FAULTY)
    for session in range(WARMUP_SESSION_BASE, WARMUP_SESSION_BASE + 1000):
        fault = answer_fault(stub, Key(stub.seed, session, 0))
        if (None if fault is None else fault.kind) == kind:
            return session
    raise AssertionError(kind)


async def test_a_planted_status_has_a_body(faulty: RunningStub) -> None:
    status, _, body = await chat(faulty.url, session_hit_by("status"), stream=True)
    assert status == 429
    assert json.loads(body)["error"]["type"] == "rate_limit_error"


@pytest.mark.parametrize("stream", [True, False])
async def test_a_truncated_answer_ends_in_the_middle(faulty: RunningStub, stream: bool) -> None:
    with pytest.raises(aiohttp.ClientPayloadError):
        await chat(faulty.url, session_hit_by("truncate"), stream=stream)


@pytest.mark.parametrize("stream", [True, False])
async def test_a_malformed_answer_does_not_parse(faulty: RunningStub, stream: bool) -> None:
    status, _, body = await chat(faulty.url, session_hit_by("malformed"), stream=stream)
    assert status == 200
    with pytest.raises(json.JSONDecodeError):
        _ = events(body) if stream else json.loads(body)


async def test_an_error_event_comes_in_mid_stream(faulty: RunningStub) -> None:
    _, _, body = await chat(faulty.url, session_hit_by("error"), stream=True)
    *tokens, error = events(body)
    assert 0 < len(tokens) < 16
    assert error["error"]["type"] == "server_error"


async def test_a_dropped_connection_has_no_headers(faulty: RunningStub) -> None:
    with pytest.raises(aiohttp.ServerDisconnectedError):
        await chat(faulty.url, session_hit_by("drop"), stream=True)


async def test_a_silent_gateway_never_answers(faulty: RunningStub) -> None:
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(chat(faulty.url, session_hit_by("silent"), stream=True), 0.5)


async def test_a_buffering_gateway_lets_everything_go_at_once(faulty: RunningStub) -> None:
    asked = {"model": "m", "stream": True, "messages": [{"role": "user", "content": "hi"}]}
    for kind, at_once in (("buffer", True), (None, False)):
        headers = {"traceparent": f"00-{trace_id(9)}-00f067aa0ba902b7-01", "tracestate": f"latprof={session_hit_by(kind)}.0"}
        async with (
            aiohttp.ClientSession() as client,
            client.post(f"{faulty.url}/v1/chat/completions", json=asked, headers=headers) as answer,
        ):
            first = await answer.content.readany()
            assert (first.count(b"data: ") > 16) is at_once
            assert len(events(first + await answer.read())) == 17


async def test_a_reader_who_leaves_frees_its_slot(faulty: RunningStub) -> None:
    asked = {"model": "m", "stream": True, "max_tokens": 5000, "messages": [{"role": "user", "content": "hi"}]}
    headers = {"traceparent": f"00-{trace_id(9)}-00f067aa0ba902b7-01", "tracestate": f"latprof={session_hit_by(None)}.0"}
    async with aiohttp.ClientSession() as client:
        async with client.post(f"{faulty.url}/v1/chat/completions", json=asked, headers=headers) as answer:
            await answer.content.readany()
            assert await running_streams(client, faulty) == 1
        for _ in range(100):
            await asyncio.sleep(0.05)
            if not await running_streams(client, faulty):
                break
        assert await running_streams(client, faulty) == 0


async def running_streams(client: aiohttp.ClientSession, stack: RunningStub) -> int:
    async with client.get(f"{stack.urls()['decode']}/metrics") as answer:
        line = next(line for line in (await answer.text()).splitlines() if line.startswith("latprof_stub_running") and '"decode"}' in line)
    return int(line.split()[-1])


async def test_a_frozen_stage_stands_still_once(faulty: RunningStub) -> None:
    async def health_s() -> float:
        begun = time.monotonic()
        async with aiohttp.ClientSession() as client, client.get(f"{faulty.urls()['router']}/health") as answer:
            assert answer.status == 200
        return time.monotonic() - begun

    stub = Stub.model_validate(FAULTY)
    measured = next(session for session in range(1000) if answer_fault(stub, Key(stub.seed, session, 0)) is None)
    took = []
    for _ in range(2):
        request = asyncio.create_task(chat(faulty.url, measured, stream=True, max_tokens=1))
        await asyncio.sleep(0.1)
        took.append(await health_s())
        assert (await request)[0] == 200
    assert took[0] > 0.15
    assert took[1] < 0.15
