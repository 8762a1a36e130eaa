"""Operational laws: what must hold of any station over any stretch of time that begins and ends empty.

    Little        L = X * W      requests at the station, in the mean over time = requests per time * mean time of one there
    utilisation   U = X * S / c  share of the servers at work                   = requests per time * mean service / servers

(Denning and Buzen 1978.) The left sides come from integrals that the simulator keeps of its stations, the right ones from the requests' own rows.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

TOLERANCE = 0.01


@dataclass(frozen=True, slots=True, kw_only=True)
class Law:
    """Both laws at one station (named by its layer) over the measured phases. ``servers`` None: there is no such number, and no utilisation."""

    layer: str
    servers: int | None
    rate_per_s: float
    """X: requests that passed, over the time."""
    mean_present: float
    """L, integrated."""
    mean_time_ns: float
    """W, from the rows."""
    mean_busy: float
    """Servers at work, integrated."""
    mean_service_ns: float
    """S, from the rows."""

    @property
    def utilisation(self) -> float:
        """U; NaN without a number of servers."""
        return self.mean_busy / self.servers if self.servers else math.nan

    @property
    def holds(self) -> bool:
        """Whether both laws hold to `TOLERANCE`."""
        return _agree(self.mean_present, self.rate_per_s * self.mean_time_ns / 1e9) and _agree(
            self.mean_busy, self.rate_per_s * self.mean_service_ns / 1e9
        )


def _agree(left: float, right: float) -> bool:
    return math.isclose(left, right, rel_tol=TOLERANCE, abs_tol=1e-9)


def laws_in(meta: Mapping[str, Any]) -> tuple[Law, ...]:
    """The laws that ``run.json`` holds; none of a run that was measured."""
    return tuple(Law(**law) for law in meta.get("laws", ()))
