"""What the receiver has seen of its run, and whether that is all there will be."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, field
from typing import Literal

from latprof.units import MISSING_NS, NS_PER_MS

Rejection = Literal["malformed", "busy", "too_large", "content_type", "path"]

# A service's last batches are a few requests in a row: after this long without a span they are in.
_QUIET_NS = 300 * NS_PER_MS


@dataclass(frozen=True, slots=True)
class ReceiverStats:
    """What a receiver has seen of its run so far.

    A service *serves* a trace when it sent a SERVER span or a root of it. ``missing_by_service`` counts, for every such service, the traces
    expected of it that it has not served yet; it is empty until traces are expected, and ``late_spans`` counts from then on.

    Spans of other traces count as *told* where their trace tells of an answer by its id; ``missing_answers`` are the expected ones that none
    has told of.
    """

    exports: int = 0  # trace requests taken, empty ones too
    spans: int = 0  # of this run, duplicates counted
    duplicate_spans: int = 0
    other_spans: int = 0  # of other traces
    told_spans: int = 0  # of these, kept for now
    missing_answers: int = 0
    late_spans: int = 0
    traces: int = 0  # of this run, with any span
    traces_by_service: dict[str, int] = field(default_factory=dict)
    missing_by_service: dict[str, int] = field(default_factory=dict)
    rejected: dict[Rejection, int] = field(default_factory=dict)  # requests turned away
    first_received_unix_ns: int = MISSING_NS
    last_received_unix_ns: int = MISSING_NS
    first_told_unix_ns: int = MISSING_NS
    last_told_unix_ns: int = MISSING_NS
    write_error: str = ""  # the disk would not take spans; none was kept after that


def is_complete(stats: ReceiverStats, now_unix_ns: int, grace_ns: int, services: Collection[str]) -> bool:
    """Whether every service that is to serve the expected traces has done so, and the line has gone quiet.

    Which services those are is told by ``services``. If that is empty they are the ones seen, and then the first span must be a grace old: an
    exporter that waits 5 s (a common default) between batches is not seen before. The same holds where no trace of the run was seen at all, but
    others that tell of its answers: then these are awaited, one by one.
    """
    if stats.spans == 0 and stats.told_spans > 0:
        is_old = now_unix_ns - stats.first_told_unix_ns >= grace_ns
        return is_old and now_unix_ns - stats.last_told_unix_ns >= _QUIET_NS and stats.missing_answers == 0
    if stats.spans == 0 or now_unix_ns - stats.last_received_unix_ns < _QUIET_NS:
        return False
    if not services and now_unix_ns - stats.first_received_unix_ns < grace_ns:
        return False
    return all(stats.missing_by_service.get(service) == 0 for service in services or stats.missing_by_service)
