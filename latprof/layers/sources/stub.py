"""The stack in a box: one SERVER span per hop, one INTERNAL span per layer, one CLIENT span per upstream call.

Attributes: ``latprof.layer`` and ``latprof.wait_ns`` on layer spans. The event ``first_chunk`` marks the first token: on a SERVER span when it
was passed on, on a CLIENT span when it came in.
"""

from __future__ import annotations

from latprof.layers.evidence import Evidence, Hop, Leg, Piece, Traces, clock_of
from latprof.layers.vocabulary import is_known
from latprof.spans.span import Span, SpanKind
from latprof.units import MISSING_NS

_SCOPE = "latprof.stub"
_SERVICE_PREFIX = "latprof-stub-"


def evidence(traces: Traces) -> Evidence:
    """Hops, legs and layers told by the stub's spans."""
    hops: list[Hop] = []
    legs: list[Leg] = []
    pieces: list[Piece] = []
    for span in traces.spans:
        if span.scope != _SCOPE:
            continue
        hop, clock = str(span.resource.get("service.name", "")).removeprefix(_SERVICE_PREFIX), clock_of(span)
        start_ns, end_ns, first_ns = span.start_unix_ns, span.end_unix_ns, _first_chunk_ns(span)
        if span.kind == SpanKind.SERVER:
            hops.append(Hop(hop, clock, start_ns, end_ns, first_ns, span_id=span.span_id, parent_id=span.parent_id))
        elif span.kind == SpanKind.CLIENT:
            legs.append(Leg(hop, clock, start_ns, end_ns, first_ns, span.span_id))
        else:
            piece = _piece(span, hop, clock)
            if piece is not None:
                pieces.append(piece)
    return Evidence(tuple(hops), tuple(legs), tuple(pieces))


def _piece(span: Span, hop: str, clock: str) -> Piece | None:
    layer = str(span.attributes.get("latprof.layer", ""))
    if not layer or not is_known(layer):
        return None
    wait_ns = span.attributes.get("latprof.wait_ns", MISSING_NS)
    return Piece(hop, clock, layer, span.start_unix_ns, span.end_unix_ns, wait_ns if isinstance(wait_ns, int) else MISSING_NS)


def _first_chunk_ns(span: Span) -> int:
    return next((event.unix_ns for event in span.events if event.name == "first_chunk"), MISSING_NS)
