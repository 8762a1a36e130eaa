"""What an open load asks of the stack in a box, before anything of it is played or sent.

    plan without texts -> a phase's sessions per second, what a mean turn of them asks for -> utilisation of every layer

Virtual time refuses a load that asks more of a layer than it can do; a live run is told of it, and made.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from latprof.analysis.validity.overload import Overload
from latprof.config import Config, Stub
from latprof.schedule.plan import Phase, Plan, Scheduled
from latprof.units import NS_PER_S

if TYPE_CHECKING:
    from latprof.simulated.sessions import Source
    from latprof.stub.virtual.call import VirtualTool, VirtualTurn

# Sessions looked at to tell what a mean turn asks for.
_LOOKED_AT: Final = 1000
# With these a request does not go all the way, and asks less of the layers behind.
_CUTS_SHORT: Final = {"status", "truncate", "malformed", "error", "drop", "silent"}


@dataclass(frozen=True, slots=True)
class Offered:
    """What ``phase`` asks for in the long run: by layer the utilisation, 1 being all there is.

    ``lasts_ns`` is the time in which its sessions start, ``idle_ns`` what a mean session lets pass between its turns.
    """

    phase: Phase
    starts_per_s: float
    utilisation: Mapping[str, float]
    lasts_ns: float
    idle_ns: float

    @property
    def overload(self) -> Overload | None:
        """Where it asks for more than there is; of several layers the fullest."""
        return _overload(self.phase.name, self.starts_per_s, self.utilisation)


def bare_plan(config: Config) -> tuple[Plan, Source]:
    """The plan without texts, and where its sessions come from."""
    from latprof.schedule.build import plan_of
    from latprof.schedule.resolve import resolve_load
    from latprof.simulated.sessions import Source
    from latprof.workload.load import load_bare

    load = resolve_load(config)
    workload, outlines, naming = load_bare(config.workload, load.seed, config.stub.prefill.cache_block_tokens)
    return plan_of(load, workload), Source(outlines, naming)


def offered_by(stub: Stub, phase: Phase, source: Source) -> Offered | None:
    """What a phase of a plan without texts asks for; None where it has no rate of its own."""
    from latprof.stub.virtual.call import VirtualTurn
    from latprof.stub.virtual.offered import demand_of, offered

    starts_per_s = _starts_per_s(phase)
    if starts_per_s is None or not isinstance(phase.planned, Scheduled):
        return None
    numbers = _looked_at(phase.planned.numbers, source)
    idle_ns = 0

    def turns() -> Iterator[VirtualTurn]:
        nonlocal idle_ns
        for number in numbers:
            steps = source.steps(source.outline(number), number)
            idle_ns += _idle_ns(steps)
            yield from (step for step in steps if isinstance(step, VirtualTurn))

    demand = demand_of(stub, turns())
    return Offered(
        phase,
        starts_per_s,
        offered(stub, starts_per_s * demand.turns / len(numbers), demand),
        lasts_ns=len(phase.planned) * NS_PER_S / starts_per_s,
        idle_ns=idle_ns / len(numbers),
    )


def can_overload(plan: Plan) -> bool:
    """Whether anything measured is an open loop that nothing holds back."""
    return any(phase.is_measured and phase.loop == "open" and phase.max_concurrency is None for phase in plan.phases)


def overloads(config: Config) -> tuple[Overload, ...]:
    """The measured phases that the stack in a box will not keep up with when they are run live, as far as that is clear beforehand.

    Less is clear than in virtual time, which asks for the long run: sessions are all there only after as long as one lasts, a request that a
    fault ends asks nothing more, and of a prompt whose tokens are kept the tokenizer sees a part.
    """
    plan, source = bare_plan(config)
    asked = (offered_by(config.stub, phase, source) for phase in plan.phases if phase.is_measured)
    found = (_overload(one.phase.name, one.starts_per_s, _clear(config, one)) for one in asked if one is not None)
    return tuple(one for one in found if one is not None)


def _overload(phase: str, starts_per_s: float, utilisation: Mapping[str, float]) -> Overload | None:
    fullest = max(utilisation, key=lambda layer: utilisation[layer])
    asked = utilisation[fullest]
    return Overload(phase, fullest, asked, starts_per_s / asked) if asked >= 1 else None


def _clear(config: Config, asked: Offered) -> dict[str, float]:
    """The part of the utilisation that a live run of this length is sure to ask for."""
    stub = config.stub
    ended = min(1.0, sum(fault.share for fault in stub.faults if fault.kind in _CUTS_SHORT))
    sure = (1 - ended) * asked.lasts_ns / (asked.lasts_ns + asked.idle_ns)
    keeps_tokens = stub.gateway.token_cache > 0 or config.target.dialect.endswith("-ws")
    left_out = {"gateway.tokenize"} if stub.gateway.tokenize == "real" and keeps_tokens else set()
    return {layer: sure * one for layer, one in asked.utilisation.items() if layer not in left_out}


def _idle_ns(steps: Sequence[VirtualTurn | VirtualTool]) -> int:
    """What a session lets pass at most, were its steps one after the other."""
    from latprof.stub.virtual.call import VirtualTurn

    turns = [step for step in steps if isinstance(step, VirtualTurn)]
    passing_ns = sum(step.think_ns if isinstance(step, VirtualTurn) else step.takes_ns for step in steps)
    return max(passing_ns, *(turn.at_ns or 0 for turn in turns))


def _looked_at(numbers: range, source: Source) -> range:
    """Sessions that stand for a phase's: of a trace its own, of laws as many as tell a mean, however few the phase has."""
    return numbers[:_LOOKED_AT] if source.outlines.trace is not None else range(numbers.start, numbers.start + _LOOKED_AT)


def _starts_per_s(phase: Phase) -> float | None:
    """Sessions per second of an open phase, in the mean; None where there is no such rate, or too few sessions to speak of one."""
    if not isinstance(phase.planned, Scheduled) or phase.max_concurrency is not None:
        return None
    if phase.rate_per_s is not None:
        return phase.rate_per_s
    offsets_ns = phase.planned.offsets_ns
    length_ns = offsets_ns[-1] - offsets_ns[0]
    return (len(offsets_ns) - 1) * NS_PER_S / length_ns if length_ns > 0 else None
