"""``load``: when the requests go."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import BeforeValidator, Field, model_validator

from latprof.config.values import DurationNs, Section
from latprof.units import NS_PER_S

Arrival = Literal["poisson", "constant", "gamma"]
Rate = Annotated[float, Field(ge=0, allow_inf_nan=False)]


class Sine(Section):
    """A rate that goes up and down around its mean; it begins there and rises first."""

    mean_per_s: Annotated[float, Field(gt=0, allow_inf_nan=False)]
    amplitude_per_s: Rate
    period_ns: Annotated[DurationNs, Field(alias="period", gt=0)]

    @model_validator(mode="after")
    def _never_below_zero(self) -> Sine:
        if self.amplitude_per_s > self.mean_per_s:
            raise ValueError(f"amplitude_per_s must not be above mean_per_s, got {self.amplitude_per_s:g} above {self.mean_per_s:g}")
        return self


class LoadPhase(Section):
    """One stretch of the load: how long, and one way to say how fast."""

    name: Annotated[str, Field(min_length=1, description="what its requests are called; those of `warmup` do not count")]
    duration_ns: Annotated[DurationNs | None, Field(alias="duration", gt=0)] = None
    num_requests: Annotated[int | None, Field(gt=0, description="sessions; with a duration whichever ends first")] = None
    rate_per_s: Annotated[float | None, Field(gt=0, allow_inf_nan=False)] = None
    ramp_per_s: Annotated[tuple[Rate, Rate] | None, Field(description="from one rate to the other in a straight line")] = None
    steps_per_s: Annotated[tuple[Rate, ...] | None, Field(min_length=1, description="one after the other, each for an equal part")] = None
    sine: Sine | None = None
    series: Annotated[tuple[tuple[DurationNs, Rate], ...] | None, Field(description="(time, rate): each holds until the next")] = None
    series_file: Annotated[Path | None, Field(description="the same as a CSV file of time,rate lines")] = None
    concurrency: Annotated[int | None, Field(gt=0, description="closed loop: this many sessions always on")] = None
    arrival: Annotated[Arrival | None, Field(description="law of the gaps; load.arrival unless given")] = None
    burstiness: Annotated[float | None, Field(gt=0, allow_inf_nan=False, description="load.burstiness unless given")] = None
    max_concurrency: Annotated[int | None, Field(gt=0, description="wait for a place beyond this many in flight")] = None

    @model_validator(mode="after")
    def _one_pace(self) -> LoadPhase:
        ways = ("rate_per_s", "ramp_per_s", "steps_per_s", "sine", "series", "series_file", "concurrency")
        given = [way for way in ways if getattr(self, way) is not None]
        if len(given) != 1:
            raise ValueError(f"wants exactly one of {', '.join(ways)}, got {' and '.join(given) or 'none'}")
        if self.duration_ns is None and given[0] not in {"rate_per_s", "concurrency", "series", "series_file"}:
            raise ValueError(f"{given[0]} needs a duration, got none; say how long it takes")
        if self.duration_ns is None and self.num_requests is None and given[0] in {"rate_per_s", "concurrency"}:
            raise ValueError("needs a duration or num_requests, got neither; say when it ends")
        for key in ("arrival", "burstiness", "max_concurrency"):
            if self.concurrency is not None and getattr(self, key) is not None:
                raise ValueError(f"{key} and concurrency exclude each other: in a closed loop the answers decide when requests go")
        return self


def _read_workers(value: object) -> object:
    if value == "auto":
        return value
    try:
        count = int(str(value))
    except ValueError:
        count = 0
    if count < 1 or isinstance(value, bool):
        raise ValueError(f"must be a number of processes from 1 up, or auto, got {value!r}")
    return count


class Load(Section):
    """When the requests go. Open loop by `rate_per_s`; closed loop when only `concurrency` is given; or phase by phase."""

    phases: Annotated[tuple[LoadPhase, ...] | None, Field(description="one after the other, in place of the keys below")] = None
    arrival: Literal["poisson", "constant", "gamma", "trace"] = "poisson"
    rate_per_s: Annotated[float | None, Field(gt=0)] = None
    burstiness: Annotated[float, Field(gt=0, description="gamma shape: 1 is Poisson, below 1 burstier")] = 1.0
    concurrency: Annotated[int | None, Field(gt=0, description="closed loop: this many requests always in flight")] = None
    max_concurrency: Annotated[int | None, Field(gt=0, description="open loop: wait for a place beyond this many in flight")] = None
    num_requests: Annotated[int | None, Field(gt=0)] = None
    duration_ns: Annotated[DurationNs | None, Field(alias="duration")] = None
    max_requests: Annotated[int | None, Field(gt=0, description="never send more than this many, warm-up included")] = None
    warmup_requests: Annotated[int, Field(ge=0)] = 0
    warmup_ns: Annotated[DurationNs, Field(alias="warmup", ge=0)] = 2 * NS_PER_S
    seed: int = 1
    workers: Annotated[
        int | Literal["auto"],
        BeforeValidator(_read_workers),
        Field(description="processes that send; auto: as the load needs and the cores allow"),
    ] = 1

    @model_validator(mode="after")
    def _one_loop(self) -> Load:
        if self.concurrency is not None and self.rate_per_s is not None:
            raise ValueError(
                "load.concurrency makes a closed loop and load.rate_per_s an open one: they exclude each other, drop one;"
                " to cap an open loop use load.max_concurrency"
            )
        return self

    @model_validator(mode="after")
    def _names_once(self) -> Load:
        if self.phases is not None and not self.phases:
            raise ValueError("load.phases must hold at least one phase, got none; leave the key out for a load of one phase")
        names = [phase.name for phase in self.phases or ()]
        double = next((name for name in names if names.count(name) > 1), None)
        if double is not None:
            raise ValueError(f"load.phases: every phase needs a name of its own, got {double!r} twice")
        return self
