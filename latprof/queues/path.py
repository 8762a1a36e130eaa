"""What a request passes in a replay: a gate, delays, stations, the decode pool and the way back; columns with one number per request."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

Column = Sequence[int]
"""One number of ns per job."""

ABSENT = -1
"""The service of a job that does not pass a station at all: it does not queue there either."""


@dataclass(frozen=True, slots=True)
class Station:
    """``servers`` servers, first come, first served. ``delay_ns`` passes between the part of the path before and arrival here."""

    servers: int
    delay_ns: Column
    service_ns: Column


@dataclass(frozen=True, slots=True)
class Lockstep:
    """Decode as an iteration machine: ``iterations`` per job, ``extra_ns`` keeps its first token back.

    ``makes_first``: the first token is the first iteration's, waited for at the boundary (`latprof.queues.batch`); else it is there when the job
    arrives, and ``iterations`` make the others (`latprof.queues.sharing`).
    """

    t1_ns: float
    per_sequence_ns: float
    slots: int
    iterations: Column
    extra_ns: Column
    makes_first: bool


@dataclass(frozen=True, slots=True)
class Slots:
    """Decode as a station: a job holds one of ``slots`` for ``first_ns`` until its first token and ``rest_ns`` until its last.

    ``makes_first`` as for `Lockstep`; then ``first_ns`` is 0.
    """

    slots: int
    first_ns: Column
    rest_ns: Column
    makes_first: bool


@dataclass(frozen=True, slots=True)
class Stack:
    """The path of every job. ``gate`` is how many may be past it at once (None: no gate); ``before_gate_ns`` passes before it.

    ``to_pool_ns`` passes between the last station and the decode pool; ``late_ns`` between the pool's first token and its leaving, which keeps
    nobody's slot; ``back_ns`` until it is with the client; ``stream_ns`` after the last token of the pool (or the first token at the client,
    whichever is later) until the last token is with the client; ``rest_ns`` until the request has ended.
    """

    stations: tuple[Station, ...]
    pool: Lockstep | Slots
    before_gate_ns: Column
    to_pool_ns: Column
    late_ns: Column
    back_ns: Column
    stream_ns: Column
    rest_ns: Column
    gate: int | None = None
