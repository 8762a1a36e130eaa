"""Envoy: an ``ingress`` SERVER span per request and, with ``spawn_upstream_span``, a ``router <cluster> egress`` CLIENT span per try upstream.

All of the ingress that is not an egress is Envoy's own work (layer ``lb``). Neither span tells when the first token passed. The header
``x-envoy-upstream-service-time`` stops at the upstream's response headers, which are not the first token: it is not used.
"""

from __future__ import annotations

from latprof.layers.evidence import Evidence, Hop, Leg, Traces, clock_of
from latprof.layers.vocabulary import merged
from latprof.spans.span import Span, SpanKind

_HOP = "envoy"


def evidence(traces: Traces) -> Evidence:
    """Envoy's hop and its legs upstream."""
    spans = [span for span in traces.spans if _is_envoy(span)]
    cut = {span.parent_id for span in spans if span.kind == SpanKind.CLIENT}
    return Evidence(
        hops=tuple(_hop(span, is_cut=span.span_id in cut) for span in spans if span.kind == SpanKind.SERVER),
        legs=tuple(
            Leg(_HOP, clock_of(span), span.start_unix_ns, span.end_unix_ns, span_id=span.span_id)
            for span in spans
            if span.kind == SpanKind.CLIENT
        ),
    )


def _hop(span: Span, *, is_cut: bool) -> Hop:
    owner = "lb" if is_cut else merged("lb", "net", "server")  # without a cut the upstream is in it; of several in a mesh one may have none
    return Hop(_HOP, clock_of(span), span.start_unix_ns, span.end_unix_ns, owner=owner, span_id=span.span_id, parent_id=span.parent_id)


def _is_envoy(span: Span) -> bool:
    return span.scope == _HOP or span.resource.get("telemetry.sdk.name") == _HOP
