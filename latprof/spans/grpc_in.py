"""OTLP over gRPC: what vLLM, SGLang, Envoy and the nginx module speak. Compression is grpc's own business."""

from __future__ import annotations

import errno
import socket
from collections.abc import Awaitable, Callable
from typing import Any

import grpc

from latprof.spans.intake import BODY_LIMIT_BYTES, BusyError, Intake
from latprof.spans.otlp import MalformedOtlpError, decode_protobuf

_COLLECTOR = "opentelemetry.proto.collector"
_OPTIONS = (
    # By default grpc shares a port that another process already listens on, and gets half of the spans.
    ("grpc.so_reuseport", 0),
    ("grpc.max_receive_message_length", BODY_LIMIT_BYTES),  # grpc's own default is 4 MiB
)

Export = Callable[[bytes, Any], Awaitable[bytes]]


async def serve_grpc(intake: Intake, host: str, port: int) -> tuple[grpc.aio.Server, int]:
    """Listen; ``port`` 0 takes a free one. Returns the server and its port.

    Raises:
        OSError: why the address could not be bound.
    """
    server = grpc.aio.server(options=_OPTIONS)
    server.add_generic_rpc_handlers(
        tuple(
            grpc.method_handlers_generic_handler(f"{_COLLECTOR}.{service}", {"Export": grpc.unary_unary_rpc_method_handler(export)})
            for service, export in (
                ("trace.v1.TraceService", _export_traces(intake)),
                ("metrics.v1.MetricsService", _export_nothing),
                ("logs.v1.LogsService", _export_nothing),
            )
        )
    )
    try:
        bound = server.add_insecure_port(f"[{host}]:{port}" if ":" in host else f"{host}:{port}")
    except RuntimeError:
        bound = 0
    if not bound:
        raise _why_not(host, port)
    await server.start()
    return server, bound


def _export_traces(intake: Intake) -> Export:
    async def export(body: bytes, context: Any) -> bytes:
        try:
            intake.take(decode_protobuf, body)
        except MalformedOtlpError as error:
            intake.reject("malformed")
            await context.abort(grpc.StatusCode.INVALID_ARGUMENT, str(error))
        except BusyError:
            intake.reject("busy")
            await context.abort(grpc.StatusCode.UNAVAILABLE, "spans come faster than they can be written; keep them and try again")
        return b""  # an ExportTraceServiceResponse without partial_success

    return export


async def _export_nothing(_body: bytes, _context: Any) -> bytes:
    """Metrics and logs: taken, so that no exporter complains, and not kept."""
    return b""


def _why_not(host: str, port: int) -> OSError:
    """What grpc does not say when it could not bind: ask the kernel the same again."""
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        with socket.socket(family, kind, protocol) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(address)
            probe.listen(1)
    except OSError as error:
        return error
    return OSError(errno.EADDRINUSE, "was in use a moment ago")
