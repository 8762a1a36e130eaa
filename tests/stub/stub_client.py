from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import aiohttp

from latprof.config import Stub
from latprof.stub.stack import RunningStub, start

PROMPT = "the quick brown fox jumps over the lazy dog " * 40


def bring_up(stub: dict[str, Any], tokenizer_file: Path, **more: Any) -> RunningStub:
    return asyncio.run(start(Stub.model_validate(stub), tokenizer=tokenizer_file, **more))


def trace_id(session: int) -> str:
    return f"{session + 1:032x}"


async def chat(url: str, session: int = 0, flags: str = "01", **body: Any) -> tuple[int, Any, bytes]:
    """Status, headers and the whole body."""
    headers = {"traceparent": f"00-{trace_id(session)}-00f067aa0ba902b7-{flags}", "tracestate": f"latprof={session}.0"}
    asked = {"model": "any", "messages": [{"role": "user", "content": PROMPT}]} | body
    timeout = aiohttp.ClientTimeout(total=10)
    async with (
        aiohttp.ClientSession(timeout=timeout) as client,
        client.post(f"{url}/v1/chat/completions", json=asked, headers=headers) as answer,
    ):
        return answer.status, answer.headers, await answer.read()


def events(body: bytes) -> list[Any]:
    """The JSON of every event before the end mark, which must be there."""
    *events, done, rest = body.split(b"\n\n")
    assert (done, rest) == (b"data: [DONE]", b"")
    return [json.loads(event.removeprefix(b"data: ")) for event in events]
