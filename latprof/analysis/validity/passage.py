"""When each answer passed each hop, read from the same evidence as the layers: what the search for a buffering hop works on."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import orjson

from latprof.analysis.validity.buffering import ClientView, HopView
from latprof.clock import WallAnchor
from latprof.layers.evidence import Evidence, Traces
from latprof.layers.sources import SOURCES
from latprof.layers.table import Layers
from latprof.layers.tree import merge, shifted
from latprof.observations.columns import Chunks, IntArray, Requests
from latprof.spans.store import Spans
from latprof.units import MISSING_NS, NS_PER_MS, NS_PER_S

Pairs = Sequence[tuple[str, str]]


@dataclass(frozen=True, slots=True)
class Passage:
    """The beginning of every answer on its way out. ``generation_ns`` (n,): how long the engine says it made tokens, MISSING_NS untold."""

    client: ClientView
    hops: tuple[HopView, ...]
    generation_ns: IntArray


def client_view(requests: Requests, chunks: Chunks) -> ClientView:
    """The client's own stamps of every answer."""
    tokens = chunks.tokens
    row = np.repeat(tokens.of(requests.request), tokens.counts)
    first = row >= 0
    first[first] = requests.first_token_ns[row[first]] == tokens.at_ns[first]
    first_read_chunks = np.bincount(row[first], minlength=len(requests))
    return ClientView(requests.headers_ns, requests.first_token_ns, requests.last_token_ns, requests.token_chunks, first_read_chunks)


def passage(requests: Requests, chunks: Chunks, layers: Layers, spans: Spans, anchor: WallAnchor, limit: int = 300) -> Passage:
    """Follow the answers of ``layers.rows`` outwards, every clock corrected as for the layers; of more than ``limit`` an even sample.

    Reading one trace takes about a millisecond, and a hop that buffers does it to every answer.
    """
    rows = requests.select(layers.rows[:: max(1, -(-len(layers.rows) // limit))])
    views = {hop: _empty(hop, len(rows)) for hop in layers.hops}
    generation_ns = np.full(len(rows), MISSING_NS)
    shift_ns = {clock.clock: clock.offset_ns for clock in layers.clocks if clock.offset_ns}
    for row in range(len(rows)):
        headers = tuple(rows.timing_headers[row])
        traces = Traces(spans.for_trace(str(rows.trace_id[row])), headers, str(rows.body_timings[row]))
        evidence = shifted(merge(source(traces) for source in SOURCES.values()), shift_ns)
        _enter(views, row, evidence, anchor)
        _enter_headers(views, row, headers, int(rows.send_ns[row]))
        generation_ns[row] = _generation_ns(traces)
    return Passage(client_view(rows, chunks), tuple(views[hop] for hop in layers.hops), generation_ns)


def _empty(hop: str, n: int) -> HopView:
    return HopView(hop, *(np.full(n, MISSING_NS) for _ in range(4)))


def _enter(views: Mapping[str, HopView], row: int, evidence: Evidence, anchor: WallAnchor) -> None:
    """The last view of a hop counts: of a retry, the one whose answer went out."""
    for hop in evidence.hops:
        if hop.hop in views:
            _later(views[hop.hop].passed_ns, row, hop.first_token_ns, anchor)
            _later(views[hop.hop].end_ns, row, hop.end_ns, anchor)
    for leg in evidence.legs:
        if leg.hop in views:
            _later(views[leg.hop].received_ns, row, leg.first_token_ns, anchor)


def _later(column: IntArray, row: int, unix_ns: int, anchor: WallAnchor) -> None:
    if unix_ns != MISSING_NS:
        column[row] = max(int(column[row]), anchor.to_monotonic(unix_ns))


# --- timers that stop at the upstream's response headers --------------------------------------------------------------------------------


def _haproxy_headers_ns(headers: Pairs) -> int:
    """TR + Tw + Tc + Tr: from the request's first byte to the upstream's headers, whole ms; -1 where a phase was not reached."""
    for name, value in headers:
        if name.lower() == "x-haproxy-timers":
            told = dict(item.split("=", 1) for item in value.replace(" ", "").split(";") if "=" in item)
            parts = [told.get(key, "") for key in ("TR", "Tw", "Tc", "Tr")]
            if all(part.isascii() and part.isdecimal() for part in parts):
                return sum(map(int, parts)) * NS_PER_MS
    return MISSING_NS


_UNTIL_HEADERS: Mapping[str, Callable[[Pairs], int]] = {"haproxy": _haproxy_headers_ns}


def _enter_headers(views: Mapping[str, HopView], row: int, headers: Pairs, send_ns: int) -> None:
    """Only for the hop next to the client: deeper ones begin later than the client's send by a time that nobody tells."""
    outermost = next(iter(views), "")
    if outermost in _UNTIL_HEADERS and send_ns != MISSING_NS:
        length_ns = _UNTIL_HEADERS[outermost](headers)
        if length_ns != MISSING_NS:
            views[outermost].headers_ns[row] = send_ns + length_ns


# --- engines that say how long they made tokens -----------------------------------------------------------------------------------------

# Key in the body's timings (or, with its prefix, in a span) and ns per unit: llama.cpp, Cerebras and Groq.
_GENERATION = (("predicted_ms", NS_PER_MS), ("completion_time", NS_PER_S))
_PREDICTED_ATTRIBUTE = "llamacpp.predicted_ms"


def _generation_ns(traces: Traces) -> int:
    body = _object(traces.body_timings)
    told = [(body.get(key), unit_ns) for key, unit_ns in _GENERATION]
    told += [(span.attributes.get(_PREDICTED_ATTRIBUTE), NS_PER_MS) for span in traces.spans]
    return max(_lengths(told), default=MISSING_NS)


def _lengths(told: Iterable[tuple[object, int]]) -> Iterable[int]:
    for value, unit_ns in told:
        if isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value < 1e9:
            yield round(value * unit_ns)


def _object(text: str) -> Mapping[str, Any]:
    try:
        value = orjson.loads(text) if text else {}
    except orjson.JSONDecodeError:
        return {}
    return value if isinstance(value, dict) else {}
