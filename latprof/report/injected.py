"""What the report says of the causal check."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import asdict
from typing import Any, Final

from latprof.analysis.causal.injection import Effect, Injection, Site, reading
from latprof.analysis.causal.slopes import Slope
from latprof.units import NS_PER_MS, NS_PER_S

_NAMES: Final = {"ttft": "TTFT", "e2el": "call"}
_TOO_FAR_NS: Final = 2 * NS_PER_MS

HEAD: Final = ("ms per ms of delay", "per request", "per block", "queue feedback")
"""What the columns of `rows` are."""


def design(injection: Injection) -> str:
    """What was done, in one sentence."""
    drawn = injection.design
    delays = ", ".join(f"{delay_ns / NS_PER_MS:g}" for delay_ns in sorted(drawn.delays_ns))
    how = {"request": "per request", "block": "per block", "both": "per request and per block in turn"}[drawn.per]
    blocks = f"{injection.blocks} blocks of {drawn.block_ns / NS_PER_S:g} s"
    return f"{delays} ms before {injection.before}, drawn {how} ({injection.requests} requests in {blocks}){_site(injection.site)}"


def _site(site: Site | None) -> str:
    """Where the hop stood, and what tells."""
    if site is None:
        return ""
    parts = [f", at {site.address}"]
    sides = ((site.in_front, "in front of it (no delay moves when they begin)"), (site.behind, "behind it (they begin later by the delay)"))
    parts += [f"{where}: {', '.join(hops)}" for hops, where in sides if hops]
    if site.others:
        parts.append(f"{site.others} requests of others passed undelayed")
    return "; ".join(parts)


def warnings(injection: Injection) -> Iterator[str]:
    """What keeps the slopes from being taken at their word."""
    if not injection.requests:
        yield "not one measured request passed the hop: there is nothing to tell"
        return
    if injection.missed:
        yield f"{injection.missed} measured requests did not pass the hop"
    if injection.again:
        yield f"{injection.again} times a request passed the hop once more, asked or sent again, with its delay each time: it is slowed by all of them"
    yield from _doubts_of(injection.site, injection.before)
    if injection.failed:
        yield f"{injection.failed} delayed requests failed, and are in no slope"
    if injection.not_as_drawn:
        yield f"{injection.not_as_drawn} requests were not delayed as the seed draws: the record, or the configuration, is of another run"
    if injection.off_p99_ns > _TOO_FAR_NS:
        yield f"delays were {injection.off_p99_ns / NS_PER_MS:.1f} ms longer than drawn at p99: the machine is busy"


def _doubts_of(site: Site | None, before: str) -> Iterator[str]:
    if site is not None and before in site.in_front:
        yield f"{before} began without waiting for the delay: the hop does not stand in front of it"
    if site is not None and site.untold:
        yield f"where {', '.join(site.untold)} is, before the hop or behind it, is taken from its name: no span of it tells (--hops says it)"


def rows(injection: Injection) -> Iterator[tuple[str, ...]]:
    """The slopes as a table: metric, per request, per block, the difference; each ms of metric per ms of delay."""
    for effect in injection.effects:
        name = _NAMES[effect.metric]
        yield (name, *(_told(slope) for slope in (effect.per_request, effect.per_block, effect.feedback)))
        for p, slope in effect.at_quantiles:
            yield (f"{name} p{100 * p:g}", _told(slope), "", "")


def conclusion(injection: Injection) -> str:
    """What the slopes of TTFT say; empty where they say nothing."""
    return reading(injection.ttft)


def as_json(injection: Injection) -> dict[str, Any]:
    """Plain values: times in ms."""
    drawn = injection.design
    return {
        "before": injection.before,
        "delays_ms": [delay_ns / NS_PER_MS for delay_ns in drawn.delays_ns],
        "block_s": drawn.block_ns / NS_PER_S,
        "per": drawn.per,
        "requests": injection.requests,
        "blocks": injection.blocks,
        "missed": injection.missed,
        "failed": injection.failed,
        "not_as_drawn": injection.not_as_drawn,
        "off_p99_ms": None if math.isnan(injection.off_p99_ns) else injection.off_p99_ns / NS_PER_MS,
        "again": injection.again,
        "site": None if injection.site is None else asdict(injection.site),
        "slopes": {effect.metric: _effect(effect) for effect in injection.effects},
        "reading": conclusion(injection),
    }


def _effect(effect: Effect) -> Mapping[str, Any]:
    return {
        "per_request": _slope(effect.per_request),
        "per_block": _slope(effect.per_block),
        "feedback": _slope(effect.feedback),
        **{f"p{100 * p:g}": _slope(slope) for p, slope in effect.at_quantiles},
    }


def _slope(slope: Slope | None) -> Mapping[str, float | int] | None:
    if slope is None:
        return None
    return {"value": slope.value, "low": slope.low, "high": slope.high, "clusters": slope.clusters, "n": slope.n}


def _told(slope: Slope | None) -> str:
    return "-" if slope is None else f"{slope.value:.2f} [{slope.low:.2f}, {slope.high:.2f}]"
