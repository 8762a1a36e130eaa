"""Time integrals of who is where: what the operational laws are checked with, kept apart from every request's own stamps."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple, Protocol


class Reading(NamedTuple):
    """The integrals so far, in requests times ns: of those at the station (waiting or served), and of those in service."""

    present_ns: int
    busy_ns: int


def total(readings: Iterable[Reading]) -> Reading:
    """Several stations as one."""
    present_ns, busy_ns = zip(*readings, strict=True)
    return Reading(sum(present_ns), sum(busy_ns))


class Integrated(Protocol):
    """A station that can be asked for its integrals. ``servers`` None: no such number."""

    @property
    def servers(self) -> int | None: ...  # noqa: D102

    def read(self, now_ns: int) -> Reading:
        """The integrals up to now."""
        ...


class Integral:
    """How many requests were at a station, and how many of them in service, integrated over time. ``servers`` None: no such number."""

    __slots__ = ("_area_ns", "_busy", "_busy_ns", "_present", "_since_ns", "servers")

    def __init__(self, servers: int | None) -> None:
        self.servers = servers
        self._present = self._busy = 0
        self._since_ns = self._area_ns = self._busy_ns = 0

    def change(self, now_ns: int, present: int, busy: int) -> None:
        """From now on ``present`` requests are here, ``busy`` of them in service."""
        passed_ns = now_ns - self._since_ns
        self._area_ns += self._present * passed_ns
        self._busy_ns += self._busy * passed_ns
        self._present, self._busy, self._since_ns = present, busy, now_ns

    def read(self, now_ns: int) -> Reading:
        """The integrals up to now."""
        self.change(now_ns, self._present, self._busy)
        return Reading(self._area_ns, self._busy_ns)
