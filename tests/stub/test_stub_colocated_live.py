"""The colocated engine and several replicas behind real HTTP."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Iterator
from pathlib import Path
from statistics import median
from typing import Any

import pytest
from stub_client import bring_up, chat, events, trace_id

from latprof.config import Stub
from latprof.stub.models.engines import costs_of
from latprof.stub.stack import RunningStub

pytestmark = pytest.mark.live

MS = 1_000_000
STACK = {
    "engine": {"mode": "colocated", "replicas": 2, "token_budget": 256, "max_sequences": 16, "kv_tokens": 4096, "kv_token_ns": 1000.0},
    "prefill": {"t0": "10ms", "per_token_ns": 20_000, "per_token_pair_ns": 0.5},
    "decode": {"t1": "8ms", "per_sequence_ns": 500_000},
    "plant": {"prefill": "30ms", "decode.first": "25ms"},
    "gateway": {"safety": "1ms"},
}


@pytest.fixture(scope="module")
def truth(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("truth")


@pytest.fixture(scope="module")
def stack(truth: Path, tokenizer_file: Path) -> Iterator[RunningStub]:
    running = bring_up(STACK, tokenizer_file, truth=truth)
    yield running
    asyncio.run(running.stop())


def layers_of(truth: Path, session: int, expected: int = 3) -> dict[str, dict[str, Any]]:
    """The lines of one request, once all are written."""
    deadline = time.monotonic() + 5
    while True:
        lines = [json.loads(line) for line in (truth / "decode.jsonl").read_text().splitlines()]
        found = {line["layer"]: line for line in lines if line["trace_id"] == trace_id(session)}
        if len(found) >= expected or time.monotonic() > deadline:
            return found
        time.sleep(0.05)


async def test_a_streamed_answer_has_all_its_tokens_and_tells_its_layers(stack: RunningStub, truth: Path) -> None:
    status, _, body = await chat(stack.url, 1, stream=True, max_tokens=9, stream_options={"include_usage": True})
    assert status == 200
    *chunks, usage = events(body)
    words = "".join(choice["delta"].get("content", "") for chunk in chunks for choice in chunk["choices"]).split()
    assert len(words) == 9 == usage["usage"]["completion_tokens"]
    found = await asyncio.to_thread(layers_of, truth, 1)
    assert list(found) == ["engine.queue", "prefill", "decode.first"]
    new_tokens = usage["usage"]["prompt_tokens"]
    # Two iterations of 256 tokens at most, each with its start, on nothing cached; the plant on top.
    chunks_of = [min(256, new_tokens - begun) for begun in range(0, new_tokens, 256)]
    own = costs_of(Stub.model_validate(STACK))
    ticks = sum(own.mixed(0, 0, n, n * (2 * 256 * nth + n), 256 * nth) for nth, n in enumerate(chunks_of))
    assert found["prefill"]["planned_service_ns"] == pytest.approx(ticks / (1 << 30) + 30 * MS, abs=2)
    assert found["decode.first"]["planned_service_ns"] == 25 * MS
    assert 0 <= found["engine.queue"]["wait_ns"] < 60 * MS
    for line in found.values():
        # Late by what the machine is busy with; early by no more than the timer's lead.
        assert -0.3 * MS < line["service_ns"] - line["planned_service_ns"] < 60 * MS


async def test_planted_times_hold_and_tokens_come_one_by_one(stack: RunningStub, truth: Path) -> None:
    late_ns = []
    for session in range(10, 22):
        began_s = time.monotonic()
        await chat(stack.url, session, max_tokens=6)
        # Five iterations after the first token, of 8.5 ms and the context's share; and what was planted.
        assert time.monotonic() - began_s > (5 * 8.5 + 55 + 10) / 1000
        found = await asyncio.to_thread(layers_of, truth, session)
        late_ns.append(found["prefill"]["service_ns"] - found["prefill"]["planned_service_ns"])
    assert -0.3 * MS < median(late_ns) < 60 * MS


async def test_a_repeated_prompt_comes_from_the_cache_of_one_replica_or_the_other(stack: RunningStub) -> None:
    cached = []
    for session in range(30, 36):
        _, _, body = await chat(stack.url, session, max_tokens=1)
        cached.append(json.loads(body)["usage"]["prompt_tokens_details"]["cached_tokens"])
    assert cached[-1] >= 128


async def test_many_at_once_share_the_replicas_and_all_are_answered(stack: RunningStub) -> None:
    answers = await asyncio.gather(*(chat(stack.url, session, max_tokens=3 + session % 5) for session in range(40, 80)))
    for session, (status, _, body) in zip(range(40, 80), answers, strict=True):
        assert status == 200
        assert json.loads(body)["usage"]["completion_tokens"] == 3 + session % 5


async def test_a_request_that_can_never_fit_is_refused_by_name(stack: RunningStub) -> None:
    status, _, body = await chat(stack.url, 90, max_tokens=5000)
    assert status >= 400
    assert b"more than the engine's memory for KV" in body


async def test_pools_with_replicas_and_a_link_answer_too(tokenizer_file: Path, tmp_path: Path) -> None:
    said = {
        "prefill": {"replicas": 3, "t0": "5ms", "per_token_ns": 1000},
        "decode": {"replicas": 2, "t1": "2ms", "per_sequence_ns": 0, "kv_transfer": "1ms", "kv_per_token_ns": 50_000},
        "router": {"policy": "power_of_two"},
    }
    running = await asyncio.to_thread(bring_up, said, tokenizer_file, truth=tmp_path)
    async with running:
        answers = await asyncio.gather(*(chat(running.url, session, max_tokens=4) for session in range(8)))
        assert [status for status, _, _ in answers] == [200] * 8
        prompt_tokens = json.loads(answers[0][2])["usage"]["prompt_tokens"]
        found = await asyncio.to_thread(layers_of, tmp_path, 0, 2)
    assert found["kv.transfer"]["planned_service_ns"] == MS + prompt_tokens * 50_000
