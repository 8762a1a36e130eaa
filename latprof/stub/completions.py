"""OpenAI completions as bytes: a prompt in, text out. Pure; one chunk per token."""

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
    tokens_in,
    unwanted,
    want,
)
from latprof.stub.chat import DONE, usage_of
from latprof.stub.serving import RefusedError, error_body


def read_body(body: bytes) -> Asked:
    """Check a request body.

    Raises:
        RefusedError: 400, naming the field.
    """
    asked = object_in(body)
    model, stream, prompt = model_in(asked), stream_in(asked), asked.get("prompt")
    want(asked.get("n") in {None, 1}, "n", "1", asked.get("n"))
    if isinstance(prompt, list) and len(prompt) == 1:
        prompt = prompt[0]
    if not isinstance(prompt, str):
        raise unwanted("prompt", "one string: the stub reads text only, one prompt at a time", prompt)
    tokens, limited = length_in(asked, "max_tokens")
    return Asked(model, (prompt,), tokens, limited, stream, include_usage_in(asked))


class Answer:
    """See `latprof.stub.asked.Answer`."""

    def __init__(self, asked: Asked, answer_id: str, prompt_tokens: int) -> None:
        self._asked = asked
        self._prompt_tokens = prompt_tokens
        self.id = f"cmpl-{answer_id}"
        self._head: dict[str, Any] = {
            "id": self.id,
            "object": "text_completion",
            "created": int(time.time()),
            "model": asked.model,
        }
        self._before = b"data: " + orjson.dumps(self._head)[:-1] + b',"choices":[{"index":0,"text":'
        self._after = b',"logprobs":null,"finish_reason":null}]' + (b',"usage":null' if asked.include_usage else b"") + b"}\n\n"
        self._texts: list[bytes] = []

    @property
    def tokens(self) -> int:  # noqa: D102
        return tokens_in(self._texts)

    def begin(self) -> bytes:
        """Nothing."""
        return b""

    def add(self, texts: Sequence[bytes]) -> bytes:  # noqa: D102
        self._texts += texts
        return b"".join(piece for text in texts for piece in (self._before, text, self._after))

    def finish(self, cached_tokens: int) -> bytes:
        """Why it ended, usage when asked for, the end mark."""
        end = self._head | {"choices": [self._choice("")]}
        if not self._asked.include_usage:
            return bare_event(end) + DONE
        usage = self._head | {"choices": [], "usage": usage_of(self._prompt_tokens, self.tokens, cached_tokens)}
        return bare_event(end | {"usage": None}) + bare_event(usage) + DONE

    def fail(self, status: int, message: str) -> bytes:  # noqa: D102
        return bare_event(error_body(status, message)) + DONE

    def whole(self, cached_tokens: int) -> bytes:  # noqa: D102
        usage = usage_of(self._prompt_tokens, self.tokens, cached_tokens)
        return orjson.dumps(self._head | {"choices": [self._choice(said(self._texts))], "usage": usage})

    def _choice(self, text: str) -> dict[str, Any]:
        return {"index": 0, "text": text, "logprobs": None, "finish_reason": "length" if self._asked.limited else "stop"}


COMPLETIONS = Api("/v1/completions", read_body, Answer, RefusedError.body)
