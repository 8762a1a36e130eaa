"""From raw observations and spans to the table that adds up."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from operator import itemgetter
from typing import Final, Generic, NamedTuple, TypeVar

import numpy as np

from latprof.clock import WallAnchor
from latprof.layers.alike import Group, Told, alike, groups, told
from latprof.layers.call import call_layers, emitted_ns
from latprof.layers.client import client_node, wire_leg
from latprof.layers.evidence import BY_ANSWER, PRECEDENCE, Evidence, Held, Source, Traces
from latprof.layers.hops import Order
from latprof.layers.partition import Partition, partition
from latprof.layers.skew import constraints
from latprof.layers.sources import SOURCES
from latprof.layers.table import Conflict, IntArray, Layers, OffPath, Tables
from latprof.layers.traced import Traced, summed
from latprof.layers.tree import CLIENT, hops_in, merge, nest, shifted
from latprof.layers.vocabulary import belongs_to, path_order
from latprof.observations.columns import Requests
from latprof.spans.clocks import ClockOffset, Constraint, estimate
from latprof.spans.store import Spans
from latprof.units import MISSING_NS, NS_PER_MS

T = TypeVar("T")

# Two sources disagree when they differ by more than this and by more than a tenth.
_DISAGREE_NS = NS_PER_MS
_DISAGREE_ONE_IN = 10
_NO_COLUMNS: Final = np.empty((0, 1), np.int64)


@dataclass(slots=True)
class _Row:
    """One request, partitioned; or all that go its way, in traced numbers."""

    done: Partition
    present: dict[str, str] = field(default_factory=dict)  # layer -> provenance
    hops: tuple[str, ...] = ()
    decode_ns: int = MISSING_NS  # first token here to the engine's last
    span: str = "span"  # what a span's word is called here


@dataclass(frozen=True, eq=False)
class _Way(Generic[T]):
    """What is said of requests that are alike: ``rows`` (n,) of the run's, and ``columns`` (c, n), of which the numbers in ``said`` are sums."""

    rows: IntArray
    said: T
    columns: IntArray

    def each(self, value: int) -> IntArray:
        """A number in ``said`` of every request, shape (n,)."""
        if not isinstance(value, Traced):
            return np.full(len(self.rows), value, np.int64)
        return np.broadcast_to(summed(value.form, self.columns, np.arange(len(self.rows))), len(self.rows))


def build_layers(
    requests: Requests,
    spans: Spans,
    anchor: WallAnchor,
    configured_hops: tuple[str, ...] = (),
    sources: Mapping[str, Source] = SOURCES,
) -> Tables:
    """Partition [intended start, first token], and [intended start, last token], of every measured request that succeeded.

    ``anchor`` ties the client's monotonic stamps to Unix time; only differences between clocks that causality allows are ever used.
    """
    telling = _Telling(anchor, Order(configured_hops), sources)
    rows = np.flatnonzero(requests.success & requests.measured & (requests.first_token_ns != MISSING_NS))
    run = _Run(requests, spans, telling, *groups(requests, rows, spans))
    clocks = estimate(_each_constraint(run.ways(telling.constraints)), CLIENT)
    ways = run.ways(partial(telling.row, clocks=clocks))
    ttft = _table(requests, rows, ways, telling.order, clocks)
    return Tables(ttft, call_layers(ttft, requests, _decode_ns(rows, ways), _engines(ways)))


def partition_of(
    requests: Requests,
    row: int,
    spans: Spans,
    anchor: WallAnchor,
    clocks: Iterable[ClockOffset],
    configured_hops: tuple[str, ...] = (),
    sources: Mapping[str, Source] = SOURCES,
) -> Partition:
    """The segments that `build_layers` sums up for one row of its table; ``clocks`` are the table's, which all requests of the run tell together."""
    by_clock = {clock.clock: clock for clock in clocks}
    telling = _Telling(anchor, Order(configured_hops), sources)
    return telling.row(telling.understood(told(requests, row, spans)), by_clock).done


@dataclass(slots=True)
class _Run:
    """The requests of a run: groups of those that are alike, and the others."""

    requests: Requests
    spans: Spans
    telling: _Telling
    groups: Sequence[Group]
    apart: IntArray
    known: dict[int, _Understood] = field(default_factory=dict)  # those that were looked at one by one

    def ways(self, tell: Callable[[_Understood], T]) -> list[_Way[T]]:
        """What ``tell`` says of every request, those first that come first."""

        def one_by_one(row: int) -> T:
            if row not in self.known:
                self.known[row] = self.telling.understood(told(self.requests, row, self.spans))
            return tell(self.known[row])

        found: list[_Way[T]] = []
        apart = [self.apart]
        for group in self.groups:
            for at, said in alike(group, lambda one: tell(self.telling.understood(one)), one_by_one):
                if said is None:
                    apart.append(group.rows[at])
                else:
                    found.append(_Way(group.rows[at], said, group.columns[:, at]))
        found += [_Way(np.array([row]), one_by_one(row), _NO_COLUMNS) for row in np.concatenate(apart).tolist()]
        return sorted(found, key=lambda way: int(way.rows[0]))


# --- one request, or one that stands for all that go its way ------------------------------------------------------------------------------


class _Understood(NamedTuple):
    """What is known of a request, and what its sources make of it."""

    told: Told
    evidence: Evidence


@dataclass(frozen=True, slots=True)
class _Telling:
    """What is told of a request, understood. Nothing but sums, differences and comparisons is done with its numbers, so that they can be traced."""

    anchor: WallAnchor
    order: Order
    sources: Mapping[str, Source]

    def understood(self, told: Told) -> _Understood:
        evidence = merge(source(told.traces) for source in self.sources.values())
        return _Understood(told._replace(traces=Traces(())), evidence)  # spans are ten times what is made of them

    def constraints(self, one: _Understood) -> list[Constraint]:
        return list(constraints(one.evidence, wire_leg(one.told.stamps, self.anchor), self.order))

    def row(self, one: _Understood, clocks: Mapping[str, ClockOffset]) -> _Row:
        client = client_node(one.told.stamps, self.anchor, is_retry=one.told.is_retry)
        evidence = shifted(one.evidence, {name: clock.offset_ns for name, clock in clocks.items() if clock.offset_ns})
        held = nest(client, evidence, self.order)
        done = partition(client, sorted(held, key=_anchoring), self.order)
        result = _Row(done, hops=tuple(node.hop.hop for node in hops_in(client)) + tuple(h.hop for h in held))
        for piece in (*client.pieces, *evidence.pieces):
            # Evidence that lies wholly outside the window says nothing about it.
            if piece.start_ns <= client.cut_ns and piece.end_ns >= client.hop.start_ns:
                result.present.setdefault(piece.layer, piece.provenance)
        for length in held:
            result.present.setdefault(length.layer, length.provenance)
        for segment in done.segments:
            result.present.setdefault(segment.layer, segment.provenance)
        if (engine_ns := emitted_ns(client)) != MISSING_NS:
            result.decode_ns = engine_ns - client.cut_ns
        result.done.overfull.extend((h, _found_ns(done, h)) for h in evidence.held if h not in held and _disagrees(done, h))
        if one.told.is_by_answer:
            _mark(result)
        return result


def _mark(row: _Row) -> None:
    """What a span says of this request, it says of the answer with this id."""
    marked: dict[str, str] = {name: f"{name}{BY_ANSWER}" for name in ("span", "attribute")}
    row.span = marked["span"]
    row.present = {layer: marked.get(provenance, provenance) for layer, provenance in row.present.items()}
    row.done.segments = [replace(segment, provenance=marked.get(segment.provenance, segment.provenance)) for segment in row.done.segments]


def _anchoring(held: Held) -> int:
    """Lengths are placed from the first token backwards: what came last first."""
    return -path_order(held.layer)[1]


def _found_ns(done: Partition, held: Held) -> int:
    return sum(s.end_ns - s.start_ns for s in done.segments if belongs_to(s.layer, held.layer))


def _disagrees(done: Partition, held: Held) -> bool:
    difference_ns = abs(_found_ns(done, held) - held.length_ns)
    return difference_ns > _DISAGREE_NS + held.resolution_ns and _DISAGREE_ONE_IN * difference_ns > held.length_ns


# --- all of them together -----------------------------------------------------------------------------------------------------------------


def _each_constraint(ways: Iterable[_Way[list[Constraint]]]) -> Iterator[Constraint]:
    for way in ways:
        for one in way.said:
            bounds = zip(way.each(one.low_ns).tolist(), way.each(one.high_ns).tolist(), strict=True)
            near = one.low_is_near, one.high_is_near
            yield from (Constraint(one.clock, one.reference, low_ns, high_ns, *near) for low_ns, high_ns in bounds)


def _table(requests: Requests, rows: IntArray, ways: Sequence[_Way[_Row]], order: Order, clocks: Mapping[str, ClockOffset]) -> Layers:
    hops = order.sorted(hop for way in ways for hop in way.said.hops)
    names = tuple(sorted({layer for way in ways for layer in way.said.present}, key=lambda layer: path_order(layer, hops)))
    column = {name: index for index, name in enumerate(names)}
    total_ns, wait_ns, service_ns = (np.zeros((len(rows), len(names)), np.int64) for _ in range(3))
    parts = {"wait": (total_ns, wait_ns), "service": (total_ns, service_ns), "unsplit": (total_ns,)}
    present = np.zeros(total_ns.shape, np.bool_)
    seen: dict[str, Counter[str]] = defaultdict(Counter)
    for way in ways:
        places = np.searchsorted(rows, way.rows)
        at = places if len(places) > 1 else int(places[0])
        for segment in way.said.done.segments:
            length_ns = segment.end_ns - segment.start_ns
            lengths_ns = way.each(length_ns) if isinstance(length_ns, Traced) else length_ns
            for table in parts[segment.part]:
                table[at, column[segment.layer]] += lengths_ns
        for layer, provenance in way.said.present.items():
            present[at, column[layer]] = True
            seen[layer][provenance] += len(way.rows)
    return Layers(
        metric="ttft",
        names=names,
        rows=rows,
        total_ns=total_ns,
        wait_ns=wait_ns,
        service_ns=service_ns,
        present=present,
        sources=tuple(_by_frequency(seen[name]) for name in names),
        hops=hops,
        conflicts=_in_order(_conflicts(requests, ways)),
        off_path=_in_order(_off_path(requests, ways)),
        clocks=tuple(clocks.values()),
    )


def _decode_ns(rows: IntArray, ways: Iterable[_Way[_Row]]) -> IntArray:
    decode_ns = np.full(len(rows), MISSING_NS, np.int64)
    for way in ways:
        decode_ns[np.searchsorted(rows, way.rows)] = way.each(way.said.decode_ns)
    return decode_ns


def _engines(ways: Iterable[_Way[_Row]]) -> tuple[str, ...]:
    """The provenances of what engines told, the most frequent first."""
    seen: Counter[str] = Counter()
    for way in ways:
        if way.said.decode_ns != MISSING_NS:
            seen[way.said.span] += len(way.rows)
    return _by_frequency(seen)


def _by_frequency(seen: Counter[str]) -> tuple[str, ...]:
    kinds: tuple[str, ...] = PRECEDENCE

    def rank(name: str) -> int:
        kind = name.removesuffix(BY_ANSWER)
        return kinds.index(kind) if kind in kinds else len(kinds)

    return tuple(sorted(seen, key=lambda name: (-seen[name], rank(name), name)))


def _in_order(of_rows: Iterable[tuple[int, T]]) -> tuple[T, ...]:
    """By row; those of one row stay in their order."""
    return tuple(one for _, one in sorted(of_rows, key=itemgetter(0)))


def _off_path(requests: Requests, ways: Iterable[_Way[_Row]]) -> Iterator[tuple[int, OffPath]]:
    for way in ways:
        for layer, hidden in sorted(way.said.done.hidden_ns.items()):
            for row, hidden_ns in zip(way.rows.tolist(), way.each(hidden).tolist(), strict=True):
                yield row, OffPath(int(requests.request[row]), layer, hidden_ns)


def _conflicts(requests: Requests, ways: Iterable[_Way[_Row]]) -> Iterator[tuple[int, Conflict]]:
    for way in ways:
        for held, found in way.said.done.overfull:
            used = way.said.present.get(held.layer, "span")
            lengths = zip(way.rows.tolist(), way.each(found).tolist(), way.each(held.length_ns).tolist(), strict=True)
            for row, found_ns, length_ns in lengths:
                yield row, Conflict(int(requests.request[row]), held.layer, used, found_ns, held.provenance, length_ns)
