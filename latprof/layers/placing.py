"""Where an injecting hop stands that somebody else was pointed at: told by its own delays.

                     no delay                     a delay
gateway         |=====================|      |============================|      starts when it did before: in front of the hop
inject             |=|==============|           |=|========|============|
engine               |============|                        |==========|          starts later by the delay: behind it

Only how a hop's start moves with the delay is looked at, so that clocks need not agree, and parent links may lie.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Final

import numpy as np

from latprof.layers.alike import told
from latprof.layers.evidence import Source
from latprof.layers.hops import KNOWN, Order
from latprof.layers.sources import SOURCES
from latprof.layers.tree import merge
from latprof.layers.vocabulary import belongs_to
from latprof.observations.columns import Requests
from latprof.spans.store import Spans
from latprof.units import MISSING_NS

CALLER: Final = "caller"
"""Whoever sent to the hop and told nothing: its time is in the way to the hop, which is then no network alone (``net.request+server``)."""

_MOST_REQUESTS = 200
_FEWEST = 3


@dataclass(frozen=True, slots=True)
class Place:
    """Hops from the client inwards, the injecting one among them, and by what: those whose starts told, and those that only names place."""

    order: tuple[str, ...]
    in_front: tuple[str, ...] = ()
    behind: tuple[str, ...] = ()
    untold: tuple[str, ...] = ()


def place_of(
    hop: str,
    before: str,
    requests: Requests,
    spans: Spans,
    configured: Sequence[str] = (),
    sources: Mapping[str, Source] = SOURCES,
) -> Place:
    """The place of the injecting hop called ``hop``, which was put in front of what is called ``before``."""
    starts, seen = _starts(hop, requests, spans, sources)
    is_behind = {name: told for name, pairs in starts.items() if (told := _moves(pairs)) is not None}
    ranked = Order(tuple(name for name in configured if name != hop))
    names = ranked.sorted({*configured, *seen} - {hop})
    behind = {name for name in names if is_behind.get(name, _named_behind(name, before, ranked))}
    outer, inner = ([name for name in names if (name in behind) is side] for side in (False, True))
    caller = () if any(name in configured or name in starts for name in outer) else (CALLER,)
    return Place(
        order=(*caller, *outer, hop, *inner),
        in_front=tuple(name for name in outer if name in is_behind),
        behind=tuple(name for name in inner if name in is_behind),
        untold=tuple(name for name in names if name not in is_behind),
    )


def _starts(
    hop: str, requests: Requests, spans: Spans, sources: Mapping[str, Source]
) -> tuple[Mapping[str, list[tuple[int, int]]], set[str]]:
    """By hop: (delay, its start less the injecting hop's) of a sample of requests, ns; and every hop that is told of."""
    rows = np.flatnonzero(requests.success & requests.measured & (requests.first_token_ns != MISSING_NS))
    pairs: dict[str, list[tuple[int, int]]] = defaultdict(list)
    seen: set[str] = set()
    for row in rows[:: max(1, len(rows) // _MOST_REQUESTS)].tolist():
        evidence = merge(source(told(requests, row, spans).traces) for source in sources.values())
        seen |= {one.hop for one in evidence.hops} | {one.hop for one in evidence.held}
        delays_ns = [piece.end_ns - piece.start_ns for piece in evidence.pieces if piece.hop == hop]
        views = {name: [one.start_ns for one in evidence.hops if one.hop == name] for name in {one.hop for one in evidence.hops}}
        if len(delays_ns) != 1:  # sent again, and delayed again: which is which is not told
            continue
        for name, begun_ns in views.items():
            if name != hop and len(begun_ns) == 1:
                pairs[name].append((delays_ns[0], begun_ns[0] - views[hop][0]))
    return pairs, seen


def _moves(pairs: Iterable[tuple[int, int]]) -> bool | None:
    """Whether a start goes with the delay; None where too few requests tell."""
    pairs = sorted(pairs)
    if not pairs:
        return None
    middle_ns = (pairs[0][0] + pairs[-1][0]) / 2
    short, long = ([pair for pair in pairs if (pair[0] > middle_ns) is side] for side in (False, True))
    if min(len(short), len(long)) < _FEWEST:
        return None
    more_ns, later_ns = (median(pair[k] for pair in long) - median(pair[k] for pair in short) for k in (0, 1))
    return 2 * later_ns > more_ns


def _named_behind(name: str, before: str, order: Order) -> bool:
    """By names alone: what was named, and what is known to lie as deep or deeper; of a name that says nothing, engines."""
    known = KNOWN.get(name)
    if name == before or (known is not None and belongs_to(known.layer, before)):
        return True
    ranks = [order.rank(other) for other, one in KNOWN.items() if other == before or belongs_to(before, one.layer)]
    if before in order.configured:
        ranks = [order.rank(before)]
    return order.rank(name) >= min(ranks) if ranks else known is None or known.layer == "engine"
