"""OpenAI chat completions as bytes: what a body asks for, and the answer's events. Pure; one chunk per token."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

import orjson

from latprof.stub.asked import (
    Api,
    Asked,
    bare_event,
    include_usage_in,
    length_in,
    model_in,
    object_in,
    said,
    stream_in,
    texts_in,
    tokens_in,
    unwanted,
    want,
)
from latprof.stub.serving import RefusedError, error_body

DONE = b"data: [DONE]\n\n"


def read_body(body: bytes) -> Asked:
    """Check a request body.

    Raises:
        RefusedError: 400, naming the field.
    """
    asked = object_in(body)
    model, stream, messages = model_in(asked), stream_in(asked), asked.get("messages")
    want(asked.get("n") in {None, 1}, "n", "1", asked.get("n"))
    if not isinstance(messages, list) or not messages:
        raise unwanted("messages", "a non-empty list", messages)
    texts = tuple(text for index, message in enumerate(messages) for text in _texts(f"messages[{index}]", message))
    tokens, limited = length_in(asked, "max_completion_tokens", "max_tokens")
    return Asked(model, texts, tokens, limited, stream, include_usage_in(asked))


def _texts(path: str, message: object) -> list[str]:
    if not isinstance(message, dict):
        raise RefusedError(400, f"{path} must be an object, got {type(message).__name__}", path)
    want(isinstance(message.get("role"), str), f"{path}.role", "a string", message.get("role"))
    if message["role"] == "tool":
        want(isinstance(message.get("tool_call_id"), str), f"{path}.tool_call_id", "a string", message.get("tool_call_id"))
    content = message.get("content")
    if content is None and message["role"] == "assistant":
        return []  # an assistant's tool calls have no text
    return texts_in(f"{path}.content", content, ("text",))


class Answer:
    """See `latprof.stub.asked.Answer`."""

    def __init__(self, asked: Asked, answer_id: str, prompt_tokens: int) -> None:
        self._asked = asked
        self._prompt_tokens = prompt_tokens
        self.id = f"chatcmpl-{answer_id}"
        self._head: dict[str, Any] = {"id": self.id, "object": "chat.completion.chunk", "created": int(time.time())}
        self._head["model"] = asked.model
        choice = b',"choices":[{"index":0,"delta":{'
        self._before = b"data: " + orjson.dumps(self._head)[:-1] + choice
        self._after = b'},"logprobs":null,"finish_reason":null}]' + (b',"usage":null' if asked.include_usage else b"") + b"}\n\n"
        self._role = b'"role":"assistant",'
        self._texts: list[bytes] = []

    @property
    def tokens(self) -> int:  # noqa: D102
        return tokens_in(self._texts)

    def begin(self) -> bytes:
        """Nothing: the role comes with the first token."""
        return b""

    def add(self, texts: Sequence[bytes]) -> bytes:  # noqa: D102
        self._texts += texts
        events: list[bytes] = []
        for text in texts:
            events += (self._before, self._role, b'"content":', text, self._after)
            self._role = b""
        return b"".join(events)

    def finish(self, cached_tokens: int) -> bytes:
        """Why it ended, usage when asked for, the end mark."""
        end = self._head | {"choices": [{"index": 0, "delta": {}, "logprobs": None, "finish_reason": self._reason()}]}
        if not self._asked.include_usage:
            return bare_event(end) + DONE
        usage = self._head | {"choices": [], "usage": usage_of(self._prompt_tokens, self.tokens, cached_tokens)}
        return bare_event(end | {"usage": None}) + bare_event(usage) + DONE

    def fail(self, status: int, message: str) -> bytes:
        """An error inside the stream, and its end mark, as vLLM sends them."""
        return bare_event(error_body(status, message)) + DONE

    def whole(self, cached_tokens: int) -> bytes:  # noqa: D102
        message = {"role": "assistant", "content": said(self._texts)}
        choice = {"index": 0, "message": message, "logprobs": None, "finish_reason": self._reason()}
        usage = usage_of(self._prompt_tokens, self.tokens, cached_tokens)
        return orjson.dumps(self._head | {"object": "chat.completion", "choices": [choice], "usage": usage})

    def _reason(self) -> str:
        return "length" if self._asked.limited else "stop"


def usage_of(prompt_tokens: int, output_tokens: int, cached_tokens: int) -> dict[str, Any]:
    """``usage`` as chat completions and completions tell it."""
    return {
        "prompt_tokens": prompt_tokens,
        "completion_tokens": output_tokens,
        "total_tokens": prompt_tokens + output_tokens,
        "prompt_tokens_details": {"cached_tokens": cached_tokens},
    }


CHAT = Api("/v1/chat/completions", read_body, Answer, RefusedError.body)
