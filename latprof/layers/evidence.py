"""What a source can say about one request. Times are Unix ns of the clock named beside them; nothing is corrected or clipped yet.

Hop       a process had the request           |-----------------------------| (its SERVER span)
Leg       it waited for the next hop             |--------------------|       (its CLIENT span)
Piece     a layer worked inside the hop        |-|                     |-|
Held      a length without a place            (a header or body timing: placed at the end of the gap it must lie in)
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, Literal

from latprof.spans.span import Scalar, Span
from latprof.units import MISSING_NS

Provenance = Literal["client", "span", "attribute", "header", "body", "probe", "metrics"]
"""Kinds of evidence, in order of precedence: the first wins, the loser stands beside it."""

PRECEDENCE: tuple[Provenance, ...] = ("client", "span", "attribute", "header", "body", "probe", "metrics")

BY_ANSWER: Final = "~id"
"""After ``span`` and ``attribute``: of spans that were found by the id of the answer, see `latprof.layers.joining`."""


@dataclass(frozen=True, slots=True)
class Hop:
    """One process's whole view of the request.

    ``first_token_ns`` is when it passed the first token on (MISSING_NS if it does not tell: then its span is cut only by the window).
    ``owner`` is the layer that owns time in the hop which no piece claims; empty for ``unattributed@hop``.
    """

    hop: str
    clock: str
    start_ns: int
    end_ns: int
    first_token_ns: int = MISSING_NS
    owner: str = ""
    span_id: str = ""
    parent_id: str = ""


@dataclass(frozen=True, slots=True)
class Leg:
    """A hop waits for the next one. ``first_token_ns``: when it received the first token (MISSING_NS if it does not tell)."""

    hop: str
    clock: str
    start_ns: int
    end_ns: int
    first_token_ns: int = MISSING_NS
    span_id: str = ""


@dataclass(frozen=True, slots=True)
class Piece:
    """A layer's interval inside a hop. Its first ``wait_ns`` were waiting, the rest service (MISSING_NS: not told apart).

    ``level`` orders pieces of one hop that nest: the higher lies deeper.
    """

    hop: str
    clock: str
    layer: str
    start_ns: int
    end_ns: int
    wait_ns: int = MISSING_NS
    level: int = 1
    provenance: Provenance = "span"


@dataclass(frozen=True, slots=True)
class Held:
    """A layer's length without a place, from a header, a body timing or a span attribute.

    It lies in the time between ``hop`` (not itself instrumented with spans) and its neighbours: ``side`` says on the way in (``request``), on
    the way back (``response``), or anywhere inside the hop's round trip (``inside``). ``resolution_ns`` is the unit it was told in.
    """

    hop: str
    layer: str
    length_ns: int
    part: Literal["wait", "service", "unsplit"] = "unsplit"
    side: Literal["request", "inside", "response"] = "inside"
    resolution_ns: int = 1
    provenance: Provenance = "header"


@dataclass(frozen=True, slots=True)
class Evidence:
    """Everything one source says about one request."""

    hops: tuple[Hop, ...] = ()
    legs: tuple[Leg, ...] = ()
    pieces: tuple[Piece, ...] = ()
    held: tuple[Held, ...] = ()


@dataclass(frozen=True, slots=True)
class Traces:
    """What a source reads about one request: its spans (of every sender), and what the client kept verbatim."""

    spans: Sequence[Span]
    timing_headers: Sequence[tuple[str, str]] = field(default_factory=tuple)
    body_timings: str = ""


Source = Callable[[Traces], Evidence]
"""Finds its own stack's evidence about a request; empty `Evidence` when there is none. Never raises on what a server sent."""


def clock_of(span: Span) -> str:
    """The name of the clock a span was stamped with: its host where told, else its service and process."""
    return clock_in(span.resource)


def clock_in(resource: Mapping[str, Scalar]) -> str:
    """The same of whatever sends spans with this ``resource``."""
    for key in ("host.id", "host.name", "host.ip"):
        if resource.get(key):
            return f"{key}={resource[key]}"
    return f"{resource.get('service.name', '?')}/{resource.get('service.instance.id', resource.get('process.pid', '?'))}"
