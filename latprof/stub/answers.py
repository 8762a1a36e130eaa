"""The gateway's answer on the wire: streamed or whole, right or as a planted fault has it."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any, NoReturn, Protocol

from aiohttp import web

from latprof.config import Fault
from latprof.stub.asked import Answer, Asked
from latprof.stub.serving import JSON, RefusedError, respond

_SSE = {"Content-Type": "text/event-stream; charset=utf-8", "Cache-Control": "no-cache"}
_GONE_POLL_S = 0.25


class Out(Protocol):
    """Where a stream of events goes."""

    async def begin(self, headers: Mapping[str, str]) -> None:
        """The request is accepted."""

    async def write(self, events: bytes) -> None:
        """Send whole events, or half of one."""

    async def end(self, events: bytes) -> None:
        """Send the last ones."""

    def hang_up(self) -> NoReturn:
        """Close the connection as it is.

        Raises:
            ConnectionResetError: always; nothing more can be sent.
        """


class HttpOut:
    """A response of server-sent events."""

    def __init__(self, request: web.BaseRequest) -> None:
        self.request = request
        self.response = web.StreamResponse()

    async def begin(self, headers: Mapping[str, str]) -> None:
        """A stream's headers go out at once, long before its first token."""
        self.response.headers.update({**_SSE, **headers})
        await self.response.prepare(self.request)

    async def write(self, events: bytes) -> None:  # noqa: D102
        await self.response.write(events)

    async def end(self, events: bytes) -> None:  # noqa: D102
        await self.response.write_eof(events)

    def hang_up(self) -> NoReturn:  # noqa: D102
        hang_up(self.request)


class SocketOut:
    """A WebSocket's messages: one per line."""

    def __init__(self, request: web.BaseRequest, socket: web.WebSocketResponse) -> None:
        self._request, self._socket = request, socket

    async def begin(self, headers: Mapping[str, str]) -> None:
        """Nothing: a turn has no headers of its own."""

    async def write(self, events: bytes) -> None:  # noqa: D102
        for line in events.splitlines():
            if line:
                await self._socket.send_str(line.decode())

    async def end(self, events: bytes) -> None:
        """Send the last ones; the connection stays."""
        await self.write(events)

    def hang_up(self) -> NoReturn:  # noqa: D102
        hang_up(self._request)


class Sender:
    """Writes one stream. A fault of the stream strikes in its middle; ``buffer`` lets everything go at the end."""

    def __init__(self, out: Out, asked: Asked, answer: Answer, fault: Fault | None) -> None:
        self._out, self._asked, self._answer = out, asked, answer
        self._fault = None if fault is None else fault.kind
        self._held: list[bytes] = []
        self._struck = False
        self._over = False

    async def begin(self, headers: Mapping[str, str]) -> None:
        """The engine has accepted."""
        await self._out.begin(headers)
        if opening := self._answer.begin():
            await self._send(opening)

    async def write(self, texts: list[bytes]) -> None:
        """Pass tokens on."""
        events = self._answer.add(texts)
        if self._over:
            return
        if self._fault not in {None, "buffer"} and not self._struck and self._answer.tokens > self._asked.tokens // 2:
            self._struck = True
            events = await self._spoil(events)
        await self._send(events)

    async def finish(self, closing: Mapping[str, Any]) -> None:
        """The engine has ended, with ``cached_tokens`` or with an ``error``."""
        last = b""
        if not self._over:
            failed = "error" in closing
            last = self._answer.fail(502, closing["error"]["message"]) if failed else self._answer.finish(closing["cached_tokens"])
        await self._out.end(b"".join((*self._held, last)))

    async def _send(self, events: bytes) -> None:
        if self._fault == "buffer":
            self._held.append(events)
        else:
            await self._out.write(events)

    async def _spoil(self, events: bytes) -> bytes:
        half = events[: len(events) // 2]
        if self._fault == "malformed":
            return half + b"\n\n"
        if self._fault == "truncate":
            await self._out.write(half)
            self._out.hang_up()
        self._over = True
        return self._answer.fail(500, "planted: an error in mid-stream")


async def send_whole(
    request: web.BaseRequest, answer: Answer, fault: Fault | None, headers: Mapping[str, str], closing: Mapping[str, Any]
) -> web.StreamResponse:
    """The answer in one body, or what a fault makes of it.

    Raises:
        RefusedError: the engine ended with an error, or one was planted.
    """
    kind = None if fault is None else fault.kind
    if "error" in closing:
        raise RefusedError(502, closing["error"]["message"])
    if kind == "error":
        raise RefusedError(500, "planted: an error instead of the answer")
    body = answer.whole(closing["cached_tokens"])
    if kind == "malformed":
        body = body[: len(body) // 2]
    if kind == "truncate":
        response = web.StreamResponse(headers={**JSON, **headers})
        response.content_length = len(body)
        await response.prepare(request)
        await response.write(body[: len(body) // 2])
        hang_up(request)
    return await respond(request, 200, body, {**JSON, **headers})


async def strike(request: web.BaseRequest, fault: Fault) -> None:
    """The faults that leave no answer, or none but an error. The others are the sender's."""
    if fault.kind == "status":
        raise RefusedError(fault.status, f"planted: {fault.status} on {fault.share:.0%} of the requests")
    if fault.kind == "silent":
        while request.transport is not None and not request.transport.is_closing():  # noqa: ASYNC110 - aiohttp tells nobody
            await asyncio.sleep(_GONE_POLL_S)
        raise ConnectionResetError("its client has given up")
    if fault.kind == "drop":
        hang_up(request)


def hang_up(request: web.BaseRequest) -> NoReturn:
    """Close the connection as it is.

    Raises:
        ConnectionResetError: always; nothing more can be sent.
    """
    if request.transport is not None:
        request.transport.close()
    raise ConnectionResetError("planted: the connection was closed")
