"""What configuration values are made of: durations with a unit, service times, counts, and the strict frozen section."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PlainSerializer,
    SerializerFunctionWrapHandler,
    WrapSerializer,
    model_validator,
)

from latprof.units import duration_ns


def _read_duration(value: object) -> object:
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        raise ValueError(f"must be a duration such as 250ms, 10s or 2m, got {value!r}")  # noqa: TRY004 - pydantic wants ValueError
    return duration_ns(value)


def _write_duration(value_ns: int) -> str:
    return f"{value_ns}ns"


DurationNs = Annotated[
    int,
    BeforeValidator(_read_duration),
    PlainSerializer(_write_duration, when_used="json"),
    Field(json_schema_extra={"type": "string"}),
]
PositiveInt = Annotated[int, Field(gt=0)]
Share = Annotated[float, Field(ge=0, le=1)]


class Section(BaseModel):
    """A part of the configuration: frozen, and strict about its keys."""

    # By alias alone: `timeout_ns: 5` in a file would otherwise be read as 5 s.
    model_config = ConfigDict(extra="forbid", frozen=True, validate_default=False)


# --- distributions -----------------------------------------------------------------------------------------------------------------------


class ServiceTime(Section):
    """The law of a service time. A bare duration means a constant."""

    dist: Literal["constant", "exponential", "lognormal", "gamma", "empirical"] = "constant"
    mean_ns: Annotated[DurationNs, Field(alias="mean")] = 0
    cv: Annotated[float, Field(ge=0, description="standard deviation over mean; used by lognormal and gamma")] = 1.0
    values_ns: Annotated[tuple[DurationNs, ...], Field(alias="values", description="the sample of an empirical law")] = ()

    @model_validator(mode="before")
    @classmethod
    def _bare_duration(cls, value: object) -> object:
        return {"mean": value} if isinstance(value, str | int | float) and not isinstance(value, bool) else value

    @model_validator(mode="after")
    def _empirical_needs_values(self) -> ServiceTime:
        if self.dist == "empirical" and not self.values_ns:
            raise ValueError("values must list at least one duration when dist is empirical")
        return self


def law(mean: str, dist: str = "constant", cv: float = 1.0) -> ServiceTime:
    """A default, written as in YAML: a bare number would be read as seconds."""
    return ServiceTime.model_validate({"dist": dist, "mean": mean, "cv": cv})


class TokenCount(Section):
    """The law of a count: tokens, turns, calls. A bare number means a constant; draws are rounded and kept inside [min, max]."""

    dist: Literal["constant", "uniform", "normal", "exponential", "geometric", "lognormal", "gamma", "pareto", "empirical"] = "constant"
    mean: Annotated[float, Field(gt=0)] = 256
    cv: Annotated[
        float, Field(ge=0, description="standard deviation over mean; exponential and geometric have their own, pareto's is above 1")
    ] = 0.5
    min: PositiveInt = 1
    max: PositiveInt = 1_000_000
    values: Annotated[tuple[PositiveInt, ...], Field(description="the sample of an empirical law")] = ()

    @model_validator(mode="before")
    @classmethod
    def _bare_number(cls, value: object) -> object:
        return {"mean": value} if isinstance(value, int | float) and not isinstance(value, bool) else value

    @model_validator(mode="after")
    def _empirical_needs_values(self) -> TokenCount:
        if self.dist == "empirical" and not self.values:
            raise ValueError("values must list at least one count when dist is empirical")
        return self


class ShareLaw(Section):
    """The law of a share. A bare number means a constant; draws are kept inside [min, max]."""

    dist: Literal["constant", "uniform", "normal", "exponential", "lognormal", "gamma", "pareto", "empirical"] = "constant"
    mean: Share = 0.5
    cv: Annotated[
        float,
        Field(ge=0, description="standard deviation over mean before draws are kept inside; exponential has its own, pareto's is above 1"),
    ] = 0.5
    min: Share = 0.0
    max: Share = 1.0
    values: Annotated[tuple[Share, ...], Field(description="the sample of an empirical law")] = ()

    @model_validator(mode="before")
    @classmethod
    def _bare_number(cls, value: object) -> object:
        if isinstance(value, int | float) and not isinstance(value, bool):
            return {"mean": value}
        if isinstance(value, dict | ShareLaw):
            return value
        raise ValueError(f"must be a share from 0 to 1, or a law of shares such as {{dist: normal, mean: 0.4, cv: 0.3}}, got {value!r}")

    @model_validator(mode="after")
    def _empirical_needs_values(self) -> ShareLaw:
        if self.dist == "empirical" and not self.values:
            raise ValueError("values must list at least one share when dist is empirical")
        return self


def _write_shares(law: ShareLaw, write: SerializerFunctionWrapHandler) -> Any:
    return law.mean if law == ShareLaw(mean=law.mean) else write(law)


Shares = Annotated[ShareLaw, WrapSerializer(_write_shares)]
"""A law of shares in a section; a constant is written as the bare number."""
