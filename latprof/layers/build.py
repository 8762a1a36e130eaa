"""From raw observations and spans to the table that adds up."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from latprof.clock import WallAnchor
from latprof.layers.call import call_layers, emitted_ns
from latprof.layers.client import client_node, wire_leg
from latprof.layers.evidence import BY_ANSWER, PRECEDENCE, Evidence, Held, Source, Traces
from latprof.layers.hops import Order
from latprof.layers.partition import Partition, partition
from latprof.layers.skew import constraints
from latprof.layers.sources import SOURCES
from latprof.layers.table import Conflict, Layers, OffPath, Tables
from latprof.layers.tree import CLIENT, hops_in, merge, nest, shifted
from latprof.layers.vocabulary import belongs_to, path_order
from latprof.observations.columns import Requests
from latprof.spans.clocks import ClockOffset, estimate
from latprof.spans.store import Spans
from latprof.units import MISSING_NS, NS_PER_MS

# Two sources disagree when they differ by more than this and by more than a tenth.
_DISAGREE_NS = NS_PER_MS
_DISAGREE_SHARE = 0.1


@dataclass(slots=True)
class _Row:
    """One request, partitioned."""

    row: int
    done: Partition
    present: dict[str, str] = field(default_factory=dict)  # layer -> provenance
    hops: tuple[str, ...] = ()
    decode_ns: int = MISSING_NS  # first token here to the engine's last
    span: str = "span"  # what a span's word is called here


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
    order = Order(configured_hops)
    rows = np.flatnonzero(requests.success & requests.measured & (requests.first_token_ns != MISSING_NS))
    told = {int(row): _told(requests, int(row), spans, sources) for row in rows}
    wires = {row: wire_leg(requests, row, anchor) for row in told}
    clocks = estimate([c for row, evidence in told.items() for c in constraints(evidence, wires[row], order)], CLIENT)
    by_answer = spans.joined.traces
    done = [
        _partition_row(requests, row, anchor, evidence, order, clocks, is_by_answer=str(requests.trace_id[row]) in by_answer)
        for row, evidence in told.items()
    ]
    ttft = _table(requests, done, order, clocks)
    engines = Counter(row.span for row in done if row.decode_ns != MISSING_NS)
    return Tables(ttft, call_layers(ttft, requests, np.array([row.decode_ns for row in done], np.int64), _by_frequency(engines)))


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
    is_by_answer = str(requests.trace_id[row]) in spans.joined.traces
    evidence = _told(requests, row, spans, sources)
    return _partition_row(requests, row, anchor, evidence, Order(configured_hops), by_clock, is_by_answer=is_by_answer).done


def _told(requests: Requests, row: int, spans: Spans, sources: Mapping[str, Source]) -> Evidence:
    traces = Traces(
        spans.for_trace(str(requests.trace_id[row])),
        tuple(requests.timing_headers[row]),
        str(requests.body_timings[row]),
    )
    return merge(source(traces) for source in sources.values())


def _partition_row(
    requests: Requests,
    row: int,
    anchor: WallAnchor,
    evidence: Evidence,
    order: Order,
    clocks: Mapping[str, ClockOffset],
    *,
    is_by_answer: bool,
) -> _Row:
    client = client_node(requests, row, anchor)
    evidence = shifted(evidence, {name: clock.offset_ns for name, clock in clocks.items() if clock.offset_ns})
    held = nest(client, evidence, order)
    done = partition(client, sorted(held, key=_anchoring), order)
    result = _Row(row, done, hops=tuple(node.hop.hop for node in hops_in(client)) + tuple(h.hop for h in held))
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
    if is_by_answer:
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
    return difference_ns > max(_DISAGREE_NS + held.resolution_ns, _DISAGREE_SHARE * held.length_ns)


def _table(requests: Requests, done: Sequence[_Row], order: Order, clocks: Mapping[str, ClockOffset]) -> Layers:
    hops = order.sorted(hop for row in done for hop in row.hops)
    names = tuple(sorted({layer for row in done for layer in row.present}, key=lambda layer: path_order(layer, hops)))
    column = {name: index for index, name in enumerate(names)}
    shape = (len(done), len(names))
    total_ns, wait_ns, service_ns = (np.zeros(shape, np.int64) for _ in range(3))
    present = np.zeros(shape, np.bool_)
    seen: dict[str, Counter[str]] = defaultdict(Counter)
    for index, row in enumerate(done):
        for segment in row.done.segments:
            length_ns = segment.end_ns - segment.start_ns
            total_ns[index, column[segment.layer]] += length_ns
            if segment.part == "wait":
                wait_ns[index, column[segment.layer]] += length_ns
            elif segment.part == "service":
                service_ns[index, column[segment.layer]] += length_ns
        for layer, provenance in row.present.items():
            present[index, column[layer]] = True
            seen[layer][provenance] += 1
    return Layers(
        metric="ttft",
        names=names,
        rows=np.array([row.row for row in done], np.int64),
        total_ns=total_ns,
        wait_ns=wait_ns,
        service_ns=service_ns,
        present=present,
        sources=tuple(_by_frequency(seen[name]) for name in names),
        hops=hops,
        conflicts=tuple(_conflicts(requests, done)),
        off_path=tuple(
            OffPath(int(requests.request[row.row]), layer, hidden_ns)
            for row in done
            for layer, hidden_ns in sorted(row.done.hidden_ns.items())
        ),
        clocks=tuple(clocks.values()),
    )


def _by_frequency(seen: Counter[str]) -> tuple[str, ...]:
    kinds: tuple[str, ...] = PRECEDENCE

    def rank(name: str) -> int:
        kind = name.removesuffix(BY_ANSWER)
        return kinds.index(kind) if kind in kinds else len(kinds)

    return tuple(sorted(seen, key=lambda name: (-seen[name], rank(name), name)))


def _conflicts(requests: Requests, done: Iterable[_Row]) -> Iterable[Conflict]:
    for row in done:
        for held, found_ns in row.done.overfull:
            used = row.present.get(held.layer, "span")
            yield Conflict(int(requests.request[row.row]), held.layer, used, found_ns, held.provenance, held.length_ns)
