"""Chunks of several tokens, and conversations whose tokens are kept, on the live stack."""

from __future__ import annotations

import asyncio
import json
import time
from pathlib import Path
from typing import Any

import pytest
from stub_client import PROMPT, bring_up, chat, events

pytestmark = pytest.mark.live

QUARTER_MS_A_TOKEN = {"decode": {"stream_interval": 4, "t1": "250us", "per_sequence_ns": 0}}


def test_chunks_carry_several_tokens_and_the_engine_keeps_its_pace(tokenizer_file: Path) -> None:
    stack = bring_up(QUARTER_MS_A_TOKEN, tokenizer_file)
    try:
        begun_s = time.monotonic()
        body: dict[str, Any] = {"stream": True, "stream_options": {"include_usage": True}, "max_tokens": 802}
        status, _, answer = asyncio.run(chat(stack.url, **body))
        took_s = time.monotonic() - begun_s
    finally:
        asyncio.run(stack.stop())
    told = events(answer)
    sizes = [event["choices"][0]["delta"]["content"].count(" ") for event in told if event["choices"] and event["choices"][0]["delta"]]
    assert status == 200
    assert sizes == [1, *[4] * 200, 1]  # the first token never waits for others, nor does the last
    assert told[-1]["usage"]["completion_tokens"] == 802
    # 802 tokens of 0.25 ms: never faster than the engine is.
    assert took_s > 0.2


def test_a_known_conversation_is_tokenized_from_where_it_goes_on(tokenizer_file: Path) -> None:
    long = PROMPT * 200  # 200 times what comes after it
    messages = [{"role": "user", "content": long}, {"role": "assistant", "content": "yes"}, {"role": "user", "content": PROMPT}]
    tokenize_ms: dict[int, list[float]] = {}
    prompt_tokens: dict[int, list[int]] = {}
    for capacity in (0, 4):
        stack = bring_up({"gateway": {"token_cache": capacity}, "prefill": {"per_token_ns": 0, "per_token_pair_ns": 0}}, tokenizer_file)
        try:
            for asked in (messages[:1], messages):
                _, headers, answer = asyncio.run(chat(stack.url, messages=asked, max_tokens=1))
                timings = dict(one.strip().split(";dur=") for one in headers["Server-Timing"].split(","))
                tokenize_ms.setdefault(capacity, []).append(float(timings["gateway.tokenize"]))
                prompt_tokens.setdefault(capacity, []).append(json.loads(answer)["usage"]["prompt_tokens"])
        finally:
            asyncio.run(stack.stop())
    assert prompt_tokens[0] == prompt_tokens[4]  # the same tokens, however they were come by
    assert tokenize_ms[4][1] < tokenize_ms[4][0] / 3
    assert tokenize_ms[4][1] < tokenize_ms[0][1] / 3
