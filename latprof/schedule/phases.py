"""The load phase by phase: each has an arrival process, or places, of its own.

warmup | ramp   hold   waves | closed 8 | closed 16
       T0                    T0         T0            open phases in a row are driven in one go, without a gap between them;
                                                      a closed loop, and what is measured after the warm-up, begin when all before are answered
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby

from latprof.config import Load, LoadPhase
from latprof.errors import ConfigError
from latprof.schedule.arrivals import ARRIVALS, arrival_rng
from latprof.schedule.plan import WARMUP, WARMUP_SESSION_BASE, OnDemand, Part, Phase, Plan, Planned, Scheduled
from latprof.schedule.rates import Shape, check_series, ramp, read_series, series, shaped, sine, steps
from latprof.units import NS_PER_S
from latprof.workload.sessions import Workload


@dataclass(slots=True)
class _Numbers:
    """Which session comes next, and how many requests may still go: sessions are numbered through, so that no two of a run share a trace."""

    following: dict[bool, int]  # by whether it is measured
    left: dict[bool, int | None]

    def take(self, wanted: int, *, measured: bool) -> range:
        left = self.left[measured]
        number = wanted if left is None else min(wanted, left)
        first = self.following[measured]
        self.following[measured] = first + number
        if left is not None:
            self.left[measured] = left - number
        return range(first, first + number)


def plan_phases(load: Load, phases: Sequence[LoadPhase], workload: Workload) -> Plan:
    """The plan of ``load.phases``. ``load.num_requests`` ends what is measured early, ``load.max_requests`` everything.

    Raises:
        ConfigError: a series cannot be used, or nothing is left to measure.
    """
    remaining = len(phases)
    numbers = _Numbers({False: WARMUP_SESSION_BASE, True: 0}, {False: load.max_requests, True: load.num_requests})
    planned: list[Phase] = []
    for _, group in groupby(enumerate(phases), lambda item: _driven_with(*item)):
        if load.max_requests is not None:
            used = sum(len(phase.planned) for phase in planned)
            caps = (load.max_requests - used, numbers.left[True])
            numbers.left = {False: caps[0], True: min(cap for cap in caps if cap is not None)}
        of_group = [phase for _, phase in group]
        made = (
            _closed(of_group[0], workload, numbers, remaining)
            if of_group[0].concurrency is not None
            else _open(load, of_group, workload, numbers)
        )
        remaining -= len(of_group)
        if len(made.planned):
            planned.append(made)
    if not any(phase.is_measured for phase in planned):
        raise ConfigError(
            "load.phases leave nothing to measure: not one request is due in a phase that is not called warmup; lengthen one, or raise a rate"
        )
    return Plan(tuple(planned), load.seed)


def _driven_with(index: int, phase: LoadPhase) -> tuple[object, ...]:
    """Neighbours with the same key are driven in one go."""
    return (phase.name == WARMUP, phase.max_concurrency, index if phase.concurrency is not None else None)


def _closed(phase: LoadPhase, workload: Workload, numbers: _Numbers, remaining: int) -> Phase:
    """``remaining`` phases, this one included, share what may still go."""
    is_measured = phase.name != WARMUP
    first, left = numbers.following[is_measured], numbers.left[is_measured]
    share = None if left is None else -(-left // remaining)
    limit = min((bound for bound in (phase.num_requests, share) if bound is not None), default=None)
    sessions: Sequence[Planned] = OnDemand(workload.session, first, limit)
    if phase.duration_ns is None and workload.is_ahead:
        sessions = sessions[:]
    # Nobody knows how many of them time alone lets go: the next phase's numbers begin behind all that may.
    numbers.take(WARMUP_SESSION_BASE // 64 if limit is None else limit, measured=is_measured)
    return Phase(phase.name, sessions, "closed", concurrency=phase.concurrency, duration_ns=phase.duration_ns)


def _open(load: Load, phases: Sequence[LoadPhase], workload: Workload, numbers: _Numbers) -> Phase:
    is_measured = phases[0].name != WARMUP
    first = numbers.following[is_measured]
    starts_ns: list[int] = []
    names: list[str] = []
    parts: list[Part] = []
    start_ns = 0
    for phase in phases:
        offsets_ns, length_ns, part = _arrivals(load, phase)
        kept = numbers.take(len(offsets_ns), measured=is_measured)
        parts.append(Part(phase.name, start_ns, length_ns, *part))
        starts_ns += [start_ns + offset_ns for offset_ns in offsets_ns[: len(kept)]]
        names += [phase.name] * len(kept)
        start_ns += length_ns
    planned: Sequence[Planned] = Scheduled(workload.session, range(first, first + len(starts_ns)), starts_ns, names)
    if workload.is_ahead:
        planned = planned[:]
    name = ", ".join(phase.name for phase in phases)
    arrival = " then ".join(dict.fromkeys(part.arrival for part in parts))
    by_time = phases[-1].num_requests is None
    duration_ns = start_ns if by_time else None
    return Phase(name, planned, arrival, max_concurrency=phases[0].max_concurrency, duration_ns=duration_ns, parts=tuple(parts))


def _arrivals(load: Load, phase: LoadPhase) -> tuple[list[int], int, tuple[str, str]]:
    """Starts in ns from the phase's own start, its length in ns, and its law in words: (arrival, rate)."""
    burstiness = load.burstiness if phase.burstiness is None else phase.burstiness
    arrival = load.arrival if phase.arrival is None else phase.arrival
    if arrival == "poisson" and burstiness != 1:
        arrival = "gamma"
    rng = arrival_rng(load.seed, phase.name)
    # One more than asked for: where it would have come, the phase is over.
    count = None if phase.num_requests is None else phase.num_requests + 1
    if phase.rate_per_s is not None:
        offsets = ARRIVALS[arrival](phase.rate_per_s, rng, count=count, duration_ns=phase.duration_ns, burstiness=burstiness)
        words = f"{phase.rate_per_s:g}/s"
        duration_ns = phase.duration_ns
    else:
        shape, duration_ns = _shape(phase)
        offsets = shaped(shape, arrival, rng, duration_ns=duration_ns, count=count, burstiness=burstiness)
        words = shape.words
    offsets_ns: list[int] = offsets.tolist()
    if count is not None and len(offsets_ns) == count:
        return offsets_ns[:-1], offsets_ns[-1], (arrival, words)
    return offsets_ns, duration_ns or 0, (arrival, words)


def _shape(phase: LoadPhase) -> tuple[Shape, int]:
    """The shape of a rate that changes, and how long it lasts: a series without a duration ends at its last time."""
    duration_ns = phase.duration_ns or 0
    over_s = duration_ns / NS_PER_S
    if phase.ramp_per_s is not None:
        return ramp(*phase.ramp_per_s, over_s), duration_ns
    if phase.steps_per_s is not None:
        return steps(phase.steps_per_s, over_s), duration_ns
    if phase.sine is not None:
        wave = phase.sine
        return sine(wave.mean_per_s, wave.amplitude_per_s, wave.period_ns / NS_PER_S), duration_ns
    starts_s, rates_per_s = _series(phase)
    if not duration_ns and len(starts_s) == 1:
        raise ConfigError(f"load.phases {phase.name}: a series of one rate needs a duration, got none; say how long it holds")
    return series(starts_s, rates_per_s), duration_ns or round(starts_s[-1] * NS_PER_S)


def _series(phase: LoadPhase) -> tuple[list[float], list[float]]:
    if phase.series_file is not None:
        return read_series(phase.series_file)
    points: Iterator[tuple[float, float]] = ((at_ns / NS_PER_S, rate_per_s) for at_ns, rate_per_s in phase.series or ())
    return check_series(points, f"load.phases {phase.name}: series")
