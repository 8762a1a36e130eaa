"""llama.cpp's server: ``timings`` in the last chunk, or the same numbers as attributes of a pass-through hop's span.

``prompt_ms`` is the computing of the prompt, up to the first token; it has no place of its own and ends where the first token is made. Queueing is not
told: it is in what is left of the hop. LiteLLM drops ``timings`` (1.106.2), hence the pass-through.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import orjson

from latprof.layers.evidence import Evidence, Held, Hop, Piece, Traces, clock_of
from latprof.layers.vocabulary import merged
from latprof.spans.span import Span, SpanKind
from latprof.units import MISSING_NS, NS_PER_MS, NS_PER_US

_HOP = "llamacpp"
_SERVICE = "llamacpp-passthrough"
_FRONT = merged("engine.api", "engine.tokenize", "engine.queue")


def evidence(traces: Traces) -> Evidence:
    """Prefill, from spans where there are any, else from the answer's body."""
    spans = [span for span in traces.spans if span.resource.get("service.name") == _SERVICE and span.kind == SpanKind.SERVER]
    if spans:
        hops = tuple(_hop(span) for span in spans)
        pieces = tuple(piece for span, hop in zip(spans, hops, strict=True) if (piece := _prefill(span, hop)) is not None)
        return Evidence(hops=hops, pieces=pieces)
    prompt_ns = _ns(_timings(traces.body_timings).get("prompt_ms"))
    return (
        Evidence()
        if prompt_ns == MISSING_NS
        else Evidence(held=(Held(_HOP, "prefill", prompt_ns, "service", "inside", NS_PER_US, "body"),))
    )


def _hop(span: Span) -> Hop:
    first_ns = next((event.unix_ns for event in span.events if event.name == "first_token"), MISSING_NS)
    return Hop(_HOP, clock_of(span), span.start_unix_ns, span.end_unix_ns, first_ns, _FRONT, span.span_id, span.parent_id)


def _prefill(span: Span, hop: Hop) -> Piece | None:
    length_ns = _ns(span.attributes.get("llamacpp.prompt_ms"))
    if MISSING_NS in (length_ns, hop.first_token_ns):
        return None
    begun_ns = max(hop.start_ns, hop.first_token_ns - length_ns)
    return Piece(_HOP, hop.clock, "prefill", begun_ns, hop.first_token_ns, 0, provenance="attribute")


def _timings(text: str) -> Mapping[str, Any]:
    try:
        value = orjson.loads(text) if text else {}
    except orjson.JSONDecodeError:
        return {}
    return value if isinstance(value, dict) else {}


def _ns(value_ms: object) -> int:
    if isinstance(value_ms, bool) or not isinstance(value_ms, int | float) or not 0 <= value_ms < 1e12:
        return MISSING_NS
    return round(value_ms * NS_PER_MS)
