"""From configuration to plan: what is asked is given its intended starts, before the first byte is sent."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from latprof.config import Config, Load
from latprof.errors import ConfigError
from latprof.schedule.arrivals import ARRIVALS, arrival_rng
from latprof.schedule.phases import plan_phases
from latprof.schedule.plan import WARMUP_SESSION_BASE, OnDemand, Phase, Plan, Planned, Scheduled
from latprof.schedule.resolve import resolve_load
from latprof.units import NS_PER_S
from latprof.workload.load import load_workload
from latprof.workload.sessions import Workload

# Where a trace, or everything at once, sets the pace, the warm-up goes no faster than this.
_MOST_WARMUP_PER_S = 20.0
# A closed loop's warm-up by time takes nobody knows how many requests; of load.max_requests it may have one in ten.
_WARMUP_SHARE = 10


@dataclass(frozen=True, slots=True)
class _Starts:
    """The intended starts of an open phase and where they come from; ``rate_per_s`` is None where there is none (all at once)."""

    offsets_ns: Sequence[int]
    arrival: str
    rate_per_s: float | None
    duration_ns: int | None = None


def build_plan(settings: Config) -> Plan:
    """The warm-up (if any) and the measured phase. The same configuration gives the same plan; a longer one begins with the shorter one.

    ``load.max_requests`` counts the warm-up first. Retries, and the request that tries the endpoint out, are not planned and come on top.

    Raises:
        ConfigError: the configuration contradicts itself, or leaves nothing to measure.
        UsageError: the tokenizer cannot be used.
    """
    load = resolve_load(settings)
    return plan_of(load, load_workload(settings.workload, load.seed))


def plan_of(load: Load, workload: Workload) -> Plan:
    """The plan of a resolved load: the same starts whatever the sessions hold.

    Raises:
        ConfigError: nothing is left to measure.
    """
    if load.phases is not None:
        return plan_phases(load, load.phases, workload)
    warmup = _warmup(load, workload, load.max_requests)
    used = 0 if warmup is None else len(warmup.planned)
    limit = None if load.max_requests is None else load.max_requests - used
    measured = _measured(load, workload, limit)
    if measured is None:
        raise ConfigError(_nothing_left(load, limit))
    return Plan((measured,) if warmup is None else (warmup, measured), load.seed)


def _warmup(load: Load, workload: Workload, limit: int | None) -> Phase | None:
    """As many requests as asked for, else as much time; where nobody asked, no more of them than are measured."""
    count = load.warmup_requests or None
    duration_ns = load.warmup_ns if count is None else None
    most = count if {"warmup_requests", "warmup_ns"} & load.model_fields_set else load.num_requests
    if load.concurrency is None:
        return _open(load, "warmup", workload, _warmup_starts(load, workload, count, duration_ns), _least(limit, most))
    if count is None and limit is not None:
        limit //= _WARMUP_SHARE
    return _closed(load, "warmup", workload, _least(limit, most), duration_ns)


def _measured(load: Load, workload: Workload, limit: int | None) -> Phase | None:
    if load.concurrency is None:
        return _open(load, "measured", workload, _measured_starts(load, workload), limit)
    return _closed(load, "measured", workload, _least(limit, load.num_requests), load.duration_ns)


def _least(*bounds: int | None) -> int | None:
    """The lowest bound there is; None where there is none."""
    return min((bound for bound in bounds if bound is not None), default=None)


# --- open loop ----------------------------------------------------------------------------------------------------------------------------


def _open(load: Load, name: str, workload: Workload, starts: _Starts, limit: int | None) -> Phase | None:
    first, offsets_ns = _first_session(name), starts.offsets_ns[:limit]
    if not offsets_ns:
        return None
    planned: Sequence[Planned] = Scheduled(workload.session, range(first, first + len(offsets_ns)), offsets_ns)
    if workload.is_ahead:
        planned = planned[:]
    return Phase(name, planned, starts.arrival, starts.rate_per_s, max_concurrency=load.max_concurrency, duration_ns=starts.duration_ns)


def _measured_starts(load: Load, workload: Workload) -> _Starts:
    if workload.trace_offsets_ns is not None:
        longest_ns = math.inf if load.duration_ns is None else load.duration_ns
        offsets_ns = [offset_ns for offset_ns in workload.trace_offsets_ns[: load.num_requests] if offset_ns < longest_ns]
        return _Starts(offsets_ns, "trace", _mean_rate_per_s(offsets_ns), load.duration_ns)
    if load.rate_per_s is None or math.isinf(load.rate_per_s):
        return _Starts([0] * (load.num_requests or 0), "at once", None, load.duration_ns)
    return _arriving(load, "measured", load.arrival, load.rate_per_s, load.num_requests, load.duration_ns)


def _warmup_starts(load: Load, workload: Workload, count: int | None, duration_ns: int | None) -> _Starts:
    """The same process at the same rate as what is measured.

    A trace, and everything at once, are warmed up by Poisson arrivals at the trace's mean rate, at most 20/s.
    """
    rate_per_s = load.rate_per_s
    if rate_per_s is not None and math.isfinite(rate_per_s):
        return _arriving(load, "warmup", load.arrival, rate_per_s, count, duration_ns)
    own_rate_per_s = _mean_rate_per_s(workload.trace_offsets_ns or ())
    slowed_per_s = min(_MOST_WARMUP_PER_S, own_rate_per_s if own_rate_per_s is not None else _MOST_WARMUP_PER_S)
    return _arriving(load, "warmup", "poisson", slowed_per_s, count, duration_ns)


def _arriving(load: Load, name: str, arrival: str, rate_per_s: float, count: int | None, duration_ns: int | None) -> _Starts:
    rng = arrival_rng(load.seed, name)
    offsets_ns = ARRIVALS[arrival](rate_per_s, rng, count=count, duration_ns=duration_ns, burstiness=load.burstiness)
    return _Starts(offsets_ns.tolist(), arrival, rate_per_s, duration_ns)


def _mean_rate_per_s(offsets_ns: Sequence[int]) -> float | None:
    """Gaps per second; None where there is no gap, or only gaps of nothing."""
    return (len(offsets_ns) - 1) * NS_PER_S / offsets_ns[-1] if len(offsets_ns) > 1 and offsets_ns[-1] > 0 else None


# --- closed loop --------------------------------------------------------------------------------------------------------------------------


def _closed(load: Load, name: str, workload: Workload, limit: int | None, duration_ns: int | None) -> Phase | None:
    """At most ``limit`` sessions: made beforehand when their number is what ends the phase, on demand when time may end it first."""
    if limit == 0 or duration_ns == 0:
        return None
    planned: Sequence[Planned] = OnDemand(workload.session, _first_session(name), limit)
    if duration_ns is None and workload.is_ahead:
        planned = planned[:]
    return Phase(name, planned, "closed", concurrency=load.concurrency, duration_ns=duration_ns)


# --- both ---------------------------------------------------------------------------------------------------------------------------------


def _first_session(name: str) -> int:
    return WARMUP_SESSION_BASE if name == "warmup" else 0


def _nothing_left(load: Load, limit: int | None) -> str:
    if limit == 0:
        return (
            f"load.max_requests {load.max_requests} leaves nothing to measure after the warm-up; raise it, or lower load.warmup_requests"
            " or load.warmup"
        )
    seconds = (load.duration_ns or 0) / NS_PER_S
    return (
        f"load.duration {seconds:g}s is over before the first request is due; lengthen it, raise load.rate_per_s, or give load.num_requests"
    )
