"""HTTP at the edge of a stage: dispatch by method and path, and errors in OpenAI's shape."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import Any

import orjson
from aiohttp import web

MAX_BODY_BYTES = 64 * 1024 * 1024  # a million tokens of text, with room
JSON = {"Content-Type": "application/json"}
_TYPES = {401: "authentication_error", 429: "rate_limit_error", 404: "not_found_error"}

Handler = Callable[[web.BaseRequest], Awaitable[web.StreamResponse]]
Routes = Mapping[tuple[str, str], Handler]


class RefusedError(Exception):
    """A request cannot be served; the text is for its sender."""

    def __init__(self, status: int, message: str, param: str | None = None, code: str | None = None) -> None:
        super().__init__(message)
        self.status, self.param, self.code = status, param, code

    def body(self) -> bytes:
        """OpenAI's error JSON."""
        return orjson.dumps(error_body(self.status, str(self), self.param, self.code))


def error_body(status: int, message: str, param: str | None = None, code: str | None = None) -> dict[str, Any]:
    """OpenAI's error object."""
    kind = _TYPES.get(status, "server_error" if status >= 500 else "invalid_request_error")
    return {"error": {"message": message, "type": kind, "param": param, "code": code}}


async def respond(request: web.BaseRequest, status: int, body: bytes, headers: Mapping[str, str]) -> web.StreamResponse:
    """Answer in one write, and have it out before the caller goes on to its records."""
    response = web.Response(status=status, body=body, headers=headers)
    await response.prepare(request)
    await response.write_eof()
    return response


def server(routes: Routes) -> web.Server:
    """An aiohttp server for ``routes``."""

    async def handle(request: web.BaseRequest) -> web.StreamResponse:
        handler = routes.get((request.method, request.path))
        try:
            if handler is None:
                raise _no_route(routes, request)
            return await handler(request)
        except RefusedError as refused:
            return await respond(request, refused.status, refused.body(), JSON)
        except ConnectionResetError:
            # The reader has gone; nobody is left to be told.
            return web.Response(status=499)

    return web.Server(handle, request_factory=_request, access_log=None, keepalive_timeout=3600.0)


def _no_route(routes: Routes, request: web.BaseRequest) -> RefusedError:
    allowed = sorted(method for method, path in routes if path == request.path)
    if allowed:
        return RefusedError(405, f"{request.path} takes {', '.join(allowed)}, got {request.method}")
    known = ", ".join(sorted({path for _, path in routes}))
    return RefusedError(404, f"no such path {request.path!r}; known here: {known}")


def _request(message: Any, payload: Any, protocol: Any, writer: Any, task: Any) -> web.BaseRequest:
    return web.BaseRequest(message, payload, protocol, writer, task, task.get_loop(), client_max_size=MAX_BODY_BYTES)
