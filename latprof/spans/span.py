"""A span as it was received: Unix ns of the sender's clock, nothing corrected."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import IntEnum

Scalar = str | int | float | bool


class SpanKind(IntEnum):
    """OTLP's numbers."""

    UNSPECIFIED = 0
    INTERNAL = 1
    SERVER = 2
    CLIENT = 3
    PRODUCER = 4
    CONSUMER = 5


@dataclass(frozen=True, slots=True)
class SpanEvent:
    """Something that happened at an instant inside a span."""

    name: str
    unix_ns: int
    attributes: Mapping[str, Scalar] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Span:
    """One span. Ids are lower-case hex; ``parent_id`` is empty for a root. Attribute arrays and maps are kept as JSON text."""

    trace_id: str
    span_id: str
    parent_id: str
    name: str
    kind: int
    start_unix_ns: int
    end_unix_ns: int
    attributes: Mapping[str, Scalar] = field(default_factory=dict)
    events: tuple[SpanEvent, ...] = ()
    resource: Mapping[str, Scalar] = field(default_factory=dict)
    scope: str = ""
