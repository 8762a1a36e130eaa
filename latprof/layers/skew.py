"""What causality says about clocks: a hop cannot begin before it was asked, nor pass a token on after its caller has it."""

from __future__ import annotations

from collections.abc import Iterator

from latprof.layers.evidence import Evidence, Hop, Leg
from latprof.layers.hops import Order
from latprof.spans.clocks import Constraint
from latprof.units import MISSING_NS, NS_PER_MS

# A server's span may end after its caller has the last byte: closing work, callbacks. Ends bound a clock only this loosely.
_END_SLACK_NS = 5 * NS_PER_MS


def constraints(evidence: Evidence, request: Leg, order: Order) -> Iterator[Constraint]:
    """Bounds on the clock of every hop against the clock of whoever called it. ``request`` is the client's own leg, bytes out to last in."""
    by_id = {leg.span_id: leg for leg in evidence.legs if leg.span_id}
    for hop in evidence.hops:
        caller = by_id.get(hop.parent_id) or _enclosing(hop, evidence, order) or request
        if caller.clock != hop.clock:
            yield _constraint(caller, hop)


def _enclosing(hop: Hop, evidence: Evidence, order: Order) -> Hop | None:
    """Without a parent link to a leg: the nearest hop outside in hop order (clocks cannot be asked, they are what is looked for)."""
    outer = [other for other in evidence.hops if order.rank(other.hop) < order.rank(hop.hop)]
    return max(outer, key=lambda other: order.rank(other.hop)) if outer else None


def _constraint(caller: Leg | Hop, hop: Hop) -> Constraint:
    if MISSING_NS not in (caller.first_token_ns, hop.first_token_ns):
        high_ns = caller.first_token_ns - hop.first_token_ns
    else:
        high_ns = caller.end_ns - hop.end_ns + _END_SLACK_NS
    return Constraint(hop.clock, caller.clock, caller.start_ns - hop.start_ns, high_ns)
