"""How much a plan will ask of its target: printed before anything is sent to another machine."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from latprof.schedule.plan import OnDemand, Phase, Plan, Planned
from latprof.units import NS_PER_S
from latprof.workload.sessions import sent_tokens

# Sessions made on demand are looked at, not counted: this many of them.
_LOOKED_AT = 100


@dataclass(frozen=True, slots=True)
class PhaseSize:
    """What one phase will send. ``requests`` is None where only time ends it; then at most ``at_most`` (None: no limit was set) go.

    ``duration_ns`` is how long it may last, or how long its starts take; 0 where neither is known.
    """

    name: str
    requests: int | None
    at_most: int | None
    concurrency: int | None
    duration_ns: int

    def phrase(self) -> str:
        """As in ``measured 1,000 requests over 20 s``."""
        lasting = f"{self.duration_ns / NS_PER_S:.3g} s"
        if self.requests is None:
            limit = "" if self.at_most is None else f", at most {self.at_most:,} requests"
            return f"{self.name} {self.concurrency} always in flight for {lasting}{limit}"
        if self.concurrency is not None:
            return f"{self.name} {self.requests:,} requests, {self.concurrency} always in flight"
        return f"{self.name} {self.requests:,} requests {f'over {lasting}' if self.duration_ns else 'at once'}"


@dataclass(frozen=True, slots=True)
class PlanSize:
    """A plan in numbers; chat templates, retries and the request that tries the endpoint out come on top.

    ``requests`` is None where a closed loop is ended by time alone; the tokens are then those of one request, in the mean.
    """

    phases: tuple[PhaseSize, ...]
    requests: int | None
    prompt_tokens: int
    output_tokens: int

    def sentence(self, where: str) -> str:
        """The plan in one sentence; ``where`` is printed as it is, so it must hold no secret."""
        phases = ", then ".join(phase.phrase() for phase in self.phases)
        whole = "each" if self.requests is None else f"in all {self.requests:,} requests,"
        return f"plan for {where}: {phases}; {whole} about {self.prompt_tokens:,} prompt and at most {self.output_tokens:,} output tokens"


def plan_size(plan: Plan) -> PlanSize:
    """Count what ``plan`` holds; nothing of it is sent."""
    phases = tuple(_phase_size(phase) for phase in plan.phases)
    counts = [phase.requests for phase in phases if phase.requests is not None]
    is_counted = len(counts) == len(phases)
    sessions = [planned.session for phase in plan.phases for planned in _looked_at(phase)]
    sent = [tokens for session in sessions for tokens in sent_tokens(session).values()]
    share = 1 if is_counted else len(sent)
    return PlanSize(
        phases,
        sum(counts) if is_counted else None,
        round(sum(sent) / share),
        round(sum(turn.output_tokens for session in sessions for turn in session.turns) / share),
    )


def _phase_size(phase: Phase) -> PhaseSize:
    if isinstance(phase.planned, OnDemand):
        return PhaseSize(phase.name, None, phase.planned.limit, phase.concurrency, phase.duration_ns or 0)
    lasting_ns = phase.duration_ns if phase.duration_ns is not None else phase.planned[-1].offset_ns or 0
    requests = sum(len(planned.session.turns) for planned in _looked_at(phase))
    return PhaseSize(phase.name, requests, None, phase.concurrency, lasting_ns)


def _looked_at(phase: Phase) -> Sequence[Planned]:
    return phase.planned[:_LOOKED_AT] if isinstance(phase.planned, OnDemand) else phase.planned
