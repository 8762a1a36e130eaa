"""The configuration of the causal check: where requests are delayed on purpose, and by how much."""

from __future__ import annotations

import re
from typing import Annotated, Literal

from pydantic import BeforeValidator, Field, model_validator

from latprof.config_stub import Stage
from latprof.config_values import DurationNs, Section
from latprof.units import NS_PER_MS, NS_PER_S

_BARE = re.compile(r"[0-9.]+")
MOST_DELAYS = 16


def _with_units(value: object) -> object:
    """Durations; what has no unit of its own is in that of the last, as in ``0,5,20,50ms``."""
    texts = [str(one).strip() for one in value] if isinstance(value, list | tuple) else str(value).split(",")
    texts = [text.strip() for text in texts]
    unit = "" if not texts or _BARE.fullmatch(texts[-1]) else texts[-1].lstrip("0123456789. ")
    written = [f"{text}{unit}" if _BARE.fullmatch(text) and unit else text for text in texts]
    for text in written:
        if _BARE.fullmatch(text) and float(text) != 0:
            raise ValueError(f"must be durations with a unit such as 0,5,20,50ms, got {text!r} without one")
    return written


class Inject(Section):
    """Delays put in front of a part of the stack by a hop of latprof's own, at random: what TTFT makes of them is evidence of cause.

    request   every request draws its delay: a slope of 1 is time that the answer waits for
    block     all requests of a stretch of time have the same: what the delay does to the load is in it too
    both      blocks of either kind in turn
    """

    before: Annotated[
        Stage, Field(description="gateway: in front of everything, with any --url; the other stages are those of the stub")
    ] = "gateway"
    delays_ns: Annotated[
        tuple[DurationNs, ...],
        BeforeValidator(_with_units),
        Field(alias="delays", description="one is drawn for each request, or block; with 0 among them"),
    ] = (0, 5 * NS_PER_MS, 20 * NS_PER_MS, 50 * NS_PER_MS)
    block_ns: Annotated[DurationNs, Field(alias="block", gt=0)] = 5 * NS_PER_S
    per: Literal["request", "block", "both"] = "both"

    @model_validator(mode="after")
    def _several(self) -> Inject:
        if len(set(self.delays_ns)) < 2:
            raise ValueError("delays must hold at least two different durations such as 0,20ms, for a slope needs a difference")
        if len(set(self.delays_ns)) != len(self.delays_ns):
            raise ValueError("delays must differ from each other, got one of them twice")
        if len(self.delays_ns) > MOST_DELAYS:
            raise ValueError(f"delays must be {MOST_DELAYS} at most, got {len(self.delays_ns)}: each needs requests of its own")
        return self
