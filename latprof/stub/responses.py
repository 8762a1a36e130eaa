"""OpenAI Responses as bytes: what a body or a WebSocket message asks for, and the answer's typed events. Pure; one delta per token.

Over HTTP the events are server-sent; over a WebSocket each is a message, here a line of JSON.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import orjson

from latprof.stub.asked import Api, Asked, length_in, model_in, named_event, object_in, said, stream_in, texts_in, tokens_in, unwanted, want
from latprof.stub.serving import RefusedError, error_body

NOT_FOUND = "previous_response_not_found"
_KINDS = ("input_text", "output_text", "text")

Frame = Callable[[Mapping[str, Any]], bytes]
"""An event as it goes on the wire."""


@dataclass(frozen=True, slots=True)
class Create:
    """One ``response.create`` of a WebSocket: what it asks for, which response it goes on from, and what its sender said of it."""

    asked: Asked
    previous_id: str


def read_body(body: bytes) -> Asked:
    """Check a request body. The stub stores no responses, so none can be gone on from over HTTP.

    Raises:
        RefusedError: 400, naming the field.
    """
    body_object = object_in(body)
    if body_object.get("previous_response_id") is not None:
        raise not_found(str(body_object["previous_response_id"]))
    return _read(body_object, stream=stream_in(body_object))


def read_create(message: Mapping[str, Any]) -> Create:
    """Check a ``response.create``.

    Raises:
        RefusedError: 400, naming the field.
    """
    want(message.get("type") == "response.create", "type", "response.create", message.get("type"))
    for name in ("stream", "background"):
        want(name not in message, name, "absent on a WebSocket", message.get(name))
    previous = message.get("previous_response_id")
    want(previous is None or isinstance(previous, str), "previous_response_id", "a string", previous)
    return Create(_read(message, stream=True), previous or "")


def not_found(response_id: str) -> RefusedError:
    """The refusal to go on from a response that is not here."""
    return RefusedError(400, f"Previous response with id '{response_id}' not found.", "previous_response_id", NOT_FOUND)


def _read(asked: Mapping[str, Any], *, stream: bool) -> Asked:
    model, items, instructions = model_in(asked), asked.get("input"), asked.get("instructions")
    want(instructions is None or isinstance(instructions, str), "instructions", "a string", instructions)
    before = [instructions] if instructions else []
    tokens, limited = length_in(asked, "max_output_tokens")
    return Asked(model, (*before, *_texts(items)), tokens, limited, stream, include_usage=True)


def _texts(items: object) -> list[str]:
    if isinstance(items, str):
        return [items]
    if not isinstance(items, list) or not items:
        raise unwanted("input", "a string or a non-empty list", items)
    return [text for index, item in enumerate(items) for text in _item(f"input[{index}]", item)]


def _item(path: str, item: object) -> list[str]:
    if not isinstance(item, dict):
        raise RefusedError(400, f"{path} must be an object, got {type(item).__name__}", path)
    kind = item.get("type", "message")
    if kind == "message":
        want(isinstance(item.get("role"), str), f"{path}.role", "a string", item.get("role"))
        want(item["role"] != "tool", f"{path}.role", "assistant, system, developer or user", item["role"])
        return texts_in(f"{path}.content", item.get("content"), _KINDS)
    field = {"function_call_output": "output", "function_call": "arguments"}.get(str(kind))
    if field is None or not isinstance(item.get(field), str):
        raise RefusedError(400, f"{path} must be a message, or a function call or its output as text: the stub reads text only", path)
    return [item[field]]


class Answer:
    """See `latprof.stub.asked.Answer`."""

    def __init__(self, asked: Asked, answer_id: str, prompt_tokens: int, frame: Frame = named_event) -> None:
        self.id = f"resp_{answer_id}"
        self._asked, self._prompt_tokens, self._frame = asked, prompt_tokens, frame
        self._created = int(time.time())
        self._at = {"item_id": f"msg_{answer_id}", "output_index": 0, "content_index": 0}
        self._number = 0
        self._texts: list[bytes] = []
        # The text is put in place unread, as every event's number is: a mark for each, which no id or model name holds.
        delta = frame({"type": "response.output_text.delta", **self._at, "delta": "\1", "logprobs": [], "sequence_number": "\2"})
        before, _, rest = delta.partition(orjson.dumps("\1"))
        between, _, after = rest.partition(orjson.dumps("\2"))
        self._delta = (before, between, after)

    @property
    def tokens(self) -> int:  # noqa: D102
        return tokens_in(self._texts)

    @property
    def text(self) -> str:
        """What was said."""
        return said(self._texts)

    def begin(self) -> bytes:
        """The response exists, and is worked on."""
        response = self._response("in_progress", [])
        return self._event("response.created", response=response) + self._event("response.in_progress", response=response)

    def add(self, texts: Sequence[bytes]) -> bytes:  # noqa: D102
        events = [] if self._texts else [self._open()]
        self._texts += texts
        before, between, after = self._delta
        for text in texts:
            events += (before, text, between, b"%d" % self._next(), after)
        return b"".join(events)

    def finish(self, cached_tokens: int) -> bytes:
        """Text, part, item and response end in turn; usage is in the last."""
        text = self.text
        part = {"type": "output_text", "text": text, "annotations": []}
        status = self._status()
        return b"".join(
            (
                self._event("response.output_text.done", **self._at, text=text, logprobs=[]),
                self._event("response.content_part.done", **self._at, part=part),
                self._event("response.output_item.done", output_index=0, item=self._item(text, status)),
                self._event(f"response.{status}", response=self._response(status, [self._item(text, status)], cached_tokens)),
            )
        )

    def fail(self, status: int, message: str) -> bytes:  # noqa: D102
        error = error_body(status, message)["error"]
        failed = self._response("failed", []) | {"error": {"code": error["type"], "message": message}}
        return self._event("response.failed", response=failed)

    def whole(self, cached_tokens: int) -> bytes:  # noqa: D102
        status = self._status()
        return orjson.dumps(self._response(status, [self._item(self.text, status)], cached_tokens))

    def _open(self) -> bytes:
        item = self._item("", "in_progress") | {"content": []}
        part = {"type": "output_text", "text": "", "annotations": []}
        opened = self._event("response.output_item.added", output_index=0, item=item)
        return opened + self._event("response.content_part.added", **self._at, part=part)

    def _event(self, kind: str, **fields: Any) -> bytes:
        return self._frame({"type": kind, **fields, "sequence_number": self._next()})

    def _next(self) -> int:
        self._number += 1
        return self._number - 1

    def _item(self, text: str, status: str) -> dict[str, Any]:
        content = [{"type": "output_text", "text": text, "annotations": []}]
        return {"id": self._at["item_id"], "type": "message", "role": "assistant", "status": status, "content": content}

    def _response(self, status: str, output: list[dict[str, Any]], cached_tokens: int | None = None) -> dict[str, Any]:
        usage = None if cached_tokens is None else self._usage(cached_tokens)
        why = {"reason": "max_output_tokens"} if status == "incomplete" else None
        head = {"id": self.id, "object": "response", "created_at": self._created, "model": self._asked.model}
        return {**head, "status": status, "error": None, "incomplete_details": why, "output": output, "usage": usage}

    def _usage(self, cached_tokens: int) -> dict[str, Any]:
        return {
            "input_tokens": self._prompt_tokens,
            "input_tokens_details": {"cached_tokens": cached_tokens},
            "output_tokens": self.tokens,
            "output_tokens_details": {"reasoning_tokens": 0},
            "total_tokens": self._prompt_tokens + self.tokens,
        }

    def _status(self) -> str:
        return "incomplete" if self._asked.limited else "completed"


def framed_for(stream_id: str | None) -> Frame:
    """Events as lines of JSON, marked with the lane of the WebSocket that they belong to, where it has a name."""
    return partial(_line, {} if stream_id is None else {"stream_id": stream_id})


def _line(lane: Mapping[str, str], body: Mapping[str, Any]) -> bytes:
    return orjson.dumps({**body, **lane}, option=orjson.OPT_APPEND_NEWLINE)


RESPONSES = Api("/v1/responses", read_body, Answer, RefusedError.body)
