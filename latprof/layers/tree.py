"""One request's evidence on one clock, nested by hop order: what the partition walks.

client  |lateness|build|upload|=================== leg ===================|
gateway                           |auth|safety|====== leg ======|hold|
router                                          |route|== leg ==|
engine                                                 |prefill|
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TypeVar

from latprof.layers.evidence import Evidence, Held, Hop, Leg, Piece
from latprof.layers.hops import Order
from latprof.units import MISSING_NS, NS_PER_MS

SpanLike = TypeVar("SpanLike", Hop, Leg)

CLIENT = "client"
"""The name of the root hop and of its clock."""

# A span may begin this much before the one it belongs to: stamps are rounded to µs by some senders, and threads race.
_SLACK_NS = NS_PER_MS


@dataclass(slots=True)
class LegNode:
    """A leg and the hops found in it."""

    leg: Leg
    hops: list[HopNode] = field(default_factory=list)

    @property
    def cut_ns(self) -> int:
        """Where the leg ends for the first token."""
        return self.leg.first_token_ns if self.leg.first_token_ns != MISSING_NS else self.leg.end_ns


@dataclass(slots=True)
class HopNode:
    """A hop with its pieces and legs."""

    hop: Hop
    pieces: list[Piece] = field(default_factory=list)
    legs: list[LegNode] = field(default_factory=list)
    rank: float = 0.0  # how deep it lies, see `_put_again`

    @property
    def cut_ns(self) -> int:
        """Where the hop's part in the first token ends."""
        return self.hop.first_token_ns if self.hop.first_token_ns != MISSING_NS else self.hop.end_ns


def merge(parts: Iterable[Evidence]) -> Evidence:
    """The evidence of several sources about one request as one."""
    parts = tuple(parts)
    return Evidence(
        hops=tuple(hop for part in parts for hop in part.hops),
        legs=tuple(leg for part in parts for leg in part.legs),
        pieces=tuple(piece for part in parts for piece in part.pieces),
        held=tuple(held for part in parts for held in part.held),
    )


def shifted(evidence: Evidence, shift_ns: Mapping[str, int]) -> Evidence:
    """All stamps moved by ``shift_ns[clock]``; durations never change. Clocks not named stay."""
    return Evidence(
        hops=tuple(_shift(hop, shift_ns) for hop in evidence.hops),
        legs=tuple(_shift(leg, shift_ns) for leg in evidence.legs),
        pieces=tuple(
            replace(p, start_ns=p.start_ns + shift_ns.get(p.clock, 0), end_ns=p.end_ns + shift_ns.get(p.clock, 0)) for p in evidence.pieces
        ),
        held=evidence.held,
    )


def _shift(item: SpanLike, shift_ns: Mapping[str, int]) -> SpanLike:
    by = shift_ns.get(item.clock, 0)
    if not by:
        return item
    first_token_ns = item.first_token_ns + by if item.first_token_ns != MISSING_NS else MISSING_NS
    return replace(item, start_ns=item.start_ns + by, end_ns=item.end_ns + by, first_token_ns=first_token_ns)


def nest(client: HopNode, evidence: Evidence, order: Order, slack_ns: int = _SLACK_NS) -> list[Held]:
    """Hang every hop of ``evidence`` below ``client`` (whose one leg is the request on the wire).

    Returns the lengths without a place whose hop has no span of its own; the others are for comparison only and stay with the caller.
    """
    hops = sorted(evidence.hops, key=lambda hop: (order.rank(hop.hop), hop.start_ns, hop.span_id))
    nodes = [HopNode(hop, rank=order.rank(hop.hop)) for hop in hops]
    for node in nodes:
        _furnish(node, evidence, nodes)
    if len({hop.hop for hop in hops}) < len(hops):
        _put_again(nodes, slack_ns)
    placed: list[HopNode] = [client]
    for node in nodes:
        outer = _outer_of(node, placed, slack_ns)
        _leg_for(outer, node, slack_ns).hops.append(node)
        placed.append(node)
    spanned = {node.hop.hop for node in nodes}
    return [held for held in evidence.held if held.hop not in spanned]


def _furnish(node: HopNode, evidence: Evidence, nodes: Sequence[HopNode]) -> None:
    """Give a hop its pieces and legs. A hop seen twice (a retry) gets those that start inside each view."""
    twins = [other for other in nodes if other.hop.hop == node.hop.hop]

    def mine(hop: str, start_ns: int) -> bool:
        if hop != node.hop.hop:
            return False
        return len(twins) == 1 or _nearest_view(twins, start_ns) is node

    node.pieces = [piece for piece in evidence.pieces if mine(piece.hop, piece.start_ns)]
    node.legs = [LegNode(leg) for leg in evidence.legs if mine(leg.hop, leg.start_ns)]


def _nearest_view(twins: Sequence[HopNode], start_ns: int) -> HopNode:
    begun = [twin for twin in twins if twin.hop.start_ns <= start_ns]
    begun = [twin for twin in begun if start_ns <= twin.hop.end_ns] or begun  # one that is over begins nothing more
    return max(begun, key=lambda twin: twin.hop.start_ns) if begun else min(twins, key=lambda twin: twin.hop.start_ns)


def _put_again(nodes: list[HopNode], slack_ns: int) -> None:
    """Put hops that are passed again (a proxy beside every service of a mesh) below all that they lie in.

    envoy      |== leg ==================================|
    litellm       |== leg ============================|
    envoy            |== leg ======================|           inside a leg of its own kind: below litellm, and around the engine
    """
    before: list[HopNode] = []
    callers = {one.leg.span_id: node for node in nodes for one in node.legs if one.leg.span_id}
    for node in sorted(nodes, key=lambda node: node.hop.start_ns):
        caller = callers.get(node.hop.parent_id)
        around = [other for other in before if _is_around(other, node, caller, slack_ns)]
        if any(other.hop.hop == node.hop.hop for other in around):
            node.rank = max(other.rank for other in around) + 0.5
        before.append(node)
    nodes.sort(key=lambda node: node.rank)


def _is_around(other: HopNode, node: HopNode, caller: HopNode | None, slack_ns: int) -> bool:
    """Whether ``node`` lies in ``other`` by its times; of two views of one hop that a caller asked side by side, neither lies in the other."""
    if node.hop.end_ns > other.hop.end_ns + slack_ns:
        return False
    if node.hop.hop != other.hop.hop:
        return True
    if node.hop.parent_id == other.hop.parent_id or (caller is not None and caller.hop.start_ns < other.hop.start_ns):
        return False
    legs = (one.leg for one in other.legs if one.leg.start_ns - slack_ns <= node.hop.start_ns)
    return any(node.hop.end_ns <= leg.end_ns + slack_ns for leg in legs)


def _outer_of(node: HopNode, placed: Sequence[HopNode], slack_ns: int) -> HopNode:
    """The deepest hop of a lower rank that was at work when ``node`` began; the client if there is none."""
    client, *others = placed
    start_ns = node.hop.start_ns
    at_work = [
        other for other in others if other.rank < node.rank and other.hop.start_ns - slack_ns <= start_ns <= other.hop.end_ns + slack_ns
    ]
    if not at_work:
        return client
    # Slack is for those that begin late by their stamps; one that has ended gives way to one that has not (two calls one after the other).
    at_work = [other for other in at_work if start_ns <= other.hop.end_ns] or at_work
    deepest = max(other.rank for other in at_work)
    return max((other for other in at_work if other.rank == deepest), key=lambda other: other.hop.start_ns)


def _leg_for(outer: HopNode, node: HopNode, slack_ns: int) -> LegNode:
    """The leg of ``outer`` that reached ``node``: by parent link where it points to one, else by time, else one of its own length."""
    for leg_node in outer.legs:
        if leg_node.leg.span_id and leg_node.leg.span_id == node.hop.parent_id:
            return leg_node
    start_ns = node.hop.start_ns
    open_legs = [leg for leg in outer.legs if leg.leg.start_ns - slack_ns <= start_ns <= leg.leg.end_ns + slack_ns]
    if open_legs:
        return max(open_legs, key=lambda leg_node: leg_node.leg.start_ns)
    if outer.hop.hop == CLIENT:
        return outer.legs[0]  # whatever its stamps say, it was reached by the request
    own = LegNode(Leg(outer.hop.hop, node.hop.clock, start_ns, node.hop.end_ns, node.hop.first_token_ns))
    outer.legs.append(own)
    return own


def hops_in(node: HopNode) -> Iterator[HopNode]:
    """Every hop below ``node``."""
    for leg_node in node.legs:
        for inner in leg_node.hops:
            yield inner
            yield from hops_in(inner)
