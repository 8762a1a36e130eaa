"""What no measurement can break, whatever the distributions: the utilisation law and the bounds on throughput of operational analysis.

U = X D / c        X <= c / D of every station        closed loop: X <= N / (D + Z)

Denning and Buzen (1978); Lazowska et al. (1984), chapters 3 and 5. They hold for every run as it was, so a run that breaks one is miscounted.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from latprof.analysis.validity.doubts import Doubt
from latprof.analysis.verdicts.told import MOST_UNTOLD, untold_share
from latprof.layers.table import IntArray, Layers
from latprof.layers.vocabulary import belongs_to
from latprof.observations.columns import Requests, known
from latprof.units import NS_PER_S

STATION_OF: Mapping[str, str] = {"engine.queue": "prefill", "decode.first": "decode"}
"""Layers that are a part of what another station does: its queue, its first iteration."""

# Identities of the run itself; what is left over is rounding, and requests whose layers nobody told.
_TOLERANCE = 0.01


@dataclass(frozen=True, slots=True)
class Station:
    """``servers`` equal servers; ``demand_ns`` is the mean service a request asks of it, ``utilisation`` X D / c.

    ``wait_ns`` is the mean wait before it, ``service_cv2`` the squared coefficient of variation of the service.

    ``is_exact``: its service was told apart from waits and from other layers throughout, and of nearly all requests; if not, the figures are no more than a guide.
    """

    name: str
    servers: int
    demand_ns: float
    utilisation: float
    wait_ns: float = 0.0
    service_cv2: float = 1.0
    is_exact: bool = True

    @property
    def capacity_per_s(self) -> float:
        """The most requests per second it can serve."""
        return self.servers * NS_PER_S / self.demand_ns if self.demand_ns > 0 else math.inf


@dataclass(frozen=True, slots=True)
class Loop:
    """Who decides when requests go. ``population`` and ``think_ns`` (mean per request, tools included) bound a closed loop; NaN where they do not."""

    kind: Literal["open", "closed", "mixed"]
    population: float = math.nan
    think_ns: float = math.nan


@dataclass(frozen=True, slots=True)
class Bounds:
    """Throughput as it was, beside what bounds it. ``by`` is the station with the lowest capacity; NaN bounds do not apply."""

    completed_per_s: float
    capacity_per_s: float
    by: str
    population_per_s: float
    broken: tuple[str, ...]


def station_of(layer: str) -> str:
    """The station that a layer's time is spent at."""
    return STATION_OF.get(layer, layer)


def is_at(layer: str, station: str) -> bool:
    """Whether a layer's time is spent at ``station``, or at a station of that prefix. A merged layer is only if all its parts are."""
    return all(belongs_to(part, station) or belongs_to(station_of(part), station) for part in layer.split("+"))


def _touches(layer: str, station: str) -> bool:
    """Whether some part of a merged layer is spent at the station, and nobody can say how much."""
    return not is_at(layer, station) and any(is_at(part, station) for part in layer.split("+"))


def stations(call: Layers, servers: Mapping[str, int], completed_per_s: float) -> tuple[Station, ...]:
    """Every station whose servers are known, in path order. ``call`` is the call's table: the TTFT's would miss the decoding."""
    found = []
    for name, count in servers.items():
        columns = [index for index, layer in enumerate(call.names) if is_at(layer, name)]
        if columns and len(call.rows):
            untold_ns = call.total_ns[:, columns] - call.wait_ns[:, columns] - call.service_ns[:, columns]
            service_ns = (call.service_ns[:, columns] + untold_ns).sum(axis=1)
            demand_ns = float(service_ns.mean())
            wait_ns = float(call.wait_ns[:, columns].sum(axis=1).mean())
            cv2 = float(service_ns.var()) / demand_ns**2 if demand_ns > 0 else 1.0
            utilisation = completed_per_s * demand_ns / NS_PER_S / count
            is_told = not untold_ns.any() and untold_share(call, name) <= MOST_UNTOLD
            is_exact = is_told and not any(_touches(layer, name) for layer in call.names)
            found.append((columns[0], Station(name, count, demand_ns, utilisation, wait_ns, cv2, is_exact)))
    return tuple(station for _, station in sorted(found, key=lambda item: item[0]))


def bounds(at: Sequence[Station], call: Layers, completed_per_s: float, loop: Loop) -> Bounds:
    """The bounds of one run, and which of them it breaks by more than 1 %."""
    tightest = min(at, key=lambda station: station.capacity_per_s, default=None)
    # Only what is known to be service: with waits in it the bound would be lower than it is.
    busy_ns = float(call.service_ns.sum(axis=1).mean()) if len(call.rows) else math.nan
    population_per_s = loop.population * NS_PER_S / (busy_ns + loop.think_ns) if loop.kind == "closed" else math.nan
    broken = [
        f"{station.name} would be {100 * station.utilisation:.0f} % busy on {station.servers} servers"
        for station in at
        if station.is_exact and station.utilisation > 1 + _TOLERANCE
    ]
    if completed_per_s > population_per_s * (1 + _TOLERANCE):
        broken.append(f"{completed_per_s:.3g}/s is more than {loop.population:g} in the loop can ask for, {population_per_s:.3g}/s")
    return Bounds(
        completed_per_s=completed_per_s,
        capacity_per_s=math.inf if tightest is None else tightest.capacity_per_s,
        by="" if tightest is None else tightest.name,
        population_per_s=population_per_s,
        broken=tuple(broken),
    )


def doubts_of(found: Bounds, at: Sequence[Station], asked_per_s: float) -> Iterator[Doubt]:
    """A broken bound, which is a miscount; and an open load beyond what a station can serve. ``asked_per_s`` is NaN in a closed loop."""
    if found.broken:
        yield Doubt(
            "operational_bound",
            "fatal",
            f"the figures cannot be: {'; '.join(found.broken)}",
            "see that `stations` tells the true numbers of servers, and that no span counts waiting as service",
        )
    over = [station for station in at if station.is_exact and asked_per_s > station.capacity_per_s]
    if over:
        worst = min(over, key=lambda station: station.capacity_per_s)
        text = (
            f"{asked_per_s:.3g}/s were asked for and {worst.name} serves at most {worst.capacity_per_s:.3g}/s: the queue grows for as long as"
            " the run lasts, and so do the percentiles"
        )
        yield Doubt("overload", "warning", text, f"lower the rate, or give {worst.name} more servers")


def think_ns(requests: Requests) -> float:
    """Mean time per request that its session let pass since the turn before, tools included.

    NaN where turns of one session overlap: a session is then more than one request in the loop, and the bound of N does not hold.
    """
    ended = known(requests.intended_ns) & known(requests.end_ns)
    session, intended_ns, end_ns = requests.session[ended], requests.intended_ns[ended], requests.end_ns[ended]
    order = np.lexsort((intended_ns, session))
    same = session[order][1:] == session[order][:-1]
    gaps_ns: IntArray = (intended_ns[order][1:] - end_ns[order][:-1])[same]
    if len(gaps_ns) and int(gaps_ns.min()) < 0:
        return math.nan
    return float(gaps_ns.sum() / len(session)) if len(session) else math.nan
