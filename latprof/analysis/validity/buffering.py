"""Finds the hop that holds the beginning of a stream back and lets it go in one piece.

The beginning of an answer travels outwards; every known stamp of it is a point on this line. A hop that holds lies between two known points
that are far apart, while the client's first token came together with others that took long to make: with all of them (a hop that keeps the
whole answer), or with what was made in 200 ms (HAProxy 2.6 without ``option http-no-delay``, by the kernel's cork).

    client <-- passed | hop 1 | received <-- passed | hop 2 | received <-- ...       (first token; and likewise: response headers)
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from latprof.observations.columns import BoolArray, IntArray, known
from latprof.units import MISSING_NS, NS_PER_MS, NS_PER_S

UNKNOWN_HOP = "unknown hop"

# Below this many chunks or this much generation an answer that comes at once is nothing odd.
_MIN_CHUNKS = 8
_MIN_GENERATION_NS = 300 * NS_PER_MS
# The first token must come with at least this many others, worth at least this much generation: a client that was away for a moment reads two or
# three chunks at once, too.
_MIN_LUMP_CHUNKS = 4
_MIN_LUMP_NS = 50 * NS_PER_MS
# Without any word from the server: faster than any published rate of one stream (about 4 000 tokens/s) by far, and enough of it.
_IMPOSSIBLE_CHUNKS_PER_S = 20_000
_IMPOSSIBLE_FROM_CHUNKS = 32
# A hop holds if it accounts for this share of the time that the chunks which came with the first token took to make.
_HELD_SHARE = 0.5


@dataclass(frozen=True, slots=True)
class ClientView:
    """When the answer reached the client: each column (n,), ns on the client's clock, MISSING_NS where it never did.

    ``first_read_chunks`` counts the token-bearing chunks that the read of the first token brought; ``token_chunks`` all of them.
    """

    headers_ns: IntArray
    first_token_ns: IntArray
    last_token_ns: IntArray
    token_chunks: IntArray
    first_read_chunks: IntArray


@dataclass(frozen=True, slots=True)
class HopView:
    """When the answer passed one hop: each column (n,), ns on the client's clock, MISSING_NS where the hop does not tell.

    ``received_ns`` and ``passed_ns``: the first token; ``headers_ns``: the response headers came in from upstream; ``end_ns``: its span's end.
    """

    hop: str
    passed_ns: IntArray
    received_ns: IntArray
    headers_ns: IntArray
    end_ns: IntArray


@dataclass(frozen=True, slots=True)
class Buffering:
    """Answers that were held back. ``hop`` is a name, several joined by " or ", or `UNKNOWN_HOP` in words.

    ``share`` is that of the answers which took long enough to tell; ``held_ns`` the median time a first token was kept.
    """

    hop: str
    share: float
    held_ns: float
    requests: int


def comes_in_a_lump(client: ClientView) -> float:
    """Share of the answers with enough chunks whose first token came with others: where it is small there is nothing to find.

    This is the client's word alone, and leaves no held answer out.
    """
    told = known(client.first_token_ns) & (client.token_chunks >= _MIN_CHUNKS)
    return float((client.first_read_chunks[told] >= _MIN_LUMP_CHUNKS).mean()) if told.any() else 0.0


def find_buffering(client: ClientView, hops: Sequence[HopView], generation_ns: IntArray | None = None) -> Buffering | None:
    """The hop that held most of the answers whose first token came in a lump, or None when none did.

    ``hops`` from the client inwards, those that tell nothing included: one of them may be the one. ``generation_ns`` (n,) is how long the engine
    says it made tokens, where it says so.
    """
    made_ns = _generation_ns(client, hops, generation_ns)
    came_ns = np.where(known(client.first_token_ns) & known(client.last_token_ns), client.last_token_ns - client.first_token_ns, MISSING_NS)
    long_enough = known(came_ns) & (client.token_chunks >= _MIN_CHUNKS) & (made_ns >= _MIN_GENERATION_NS)
    lump_ns = _lump_ns(client, made_ns)
    in_a_lump = long_enough & (client.first_read_chunks >= _MIN_LUMP_CHUNKS) & (lump_ns >= _MIN_LUMP_NS)
    too_fast = known(came_ns) & ~known(made_ns) & _impossibly_fast(client, came_ns)
    held = np.flatnonzero(in_a_lump | too_fast)
    if not len(held):
        return None
    found = [_holder(client, hops, int(row), int(max(lump_ns[row], _MIN_LUMP_NS))) for row in held]
    names = [name for name, _ in found]
    hop = max(sorted(set(names)), key=names.count)
    held_ns = [kept_ns for name, kept_ns in found if name == hop and kept_ns != MISSING_NS]
    return Buffering(
        hop=hop,
        share=len(held) / int((long_enough | too_fast).sum()),
        held_ns=float(np.median(held_ns)) if held_ns else np.nan,
        requests=len(held),
    )


def _generation_ns(client: ClientView, hops: Sequence[HopView], told_ns: IntArray | None) -> IntArray:
    """The longest any hop, or the engine, was busy passing tokens on."""
    longest_ns = np.full(len(client.first_token_ns), MISSING_NS) if told_ns is None else told_ns
    for hop in hops:
        begun_ns = np.where(known(hop.received_ns), hop.received_ns, hop.passed_ns)
        both = known(begun_ns) & known(hop.end_ns)
        longest_ns = np.maximum(longest_ns, np.where(both, hop.end_ns - begun_ns, MISSING_NS))
    return longest_ns


def _lump_ns(client: ClientView, made_ns: IntArray) -> IntArray:
    """How long the chunks that came with the first token took to make, at the answer's own pace; 0 where nothing tells."""
    gaps = np.maximum(client.token_chunks - 1, 1)
    return np.where(known(made_ns), (client.first_read_chunks - 1) * np.maximum(made_ns, 0) // gaps, 0)


def _impossibly_fast(client: ClientView, came_ns: IntArray) -> BoolArray:
    enough = client.token_chunks >= _IMPOSSIBLE_FROM_CHUNKS
    fastest_ns = client.token_chunks * (NS_PER_S // _IMPOSSIBLE_CHUNKS_PER_S)
    waited = known(client.headers_ns) & (client.first_token_ns - client.headers_ns >= _MIN_GENERATION_NS)
    return np.asarray(enough & waited & (came_ns <= fastest_ns), np.bool_)


def _holder(client: ClientView, hops: Sequence[HopView], row: int, lump_ns: int) -> tuple[str, int]:
    """Who held one answer, and for how long (MISSING_NS if nothing tells)."""
    tokens = [int(client.first_token_ns[row])]
    headers = [int(client.headers_ns[row])]
    for hop in hops:
        tokens += [int(hop.passed_ns[row]), int(hop.received_ns[row])]
        headers += [MISSING_NS, int(hop.headers_ns[row])]
    long_ns = _HELD_SHARE * lump_ns
    held = [(outer, inner, kept_ns) for line in (tokens, headers) for outer, inner, kept_ns in _gaps(line) if kept_ns >= long_ns]
    if not held:
        return UNKNOWN_HOP, MISSING_NS
    kept_ns = max(kept_ns for _, _, kept_ns in held)
    named = [names for names in (set(_between(hops, outer, inner)) for outer, inner, _ in held) if names]
    if not named:
        # It says that it passed the token on, and nobody we know lies before it: its own writer may hold as well as a hop that is not seen.
        last = hops[(held[0][1] - 1) // 2].hop
        return f"{last} or an {UNKNOWN_HOP} before it", kept_ns
    # Whoever is on both lines; else the outermost.
    common = set.intersection(*named) or named[0]
    return " or ".join(hop.hop for hop in hops if hop.hop in common), kept_ns


def _gaps(line: Sequence[int]) -> list[tuple[int, int, int]]:
    """(outer point, inner point, time between) for neighbouring known points."""
    told = [index for index, stamp_ns in enumerate(line) if stamp_ns != MISSING_NS]
    return [(outer, inner, line[outer] - line[inner]) for outer, inner in pairwise(told)]


def _between(hops: Sequence[HopView], outer: int, inner: int) -> list[str]:
    """Hops whose inside, from point 2k + 2 (received) to point 2k + 1 (passed), lies between the two points."""
    return [hop.hop for index, hop in enumerate(hops) if outer <= 2 * index + 1 and 2 * index + 2 <= inner]
