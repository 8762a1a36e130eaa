"""A run in the words of OpenTelemetry's GenAI conventions: one client span per request, its layers as children, in the run's own traces.

    chat tiny          |=====================================================|  CLIENT; the span whose id the request carried to the server
      client.lateness  |-|
      gateway.auth          |--|                                               INTERNAL; one per uninterrupted stay in a layer
      ...

The span of a request begins at its intended start, as latprof's latencies do; ``gen_ai.response.time_to_first_chunk`` counts from the first byte
sent, as the convention has it. Names are those of the conventions' version 1.42 (status Development).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from hashlib import blake2b
from importlib.metadata import version
from typing import Any, Final
from urllib.parse import urlsplit

from latprof.clock import WallAnchor
from latprof.layers.course import Course, joined
from latprof.layers.partition import Segment
from latprof.observations.columns import Requests
from latprof.observations.folder import Run
from latprof.spans.span import Scalar, Span, SpanEvent, SpanKind
from latprof.units import MISSING_NS, NS_PER_S

SCOPE = "latprof"
# Requests whose courses are in memory at one time.
_ROWS_AT_ONCE = 256
_PORTS = {"http": 80, "https": 443, "ws": 80, "wss": 443}
_USAGE: Final = {
    "prompt_tokens": "gen_ai.usage.input_tokens",
    "output_tokens": "gen_ai.usage.output_tokens",
    "cached_tokens": "gen_ai.usage.cache_read.input_tokens",
    "reasoning_tokens": "gen_ai.usage.reasoning.output_tokens",
    "asked_output_tokens": "gen_ai.request.max_tokens",
    "status": "http.response.status_code",
}
_OWN: Final = ("request", "session", "turn", "attempt", "worker")
# The last of those a request has is where its span ends.
_ENDS: Final = ("intended_ns", "ready_ns", "start_ns", "send_ns", "written_ns", "headers_ns", "first_token_ns", "last_token_ns", "end_ns")

Courses = Callable[[Iterable[int]], Iterator[Course]]


@dataclass(frozen=True, slots=True)
class Asked:
    """What every request to one target has in common, as attributes."""

    operation: str
    provider: str
    model: str
    address: str
    port: int

    @property
    def attributes(self) -> dict[str, Scalar]:
        """The attributes that spans and metrics share; what is not known is not there."""
        told: dict[str, Scalar] = {
            "gen_ai.operation.name": self.operation,
            "gen_ai.provider.name": self.provider,
            "gen_ai.request.model": self.model,
            "server.address": self.address,
        }
        if self.port:
            told["server.port"] = self.port
        return {name: value for name, value in told.items() if value != ""}


def asked_of(meta: Mapping[str, Any]) -> dict[str, Asked]:
    """The targets of a run by the name its rows have for them (empty where there is but the one), from its ``run.json``."""
    config = meta.get("config", {})
    shared = config.get("target", {})
    named = config.get("targets") or ()
    if named:
        return {str(one.get("name", "")): _asked(_over(one, shared)) for one in named}
    told = {key: value for key, value in meta.get("target", {}).items() if key in {"url", "model"} and value}
    return {"": _asked({**shared, **told})}


# What a target of several says where it says nothing: then the shared one speaks.
_UNSAID: Final = {"url": None, "model": "stub", "dialect": "openai-chat", "unix_socket": None}


def _over(one: Mapping[str, Any], shared: Mapping[str, Any]) -> dict[str, Any]:
    return {key: one[key] if one.get(key, unsaid) != unsaid else shared.get(key, unsaid) for key, unsaid in _UNSAID.items()}


def _asked(target: Mapping[str, Any]) -> Asked:
    dialect = str(target.get("dialect") or "openai-chat")
    operation = "text_completion" if dialect == "openai-completions" else "chat"
    provider = dialect.partition("-")[0]
    socket = target.get("unix_socket")
    try:
        parts = urlsplit(str(target.get("url") or ""))
        host, port = parts.hostname or "", parts.port or _PORTS.get(parts.scheme, 0)
    except ValueError:
        host, port = "", 0
    model = str(target.get("model") or "")
    return Asked(operation, provider, model, str(socket), 0) if socket else Asked(operation, provider, model, host, port if host else 0)


def resource_of(meta: Mapping[str, Any]) -> dict[str, Scalar]:
    """Who tells: latprof, as an instance that is the run."""
    run_id = str(meta.get("run_id", ""))
    return {"service.name": "latprof", "service.version": version("latprof"), "service.instance.id": run_id, "latprof.run_id": run_id}


def client_spans(run: Run, rows: Iterable[int], courses: Courses) -> Iterator[Span]:
    """The spans of those rows of the run's requests: each request's own before its layers; warm-up and failures have no layers.

    Trace and span ids are those that the server was told, so its spans are the request's children as well; the ids of layers follow from them.
    """
    anchor, resource, asked = WallAnchor(**run.meta["anchor"]), resource_of(run.meta), asked_of(run.meta)
    waiting = iter(rows)
    while some := [row for row, _ in zip(waiting, range(_ROWS_AT_ONCE), strict=False)]:
        known = {course.row: course for course in courses(some)}
        for row in some:
            course = known.get(row)
            own = _request_span(run.requests, row, course, anchor, resource, asked, str(run.meta.get("run_id", "")))
            yield own
            for number, stay in enumerate(joined(course.segments) if course else ()):
                yield _layer_span(own, number, stay, anchor)


def _request_span(
    requests: Requests,
    row: int,
    course: Course | None,
    anchor: WallAnchor,
    resource: Mapping[str, Scalar],
    asked: Mapping[str, Asked],
    run_id: str,
) -> Span:
    target = asked.get(str(requests.target[row])) or next(iter(asked.values()))
    stamps = {name: int(getattr(requests, name)[row]) for name in (*_ENDS, "first_event_ns")}
    known = {name: stamp for name, stamp in stamps.items() if stamp != MISSING_NS}
    marks = {"send_ns": "latprof.sent", "first_token_ns": "latprof.first_token"}
    attributes = target.attributes | _told(requests, row, known, run_id)
    if course is not None and not course.is_placed:
        attributes["latprof.layers"] = "laid end to end: only their lengths are known"
    return Span(
        trace_id=str(requests.trace_id[row]),
        span_id=str(requests.span_id[row]),
        parent_id="",
        name=f"{target.operation} {target.model}".strip(),
        kind=SpanKind.CLIENT,
        start_unix_ns=anchor.to_unix(stamps["intended_ns"]),
        end_unix_ns=anchor.to_unix(max(known.values())),
        attributes=attributes,
        events=tuple(SpanEvent(mark, anchor.to_unix(known[name])) for name, mark in marks.items() if name in known),
        resource=resource,
        scope=SCOPE,
    )


def _told(requests: Requests, row: int, stamps: Mapping[str, int], run_id: str) -> dict[str, Scalar]:
    """What this request alone has; a figure that is not known is not there."""
    told: dict[str, Scalar] = {"gen_ai.request.stream": True, "gen_ai.conversation.id": f"{run_id}-{int(requests.session[row])}"}
    counts = {name: int(getattr(requests, column)[row]) for column, name in _USAGE.items()}
    told |= {name: count for name, count in counts.items() if count != MISSING_NS}
    if (first_ns := time_to_first_chunk_ns(stamps)) != MISSING_NS:
        told["gen_ai.response.time_to_first_chunk"] = first_ns / NS_PER_S
    texts = {"gen_ai.response.id": "response_id", "error.type": "error_class", "error.message": "error_text", "latprof.phase": "phase"}
    told |= {name: text for name, column in texts.items() if (text := str(getattr(requests, column)[row]))}
    if "first_token_ns" in stamps:
        told["latprof.ttft_ns"] = stamps["first_token_ns"] - stamps["intended_ns"]
    return told | {f"latprof.{name}": int(getattr(requests, name)[row]) for name in _OWN}


def time_to_first_chunk_ns(stamps: Mapping[str, int]) -> int:
    """First byte of the request to the first chunk of any kind (some servers send one before there is a token); MISSING_NS without either."""
    first_ns = stamps.get("first_event_ns", stamps.get("first_token_ns", MISSING_NS))
    return first_ns - stamps["send_ns"] if "send_ns" in stamps and first_ns != MISSING_NS else MISSING_NS


def _layer_span(own: Span, number: int, stay: tuple[Segment, ...], anchor: WallAnchor) -> Span:
    layer = stay[0].layer
    lengths = {part: sum(one.end_ns - one.start_ns for one in stay if one.part == part) for part in ("wait", "service", "unsplit")}
    attributes: dict[str, Scalar] = {"latprof.layer": layer, "latprof.source": stay[0].provenance}
    if not lengths["unsplit"]:
        attributes |= {"latprof.wait_ns": lengths["wait"], "latprof.service_ns": lengths["service"]}
    return Span(
        trace_id=own.trace_id,
        span_id=_child_id(own, number),
        parent_id=own.span_id,
        name=layer,
        kind=SpanKind.INTERNAL,
        start_unix_ns=anchor.to_unix(stay[0].start_ns),
        end_unix_ns=anchor.to_unix(stay[-1].end_ns),
        attributes=attributes,
        resource=own.resource,
        scope=SCOPE,
    )


def _child_id(own: Span, number: int) -> str:
    """Drawn from the request's ids: exported twice, a span is the same span, which a collector may store once."""
    return blake2b(f"{own.trace_id}/{own.span_id}/{number}".encode(), digest_size=8, person=b"latprof layer").hexdigest()
