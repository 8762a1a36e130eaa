"""What `run.json` says of a live run: what is known before the first request, and what each phase and the workers add to it."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from latprof.clock import WallAnchor
from latprof.config import Config
from latprof.units import NS_PER_S

if TYPE_CHECKING:
    from latprof.client.driver import Driven
    from latprof.client.targets import Targets
    from latprof.client.workers import Workers
    from latprof.schedule.plan import Phase, Plan


def first_meta(config: Config, plan: Plan, run_id: str, anchor: WallAnchor) -> dict[str, Any]:
    """What is known before the first request; everything later is added to it."""
    from latprof.observations.folder import SCHEMA, host_facts, scrub
    from latprof.schedule.words import arrival_model

    measured = plan.phases[-1]
    return {
        "schema": SCHEMA,
        "status": "running",
        "run_id": run_id,
        "config": scrub(config.model_dump(mode="json", by_alias=True)),
        "config_hash": config.hash(),
        "seed": plan.seed,
        "anchor": dataclasses.asdict(anchor),
        "host": host_facts(),
        "arrival_model": arrival_model(plan.phases),
        "planned": {phase.name: phase.planned_requests for phase in plan.phases},
        "planned_rate_per_s": _planned_rate(measured),
        "stations": _stations(config),
        "replicas": _replicas(config),
        **_presets(config),
        "phases": [],
    }


def _presets(config: Config) -> dict[str, Any]:
    """What the stack in a box takes from presets, with the ranges that a report prints."""
    if not config.uses_stub:
        return {}
    from latprof.stub.presets.used import presets_used

    used = presets_used(config.stub)
    return {"presets": used} if used else {}


def _stations(config: Config) -> dict[str, int]:
    """Layer -> its servers: what the configuration says of a real stack, what the stack in a box is made of."""
    if not config.uses_stub:
        return dict(config.stations)
    from latprof.stub.models.stages import servers_of

    return servers_of(config.stub) | config.stations


def _replicas(config: Config) -> dict[str, int]:
    """Layer -> replicas among which its servers are shared out; of a real stack nobody says."""
    if not config.uses_stub:
        return {}
    from latprof.stub.models.stages import replicas_of_pools

    return replicas_of_pools(config.stub)


def _planned_rate(phase: Phase) -> float | None:
    """The rate of this very schedule, which for random arrivals is not the rate asked for."""
    if phase.loop == "closed" or len(phase.planned) < 2:
        return None
    first_ns, last_ns = phase.planned[0].offset_ns, phase.planned[-1].offset_ns
    if first_ns is None or last_ns is None or last_ns <= first_ns:
        return None
    return (len(phase.planned) - 1) / ((last_ns - first_ns) / NS_PER_S)


def targets_meta(targets: Targets) -> list[dict[str, Any]]:
    """Where the requests go, a target each."""
    return [
        {"name": name, "url": str(endpoint.address), "model": endpoint.model, "dialect": endpoint.dialect_name, "weight": weight}
        for name, endpoint, weight in zip(targets.names, targets.endpoints, targets.weights, strict=True)
    ]


def phase_meta(phase: Phase, driven: Sequence[Driven | None]) -> dict[str, Any]:
    """``health`` is that of the worst worker, figure by figure; a worker that died has none."""
    from latprof.client.health import worst

    ends = [one for one in driven if one is not None]
    return {
        "name": phase.name,
        "start_ns": min((one.start_ns for one in ends), default=0),
        "end_ns": max((one.end_ns for one in ends), default=0),
        "interrupted": any(one.interrupted for one in ends),
        "health": worst([one.health for one in ends]),
        "stale_retries": sum(one.stale_retries for one in ends),
        "workers": [
            {"worker": number, "end_ns": one.end_ns, "health": dataclasses.asdict(one.health)}
            for number, one in enumerate(driven)
            if one is not None
        ],
    }


def workers_meta(workers: Workers) -> dict[str, Any]:
    """What is left to say of the workers once they are gone."""
    return {
        "count": len(workers),
        "deaths": [death.text for death in workers.deaths],
        "kernel_stamps": workers.has_kernel_stamps,
        "peak_bytes": workers.peak_bytes,
    }
