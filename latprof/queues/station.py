"""A multi-server first-come station as a state machine: it says what begins and when that should end; somebody else keeps the time.

    arrive -> [ waiting ... ] -> [ servers ] -> finish

``finish`` takes the present as an argument instead of the planned end, so a live driver that wakes late passes its lateness on to whoever
waits, as a real server would.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Generic, NamedTuple, TypeVar

J = TypeVar("J")

Service = int | Callable[[], int]
"""A service time in ns; or a question asked when service begins, for work whose length depends on what happened meanwhile."""


class Begun(NamedTuple, Generic[J]):
    """A job went into service. Wait is ``started_ns - arrived_ns``; it should be finished at ``ends_ns``."""

    job: J
    arrived_ns: int
    started_ns: int
    ends_ns: int


class Station(Generic[J]):
    """``servers`` equal servers in front of one first-come queue.

    Raises:
        ValueError: fewer than one server.
    """

    def __init__(self, servers: int) -> None:
        if servers < 1:
            raise ValueError(f"a station needs at least one server, got {servers}")
        self.servers = servers
        self.running = 0
        self._waiting: deque[tuple[J, int, Service]] = deque()

    @property
    def waiting(self) -> int:
        """Jobs in the queue, those in service not counted."""
        return len(self._waiting)

    def arrive(self, now_ns: int, job: J, service_ns: Service) -> Begun[J] | None:
        """A job comes: it begins at once, or waits (None) and will be handed out by some later ``finish``."""
        if self.running < self.servers:
            self.running += 1
            return _begin(job, now_ns, now_ns, service_ns)
        self._waiting.append((job, now_ns, service_ns))
        return None

    def finish(self, now_ns: int) -> Begun[J] | None:
        """A server is done; the job that has waited longest begins, if there is one.

        Raises:
            RuntimeError: nothing was in service.
        """
        if self.running == 0:
            raise RuntimeError("finish without a job in service")
        if not self._waiting:
            self.running -= 1
            return None
        job, arrived_ns, service_ns = self._waiting.popleft()
        return _begin(job, arrived_ns, now_ns, service_ns)


def _begin(job: J, arrived_ns: int, now_ns: int, service: Service) -> Begun[J]:
    service_ns = service if isinstance(service, int) else service()
    return Begun(job, arrived_ns, now_ns, now_ns + service_ns)
