"""What the load section leaves open, and what in it cannot be meant together."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from latprof import config
from latprof.config import Config, Load, LoadPhase
from latprof.errors import ConfigError
from latprof.units import NS_PER_S

# The stub in a box: p99 needs 1 000 independent requests, and of 1 000 that are independent one run in twenty looks as if they were not; of 1 250
# one in fifty. The whole run still fits into 45 s.
STUB_RATE_PER_S, STUB_SECONDS = 50.0, 25
# Somebody's endpoint: gentle until told otherwise.
URL_RATE_PER_S, URL_SECONDS = 5.0, 60

# More starts than this do not fit into memory with their prompts; nearly always a unit slip.
_MOST_REQUESTS = 10_000_000


def resolve_load(settings: Config) -> Load:
    """The load with nothing left open: a trace, or a rate or a concurrency with a number of requests or a duration (or both).

    A rate of ``inf`` stands for all at once. ``burstiness`` other than 1 turns Poisson into gamma.

    Raises:
        ConfigError: keys that exclude each other, naming both.
    """
    load = settings.load
    if load.phases is not None:
        return _phased(settings, load.phases)
    if load.duration_ns is not None and load.duration_ns <= 0:
        raise ConfigError("load.duration must be above 0, got 0; leave it out to end the run by load.num_requests")
    if settings.workload.trace is not None and settings.workload.trace_times:
        return _traced(settings)
    _refuse_trace_keys(settings)
    resolved = _open(settings) if load.concurrency is None else _closed(settings, load.concurrency)
    _refuse_too_many(resolved)
    return resolved


def _phased(settings: Config, phases: Sequence[LoadPhase]) -> Load:
    """The phases say when; of the other keys those hold that end the run early, and the law of the gaps."""
    load = settings.load
    given = {
        "load.rate_per_s": load.rate_per_s is not None,
        "load.concurrency": load.concurrency is not None,
        "load.max_concurrency": load.max_concurrency is not None,
        "load.duration": load.duration_ns is not None,
        "load.warmup_requests": load.warmup_requests != 0,
        "load.warmup": "warmup_ns" in load.model_fields_set and load.warmup_ns != 0,
        "load.arrival trace": load.arrival == "trace",
        "workload.trace": settings.workload.trace is not None and settings.workload.trace_times,
    }
    for key, is_given in given.items():
        if is_given:
            raise ConfigError(
                f"{key} and load.phases exclude each other: say it in the phases (a warm-up is a phase named warmup), or drop them"
            )
    for phase in phases:
        if phase.num_requests is not None and phase.num_requests > _MOST_REQUESTS:
            raise ConfigError(_too_many(phase.num_requests))
        rates = (phase.rate_per_s or 0, *(phase.ramp_per_s or ()), *(phase.steps_per_s or ()))
        asked = max(rates) * (phase.duration_ns or 0) / NS_PER_S
        if asked > _MOST_REQUESTS and phase.num_requests is None:
            raise ConfigError(_too_many(asked))
    return load


def _traced(settings: Config) -> Load:
    """The trace says when; num_requests and duration only end it early."""
    load, workload = settings.load, settings.workload
    for key, given in (
        ("load.rate_per_s", load.rate_per_s is not None),
        ("load.concurrency", load.concurrency is not None),
        ("load.burstiness", load.burstiness != 1),
        (f"load.arrival {load.arrival}", load.arrival not in ("trace", "poisson")),
    ):
        if given:
            raise ConfigError(
                f"{key} and workload.trace exclude each other: the trace says when; to replay it faster use workload.time_scale"
            )
    for key in ("prompt_tokens", "output_tokens"):
        if getattr(workload, key) != getattr(config.Workload(), key):
            raise ConfigError(f"workload.{key} and workload.trace exclude each other: the trace says how long; drop one of them")
    if workload.trace_window_ns is not None and workload.trace_window_ns <= 0:
        raise ConfigError("workload.trace_window must be above 0, got 0; leave it out to replay the whole trace")
    if not math.isfinite(workload.time_scale):
        raise ConfigError(f"workload.time_scale must be a finite number, got {workload.time_scale}; 10 replays ten times faster")
    return load.model_copy(update={"arrival": "trace"})


def _refuse_trace_keys(settings: Config) -> None:
    if settings.load.arrival == "trace":
        if settings.workload.trace is not None:
            raise ConfigError("load.arrival trace and workload.trace_times false exclude each other: who says when? drop one of them")
        raise ConfigError("load.arrival trace needs workload.trace, got none; name a file there, or take poisson, constant or gamma")
    if settings.workload.trace is not None:
        return
    for key, given in (
        ("trace_window", settings.workload.trace_window_ns is not None),
        ("time_scale", settings.workload.time_scale != 1),
    ):
        if given:
            raise ConfigError(f"workload.{key} means nothing without workload.trace; name a trace or drop the key")


def _closed(settings: Config, concurrency: int) -> Load:
    load = settings.load
    for key, given in (
        (f"load.arrival {load.arrival}", load.arrival != "poisson"),
        ("load.burstiness", load.burstiness != 1),
        ("load.max_concurrency", load.max_concurrency is not None),
    ):
        if given:
            raise ConfigError(
                f"{key} and load.concurrency exclude each other: in a closed loop ({concurrency} always in flight) the answers decide when"
                " requests go; for arrivals of their own give load.rate_per_s"
            )
    return load.model_copy(update=_amount(settings))


def _open(settings: Config) -> Load:
    load = settings.load
    rate_per_s = load.rate_per_s if load.rate_per_s is not None else (STUB_RATE_PER_S if settings.uses_stub else URL_RATE_PER_S)
    if not math.isfinite(load.burstiness):
        raise ConfigError(f"load.burstiness must be a finite number, got {load.burstiness}; for equal gaps take load.arrival constant")
    if load.burstiness != 1 and load.arrival == "constant":
        raise ConfigError(f"load.burstiness {load.burstiness:g} and load.arrival constant exclude each other; drop one of them")
    arrival = "gamma" if load.burstiness != 1 else load.arrival
    if math.isinf(rate_per_s):
        if load.num_requests is None:
            raise ConfigError("load.rate_per_s inf sends everything at once and needs load.num_requests, got none; say how many")
        return load
    update: dict[str, Any] = {"arrival": arrival, "rate_per_s": rate_per_s}
    if settings.uses_stub and load.num_requests is None and load.duration_ns is None:
        update["num_requests"] = max(1, round(rate_per_s * STUB_SECONDS))
    else:
        update |= _amount(settings)
    return load.model_copy(update=update)


def _amount(settings: Config) -> dict[str, int]:
    if settings.load.num_requests is not None or settings.load.duration_ns is not None:
        return {}
    return {"duration_ns": (STUB_SECONDS if settings.uses_stub else URL_SECONDS) * NS_PER_S}


def _refuse_too_many(load: Load) -> None:
    by_count = math.inf if load.num_requests is None else load.num_requests
    by_time = math.inf if load.duration_ns is None or load.rate_per_s is None else load.rate_per_s * load.duration_ns / NS_PER_S
    asked = min(by_count, by_time)
    if _MOST_REQUESTS < asked < math.inf:
        raise ConfigError(_too_many(asked))


def _too_many(asked: float) -> str:
    return (
        f"load asks for {asked:.3g} requests, more than the {_MOST_REQUESTS:,} that can be planned ahead; lower load.num_requests,"
        " load.rate_per_s or load.duration"
    )
