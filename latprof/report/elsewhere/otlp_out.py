"""Spans and metrics to a collector over OTLP/HTTP: batches in protobuf, tries again where that can help, and says plainly where it cannot.

--otlp http://host:4318        /v1/traces and /v1/metrics are added
--otlp https://host/otlp       the same below a path
--otlp http://host/v1/traces   the full path of traces; metrics go beside it
"""

from __future__ import annotations

import asyncio
import contextlib
import gzip
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Self
from urllib.parse import urlsplit, urlunsplit

import aiohttp
import orjson
from google.protobuf.message import DecodeError  # type: ignore[import-untyped]
from google.rpc.status_pb2 import Status  # type: ignore[import-untyped]
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceResponse

from latprof.client.redact import Redactor, secrets_in_headers
from latprof.errors import UsageError
from latprof.report.inert import plain
from latprof.spans.encode import encode_protobuf
from latprof.spans.span import Span

_TRACES, _METRICS = "/v1/traces", "/v1/metrics"
_PROTOBUF = "application/x-protobuf"
# What the OTLP specification calls retryable.
_RETRIED = frozenset({429, 502, 503, 504})
_TAKEN = range(200, 300)
_SPANS_AT_ONCE = 1_000
_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_VALUE = re.compile(r"[\t\x20-\x7e]+")
# Not the caller's to set.
_OURS = frozenset({"content-type", "content-encoding", "content-length", "host", "transfer-encoding", "connection"})
_GRPC_PORT = 4317
_ANSWER_BYTES = 65_536


@dataclass(frozen=True, slots=True)
class Collector:
    """Where to send: the base of the address, and headers with their secrets, which no text ever shows."""

    base: str
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)

    @property
    def port(self) -> int | None:
        """The port as it stands in the address."""
        return urlsplit(self.base).port


@dataclass(frozen=True, slots=True)
class Patience:
    """How often a batch is tried, and how long is waited in between: doubling from ``first_wait_s``, or as long as the collector asks."""

    tries: int = 5
    first_wait_s: float = 1.0
    longest_wait_s: float = 30.0
    timeout_s: float = 30.0


@dataclass(frozen=True, slots=True)
class Delivered:
    """What the collector took: ``sent`` items, of which it says it dropped ``rejected``; ``said`` is what it had to say about that."""

    sent: int
    rejected: int = 0
    said: str = ""


def read_collector(url: str, headers: Sequence[str], environment: Mapping[str, str]) -> Collector:
    """The collector that ``--otlp`` and ``--otlp-header NAME=VARIABLE`` name.

    Raises:
        UsageError: no address that can be used, a header that cannot be sent, or an environment variable that is not there. No value is repeated.
    """
    wanted = "--otlp must be a collector's OTLP/HTTP address such as http://127.0.0.1:4318"
    try:
        parts = urlsplit(url.strip())
        port = parts.port
    except ValueError:
        raise UsageError(f"{wanted}, got one whose host or port cannot be read") from None
    if parts.scheme not in {"http", "https"} or not parts.hostname or port == 0:
        raise UsageError(f"{wanted}, got {plain(_bare(url))!r}")
    if parts.username is not None or parts.query or parts.fragment:
        raise UsageError("--otlp must be an address alone, without user, query or fragment; give what opens the door with --otlp-header")
    path = parts.path.rstrip("/")
    for tail in (_TRACES, _METRICS):
        path = path.removesuffix(tail)
    return Collector(urlunsplit((parts.scheme, parts.netloc, path, "", "")), dict(_header(text, environment) for text in headers))


def _bare(url: str) -> str:
    return url.strip().partition("?")[0].rpartition("@")[2]


def _header(text: str, environment: Mapping[str, str]) -> tuple[str, str]:
    name, equals, variable = text.partition("=")
    name, variable = name.strip(), variable.strip()
    if not equals or not _NAME.fullmatch(name) or not _VARIABLE.fullmatch(variable):
        # Most likely the value itself, which must not be repeated.
        raise UsageError(
            "--otlp-header wants NAME=VARIABLE, a header and the environment variable that holds its value, such as "
            "authorization=COLLECTOR_TOKEN; got what is not that"
        )
    if name.lower() in _OURS:
        raise UsageError(f"--otlp-header: {name} is set by latprof itself; leave it out")
    value = environment.get(variable, "").strip()
    if not value:
        raise UsageError(f"--otlp-header {name} names {variable}, which is not set or empty; export {variable}=... first")
    if not _VALUE.fullmatch(value):
        raise UsageError(f"--otlp-header {name}: the value of {variable} holds characters that no header can carry")
    return name.lower(), value


async def send_spans(collector: Collector, spans: Iterable[Span], patience: Patience = Patience()) -> Delivered:
    """Send all of ``spans``, batch by batch.

    Raises:
        UsageError: the collector is not there, refuses a batch, or is too busy for longer than ``patience`` has it; the text says how many it took.
    """
    sent, rejected, said = 0, 0, ""
    async with _Line(collector, patience) as line:
        for batch in _batches(spans):
            answer = await line.post(_TRACES, encode_protobuf(batch), f"{sent} spans before it were taken")
            sent += len(batch)
            rejected += answer.rejected
            said = said or answer.said
    return Delivered(sent, rejected, said)


async def send_metrics(collector: Collector, body: bytes, patience: Patience = Patience()) -> Delivered:
    """Send one ``ExportMetricsServiceRequest``; ``sent`` counts it as one.

    Raises:
        UsageError: as `send_spans`.
    """
    async with _Line(collector, patience) as line:
        return await line.post(_METRICS, body, "no metric was taken")


def _batches(spans: Iterable[Span]) -> Iterator[list[Span]]:
    batch: list[Span] = []
    for span in spans:
        batch.append(span)
        if len(batch) >= _SPANS_AT_ONCE:
            yield batch
            batch = []
    if batch:
        yield batch


class _Line:
    """A session of posts to one collector."""

    def __init__(self, collector: Collector, patience: Patience) -> None:
        self._collector = collector
        self._patience = patience
        self._redact = Redactor(secrets_in_headers(collector.headers) + list(collector.headers.values()))

    async def __aenter__(self) -> Self:
        timeout = aiohttp.ClientTimeout(total=self._patience.timeout_s)
        self._session = aiohttp.ClientSession(timeout=timeout)
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._session.close()

    async def post(self, path: str, body: bytes, before: str) -> Delivered:
        """One batch, tried again as long as that can help."""
        headers = {**self._collector.headers, "content-type": _PROTOBUF, "content-encoding": "gzip"}
        packed = await asyncio.to_thread(gzip.compress, body, 1)
        url = self._collector.base + path
        trouble = ""
        for number in range(self._patience.tries):
            asked_s = 0.0
            try:
                async with self._session.post(url, data=packed, headers=headers, allow_redirects=False) as answer:
                    text = await answer.content.read(_ANSWER_BYTES)
                    if answer.status in _TAKEN:
                        return _taken(answer.content_type, text)
                    trouble = f"HTTP {answer.status}{self._excerpt(answer.content_type, text)}"
                    if answer.status not in _RETRIED:
                        raise UsageError(f"--otlp {url}: the collector refuses it ({trouble}); {before}; {_remedy(answer.status)}")
                    asked_s = _seconds(answer.headers.get("Retry-After", ""))
            except (aiohttp.ClientError, TimeoutError, OSError) as error:
                trouble = self._redact(plain(_why(error) or f"no answer within {self._patience.timeout_s:g} s"))
            if number + 1 < self._patience.tries:
                doubled_s = self._patience.first_wait_s * 2**number
                await asyncio.sleep(min(max(doubled_s, asked_s), self._patience.longest_wait_s))
        hint = "; 4317 is the port of OTLP over gRPC, OTLP over HTTP has 4318" if self._collector.port == _GRPC_PORT else ""
        raise UsageError(
            f"--otlp {url}: not taken after {self._patience.tries} tries ({trouble}); {before}; "
            f"is a collector that takes OTLP over HTTP listening there?{hint}"
        )

    def _excerpt(self, content_type: str, body: bytes) -> str:
        """What the collector said, without secrets and harmless; nothing where it said nothing."""
        text: str | bytes = body
        if content_type == _PROTOBUF:
            try:
                text = Status.FromString(body).message
            except DecodeError:
                text = ""
        said = plain(self._redact.excerpt(text))
        return f": {said}" if said else ""


def _why(error: Exception) -> str:
    """The system's own word where there is one, such as "Connection refused"."""
    reason = error.os_error if isinstance(error, aiohttp.ClientConnectorError) else error
    return getattr(reason, "strerror", None) or str(error)


def _taken(content_type: str, body: bytes) -> Delivered:
    """What a success says: all is well, or a part was dropped. Of traces and metrics it is the same message but for the name of a field."""
    if content_type == _PROTOBUF:
        with contextlib.suppress(DecodeError):
            partial = ExportTraceServiceResponse.FromString(body).partial_success
            return Delivered(1, partial.rejected_spans, plain(partial.error_message))
    with contextlib.suppress(ValueError, KeyError, TypeError, AttributeError):
        told = orjson.loads(body)["partialSuccess"]
        rejected = told.get("rejectedSpans", told.get("rejectedDataPoints", 0))
        return Delivered(1, int(rejected), plain(str(told.get("errorMessage", ""))))
    return Delivered(1)


def _remedy(status: int) -> str:
    if status in {401, 403}:
        return "give what it asks for with --otlp-header NAME=VARIABLE"
    if status in {404, 405}:
        return "give the base of its OTLP/HTTP address, to which /v1/traces is added"
    if 300 <= status < 400:
        return "give the address it redirects to"
    return "see the collector's own log"


def _seconds(retry_after: str) -> float:
    """Seconds to wait; a date there is left aside."""
    return float(retry_after) if retry_after.isdecimal() and len(retry_after) < 6 else 0.0
