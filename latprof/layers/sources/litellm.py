"""LiteLLM's proxy (seen at 1.106.2): two views of the request, flat service spans, and timing headers.

    POST /v1/chat/completions  |-----------------------------------------------...   FastAPI's SERVER span
    Received Proxy ...           |---------------------------------------------...   LiteLLM's own SERVER span
    fastapi.dependencies        |----|           auth inside
    fastapi.endpoint                  |-------------------------|                    proxy_pre_call and a short router inside
    self                                       |------|                              the upstream call, to its response headers
    litellm_request                   |----------------------------------------...   to the end of the stream

The leg upstream begins with ``self`` and, since headers are not the first token, ends with ``litellm_request``. No span tells when the first token
passed. Spans of the engine behind it may name the proxy's caller as their parent: it can forward the incoming context unchanged. Both SERVER spans
name the caller, who may ask again (a load balancer's retry): then each asking is a view of its own.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

from latprof.layers.evidence import Evidence, Held, Hop, Leg, Piece, Traces, clock_of
from latprof.layers.tree import merge
from latprof.layers.vocabulary import merged
from latprof.spans.span import Span, SpanKind
from latprof.units import NS_PER_MS

_HOP = "litellm"
_UPSTREAM_HEADERS = "self"
_UPSTREAM_STREAM = ("litellm_request", "raw_gen_ai_request")
_PIECES = {
    "fastapi.dependencies": (merged("gateway.validate", "gateway.auth"), 1),
    "auth": ("gateway.auth", 2),
    "fastapi.endpoint": ("gateway.proxy", 1),
    "proxy_pre_call": ("gateway.ratelimit", 2),
}
# Its own sum of pre- and post-processing: a second opinion on what the spans say.
_OVERHEAD_HEADER = "x-litellm-overhead-duration-ms"


def evidence(traces: Traces) -> Evidence:
    """The proxy's hop, its leg upstream, its layers, and its overhead header."""
    spans = [span for span in traces.spans if span.resource.get("service.name") == _HOP or span.scope == _HOP]
    views = merge(_view(view) for view in _views(spans))
    return Evidence(views.hops, views.legs, views.pieces, tuple(_overhead(traces.timing_headers)))


def _views(spans: Sequence[Span]) -> Iterator[Sequence[Span]]:
    """The spans of each asking, told by its caller's span: parent links between the proxy's own spans are sound. Where one is lost, by time."""
    parent_of = {span.span_id: span.parent_id for span in spans}
    begun_ns: dict[str, int] = {}
    for span in spans:
        if span.kind == SpanKind.SERVER and span.parent_id not in parent_of:
            begun_ns[span.parent_id] = min(span.start_unix_ns, begun_ns.get(span.parent_id, span.start_unix_ns))
    if len(begun_ns) < 2:
        yield spans
        return

    def caller_of(span: Span) -> str:
        above = span.parent_id
        for _ in spans:  # a ring of parents has no end
            if above not in parent_of:
                break
            above = parent_of[above]
        before = [caller for caller, at_ns in begun_ns.items() if at_ns <= span.start_unix_ns]
        return above if above in begun_ns else max(before or begun_ns, key=begun_ns.__getitem__)

    for caller in begun_ns:
        yield [span for span in spans if caller_of(span) == caller]


def _view(spans: Sequence[Span]) -> Evidence:
    served = sorted((span for span in spans if span.kind == SpanKind.SERVER), key=lambda span: span.start_unix_ns)
    if not served:
        return Evidence()
    outer = served[0]
    hop = Hop(
        _HOP,
        clock_of(outer),
        outer.start_unix_ns,
        max(span.end_unix_ns for span in served),
        span_id=outer.span_id,
        parent_id=outer.parent_id,
    )
    leg = tuple(_leg(spans))
    return Evidence((hop,), leg, tuple(part for piece in _pieces(spans) for part in _less(piece, leg)))


def _leg(spans: Sequence[Span]) -> Iterator[Leg]:
    streams = [span for span in spans if span.name in _UPSTREAM_STREAM]
    begun = [span for span in spans if span.name == _UPSTREAM_HEADERS] or streams
    if begun:
        last = max(span.end_unix_ns for span in (*streams, *begun))
        first = min(begun, key=lambda span: span.start_unix_ns)
        yield Leg(_HOP, clock_of(first), first.start_unix_ns, last, span_id=first.span_id)


def _pieces(spans: Sequence[Span]) -> Iterator[Piece]:
    upstream = [span.start_unix_ns for span in spans if span.name == _UPSTREAM_HEADERS]  # when the call upstream began
    for span in spans:
        layer, level = _PIECES.get(span.name, ("", 0))
        if span.name == "router" and not any(span.start_unix_ns <= start_ns < span.end_unix_ns for start_ns in upstream):
            layer, level = "router", 2  # the one that holds the upstream call is no more than its wrapper
        if layer == "gateway.proxy" and not upstream:
            layer = merged("gateway.proxy", "net", "server")  # without a cut the upstream call is in it
        if layer:
            yield Piece(_HOP, clock_of(span), layer, span.start_unix_ns, span.end_unix_ns, level=level)


def _less(piece: Piece, legs: Sequence[Leg]) -> Iterator[Piece]:
    """What the endpoint does itself: it is around the call upstream, which ends before it where the call fails."""
    leg = next((leg for leg in legs if piece.start_ns <= leg.start_ns and leg.end_ns <= piece.end_ns), None)
    if leg is None or piece.layer != _PIECES["fastapi.endpoint"][0]:
        yield piece
        return
    yield replace(piece, end_ns=leg.start_ns)
    yield replace(piece, start_ns=leg.end_ns)


def _overhead(headers: Sequence[tuple[str, str]]) -> Iterator[Held]:
    for name, value in headers:
        if name.lower() == _OVERHEAD_HEADER:
            try:
                length_ns = round(float(value.strip()) * NS_PER_MS)
            except (ValueError, OverflowError):
                continue
            if length_ns >= 0:
                yield Held(_HOP, "gateway", length_ns)
