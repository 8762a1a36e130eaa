"""Anthropic messages as bytes: what a body asks for, and the answer's events. Pure; one delta per token."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import orjson

from latprof.stub.asked import Api, Asked, length_in, model_in, named_event, object_in, said, stream_in, texts_in, tokens_in, unwanted, want
from latprof.stub.serving import RefusedError

_TYPES = {
    400: "invalid_request_error",
    401: "authentication_error",
    403: "permission_error",
    404: "not_found_error",
    429: "rate_limit_error",
}
_BLOCK = '"type":"content_block_delta","index":0,"delta":{"type":"text_delta","text":'
_BEFORE = f"event: content_block_delta\ndata: {{{_BLOCK}".encode()
_AFTER = b"}}\n\n"


def error_of(status: int, message: str) -> dict[str, Any]:
    """An error as this API tells it, in a body or in the stream."""
    kind = _TYPES.get(status, "overloaded_error" if status == 529 else "api_error")
    return {"type": "error", "error": {"type": kind, "message": message}}


def _refusal(refused: RefusedError) -> bytes:
    return orjson.dumps(error_of(refused.status, str(refused)))


def read_body(body: bytes) -> Asked:
    """Check a request body.

    Raises:
        RefusedError: 400, naming the field.
    """
    asked = object_in(body)
    model, stream, messages, system = model_in(asked), stream_in(asked), asked.get("messages"), asked.get("system")
    want(asked.get("max_tokens") is not None, "max_tokens", "given", None)
    tokens, limited = length_in(asked, "max_tokens")
    if not isinstance(messages, list) or not messages:
        raise unwanted("messages", "a non-empty list", messages)
    before = [] if system is None else texts_in("system", system, ("text",))
    texts = [text for index, message in enumerate(messages) for text in _texts(f"messages.{index}", message)]
    return Asked(model, (*before, *texts), tokens, limited, stream, include_usage=True)


def _texts(path: str, message: object) -> list[str]:
    if not isinstance(message, dict):
        raise RefusedError(400, f"{path} must be an object, got {type(message).__name__}", path)
    want(message.get("role") in {"user", "assistant"}, f"{path}.role", "'user' or 'assistant'", message.get("role"))
    texts = texts_in(f"{path}.content", message.get("content"), ("text",))
    want(all(texts), f"{path}.content", "non-empty text", texts)
    return texts


class Answer:
    """See `latprof.stub.asked.Answer`."""

    def __init__(self, asked: Asked, answer_id: str, prompt_tokens: int) -> None:
        self._asked, self.id, self._prompt_tokens = asked, f"msg_{answer_id}", prompt_tokens
        self._texts: list[bytes] = []

    @property
    def tokens(self) -> int:  # noqa: D102
        return tokens_in(self._texts)

    def begin(self) -> bytes:
        """The message opens and the server shows that it lives; the cache's share is not known yet."""
        usage = {"input_tokens": self._prompt_tokens, "output_tokens": 1}
        opened = {**self._message([], None), "usage": usage}
        return named_event({"type": "message_start", "message": opened}) + named_event({"type": "ping"})

    def add(self, texts: Sequence[bytes]) -> bytes:  # noqa: D102
        opened = b"" if self._texts else self._open_block()
        self._texts += texts
        return opened + b"".join(piece for text in texts for piece in (_BEFORE, text, _AFTER))

    def finish(self, cached_tokens: int) -> bytes:
        """The block ends, then why it all ended and its usage, then the message."""
        closed = named_event({"type": "content_block_stop", "index": 0}) if self._texts else b""
        delta = {"stop_reason": self._reason(), "stop_sequence": None}
        ended = {"type": "message_delta", "delta": delta, "usage": self._usage(cached_tokens)}
        return closed + named_event(ended) + named_event({"type": "message_stop"})

    def fail(self, status: int, message: str) -> bytes:  # noqa: D102
        return named_event(error_of(status, message))

    def whole(self, cached_tokens: int) -> bytes:  # noqa: D102
        content = [{"type": "text", "text": said(self._texts)}]
        return orjson.dumps({**self._message(content, self._reason()), "usage": self._usage(cached_tokens)})

    @staticmethod
    def _open_block() -> bytes:
        return named_event({"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}})

    def _message(self, content: list[dict[str, Any]], reason: str | None) -> dict[str, Any]:
        head = {"id": self.id, "type": "message", "role": "assistant", "model": self._asked.model}
        return {**head, "content": content, "stop_reason": reason, "stop_sequence": None}

    def _usage(self, cached_tokens: int) -> dict[str, int]:
        return {
            "input_tokens": self._prompt_tokens - cached_tokens,
            "cache_creation_input_tokens": 0,
            "cache_read_input_tokens": cached_tokens,
            "output_tokens": self.tokens,
        }

    def _reason(self) -> str:
        return "max_tokens" if self._asked.limited else "end_turn"


MESSAGES = Api("/v1/messages", read_body, Answer, _refusal, headers=("anthropic-version",))
