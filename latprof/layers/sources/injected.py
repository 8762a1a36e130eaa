"""latprof's own injecting hop: its record of a request, told as spans so that it nests among those of the stack.

client  |== leg ==================================================|
inject     |== injected ==|== leg ============================|
gateway                      |...

The hop passes an answer on as it comes and does not look for the first token. In front of everything it has it when the client has it: the way
back through it counts as network. Inside the stack nobody tells, and the way back is not told apart from its neighbours. A gateway that asks twice
passes twice, with a delay each time.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import Final

from latprof.clock import WallAnchor
from latprof.layers.evidence import Evidence, Hop, Leg, Piece, Traces
from latprof.layers.tree import CLIENT
from latprof.observations.columns import Requests
from latprof.observations.injected import Injected
from latprof.spans.span import Span, SpanEvent, SpanKind
from latprof.spans.store import Spans
from latprof.units import MISSING_NS

LAYER: Final = "injected"
OUTERMOST: Final = "inject"
HOPS: Final = {"gateway": OUTERMOST, "router": "inject.router", "prefill": "inject.prefill", "decode": "inject.decode"}
"""By the stage of the stub it stands in front of, or (gateway) of everything: the name of the hop, which says how deep it lies."""

_SCOPE: Final = "latprof.inject"
_FIRST = "first_chunk"


def evidence(traces: Traces) -> Evidence:
    """The hop, its leg, and the delay. Its clock is the client's: they are on one machine."""
    hops: list[Hop] = []
    legs: list[Leg] = []
    pieces: list[Piece] = []
    for span in traces.spans:
        if span.scope != _SCOPE:
            continue
        first_ns = next((event.unix_ns for event in span.events if event.name == _FIRST), MISSING_NS)
        if span.kind == SpanKind.SERVER:
            hops.append(Hop(span.name, CLIENT, span.start_unix_ns, span.end_unix_ns, first_ns, LAYER, span.span_id, span.parent_id))
        elif span.kind == SpanKind.CLIENT:
            legs.append(Leg(span.name, CLIENT, span.start_unix_ns, span.end_unix_ns, first_ns))
        else:
            pieces.append(Piece(span.name, CLIENT, LAYER, span.start_unix_ns, span.end_unix_ns, 0))
    return Evidence(tuple(hops), tuple(legs), tuple(pieces))


def name_at_address(before: str) -> str:
    """The name of a hop with an address of its own, in front of what is called ``before``; where it lies is for `latprof.layers.placing`."""
    return f"{OUTERMOST}.{before}"


def with_injected(spans: Spans, injected: Injected, requests: Requests, anchor: WallAnchor, hop: str) -> Spans:
    """The spans of a run, and those that tell what the hop of this name injected into it."""
    return spans.also(list(_spans(injected, requests, anchor, hop)))


def _spans(injected: Injected, requests: Requests, anchor: WallAnchor, name: str) -> Iterator[Span]:
    of_trace = {trace: request for request, trace in enumerate(requests.trace_id)}
    times: Counter[str] = Counter()
    for row, trace_id in enumerate(injected.trace_id):
        stamps = [int(column[row]) for column in (injected.received_ns, injected.forwarded_ns, injected.ended_ns)]
        if trace_id not in of_trace or MISSING_NS in stamps:
            continue
        start_ns, onward_ns, end_ns = map(anchor.to_unix, stamps)
        first_ns = int(requests.first_token_ns[of_trace[trace_id]]) if name == OUTERMOST else MISSING_NS
        parent_id = str(injected.parent_id[row])
        times[trace_id] += 1
        ids = [f"{(int(parent_id, 16) ^ (number << 60) ^ (times[trace_id] - 1 << 32)) & (1 << 64) - 1:016x}" for number in (1, 2, 3)]
        first = (SpanEvent(_FIRST, anchor.to_unix(first_ns)),) if first_ns != MISSING_NS else ()
        yield Span(trace_id, ids[0], parent_id, name, SpanKind.SERVER, start_ns, end_ns, events=first, scope=_SCOPE)
        yield Span(trace_id, ids[1], ids[0], name, SpanKind.CLIENT, onward_ns, end_ns, events=first, scope=_SCOPE)
        yield Span(trace_id, ids[2], ids[0], name, SpanKind.INTERNAL, start_ns, onward_ns, scope=_SCOPE)
