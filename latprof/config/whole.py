"""The whole configuration, and what its parts must agree on."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, model_validator

from latprof.config.inject import Inject, check_place
from latprof.config.load import Load
from latprof.config.spans import Spans
from latprof.config.stub import Stub
from latprof.config.target import NamedTarget, Target
from latprof.config.values import PositiveInt, Section
from latprof.config.workload import Workload


class Config(Section):
    """Everything a run is made of."""

    target: Target = Target()
    targets: Annotated[tuple[NamedTarget, ...], Field(description="several targets; each session is drawn to one by weight")] = ()
    load: Load = Load()
    workload: Workload = Workload()
    spans: Spans = Spans()
    goodput: Annotated[
        dict[Literal["ttft", "tpot", "itl", "e2el"], Annotated[float, Field(gt=0)]],
        Field(description="objectives in ms"),
    ] = Field(default={})
    stations: Annotated[
        dict[str, PositiveInt],
        Field(description="layer -> how many requests it serves at once; for what-if on a real stack, whose spans do not say"),
    ] = Field(default={})
    inject: Annotated[Inject | None, Field(description="the causal check: delays put in front of a part of the stack at random")] = None
    stub: Stub = Stub()
    out: Annotated[Path | None, Field(description="run folder; runs/<time> when absent")] = None

    @property
    def uses_stub(self) -> bool:
        """Whether the run brings up the stack in a box."""
        return self.every_target[0].url is None

    @property
    def every_target(self) -> tuple[Target, ...]:
        """The targets in full: those of `targets`, else the one of `target`."""
        return tuple(one.over(self.target) for one in self.targets) or (self.target,)

    @model_validator(mode="after")
    def _targets_agree(self) -> Config:
        names = [one.name for one in self.targets]
        if twice := {name for name in names if names.count(name) > 1}:
            raise ValueError(f"targets must have names of their own, got {', '.join(sorted(twice))} more than once")
        if len({one.url is None for one in self.every_target}) > 1:
            raise ValueError("targets: give all of them a url, or none: those without one mean the stack in a box")
        return self

    @model_validator(mode="after")
    def _can_inject(self) -> Config:
        if self.inject is None:
            return self
        if self.targets:
            raise ValueError(f"inject: one hop stands in front of one target, got {len(self.targets)} targets; measure them one by one")
        check_place(self.inject, uses_stub=self.uses_stub)
        if self.inject.has_own_address:  # the client does not speak through it
            return self
        for key in ("proxy", "proxy_auth_env"):
            if getattr(self.target, key) is not None:
                raise ValueError(f"inject: the hop speaks through no proxy, but target.{key} is given; drop one of the two")
        if self.target.dialect.endswith("-ws"):
            raise ValueError(
                f"inject: the hop delays HTTP requests, and over a WebSocket (target.dialect {self.target.dialect}) there are none;"
                " say another dialect"
            )
        return self

    def hash(self) -> str:
        """A fingerprint of everything that shapes the load and the stack; the output folder is left out."""
        body = self.model_dump(mode="json", by_alias=True, exclude={"out"})
        return hashlib.sha256(json.dumps(body, sort_keys=True).encode()).hexdigest()[:16]
