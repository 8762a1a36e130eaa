"""What single requests went through, piece by piece on the run's clock: for looking at one request, where the table looks at all of them.

intended start                                                      first token                      last token
    |lateness|build|net.request|gateway.auth| ... |decode.first|net.response|======= decode =======|= stream =|

The pieces of a course tile its window and sum per layer to the request's row of the table. Spans say where they really were; layers that are
kept as lengths (a simulated run) are laid end to end in path order, and the course says so.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np

from latprof.clock import WallAnchor
from latprof.layers.build import partition_of
from latprof.layers.call import AFTER_FIRST_TOKEN
from latprof.layers.partition import Part, Segment
from latprof.layers.table import IntArray, Layers, Tables
from latprof.observations.columns import Requests
from latprof.spans.store import Spans


@dataclass(frozen=True, slots=True)
class Course:
    """One request: its ``row`` in the run's `Requests`, and segments in ns on the run's monotonic clock that tile its window in order.

    ``before`` reach from the intended start to the first token, ``after`` from there to the last one. ``is_placed`` is False where only the
    lengths are known.
    """

    row: int
    before: tuple[Segment, ...]
    after: tuple[Segment, ...]
    is_placed: bool = True

    @property
    def segments(self) -> tuple[Segment, ...]:
        """All of them, in order."""
        return (*self.before, *self.after)


def placed(
    tables: Tables, requests: Requests, spans: Spans, anchor: WallAnchor, rows: Iterable[int], configured_hops: tuple[str, ...] = ()
) -> Iterator[Course]:
    """The courses of ``rows``, as the spans tell them; rows without layers (warm-up, failures) are left out.

    ``tables`` are those of the same requests and spans.
    """
    has = frozenset(tables.ttft.rows.tolist())
    call_at = {row: index for index, row in enumerate(tables.e2el.rows.tolist())}
    for row in rows:
        if row in has:
            done = partition_of(requests, row, spans, anchor, tables.ttft.clocks, configured_hops)
            before = tuple(
                replace(segment, start_ns=anchor.to_monotonic(segment.start_ns), end_ns=anchor.to_monotonic(segment.end_ns))
                for segment in done.segments
            )
            first_token_ns = int(requests.first_token_ns[row])
            after = _laid(tables.e2el, call_at[row], first_token_ns, AFTER_FIRST_TOKEN) if row in call_at else ()
            yield Course(row, before, after)


def laid_out(call: Layers, requests: Requests, rows: Iterable[int]) -> Iterator[Course]:
    """The courses of ``rows`` by the lengths of their layers alone, end to end in path order, a layer's wait before its service."""
    at = {row: index for index, row in enumerate(call.rows.tolist())}
    names = tuple(name for name in call.names if name not in AFTER_FIRST_TOKEN)
    for row in rows:
        if row in at:
            before = _laid(call, at[row], int(requests.intended_ns[row]), names)
            first_token_ns = before[-1].end_ns if before else int(requests.intended_ns[row])
            yield Course(row, before, _laid(call, at[row], first_token_ns, AFTER_FIRST_TOKEN), is_placed=False)


def joined(segments: Sequence[Segment]) -> Iterator[tuple[Segment, ...]]:
    """Neighbours of one layer together: its uninterrupted stays on the path, each with the wait and the service in it."""
    stay: list[Segment] = []
    for segment in segments:
        if stay and (stay[-1].layer != segment.layer or stay[-1].end_ns != segment.start_ns):
            yield tuple(stay)
            stay = []
        stay.append(segment)
    if stay:
        yield tuple(stay)


def _laid(table: Layers, index: int, start_ns: int, names: Sequence[str]) -> tuple[Segment, ...]:
    """Row ``index`` of the layers ``names``, end to end from ``start_ns``."""
    segments: list[Segment] = []
    for column, name in enumerate(table.names):
        if name in names:
            source = table.sources[column][0] if table.sources[column] else ""
            for part, length_ns in _parts(table, index, column):
                if length_ns > 0:
                    segments.append(Segment(name, part, start_ns, start_ns + length_ns, source))
                    start_ns += length_ns
    return tuple(segments)


def _parts(table: Layers, index: int, column: int) -> Iterator[tuple[Part, int]]:
    wait_ns, service_ns = int(table.wait_ns[index, column]), int(table.service_ns[index, column])
    yield "wait", wait_ns
    yield "service", service_ns
    yield "unsplit", int(table.total_ns[index, column]) - wait_ns - service_ns


def sample_rows(candidates: IntArray, seed: int, most: int) -> IntArray:
    """At most ``most`` of the row numbers ``candidates``, drawn without replacement from ``seed``, in their order."""
    if len(candidates) <= most:
        return candidates
    drawn = np.random.default_rng([seed & (2**63 - 1), len(candidates)]).choice(len(candidates), most, replace=False)
    return np.asarray(candidates[np.sort(drawn)], np.int64)
