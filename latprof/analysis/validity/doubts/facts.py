"""What doubts are made of: figures of a run, all of them computed again from its folder (`latprof.analysis.validity.gathering`)."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

from latprof.analysis.laws import Law
from latprof.analysis.validity.buffering import Buffering
from latprof.analysis.validity.instrument import Instrument
from latprof.analysis.validity.overload import Overload

UNKNOWN = math.nan
"""A figure nobody knows: every comparison with it is false, so it raises no doubt."""


@dataclass(frozen=True, slots=True)
class StageFacts:
    """What one stage of the stub says of itself; `UNKNOWN` where it did not answer."""

    stage: str
    timer_error_p99_ns: float = UNKNOWN
    cpu_share: float = UNKNOWN


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """Everything doubts are made of. Shares are fractions, times ns; `UNKNOWN` (NaN) where a figure is not known."""

    is_simulated: bool = False  # played in virtual time: no generator, no spans
    laws: tuple[Law, ...] = ()  # of a simulated run
    assumed: tuple[str, ...] = ()  # what a simulated run had to take a model for, in words
    # outcome
    sent: int = 0  # turns, however often each was sent
    planned: int | None = None  # turns, where no time limit decides how many
    stale_retries: int = 0
    ok: int = 0
    failed: int = 0
    recovered: int = 0  # of the failed: their turns succeeded when they were sent again
    errors: Mapping[str, int] = field(default_factory=dict)
    error_text: str = ""  # what the first failure of the most frequent class said, redacted by the client
    partial: bool = False
    partial_reason: str = ""
    interrupted: bool = False
    # the generator
    ttft_p50_ns: float = UNKNOWN
    lateness_p99_ns: float = UNKNOWN  # intended start to waking
    connection_wait_p99_ns: float = UNKNOWN
    loop_lag_p99_ns: float = UNKNOWN
    cpu_share: float = UNKNOWN  # 1.0 is one core
    starved_share: float = UNKNOWN  # of the time, in which a worker could have run and no core was free
    stolen_share: float = UNKNOWN  # of the processor time that this machine asked for, given to others by its host
    itl_p50_ns: float = UNKNOWN
    stamps: str = "unknown"  # who stamps: kernel, user, or unknown
    interval_share: float = UNKNOWN  # of the token-bearing chunks, known only to have come between two stamps
    clock_steps: int = 0
    worker_deaths: tuple[str, ...] = ()
    instrument: Instrument | None = None
    cap_wait_share: float = UNKNOWN  # of the requests, held back by the concurrency cap for more than 1 ms
    asked_per_s: float = UNKNOWN  # the schedule's own rate
    offered_per_s: float = UNKNOWN
    asked_cv: float = UNKNOWN  # coefficient of variation of the gaps between intended starts
    offered_cv: float = UNKNOWN
    # the sample
    refused: tuple[str, ...] = ()  # percentiles the sample is too small for
    requests_with_layers: int = 0
    p99_inflation: float = UNKNOWN
    first_half_p50_ns: float = UNKNOWN
    second_half_p50_ns: float = UNKNOWN
    halves_apart: float = UNKNOWN  # standard errors
    tasks: int = 0  # sessions of several steps that came to their end
    tasks_cut: int = 0  # and those that the end of the load cut short
    tokens_not_from_usage: int = 0
    reasoning_unstreamed: int = 0  # answers with reasoning in their usage that no chunk bore
    stream_options_dropped: bool = False
    # spans and layers
    spans: int = 0
    span_coverage: float = UNKNOWN  # of the requests, with any span
    other_spans: int = 0  # of other traces, not used
    joined_by_answer: int = 0  # requests whose spans were found by the id of the answer
    join_refused: Mapping[str, int] = field(default_factory=dict)  # why not -> requests of whose answers spans tell
    missing_by_service: Mapping[str, int] = field(default_factory=dict)  # requests a service has not told of
    rejected: Mapping[str, int] = field(default_factory=dict)
    span_write_error: str = ""
    ports_taken: tuple[str, ...] = ()
    unattributed_share_p50: float = UNKNOWN
    unattributed: tuple[str, ...] = ()
    hops: tuple[str, ...] = ()
    services: tuple[str, ...] = ()
    clocks_corrected: Mapping[str, float] = field(default_factory=dict)  # clock -> offset in ns
    clocks_inconsistent: tuple[str, ...] = ()
    clock_errors: Mapping[str, tuple[float, float]] = field(default_factory=dict)  # clock -> ns it may yet be off by, down and up
    conflicts: Mapping[str, int] = field(default_factory=dict)  # layer -> requests
    buffering: Buffering | None = None
    # the causal check
    delayed: int = 0  # measured requests that passed the injecting hop
    undelayed: int = 0  # and those that did not, though there was one
    # the stack in a box
    overloads: tuple[Overload, ...] = ()  # what it was known beforehand not to keep up with
    stages: tuple[StageFacts, ...] = ()
    stages_died: str = ""
