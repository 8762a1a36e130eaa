"""What a request asks for, whichever API it came by, and what every API's answer can do. Pure."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import orjson

from latprof.stub.serving import RefusedError

DEFAULT_TOKENS = 16
MAX_TOKENS = 1_000_000


@dataclass(frozen=True, slots=True)
class Asked:
    """``texts`` are the conversation's texts in order, each tokenized by itself, without a template: conversations that begin alike share tokens."""

    model: str
    texts: tuple[str, ...]
    tokens: int
    limited: bool  # the caller gave the length
    stream: bool
    include_usage: bool


class Answer(Protocol):
    """One answer being written, streamed or whole. Token texts come as JSON strings and are put in place unread."""

    id: str
    """What the client reads, and what the gateway's span tells."""

    @property
    def tokens(self) -> int:
        """How many were added."""

    def begin(self) -> bytes:
        """The events that go out when the request is accepted, long before the first token."""

    def add(self, texts: Sequence[bytes]) -> bytes:
        """The events of the next tokens."""

    def finish(self, cached_tokens: int) -> bytes:
        """The last events."""

    def fail(self, status: int, message: str) -> bytes:
        """The events of an error in mid-stream."""

    def whole(self, cached_tokens: int) -> bytes:
        """The answer as one JSON body."""


@dataclass(frozen=True, slots=True)
class Api:
    """One way to ask: where, how a body is read, how an answer and a refusal are written. ``headers`` must come with every request."""

    path: str
    read_body: Callable[[bytes], Asked]
    answer: Callable[[Asked, str, int], Answer]
    refusal: Callable[[RefusedError], bytes]
    headers: tuple[str, ...] = ()

    def check_headers(self, headers: Mapping[str, str]) -> None:
        """Refuse a request without what the API demands.

        Raises:
            RefusedError: 400.
        """
        for name in self.headers:
            if name not in headers:
                raise RefusedError(400, f"{name}: header is required", name)


def object_in(body: bytes) -> dict[str, Any]:
    """The JSON object a body is.

    Raises:
        RefusedError: 400.
    """
    try:
        asked = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise RefusedError(400, f"the body is not JSON: {error}") from None
    if not isinstance(asked, dict):
        raise RefusedError(400, f"the body must be a JSON object, got {type(asked).__name__}")
    return asked


def model_in(asked: Mapping[str, Any]) -> str:
    """The model's name; any will do."""
    model = asked.get("model")
    want(isinstance(model, str) and model != "", "model", "a non-empty string", model)
    return str(model)


def stream_in(asked: Mapping[str, Any]) -> bool:
    """Whether events are wanted."""
    stream = asked.get("stream")
    want(stream is None or isinstance(stream, bool), "stream", "true or false", stream)
    return bool(stream)


def length_in(asked: Mapping[str, Any], *names: str) -> tuple[int, bool]:
    """How many tokens, from the first of ``names`` that is there, and whether one was."""
    for name in names:
        value = asked.get(name)
        if value is not None:
            is_count = isinstance(value, int) and not isinstance(value, bool) and 1 <= value <= MAX_TOKENS
            want(is_count, name, f"an integer from 1 to {MAX_TOKENS}", value)
            return value, True
    return DEFAULT_TOKENS, False


def include_usage_in(asked: Mapping[str, Any]) -> bool:
    """``stream_options.include_usage``."""
    options = asked.get("stream_options")
    if options is None:
        return False
    want(isinstance(options, dict), "stream_options", "an object", options)
    want(bool(asked.get("stream")), "stream_options", "absent unless stream is true", options)
    return bool(options.get("include_usage"))


def texts_in(path: str, content: object, kinds: Sequence[str]) -> list[str]:
    """The texts of a content: a string, or a list of text parts whose type is one of ``kinds``."""
    if isinstance(content, str):
        return [content]
    if not isinstance(content, list):
        raise unwanted(path, "a string or a list of parts", content)
    return [_part(f"{path}[{index}]", part, kinds) for index, part in enumerate(content)]


def _part(path: str, part: object, kinds: Sequence[str]) -> str:
    text = part.get("text") if isinstance(part, dict) and part.get("type") in kinds else None
    if not isinstance(text, str):
        raise RefusedError(400, f'{path} must be {{"type": "{kinds[0]}", "text": ...}}: the stub reads text only', path)
    return text


def want(fine: bool, param: str, wanted: str, got: object) -> None:
    """Refuse a field that is not what it must be."""
    if not fine:
        raise unwanted(param, wanted, got)


def unwanted(param: str, wanted: str, got: object) -> RefusedError:
    """The refusal of a field."""
    shown = "nothing" if got is None else repr(got)[:80]
    return RefusedError(400, f"{param} must be {wanted}, got {shown}", param)


def said(texts: Sequence[bytes]) -> str:
    """The answer's text, from its chunks as JSON strings."""
    return "".join(map(orjson.loads, texts))


def tokens_in(texts: Sequence[bytes]) -> int:
    """How many tokens there are: in the stack in a box each is a word behind a blank, and a chunk may carry several."""
    return sum(text.count(b" ") for text in texts)


def bare_event(body: Mapping[str, Any]) -> bytes:
    """A server-sent event without a name."""
    return b"data: " + orjson.dumps(body) + b"\n\n"


def named_event(body: Mapping[str, Any]) -> bytes:
    """A server-sent event that bears its type as its name."""
    return b"event: %b\ndata: %b\n\n" % (str(body["type"]).encode(), orjson.dumps(body))
