"""Three answers to "which layer is the bottleneck", which need not be one: the largest, the busiest, and the one it pays most to speed up.

budget    the largest contribution A to the metric        where the time is
capacity  the highest utilisation X D / c                 what throughput ends at
leverage  the highest elasticity d ln Q / d ln S          what one per cent less service saves most at, its queue included

A name is published alone only if it would still lead with every service mean 20 % off; otherwise all that could lead are a tie.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from latprof.analysis.contributions import Contributions
from latprof.analysis.sweeps.operational import Station, station_of

OFF = 0.2
"""How far service means may be off before a ranking is believed."""

# Closer to saturation a formula of steady state says less about a finite run with every step.
_MOST_UTILISATION = 0.95
_STEP = 1e-4


@dataclass(frozen=True, slots=True)
class Leader:
    """Who leads, and by what figure. More than one name is a tie: which of them it is hangs on less than 20 % of service."""

    names: tuple[str, ...]
    value: float


@dataclass(frozen=True, slots=True)
class Bottlenecks:
    """The three at one point and percentile; None where a figure is not known."""

    budget: Leader | None
    capacity: Leader | None
    leverage: Leader | None

    @property
    def differ(self) -> bool:
        """Whether the three do not all name the same layer alone."""
        return len({leader.names for leader in (self.budget, self.capacity, self.leverage) if leader is not None}) > 1


@dataclass(frozen=True, slots=True)
class Share:
    """One station's contribution to a column in ns, and how much of it moves when its service does."""

    contribution_ns: float
    service_ns: float
    wait_ns: float
    response_ns: float  # d A / d ln S: service itself, and the wait as its queue would answer


def shares(names: Sequence[str], column: Contributions, at: Sequence[Station]) -> dict[str, Share]:
    """The column by station: a queue of its own and a first iteration count for the station they belong to.

    At an arrival rate that does not answer: in a closed loop it does, and the leverage there is for re-runs to find.
    """
    known = {station.name: station for station in at}
    sums: dict[str, list[float]] = {}
    for index, layer in enumerate(names):
        parts = sums.setdefault(station_of(layer), [0.0, 0.0])
        parts[0] += float(column.total_ns[index])
        parts[1] += float(column.wait_ns[index])
    found = {}
    for name, (total_ns, wait_ns) in sums.items():
        station = known.get(name)
        growth = 1.0 if station is None else 1.0 + queued_share(station) * wait_growth(station.servers, station.utilisation)
        service_ns = total_ns - wait_ns
        found[name] = Share(total_ns, service_ns, wait_ns, service_ns + wait_ns * growth)
    return found


def elasticities(by_station: Mapping[str, Share], column: Contributions, at: Sequence[Station]) -> dict[str, float]:
    """First-order leverage of every station that has servers, for open arrivals: (service + wait's answer) / Q. They need not sum to 1."""
    has_servers = {station.name for station in at}
    return {name: share.response_ns / column.value_ns for name, share in by_station.items() if name in has_servers and column.value_ns > 0}


def find(by_station: Mapping[str, Share], at: Sequence[Station], leverage: Mapping[str, float]) -> Bottlenecks:
    """The three bottlenecks of a metric whose column is ``by_station``. ``leverage`` is the elasticity by station, empty where it is not known.

    Capacity knows no metric: decoding after the first token has no budget in TTFT, but may be what throughput ends at.
    """
    utilisation = {station.name: station.utilisation for station in at}
    return Bottlenecks(
        budget=leader(
            {name: share.contribution_ns for name, share in by_station.items()},
            {name: share.response_ns for name, share in by_station.items()},
        ),
        capacity=leader(utilisation, utilisation),
        leverage=leader(leverage, leverage),
    )


def leader(values: Mapping[str, float], answers: Mapping[str, float]) -> Leader | None:
    """The largest of ``values``; with it everything that could be, were its service 20 % more and the largest one's 20 % less.

    ``answers`` is how much each value moves per relative change of its own service. None where nothing is above 0.
    """
    known = {name: value for name, value in values.items() if not math.isnan(value)}
    first = max(known, key=lambda name: known[name], default=None)
    if first is None or known[first] <= 0:
        return None
    floor = known[first] - OFF * answers[first]
    near = sorted((name for name in known if name != first and known[name] + OFF * answers[name] >= floor), key=lambda name: -known[name])
    return Leader((first, *near), known[first])


def queued_share(station: Station) -> float:
    """How much of a station's mean wait a queue before its servers explains, by Allen and Cunneen's G/G/c with Poisson arrivals; at most 1.

    The rest (the time to the next iteration of a batch, a thread that was not woken) is taken to grow in step with the service.
    """
    if station.wait_ns <= 0 or not station.utilisation < 1:
        return 1.0
    c, u = station.servers, station.utilisation
    queued_ns = (1 + station.service_cv2) / 2 * station.demand_ns * erlang_c(c, u) / (c * (1 - u))
    return min(1.0, queued_ns / station.wait_ns)


def wait_growth(servers: int, utilisation: float) -> float:
    """How a wait grows, beyond in step with its service, when the service grows: d ln(C(c, u) / (1 - u)) / d ln u.

    1/(1 - u) for one server. Above 95 % utilisation its value at 95 %: a lower bound.
    """
    u = min(utilisation, _MOST_UTILISATION)
    if u <= 0 or math.isnan(u):
        return 0.0
    low, high = (erlang_c(servers, at) / (1 - at) for at in (u * (1 - _STEP), u * (1 + _STEP)))
    if low <= 0:
        return float(servers)  # the chance to wait is too small for a float; it grows as u to the power of c
    return math.log(high / low) / (math.log1p(_STEP) - math.log1p(-_STEP))


def erlang_c(servers: int, utilisation: float) -> float:
    """The probability that an arrival at M/M/c waits, for utilisation below 1; by the recursion of Erlang B, which cannot overflow."""
    offered = servers * utilisation
    blocked = 1.0
    for n in range(1, servers + 1):
        blocked = offered * blocked / (n + offered * blocked)
    return blocked / (1 - utilisation * (1 - blocked))
