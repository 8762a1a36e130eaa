"""Single stations in virtual time, and small stacks in which all but a few layers take no time."""

from __future__ import annotations

import itertools
import random
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from latprof.config import Stub
from latprof.stub.simulate import MARKED, Passed, simulate
from latprof.stub.virtual.call import Call, VirtualPhase, VirtualSession, VirtualTool, VirtualTurn
from latprof.stub.virtual.stations import VirtualStation

FloatArray = npt.NDArray[np.float64]
Law = Callable[[random.Random], float]
MEAN_NS = 1_000_000

NOTHING: dict[str, Any] = {
    "gateway": dict.fromkeys(("validate", "auth", "ratelimit", "safety", "render", "tokenize"), "0ms"),
    "router": {"route": "0ms"},
    "prefill": {"t0": "0ms", "per_token_ns": 0, "per_token_pair_ns": 0, "workers": 100_000},
    "decode": {"t1": "0ms", "per_sequence_ns": 0, "slots": 100_000, "kv_transfer": "0ms"},
}
"""A stack that takes no time, but for the nanosecond of one decode iteration."""


def stack(**layers: Any) -> Stub:
    """`NOTHING` with some of its layers laid over: ``gateway={"safety": ...}``."""
    merged = {section: {**below, **layers.pop(section, {})} for section, below in NOTHING.items()}
    return Stub.model_validate({**merged, **layers})


class Played(NamedTuple):
    """What a simulation told: its calls by their number, per phase its stations, and every segment by pool."""

    calls: list[Call]
    stations: tuple[dict[str, Passed], ...]
    segments: dict[int, list[tuple[int, int, int, int]]]
    length_ns: int


def play(stub: Stub, *phases: VirtualPhase) -> Played:
    calls: list[Call] = []
    segments: dict[int, list[tuple[int, int, int, int]]] = {}
    told = simulate(stub, phases, calls.append, lambda pool, segments_: segments.setdefault(pool, []).extend(segments_))
    calls.sort(key=lambda call: call.number)
    return Played(calls, told.stations, segments, told.driven[-1].end_ns - told.driven[0].start_ns)


def one_turn(session: int, offset_ns: int | None, prompt_tokens: int = 1, output_tokens: int = 1, **more: Any) -> VirtualSession:
    return VirtualSession(session, offset_ns, (VirtualTurn(prompt_tokens, (), output_tokens, **more),))


def poisson(rate_per_s: float, count: int, seed: int, **turn: Any) -> Iterator[VirtualSession]:
    """``count`` sessions of one turn."""
    rng = random.Random(seed)
    at_ns = 0
    for session in range(count):
        at_ns += round(rng.expovariate(rate_per_s) * 1e9)
        yield one_turn(session, at_ns, **turn)


def thinking(mean_s: float, seed: int) -> Iterator[VirtualSession]:
    """Without an end: one call, then an exponential time before the place is free."""
    rng = random.Random(seed)
    for session in itertools.count():
        yield VirtualSession(session, None, (VirtualTurn(1, (), 1), VirtualTool(round(rng.expovariate(1 / mean_s) * 1e9), (0,))))


def mark_ns(calls: list[Call], layer: str, part: int) -> FloatArray:
    """A layer's wait (0) or service (1) of every call."""
    at = 2 * MARKED.index(layer) + part
    return np.array([call.marks[at] for call in calls], np.float64)


class _Customer:
    __slots__ = ("marks",)

    def __init__(self) -> None:
        self.marks: list[int] = []


def waits_and_sojourns(servers: int, load: float, law: Law, customers: int, seed: int) -> FloatArray:
    """A station alone: (2, customers) in units of the mean service, the first twentieth dropped, for it still remembers the empty start."""
    rng, gaps = random.Random(seed), random.Random(-1 - seed)
    station = VirtualStation(servers, lambda _: round(law(rng) * MEAN_NS))
    rate = load * servers / MEAN_NS
    kept: list[list[int]] = []
    now_ns = 0
    for _ in range(customers):
        customer = _Customer()
        station.serve(now_ns, customer)  # type: ignore[arg-type]
        kept.append(customer.marks)
        now_ns += round(gaps.expovariate(rate))
    marks = np.array(kept[customers // 20 :], np.float64) / MEAN_NS
    return np.vstack([marks[:, 0], marks.sum(axis=1)])
