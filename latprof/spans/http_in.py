"""OTLP over HTTP: protobuf and JSON, plain and gzip, each answered in the type it came in."""

from __future__ import annotations

import zlib
from collections.abc import Awaitable, Callable

import orjson
from aiohttp import web
from google.rpc.status_pb2 import Status  # type: ignore[import-untyped]

from latprof.spans.intake import BODY_LIMIT_BYTES, BusyError, Decode, Intake
from latprof.spans.otlp import MalformedOtlpError, decode_json, decode_protobuf
from latprof.spans.reception import Rejection

_PROTOBUF = "application/x-protobuf"
_JSON = "application/json"
_DECODERS: dict[str, Decode] = {_PROTOBUF: decode_protobuf, _JSON: decode_json}
_GZIP = 31  # zlib's code for a gzip header and a full window
_REJECTIONS: dict[int, Rejection] = {404: "path", 405: "path", 413: "too_large", 415: "content_type"}

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


async def serve_http(intake: Intake, host: str, port: int) -> tuple[web.AppRunner, int]:
    """Listen; ``port`` 0 takes a free one. Returns the server and its port.

    Raises:
        OSError: why the address could not be bound.
    """

    async def traces(request: web.Request) -> web.Response:
        decode, body = await _read(request)
        intake.take(decode, body)
        return _done(request)

    @web.middleware
    async def answer_in_kind(request: web.Request, handler: Handler) -> web.StreamResponse:
        try:
            return await handler(request)
        except MalformedOtlpError as error:
            intake.reject("malformed")
            return _refusal(request, 400, str(error))
        except BusyError:
            intake.reject("busy")
            # Not 429: a Python exporter has been seen to drop on that and to retry every 5xx.
            return _refusal(request, 503, "spans come faster than they can be written; keep them and try again")
        except web.HTTPException as error:
            if error.status in _REJECTIONS:
                intake.reject(_REJECTIONS[error.status])
            return _refusal(request, error.status, _TEXTS.get(error.status, error.reason))

    app = web.Application(middlewares=[answer_in_kind], client_max_size=BODY_LIMIT_BYTES)
    app.add_routes([web.post("/v1/traces", traces), web.post("/v1/metrics", _nothing), web.post("/v1/logs", _nothing)])
    # Decompressed here, not by aiohttp, so that the limit holds for every byte of it.
    runner = web.AppRunner(app, access_log=None, auto_decompress=False, shutdown_timeout=1)
    await runner.setup()
    try:
        await web.TCPSite(runner, host, port).start()
    except OSError:
        await runner.cleanup()
        raise
    return runner, runner.addresses[0][1]


_TEXTS = {
    404: "no such path; send spans to /v1/traces (metrics to /v1/metrics, logs to /v1/logs)",
    405: "OTLP is sent with POST",
    413: f"the body is larger than {BODY_LIMIT_BYTES} bytes, as sent or decompressed; export smaller batches",
    415: f"content type must be {_PROTOBUF} or {_JSON}, content encoding gzip or none",
}


async def _nothing(request: web.Request) -> web.Response:
    """Metrics and logs: taken, so that no exporter complains, and not kept."""
    await _read(request)
    return _done(request)


async def _read(request: web.Request) -> tuple[Decode, bytes]:
    decode = _DECODERS.get(request.content_type)
    encoding = request.headers.get("Content-Encoding", "identity").strip().lower()
    if decode is None or encoding not in {"identity", "gzip", ""}:
        raise web.HTTPUnsupportedMediaType
    if (request.content_length or 0) > BODY_LIMIT_BYTES:
        raise web.HTTPRequestEntityTooLarge(BODY_LIMIT_BYTES, request.content_length or 0)
    body = await request.read()
    return decode, _unzipped(body) if encoding == "gzip" else body


def _unzipped(body: bytes) -> bytes:
    unzip = zlib.decompressobj(_GZIP)
    try:
        plain = unzip.decompress(body, BODY_LIMIT_BYTES + 1)
    except zlib.error:
        raise MalformedOtlpError("the body is not gzip, as its content encoding says") from None
    if len(plain) > BODY_LIMIT_BYTES:
        raise web.HTTPRequestEntityTooLarge(BODY_LIMIT_BYTES, len(plain))
    if not unzip.eof:
        raise MalformedOtlpError("the gzip body ends too early")
    return plain


def _done(request: web.Request) -> web.Response:
    """An export response without partial_success: no bytes in protobuf."""
    return web.Response(body=b"{}" if request.content_type == _JSON else b"", content_type=request.content_type)


def _refusal(request: web.Request, status: int, text: str) -> web.Response:
    """OTLP wants a google.rpc.Status as the body of every error."""
    if request.content_type == _JSON:
        return web.Response(status=status, body=orjson.dumps({"message": text}), content_type=_JSON)
    return web.Response(status=status, body=Status(message=text).SerializeToString(), content_type=_PROTOBUF)
