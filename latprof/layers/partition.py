"""Every nanosecond of a window to exactly one layer.

Three steps, each exact, so that layers sum to the window by construction and none is negative:

1. walk     a hop's pieces and legs backwards along the critical path; what no item covers is the hop's own time
               |--auth--|          |=====leg=====|
                   |---safety---|                        safety ended last before the leg began: it is on the path from its start;
               aaaassssssssssss...lllllllllllllll        auth keeps only what came before, the rest of it is off the path
2. descend  into each leg: before its first hop is the way in, after its last the way back, between lies the hop itself
3. place    lengths without a place (headers, body timings) at the end of the gap that must contain them, never more than it holds
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Generic, Literal, TypeVar

from latprof.layers.evidence import Held, Piece
from latprof.layers.hops import Order, layer_of
from latprof.layers.tree import CLIENT, HopNode, LegNode, hops_in
from latprof.layers.vocabulary import WAIT_ONLY, merged, unattributed
from latprof.units import MISSING_NS

Part = Literal["wait", "service", "unsplit"]
Side = Literal["request", "inside", "response"]
Content = TypeVar("Content")


_UNTOLD = merged("net", "server")


@dataclass(frozen=True, slots=True)
class Segment:
    """A stretch of the window that one layer owns."""

    layer: str
    part: Part
    start_ns: int
    end_ns: int
    provenance: str
    gap_of: tuple[str, ...] = ()  # hops without spans of their own that lie in this stretch
    side: Side = "inside"


@dataclass(slots=True)
class Partition:
    """One request: segments that tile its window in order, and what did not fit."""

    segments: list[Segment] = field(default_factory=list)
    hidden_ns: dict[str, int] = field(default_factory=dict)  # layer -> time off the critical path
    overfull: list[tuple[Held, int]] = field(default_factory=list)  # (length, how much of it found a place)


def partition(client: HopNode, held: Sequence[Held], order: Order) -> Partition:
    """Tile the client's whole window (``client.hop.start_ns`` to its cut)."""
    done = Partition()
    unspanned = order.sorted([*(h.hop for h in held), *order.configured])
    spanned = {node.hop.hop for node in hops_in(client)}
    walker = _Walker(done, order, tuple(hop for hop in unspanned if hop not in spanned), client.cut_ns)
    walker.hop(client, client.hop.start_ns, client.cut_ns)
    for length in held:
        _place(done, length)
    return done


# --- step 1: the critical path through items of one level ---------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Item(Generic[Content]):
    """An interval that competes for time with its siblings."""

    start_ns: int
    end_ns: int
    content: Content


def critical_path(items: Iterable[Item[Content]], start_ns: int, end_ns: int) -> list[tuple[int, int, Content | None]]:
    """Tile [start_ns, end_ns] with the items that held the end up, walking backwards from it; None where no item was at work.

    At each step the item that ended last before the cursor is taken from its start; of two that reach the cursor, the one that really ended
    there (it let the next one begin) before one that runs on beside it.
    """
    waiting = [item for item in items if item.start_ns < end_ns and item.end_ns > start_ns and item.end_ns > item.start_ns]
    path: list[tuple[int, int, Content | None]] = []
    cursor = end_ns
    while cursor > start_ns:
        before = [item for item in waiting if item.start_ns < cursor]
        if not before:
            path.append((start_ns, cursor, None))
            break
        last = max(before, key=lambda item: (min(item.end_ns, cursor), -item.end_ns, -item.start_ns))
        reached = min(last.end_ns, cursor)
        if reached <= start_ns:
            path.append((start_ns, cursor, None))
            break
        if reached < cursor:
            path.append((reached, cursor, None))
        begun = max(last.start_ns, start_ns)
        path.append((begun, reached, last.content))
        waiting.remove(last)
        cursor = begun
    path.reverse()
    return path


# --- step 2: down the hops ----------------------------------------------------------------------------------------------------------------


@dataclass(slots=True)
class _Walker:
    done: Partition
    order: Order
    unspanned: tuple[str, ...]
    window_end_ns: int

    def hop(self, node: HopNode, start_ns: int, end_ns: int) -> None:
        top, below = _levels(node.pieces)
        items: list[Item[Piece | LegNode]] = [Item(p.start_ns, p.end_ns, p) for p in top]
        items += [Item(leg.leg.start_ns, leg.cut_ns, leg) for leg in node.legs]
        path = self._path(items, start_ns, end_ns)
        self._note_hidden(items, path, start_ns, end_ns)
        own = node.hop.owner or unattributed(node.hop.hop)
        for begun, ended, content in path:
            if content is None:
                self._add(own, "unsplit", begun, ended, CLIENT if node.hop.hop == CLIENT else "span")
            elif isinstance(content, Piece):
                self._piece(content, below, begun, ended)
            else:
                self._leg(node, content, begun, ended)

    def _path(self, items: Sequence[Item[Piece | LegNode]], start_ns: int, end_ns: int) -> list[tuple[int, int, Piece | LegNode | None]]:
        """The critical path to ``end_ns``. A piece that is still at work then cannot have held the token up: it gets what nothing else claims.

        A leg may be open: most do not tell when the first token came in.
        """
        late = [item for item in items if isinstance(item.content, Piece) and item.end_ns > end_ns]
        path = critical_path([item for item in items if item not in late], start_ns, end_ns)
        if not late:
            return path
        refined: list[tuple[int, int, Piece | LegNode | None]] = []
        for begun, ended, content in path:
            if content is None:
                inside = critical_path(late, begun, ended)
                refined.extend(inside)
            else:
                refined.append((begun, ended, content))
        return refined

    def _piece(self, piece: Piece, below: Sequence[Piece], start_ns: int, end_ns: int) -> None:
        inside = [p for p in below if _contains(piece, p)]
        if not inside:
            self._split(piece, start_ns, end_ns)
            return
        top, deeper = _levels(inside)
        for begun, ended, content in critical_path([Item(p.start_ns, p.end_ns, p) for p in top], start_ns, end_ns):
            if content is None:
                self._split(piece, begun, ended)
            else:
                self._piece(content, deeper, begun, ended)

    def _split(self, piece: Piece, start_ns: int, end_ns: int) -> None:
        if piece.layer in WAIT_ONLY:
            self._add(piece.layer, "wait", start_ns, end_ns, piece.provenance)
        elif piece.wait_ns == MISSING_NS:
            self._add(piece.layer, "unsplit", start_ns, end_ns, piece.provenance)
        else:
            served_ns = min(max(piece.start_ns + piece.wait_ns, start_ns), end_ns)
            self._add(piece.layer, "wait", start_ns, served_ns, piece.provenance)
            self._add(piece.layer, "service", served_ns, end_ns, piece.provenance)

    def _leg(self, outer: HopNode, leg: LegNode, start_ns: int, end_ns: int) -> None:
        """The way in, the hops, the way back."""
        inner = [Item(node.hop.start_ns, node.cut_ns, node) for node in leg.hops]
        path = critical_path(inner, start_ns, end_ns)
        reached = [index for index, (_, _, node) in enumerate(path) if node is not None]
        between = self._between(outer, leg)
        for index, (begun, ended, node) in enumerate(path):
            if node is not None:
                self.hop(node, begun, ended)
            elif not reached:
                self._gap(self._untold(between), "inside", between, begun, ended)
            elif index < reached[-1]:
                self._gap(merged("net.request", *map(layer_of, between)), "request", between, begun, ended)
            else:
                self._gap(self._way_back(leg, between), "response", between, begun, ended)

    def _way_back(self, leg: LegNode, between: tuple[str, ...]) -> str:
        """The network alone if the leg tells when it had its answer; else the hop's own hold of the first token is in it too."""
        is_open = leg.leg.first_token_ns == MISSING_NS and leg.leg.end_ns >= self.window_end_ns
        return merged("proxy.hold", "net.response") if between or is_open else "net.response"

    def _untold(self, between: tuple[str, ...]) -> str:
        """A round trip without a single span in it: the network and whatever is known to lie behind it."""
        known = {layer_of(hop) for hop in between}
        return merged("net", *known) if "engine" in known else merged(_UNTOLD, *known)

    def _between(self, outer: HopNode, leg: LegNode) -> tuple[str, ...]:
        """Hops known to lie on this leg although they sent no span."""
        above = -1 if outer.hop.hop == CLIENT else self.order.rank(outer.hop.hop)
        below = min((self.order.rank(node.hop.hop) for node in leg.hops), default=1 << 30)
        return tuple(hop for hop in self.unspanned if above < self.order.rank(hop) < below)

    def _gap(self, layer: str, side: Side, between: tuple[str, ...], start_ns: int, end_ns: int) -> None:
        if end_ns > start_ns:
            provenance = CLIENT if side == "inside" and layer == _UNTOLD else "span"
            self.done.segments.append(Segment(layer, "unsplit", start_ns, end_ns, provenance, between, side))

    def _add(self, layer: str, part: Part, start_ns: int, end_ns: int, provenance: str) -> None:
        if end_ns > start_ns:
            self.done.segments.append(Segment(layer, part, start_ns, end_ns, provenance))

    def _note_hidden(
        self,
        items: Sequence[Item[Piece | LegNode]],
        path: Sequence[tuple[int, int, Piece | LegNode | None]],
        start_ns: int,
        end_ns: int,
    ) -> None:
        on_path_ns: dict[int, int] = {}
        for begun, ended, content in path:
            on_path_ns[id(content)] = on_path_ns.get(id(content), 0) + ended - begun
        for item in items:
            inside_ns = max(0, min(item.end_ns, end_ns) - max(item.start_ns, start_ns))
            hidden_ns = inside_ns - on_path_ns.get(id(item.content), 0)
            if hidden_ns > 0:
                layer = item.content.layer if isinstance(item.content, Piece) else _layers_behind(item.content)
                self.done.hidden_ns[layer] = self.done.hidden_ns.get(layer, 0) + hidden_ns


def _layers_behind(leg: LegNode) -> str:
    """A round trip that did not hold the token up, by one name."""
    return merged("net", *(layer_of(node.hop.hop) for node in leg.hops)) if leg.hops else _UNTOLD


def _levels(pieces: Sequence[Piece]) -> tuple[list[Piece], list[Piece]]:
    """Pieces that lie in no shallower piece, and the rest."""
    top = [p for p in pieces if not any(_contains(outer, p) for outer in pieces)]
    return top, [p for p in pieces if p not in top]


def _contains(outer: Piece, inner: Piece) -> bool:
    return outer.level < inner.level and outer.start_ns <= inner.start_ns and inner.end_ns <= outer.end_ns


# --- step 3: lengths without a place ------------------------------------------------------------------------------------------------------


def _place(done: Partition, held: Held) -> None:
    """Cut ``held`` out of the last gaps it may lie in, from their end backwards."""
    left_ns = held.length_ns
    for index in range(len(done.segments) - 1, -1, -1):
        if left_ns <= 0:
            break
        gap = done.segments[index]
        if held.hop not in gap.gap_of or (held.side != gap.side and "inside" not in (held.side, gap.side)):
            continue
        take_ns = min(left_ns, gap.end_ns - gap.start_ns)
        left_ns -= take_ns
        done.segments[index : index + 1] = _cut(gap, held, take_ns)
    if left_ns > held.resolution_ns:
        done.overfull.append((held, held.length_ns - left_ns))


def _cut(gap: Segment, held: Held, take_ns: int) -> list[Segment]:
    """``gap`` with ``take_ns`` of it given to ``held``: at its end, but what belongs to the way in at the beginning of a whole round trip."""
    at_start = held.side == "request" and gap.side == "inside"
    cut_ns = gap.start_ns + take_ns if at_start else gap.end_ns - take_ns
    halves = [(gap.start_ns, cut_ns), (cut_ns, gap.end_ns)]
    taken, left = halves if at_start else reversed(halves)
    placed = Segment(held.layer, _part_of(held), *taken, held.provenance)
    rest = Segment(gap.layer, gap.part, *left, gap.provenance, gap.gap_of, gap.side)
    parts = [placed, rest] if at_start else [rest, placed]
    return [part for part in parts if part.end_ns > part.start_ns]


def _part_of(held: Held) -> Part:
    return "wait" if held.layer in WAIT_ONLY else held.part
