"""The gateway's answer on the wire: streamed or whole, right or as a planted fault has it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NoReturn

from aiohttp import web

from latprof.config import Fault
from latprof.stub.chat import Answer, Asked, error_event
from latprof.stub.serving import JSON, RefusedError, error_body, respond

_SSE = {"Content-Type": "text/event-stream; charset=utf-8", "Cache-Control": "no-cache"}


class Sender:
    """Writes one answer. A fault of the stream strikes in its middle; ``buffer`` lets everything go at the end."""

    def __init__(self, request: web.BaseRequest, asked: Asked, answer: Answer, fault: Fault | None) -> None:
        self._request, self._asked, self._answer = request, asked, answer
        self._fault = None if fault is None else fault.kind
        self._response = web.StreamResponse()
        self._headers: Mapping[str, str] = {}
        self._held: list[bytes] = []
        self._struck = False
        self._over = False

    async def begin(self, headers: Mapping[str, str]) -> None:
        """The engine has accepted: a stream's headers go out at once, long before its first token."""
        self._headers = headers
        if self._asked.stream:
            self._response.headers.update({**_SSE, **headers})
            await self._response.prepare(self._request)

    async def write(self, texts: list[bytes]) -> None:
        """Pass tokens on."""
        events = self._answer.add(texts)
        if not self._asked.stream or self._over:
            return
        if self._fault == "buffer":
            self._held.append(events)
            return
        if self._fault is not None and not self._struck and self._answer.tokens > self._asked.tokens // 2:
            self._struck = True
            events = await self._spoil(events)
        await self._response.write(events)

    async def finish(self, closing: Mapping[str, Any]) -> web.StreamResponse:
        """The engine has ended, with ``cached_tokens`` or with an ``error``."""
        if not self._asked.stream:
            return await self._finish_whole(closing)
        last = b""
        if not self._over:
            last = error_event(dict(closing)) if "error" in closing else self._answer.finish(closing["cached_tokens"])
        await self._response.write_eof(b"".join((*self._held, last)))
        return self._response

    async def _spoil(self, events: bytes) -> bytes:
        half = events[: len(events) // 2]
        if self._fault == "malformed":
            return half + b"\n\n"
        if self._fault == "truncate":
            await self._response.write(half)
            hang_up(self._request)
        self._over = True
        return error_event(error_body(500, "planted: an error in mid-stream"))

    async def _finish_whole(self, closing: Mapping[str, Any]) -> web.StreamResponse:
        if "error" in closing:
            raise RefusedError(502, closing["error"]["message"])
        if self._fault == "error":
            raise RefusedError(500, "planted: an error instead of the answer")
        body = self._answer.whole(closing["cached_tokens"])
        if self._fault == "malformed":
            body = body[: len(body) // 2]
        if self._fault == "truncate":
            self._response.headers.update({**JSON, **self._headers})
            self._response.content_length = len(body)
            await self._response.prepare(self._request)
            await self._response.write(body[: len(body) // 2])
            hang_up(self._request)
        return await respond(self._request, 200, body, {**JSON, **self._headers})


def hang_up(request: web.BaseRequest) -> NoReturn:
    """Close the connection as it is.

    Raises:
        ConnectionResetError: always; nothing more can be sent.
    """
    if request.transport is not None:
        request.transport.close()
    raise ConnectionResetError("planted: the connection was closed")
