"""The stub's APIs over real sockets: the same planted stages, whole conversations, and the connection that remembers."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import aiohttp
import orjson
import pytest
from stub_client import bring_up, trace_id

from latprof.stub.stack import RunningStub

pytestmark = pytest.mark.live

STUB = {
    "gateway": {"auth": "1ms", "safety": "1ms", "ws_limit": "1.5s"},
    "prefill": {"t0": "1ms", "per_token_ns": 0, "cache_block_tokens": 8},
    "decode": {"t1": "1ms", "per_sequence_ns": 0},
}
QUESTION = "the quick brown fox jumps over the lazy dog " * 8
LAYERS = [
    "engine.queue",
    "prefill",
    "kv.transfer",
    "decode.first",
    "router",
    *(f"gateway.{name}" for name in ("auth", "ratelimit", "render")),
]


@pytest.fixture(scope="module")
def truth(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return Path(tmp_path_factory.mktemp("truth"))


@pytest.fixture(scope="module")
def stack(tokenizer_file: Path, truth: Path) -> Iterator[RunningStub]:
    running = bring_up(STUB, tokenizer_file, truth=truth)
    yield running
    asyncio.run(running.stop())


def truth_of(folder: Path, wanted: str, at_least: int) -> list[dict[str, Any]]:
    """The layers of one trace; files are flushed twice a second."""
    deadline_s = time.monotonic() + 8
    while True:
        lines = [orjson.loads(line) for path in folder.glob("*.jsonl") for line in path.read_bytes().splitlines()]
        found = [line for line in lines if line["trace_id"] == wanted]
        if len(found) >= at_least or time.monotonic() > deadline_s:
            return found
        time.sleep(0.05)


def context(session: int, turn: int = 0) -> dict[str, str]:
    return {"traceparent": f"00-{trace_id(session)}-00f067aa0ba902b7-01", "tracestate": f"latprof={session}.{turn}"}


async def post(url: str, path: str, body: dict[str, Any], headers: dict[str, str]) -> tuple[int, Any]:
    timeout = aiohttp.ClientTimeout(total=20)
    async with aiohttp.ClientSession(timeout=timeout) as client, client.post(f"{url}{path}", json=body, headers=headers) as answer:
        return answer.status, orjson.loads(await answer.read())


def bodies(texts: list[str]) -> dict[str, dict[str, Any]]:
    roles = ("user", "assistant") * len(texts)
    messages = [{"role": role, "content": text} for role, text in zip(roles, texts, strict=False)]
    return {
        "/v1/chat/completions": {"model": "m", "messages": messages, "max_tokens": 4},
        "/v1/completions": {"model": "m", "prompt": "".join(texts), "max_tokens": 4},
        "/v1/responses": {"model": "m", "input": messages, "max_output_tokens": 4},
        "/v1/messages": {"model": "m", "messages": messages, "max_tokens": 4},
    }


async def test_every_api_goes_through_the_same_stages_and_says_the_same(stack: RunningStub, truth: Path) -> None:
    said = {}
    for number, (path, body) in enumerate(bodies([QUESTION]).items()):
        # The same draws for all four: the words of an answer are drawn by session.
        headers = {**context(40 + number), "tracestate": "latprof=40.0", "anthropic-version": "2023-06-01"}
        status, whole = await post(stack.url, path, body, headers)
        assert status == 200, whole
        content = whole.get("choices") or whole.get("output") or whole["content"]
        first = content[0]
        said[path] = first.get("text") or first.get("message", first)["content"]
        told = Counter(line["layer"] for line in await asyncio.to_thread(truth_of, truth, trace_id(40 + number), 13))
        assert not set(LAYERS) - set(told)
    texts = [text if isinstance(text, str) else text[0]["text"] for text in said.values()]
    assert len(set(texts)) == 1
    assert len(texts[0].split()) == 4


async def test_a_conversation_finds_its_beginning_in_the_cache(stack: RunningStub) -> None:
    for path in bodies([]):
        own = f"{path} {QUESTION}"
        headers = {**context(50), "anthropic-version": "2023-06-01"}
        cached = []
        for texts in ([own], [own, "a short answer", "go on then"]):
            _, whole = await post(stack.url, path, bodies(texts)[path], headers)
            usage = whole["usage"]
            details = (
                usage.get("prompt_tokens_details")
                or usage.get("input_tokens_details")
                or {"cached_tokens": usage.get("cache_read_input_tokens")}
            )
            cached.append((details["cached_tokens"], usage.get("prompt_tokens") or usage["input_tokens"]))
        (_, first_prompt), (cached_tokens, _) = cached
        assert cached_tokens >= first_prompt // 8 * 8 - 8, path


async def test_an_api_that_demands_a_header_says_so_in_its_own_words(stack: RunningStub) -> None:
    status, body = await post(stack.url, "/v1/messages", bodies(["hi"])["/v1/messages"], {})
    assert (status, body["type"], body["error"]["type"]) == (400, "error", "invalid_request_error")
    assert "anthropic-version" in body["error"]["message"]


class Talk:
    """A client of the WebSocket: one turn after the other, or several at once."""

    def __init__(self, socket: aiohttp.ClientWebSocketResponse) -> None:
        self._socket = socket

    async def ask(self, text: str | list[dict[str, Any]], previous: str | None = None, **more: Any) -> None:
        message = {"type": "response.create", "model": "m", "input": text, "max_output_tokens": 4, **more}
        await self._socket.send_json(message if previous is None else message | {"previous_response_id": previous})

    async def events(self) -> list[dict[str, Any]]:
        """Up to the end of a response."""
        told = []
        while True:
            event = orjson.loads((await self._socket.receive(timeout=10)).data)
            told.append(event)
            if event["type"] in {"response.completed", "response.incomplete", "response.failed", "error"}:
                return told

    async def turn(self, text: str | list[dict[str, Any]], previous: str | None = None, **more: Any) -> dict[str, Any]:
        await self.ask(text, previous, **more)
        event = (await self.events())[-1]
        return event.get("response") or event


async def test_a_connection_remembers_its_last_response(stack: RunningStub, truth: Path) -> None:
    async with aiohttp.ClientSession() as client, client.ws_connect(f"{stack.url}/v1/responses") as socket:
        talk = Talk(socket)
        first = await talk.turn(f"remember me. {QUESTION}", metadata=context(60))
        second = await talk.turn("and now?", first["id"], metadata=context(60, 1))
        # The first prompt, four tokens of answer and the new text, the first of which came from the cache.
        assert second["usage"]["input_tokens"] > first["usage"]["input_tokens"] + 4
        assert second["usage"]["input_tokens_details"]["cached_tokens"] >= first["usage"]["input_tokens"] // 8 * 8 - 8
        gone = await talk.turn("from the first again", first["id"])
        assert (gone["status"], gone["error"]["code"]) == (400, "previous_response_not_found")
        again = await talk.turn("still here", second["id"])
        assert again["status"] == "incomplete"  # it said as much as it was asked for
    turns = {line["turn"] for line in await asyncio.to_thread(truth_of, truth, trace_id(60), 26)}
    assert turns == {0, 1}


async def test_incremental_input_makes_the_same_tokens_as_the_whole_conversation(stack: RunningStub) -> None:
    async with aiohttp.ClientSession() as client, client.ws_connect(f"{stack.url}/v1/responses") as socket:
        talk = Talk(socket)
        first = await talk.turn("the lazy dog", metadata=context(61))
        said = first["output"][0]["content"][0]["text"]
        second = await talk.turn("tells the fox", first["id"])
        conversation = (("user", "the lazy dog"), ("assistant", said), ("user", "tells the fox"))
        whole = await talk.turn([{"role": role, "content": text} for role, text in conversation])
    assert second["usage"]["input_tokens"] == whole["usage"]["input_tokens"]


async def test_streams_of_one_connection_run_side_by_side_and_fork(stack: RunningStub) -> None:
    async with aiohttp.ClientSession() as client, client.ws_connect(f"{stack.url}/v1/responses") as socket:
        talk = Talk(socket)
        main = await talk.turn("a beginning", stream_id="main")
        await talk.ask("one way", main["id"], stream_id="left")
        await talk.ask("another way", main["id"], stream_id="right")
        ended: dict[str, str] = {}
        while len(ended) < 2:
            event = (await talk.events())[-1]
            ended[event["stream_id"]] = event["type"]
        assert ended == {"left": "response.incomplete", "right": "response.incomplete"}
        bad = await talk.turn("x", stream_id="no spaces")
        assert bad["error"]["code"] == "invalid_stream_id"
        await socket.send_str("{no json")
        assert (await talk.events())[-1]["status"] == 400
        for number in range(40):
            await talk.ask("x", stream_id=f"s{number}")
        codes = [(await talk.events())[-1].get("error", {}).get("code") for _ in range(40)]
        assert codes.count("websocket_stream_limit_reached") == 40 - (32 - 4)


async def test_a_connection_has_its_time(stack: RunningStub) -> None:
    async with aiohttp.ClientSession() as client, client.ws_connect(f"{stack.url}/v1/responses") as socket:
        talk = Talk(socket)
        first = await talk.turn("early")
        await asyncio.sleep(1.6)
        late = await talk.turn("late", first["id"])
        assert (late["status"], late["error"]["code"]) == (400, "websocket_connection_limit_reached")
        assert (await socket.receive(timeout=5)).type in {aiohttp.WSMsgType.CLOSE, aiohttp.WSMsgType.CLOSED}


async def test_without_an_upgrade_it_is_no_websocket(stack: RunningStub) -> None:
    async with aiohttp.ClientSession() as client, client.get(f"{stack.url}/v1/responses") as answer:
        assert answer.status == 426
