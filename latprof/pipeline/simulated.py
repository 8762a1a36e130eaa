"""A simulated run from configuration to report: the same plan, folder and report as a live one, with the stack played in virtual time.

    plan without texts -> sessions with named blocks -> `latprof.stub.simulate` -> requests, layers, segments, graphs -> report

The folder follows from the configuration alone: run.json holds no clock's reading, and of the machine nothing but versions, so that equal
configurations give equal bytes.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from latprof.config import Config, Stub
from latprof.errors import ConfigError
from latprof.pipeline.goodput import judged
from latprof.pipeline.offered import Offered, bare_plan, offered_by
from latprof.pipeline.outcome import Outcome, outcome_of
from latprof.schedule.plan import WARMUP, OnDemand, Phase, Plan
from latprof.units import NS_PER_S
from latprof.workload.sessions import Session

if TYPE_CHECKING:
    from latprof.observations.graph import StepLog
    from latprof.simulated.folder import Sums
    from latprof.simulated.sessions import Source
    from latprof.stub.simulate import Simulated

# Graphs of sessions written in one go.
_GRAPHS: Final = 512
_FACTS: Final = ("platform", "machine", "python", "latprof", "libraries")


def simulate(config: Config, *, allow_unstable: bool = False) -> Outcome:
    """Play ``config`` in virtual time: the same folder and report as a live run, the same bytes from the same seed.

    Raises:
        ConfigError: it names an endpoint, or what cannot be played; or an open loop asks more of a layer than it can do, unless
            ``allow_unstable``. No folder is left.
        UsageError: something else cannot be used as given.
    """
    return outcome_of(simulate_into_folder(config, allow_unstable=allow_unstable))


def simulate_into_folder(config: Config, *, allow_unstable: bool = False) -> Path:
    """`simulate` without the report. Its memory does not grow with the number of requests."""
    from latprof.observations.folder import create, discard, write_meta
    from latprof.stub.models.stages import check
    from latprof.stub.simulate import check_faults

    if not config.uses_stub:
        raise ConfigError(
            "target.url must be left out of a simulation, which plays the stack in a box; to measure an endpoint use latprof run"
        )
    if config.inject is not None:
        raise ConfigError("inject must be left out of a simulation: its delays are put into a live stack by a hop; use latprof run")
    if config.stub.gateway.max_in_flight is not None:
        raise ConfigError("stub.gateway.max_in_flight cannot be simulated yet; leave it out, or use latprof run")
    check(config.stub)
    check_faults(config.stub)
    config = judged(config)
    plan, source = bare_plan(config)
    if not allow_unstable:
        _refuse_unstable(config, plan, source)
    folder = create(config.out)
    try:
        meta = _first_meta(config, plan) | ({"allow_unstable": True} if allow_unstable else {})
        write_meta(folder, meta)
        meta |= _play(config, plan, source, folder)
        write_meta(folder, meta | {"status": "complete"})
    except BaseException:
        discard(folder)
        raise
    return folder


def offered_load(config: Config) -> dict[str, dict[str, float]]:
    """Open phase -> layer -> the utilisation that ``config`` asks for: rate times mean service over servers, 1 being all there is."""
    plan, source = bare_plan(config)
    return {asked.phase.name: dict(asked.utilisation) for asked in _offered(config.stub, plan, source)}


def _play(config: Config, plan: Plan, source: Source, folder: Path) -> dict[str, Any]:
    """Let it happen; what run.json then has to say."""
    from latprof.observations.graph import StepLog, compact_steps
    from latprof.simulated.folder import SimulatedFolder
    from latprof.simulated.sessions import phase_names, virtual_phases
    from latprof.stub import simulate as stack

    graphs = _Graphs(StepLog(folder))
    with SimulatedFolder(folder, phase_names(plan), WARMUP) as written:
        told = stack.simulate(config.stub, virtual_phases(plan, source, graphs.add), written.call, written.iterations)
    graphs.close()
    compact_steps(folder)
    return {
        "planned": {phase.name: None if _is_ended_by_time(phase) else turns for phase, turns in zip(plan.phases, told.turns, strict=True)},
        "phases": [
            {"name": phase.name, "start_ns": driven.start_ns, "end_ns": driven.end_ns, "interrupted": False, "health": {}, "workers": []}
            for phase, driven in zip(plan.phases, told.driven, strict=True)
        ],
        "laws": _laws(plan, told, written.sums),
        "assumed": [*_assumed(config), *_beyond_timeout(config, written.slowest_ns)],
    }


@dataclass(slots=True)
class _Graphs:
    """Sessions' graphs on their way into the folder, some hundred at a time."""

    log: StepLog
    waiting: list[tuple[str, Session]] = None  # type: ignore[assignment]

    def __post_init__(self) -> None:
        self.waiting = []

    def add(self, phase: str, session: Session) -> None:
        self.waiting.append((phase, session))
        if len(self.waiting) == _GRAPHS:
            self._write()

    def close(self) -> None:
        self._write()
        self.log.close()

    def _write(self) -> None:
        self.log.add(self.waiting)
        self.waiting = []


# --- before the run -----------------------------------------------------------------------------------------------------------------------


def _refuse_unstable(config: Config, plan: Plan, source: Source) -> None:
    """An open loop that asks more of a layer than it can do has no steady state: whatever is printed is the length of the run."""
    for asked in _offered(config.stub, plan, source):
        if asked.overload is not None:
            raise ConfigError(f"load: {asked.overload.text}; {', '.join(asked.overload.remedies)}, or say --allow-unstable")


def _offered(stub: Stub, plan: Plan, source: Source) -> list[Offered]:
    """What every phase that has a rate asks for."""
    return [asked for phase in plan.phases if (asked := offered_by(stub, phase, source)) is not None]


def _is_ended_by_time(phase: Phase) -> bool:
    return isinstance(phase.planned, OnDemand) and phase.duration_ns is not None


# --- run.json -----------------------------------------------------------------------------------------------------------------------------


def _first_meta(config: Config, plan: Plan) -> dict[str, Any]:
    from latprof.observations.folder import SCHEMA, host_facts, scrub
    from latprof.schedule.words import arrival_model
    from latprof.stub.models.stages import replicas_of_pools, servers_of
    from latprof.stub.presets.used import presets_used

    facts = host_facts()
    used = presets_used(config.stub)
    return {
        "schema": SCHEMA,
        "status": "running",
        "is_simulated": True,
        "run_id": blake2b(f"{config.hash()}/{plan.seed}".encode(), digest_size=8).hexdigest(),
        "config": scrub(config.model_copy(update={"out": None}).model_dump(mode="json", by_alias=True)),
        "config_hash": config.hash(),
        "seed": plan.seed,
        "anchor": {"monotonic_ns": 0, "unix_ns": 0, "bracket_ns": 0},
        "host": {name: facts[name] for name in _FACTS},
        "arrival_model": arrival_model(plan.phases),
        "stations": servers_of(config.stub),
        "replicas": replicas_of_pools(config.stub),
        **({"presets": used} if used else {}),
        "target": {"url": "", "model": config.target.model, "is_stub": True},
    }


def _laws(plan: Plan, told: Simulated, sums: Sums) -> list[dict[str, Any]]:
    """The operational laws over the measured phases; each begins and ends with an empty stack, so nothing is cut off."""
    measured = [index for index, phase in enumerate(plan.phases) if phase.is_measured]
    length_ns = sum(told.driven[index].end_ns - told.driven[index].start_ns for index in measured)
    laws = []
    for name, first in told.stations[0].items():
        passed = [told.stations[index][name] for index in measured]
        laws.append(
            {
                "layer": name,
                "servers": first.servers,
                "rate_per_s": sums.requests * NS_PER_S / length_ns if length_ns else 0.0,
                "mean_present": sum(one.present_ns for one in passed) / length_ns if length_ns else 0.0,
                "mean_time_ns": (sums.wait_ns[name] + sums.service_ns[name]) / max(1, sums.requests),
                "mean_busy": sum(one.busy_ns for one in passed) / length_ns if length_ns else 0.0,
                "mean_service_ns": sums.service_ns[name] / max(1, sums.requests),
            }
        )
    return laws


def _assumed(config: Config) -> Iterator[str]:
    """What had to be modelled."""
    gateway = config.stub.gateway
    if gateway.tokenize == "real":
        model = gateway.tokenize_model
        yield (
            f"gateway.tokenize is a model, {model.t0_ns / 1e3:g} µs + {model.per_token_ns / 1e3:g} µs per prompt token, where a live run measures"
            " the tokenizer"
        )


def _beyond_timeout(config: Config, slowest_ns: int) -> Iterator[str]:
    if slowest_ns > config.target.timeout_ns:
        yield (
            f"the slowest call took {slowest_ns / NS_PER_S:.1f} s, and in virtual time nobody hangs up: a live client would have at target.timeout,"
            f" {config.target.timeout_ns / NS_PER_S:g} s"
        )
