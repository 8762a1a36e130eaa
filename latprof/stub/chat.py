"""OpenAI chat completions as bytes: what a body asks for, and the answer's events. Pure; one chunk per token."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import orjson

from latprof.stub.serving import RefusedError

DEFAULT_TOKENS = 16
MAX_TOKENS = 1_000_000
DONE = b"data: [DONE]\n\n"


@dataclass(frozen=True, slots=True)
class Asked:
    """What a chat request asks for. ``texts`` are the messages' texts in order, each tokenized by itself, without a template."""

    model: str
    texts: tuple[str, ...]
    tokens: int
    limited: bool  # the caller gave the length
    stream: bool
    include_usage: bool


def read_body(body: bytes) -> Asked:
    """Check a request body.

    Raises:
        RefusedError: 400, naming the field.
    """
    try:
        asked = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise RefusedError(400, f"the body is not JSON: {error}") from None
    if not isinstance(asked, dict):
        raise RefusedError(400, f"the body must be a JSON object, got {type(asked).__name__}")
    model, messages, stream = asked.get("model"), asked.get("messages"), asked.get("stream")
    _want(isinstance(model, str) and model != "", "model", "a non-empty string", model)
    _want(stream is None or isinstance(stream, bool), "stream", "true or false", stream)
    _want(asked.get("n") in {None, 1}, "n", "1", asked.get("n"))
    if not isinstance(messages, list) or not messages:
        raise _unwanted("messages", "a non-empty list", messages)
    texts = tuple(text for index, message in enumerate(messages) for text in _texts(f"messages[{index}]", message))
    tokens, limited = _length(asked)
    return Asked(str(model), texts, tokens, limited, bool(stream), _include_usage(asked))


def _texts(path: str, message: object) -> list[str]:
    if not isinstance(message, dict):
        raise RefusedError(400, f"{path} must be an object, got {type(message).__name__}", path)
    _want(isinstance(message.get("role"), str), f"{path}.role", "a string", message.get("role"))
    content = message.get("content")
    if content is None and message["role"] == "assistant":
        return []  # an assistant's tool calls have no text
    if isinstance(content, str):
        return [content]
    if not isinstance(content, list):
        raise _unwanted(f"{path}.content", "a string or a list of parts", content)
    return [_part(f"{path}.content[{index}]", part) for index, part in enumerate(content)]


def _part(path: str, part: object) -> str:
    text = part.get("text") if isinstance(part, dict) and part.get("type") == "text" else None
    if not isinstance(text, str):
        raise RefusedError(400, f'{path} must be {{"type": "text", "text": ...}}: the stub reads text only', path)
    return text


def _length(asked: dict[str, Any]) -> tuple[int, bool]:
    for name in ("max_completion_tokens", "max_tokens"):
        value = asked.get(name)
        if value is not None:
            is_count = isinstance(value, int) and not isinstance(value, bool) and 1 <= value <= MAX_TOKENS
            _want(is_count, name, f"an integer from 1 to {MAX_TOKENS}", value)
            return value, True
    return DEFAULT_TOKENS, False


def _include_usage(asked: dict[str, Any]) -> bool:
    options = asked.get("stream_options")
    if options is None:
        return False
    _want(isinstance(options, dict), "stream_options", "an object", options)
    _want(bool(asked.get("stream")), "stream_options", "absent unless stream is true", options)
    return bool(options.get("include_usage"))


def _want(fine: bool, param: str, wanted: str, got: object) -> None:
    if not fine:
        raise _unwanted(param, wanted, got)


def _unwanted(param: str, wanted: str, got: object) -> RefusedError:
    shown = "nothing" if got is None else repr(got)[:80]
    return RefusedError(400, f"{param} must be {wanted}, got {shown}", param)


class Answer:
    """One answer being written, streamed or whole. Token texts arrive as JSON strings and are put in place unread."""

    def __init__(self, asked: Asked, answer_id: str, prompt_tokens: int) -> None:
        self._asked = asked
        self._prompt_tokens = prompt_tokens
        self._head: dict[str, Any] = {"id": f"chatcmpl-{answer_id}", "object": "chat.completion.chunk", "created": int(time.time())}
        self._head["model"] = asked.model
        choice = b',"choices":[{"index":0,"delta":{'
        self._before = b"data: " + orjson.dumps(self._head)[:-1] + choice
        self._after = b'},"logprobs":null,"finish_reason":null}]' + (b',"usage":null' if asked.include_usage else b"") + b"}\n\n"
        self._role = b'"role":"assistant",'
        self._texts: list[bytes] = []

    @property
    def tokens(self) -> int:
        """How many were added."""
        return len(self._texts)

    def add(self, texts: Sequence[bytes]) -> bytes:
        """The events of the next tokens; the role comes with the first."""
        self._texts += texts
        events: list[bytes] = []
        for text in texts:
            events += (self._before, self._role, b'"content":', text, self._after)
            self._role = b""
        return b"".join(events)

    def finish(self, cached_tokens: int) -> bytes:
        """The last events: why it ended, usage when asked for, the end mark."""
        end = self._head | {"choices": [{"index": 0, "delta": {}, "logprobs": None, "finish_reason": self._reason()}]}
        if not self._asked.include_usage:
            return _event(end) + DONE
        usage = self._head | {"choices": [], "usage": self._usage(cached_tokens)}
        return _event(end | {"usage": None}) + _event(usage) + DONE

    def whole(self, cached_tokens: int) -> bytes:
        """The answer as one JSON body."""
        message = {"role": "assistant", "content": "".join(map(orjson.loads, self._texts))}
        choice = {"index": 0, "message": message, "logprobs": None, "finish_reason": self._reason()}
        return orjson.dumps(self._head | {"object": "chat.completion", "choices": [choice], "usage": self._usage(cached_tokens)})

    def _reason(self) -> str:
        return "length" if self._asked.limited else "stop"

    def _usage(self, cached_tokens: int) -> dict[str, Any]:
        return {
            "prompt_tokens": self._prompt_tokens,
            "completion_tokens": self.tokens,
            "total_tokens": self._prompt_tokens + self.tokens,
            "prompt_tokens_details": {"cached_tokens": cached_tokens},
        }


def error_event(body: dict[str, Any]) -> bytes:
    """An error inside the stream, and its end mark, as vLLM sends them."""
    return _event(body) + DONE


def _event(body: dict[str, Any]) -> bytes:
    return b"data: " + orjson.dumps(body) + b"\n\n"
