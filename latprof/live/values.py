"""What the view shows at one instant: plain values, so that drawing is a function of them and nothing else."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

from latprof.analysis.validity.doubts import Doubt

UNKNOWN = math.nan

ENOUGH_FOR_P99 = 100
"""With fewer requests no p99 is shown, but the largest, under that name. (The report wants 1000; what is shown now is over in a second.)"""

End = Literal["known", "starts", "estimate", "unknown"]
"""How the end of a phase is known: by its duration or its schedule; that of the session starts alone; from the pace so far; not at all."""


@dataclass(frozen=True, slots=True)
class Ttft:
    """TTFT over some requests, from the intended start, in ns. Of fewer than `ENOUGH_FOR_P99` ``p99_ns`` is the largest."""

    p50_ns: float = UNKNOWN
    p99_ns: float = UNKNOWN
    n: int = 0


@dataclass(frozen=True, slots=True)
class Moment:
    """One second of the past, for the charts."""

    rate_per_s: float
    p50_ns: float
    p99_ns: float
    in_flight: int
    tokens_per_s: float


@dataclass(frozen=True, slots=True)
class Bar:
    """One layer's share of TTFT among the requests of the sample, in ns: at the median, its wait in that, and among the slowest 5 %."""

    layer: str
    p50_ns: float
    wait_ns: float
    tail_ns: float


@dataclass(frozen=True, slots=True)
class Sampled:
    """The layer budget of a sample: ``bars`` in path order. They add up to ``p50_ns``, and to ``tail_ns`` (NaN where there are too few).

    It is of ``n`` requests, drawn from ``of``; the oldest of them should have started ``oldest_ns`` ago, the newest ``newest_ns``.
    """

    bars: tuple[Bar, ...]
    p50_ns: float
    tail_ns: float
    n: int
    of: int
    oldest_ns: float = UNKNOWN
    newest_ns: float = UNKNOWN


@dataclass(frozen=True, slots=True)
class Driven:
    """A phase as it is driven. ``length_ns`` is what ``end`` says it is, from the phase's beginning."""

    name: str
    is_warmup: bool
    elapsed_ns: int
    length_ns: int | None = None
    end: End = "unknown"
    sent: int = 0
    planned: int | None = None
    ok: int = 0
    failed: int = 0
    in_flight: int = 0
    intended_per_s: float = UNKNOWN
    achieved_per_s: float = UNKNOWN
    tokens_per_s: float = UNKNOWN
    closed_places: int | None = None  # of a closed loop
    now: Ttft = Ttft()
    so_far: Ttft = Ttft()
    waiting: int = 0  # for a first token
    longest_ns: float = UNKNOWN  # that one of them waits by now


@dataclass(frozen=True, slots=True)
class Step:
    """Something done before or after the load; ``took_ns`` is None for the one that goes on."""

    text: str
    took_ns: int | None
    so_far_ns: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Shown:
    """Everything the view shows. ``driven`` is the phase that goes, or the last one; None before the first."""

    load: str
    target: str = ""
    steps: tuple[Step, ...] = ()
    driven: Driven | None = None
    is_driving: bool = False
    is_stopping: bool = False
    history: tuple[Moment, ...] = ()
    sampled: Sampled | None = None
    no_layers: str = ""  # why there are none yet
    errors: tuple[tuple[str, int], ...] = ()
    error_text: str = ""
    doubts: tuple[Doubt, ...] = ()
    notes: tuple[str, ...] = ()
