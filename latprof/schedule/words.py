"""The load model in words: printed beside every answer, because the same stack answers otherwise under another one."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import islice

from latprof.schedule.plan import Part, Phase
from latprof.units import NS_PER_S

# Sessions looked at for a second turn; a workload that makes some has one among so many.
_LOOKED_AT = 200


def arrival_model(phases: Sequence[Phase]) -> str:
    """The measured phases in one line."""
    return "; then ".join(_of(phase) for phase in phases if phase.is_measured)


def _of(phase: Phase) -> str:
    has_turns = any(len(planned.session.turns) > 1 for planned in islice(phase.planned, _LOOKED_AT))
    if phase.loop == "closed":
        return f"closed loop, {phase.concurrency} {'sessions always on' if has_turns else 'in flight'}"
    loop = "partly open loop, sessions start by" if has_turns else "open loop,"
    rate = f" {phase.rate_per_s:g}/s" if phase.rate_per_s is not None else ""
    law = ", then ".join(map(_part, phase.parts)) or f"{phase.arrival}{rate}"
    cap = f", at most {phase.max_concurrency} in flight" if phase.max_concurrency is not None else ""
    return f"{loop} {law}{cap}"


def _part(part: Part) -> str:
    return f"{part.name}: {part.arrival} {part.rate} for {part.length_ns / NS_PER_S:.3g} s"
