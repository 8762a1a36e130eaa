"""What the profiler and a worker process tell each other, as pickles over two pipes.

parent -> worker    Opening, then per phase Load; per phase Go, More as asked for, Stop; at the end Close
worker -> parent    Opened, per phase Loaded; per phase Progress and Wanted as it goes, Ended; at the end Closed, or Fault
"""

from __future__ import annotations

import pickle
from dataclasses import dataclass, field
from typing import IO, Any

from latprof.client.driver import Counters, Driven, Rules
from latprof.client.feed import Ready
from latprof.client.targets import Targets
from latprof.schedule.plan import Phase


@dataclass(frozen=True, slots=True)
class Opening:
    """Everything that holds for the whole run. ``folder`` is where the worker writes its streams."""

    worker: int
    workers: int
    folder: str
    targets: Targets
    include_usage: bool
    rules: Rules


@dataclass(frozen=True, slots=True)
class Load:
    """A phase and the sessions of this worker in it; more are to be asked for when ``is_fed``. In one pickle, so that they share texts."""

    phase: Phase
    ready: list[Ready] = field(repr=False)
    is_fed: bool


@dataclass(frozen=True, slots=True)
class Go:
    """Drive the next phase; ``start_ns`` is its T0 on the monotonic clock, which the processes of a host share."""

    start_ns: int


@dataclass(frozen=True, slots=True)
class More:
    """Further sessions of the phase that is driven; none when there are no more."""

    ready: list[Ready] = field(repr=False)


@dataclass(frozen=True, slots=True)
class Stop:
    """Send nothing more; what is in flight gets its drain."""


@dataclass(frozen=True, slots=True)
class Close:
    """Write everything, and end."""


@dataclass(frozen=True, slots=True)
class Opened:
    """The files are there and the transport is up. ``has_kernel_stamps``: the kernel stamps what the sockets receive."""

    has_kernel_stamps: bool


@dataclass(frozen=True, slots=True)
class Loaded:
    """A phase can begin."""


@dataclass(frozen=True, slots=True)
class Progress:
    """Where the phase stands. ``cannot_write``: the files take no more. ``lags_ns``: how late the event loop's ticks were since the last of these."""

    counters: Counters
    cannot_write: bool
    lags_ns: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class Wanted:
    """More sessions are wanted."""


@dataclass(frozen=True, slots=True)
class Ended:
    """A phase is over."""

    driven: Driven


@dataclass(frozen=True, slots=True)
class Closed:
    """Everything is written, or ``failure`` says why not. ``peak_bytes`` is the most memory that was resident."""

    failure: str
    stale_retries: int
    peak_bytes: int


@dataclass(frozen=True, slots=True)
class Fault:
    """The worker cannot go on. ``is_usage``: it is the user's to mend, and ``text`` says how; else ``text`` is a traceback."""

    text: str
    is_usage: bool


def write_order(order: object, pipe: IO[bytes]) -> None:
    """Put ``order`` on a pipe; blocks while that is full.

    Raises:
        OSError: the other side is gone.
    """
    pickle.dump(order, pipe, protocol=pickle.HIGHEST_PROTOCOL)
    pipe.flush()


def read_order(pipe: IO[bytes]) -> Any:
    """The next order; None when the other side is gone."""
    try:
        return pickle.load(pipe)  # noqa: S301 - from our own process, over a pipe that nobody else has
    except (EOFError, pickle.UnpicklingError, OSError, ValueError):
        return None
