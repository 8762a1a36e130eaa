"""What causality says about clocks: a hop cannot begin before it was asked, nor do what the first token needs after its caller has it.

The end of a span bounds nothing: servers close spans late (logging, callbacks), after the caller has the last byte; and a piece of work may
come after the answer.
"""

from __future__ import annotations

from collections.abc import Iterator

from latprof.layers.evidence import Evidence, Hop, Leg
from latprof.layers.hops import Order
from latprof.spans.clocks import Constraint
from latprof.units import MISSING_NS


def constraints(evidence: Evidence, request: Leg, order: Order) -> Iterator[Constraint]:
    """Bounds on the clock of every hop against the clock of whoever called it.

    ``request`` is the client's own leg, bytes out to last in; it bounds the hops of callers that do not tell when the first token passed.
    """
    by_id = {leg.span_id: leg for leg in evidence.legs if leg.span_id}
    for hop in evidence.hops:
        caller = by_id.get(hop.parent_id) or _enclosing(hop, evidence, order) or request
        latest_ns, is_token = _needed_for_the_first_token(hop, evidence)
        is_closed = caller.first_token_ns != MISSING_NS
        if caller.clock != hop.clock:
            had_ns = caller.first_token_ns if is_closed else caller.end_ns
            # A hop begins some work before it calls the next one, a leg does not.
            near = isinstance(caller, Leg), is_closed and is_token
            yield Constraint(hop.clock, caller.clock, caller.start_ns - hop.start_ns, had_ns - latest_ns, *near)
        if not is_closed and hop.clock != request.clock:
            bounds_ns = request.start_ns - hop.start_ns, request.first_token_ns - latest_ns
            yield Constraint(hop.clock, request.clock, *bounds_ns, low_is_near=False, high_is_near=is_token)


def _needed_for_the_first_token(hop: Hop, evidence: Evidence) -> tuple[int, bool]:
    """The latest thing the hop is known to have done before it passed the first token on; and whether that was to have the token."""
    if hop.first_token_ns != MISSING_NS:
        return hop.first_token_ns, True
    # Of a hop that is passed again, its own: the other's may be of another host.
    legs = [leg for leg in evidence.legs if (leg.hop, leg.clock) == (hop.hop, hop.clock) and hop.start_ns <= leg.start_ns <= hop.end_ns]
    tokens_ns = [leg.first_token_ns for leg in legs if leg.first_token_ns != MISSING_NS]
    return max([hop.start_ns, *(leg.start_ns for leg in legs), *tokens_ns]), bool(tokens_ns)


def _enclosing(hop: Hop, evidence: Evidence, order: Order) -> Hop | None:
    """Without a parent link to a leg: the nearest hop outside in hop order (clocks cannot be asked, they are what is looked for)."""
    outer = [other for other in evidence.hops if order.rank(other.hop) < order.rank(hop.hop)]
    return max(outer, key=lambda other: order.rank(other.hop)) if outer else None
