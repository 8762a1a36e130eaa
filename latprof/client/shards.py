"""One plan for several workers: sessions by their number, places under a cap in equal shares. Pure.

A session keeps its start, its draws and its trace ids whoever drives it; what depends on the number of workers is who waits for whom under a
cap, because every worker has places of its own.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Literal, overload

from latprof.schedule.plan import OnDemand, Phase, Planned
from latprof.units import NS_PER_S

# What a request and a chunk of an answer cost a worker at most; half a core is what it may plan with, so that bursts find room.
_REQUEST_S, _CHUNK_S = 200e-6, 20e-6
_PLANNED_CORE = 0.5
# Chunks per second and stream where nobody knows: an answer at 20 ms a token.
_CHUNKS_PER_S = 50.0
_LOOKED_AT = 200


class _Strided(Sequence[Planned]):
    """Every n-th session of an `OnDemand`, made when asked for."""

    def __init__(self, planned: OnDemand, indexes: range) -> None:
        self._planned = planned
        self._indexes = indexes

    def __len__(self) -> int:
        return len(self._indexes)

    @overload
    def __getitem__(self, index: int) -> Planned: ...

    @overload
    def __getitem__(self, index: slice) -> tuple[Planned, ...]: ...

    def __getitem__(self, index: int | slice) -> Planned | tuple[Planned, ...]:
        if isinstance(index, slice):
            return tuple(self._planned[at] for at in self._indexes[index])
        return self._planned[self._indexes[index]]


def shard(planned: Sequence[Planned], worker: int, workers: int) -> Sequence[Planned]:
    """The sessions of one worker: those whose number leaves ``worker`` when divided by ``workers``."""
    if isinstance(planned, OnDemand):  # consecutive numbers
        first = (worker - planned[0].session.session) % workers
        return _Strided(planned, range(first, len(planned), workers))
    return tuple(one for one in planned if one.session.session % workers == worker)


def phase_of(phase: Phase, worker: int, workers: int) -> Phase:
    """``phase`` as one worker drives it: its share of the places, and no sessions, which come by the feed."""
    return replace(
        phase,
        planned=(),
        concurrency=_share(phase.concurrency, worker, workers),
        max_concurrency=_share(phase.max_concurrency, worker, workers),
    )


def _share(places: int | None, worker: int, workers: int) -> int | None:
    return None if places is None else places // workers + (worker < places % workers)


def count_workers(wanted: int | Literal["auto"], phases: Sequence[Phase], cores: int, *, is_local: bool) -> int:
    """How many workers drive ``phases``: as many as wanted, or as the load needs and the cores allow; never more than a cap has places.

    A target on this machine and the span receiver get a core of their own where there is more than one.
    """
    caps = [cap for phase in phases for cap in (phase.concurrency, phase.max_concurrency) if cap is not None]
    if wanted != "auto":
        most = min([wanted, *caps])
    else:
        needed = max(-(-cores_needed(phase) // _PLANNED_CORE) for phase in phases)
        most = min([max(1, min(int(needed), cores - 1 if is_local else cores)), *caps])
    # A closed loop whose places do not come out even would end with some of its places done and others not.
    closed = [phase.concurrency for phase in phases if phase.concurrency is not None]
    return next(number for number in range(most, 0, -1) if all(places % number == 0 for places in closed))


def cores_needed(phase: Phase) -> float:
    """Roughly what driving ``phase`` takes in the mean, in cores; 0 where everything goes at once and then there is nothing to do."""
    if phase.concurrency is not None:
        return phase.concurrency * _CHUNKS_PER_S * _CHUNK_S
    if not phase.planned:
        return 0.0
    looked_at = phase.planned[:_LOOKED_AT]
    each_s = sum(_REQUEST_S + turn.output_tokens * _CHUNK_S for planned in looked_at for turn in planned.session.turns) / len(looked_at)
    span_ns = (phase.planned[-1].offset_ns or 0) - (phase.planned[0].offset_ns or 0)
    return each_s * len(phase.planned) / (span_ns / NS_PER_S) if span_ns > 0 else 0.0


def shares(phases: Sequence[Phase], workers: int) -> str:
    """What is split, in words for the load model; empty where nothing is."""
    is_split = workers > 1 and any(phase.concurrency is not None or phase.max_concurrency is not None for phase in phases)
    return f", the places split over {workers} workers" if is_split else ""
