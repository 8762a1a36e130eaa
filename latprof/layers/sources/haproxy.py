"""HAProxy (before 3.4 without spans): its timers as a response header.

    http-response add-header x-haproxy-timers "Th=%Th;Ti=%Ti;TR=%TR;Tw=%Tw;Tc=%Tc;Tr=%Tr"

Whole ms. ``Tw`` (waiting in its queue) and ``Tc`` (connecting upstream) are its own; ``TR`` is the client's upload, ``Ti`` idle keep-alive; ``Tr`` is
everything behind it up to the response headers, which are not the first token. A timer of -1 means the phase was not reached.
"""

from __future__ import annotations

from collections.abc import Iterator

from latprof.layers.evidence import Evidence, Held, Traces
from latprof.units import NS_PER_MS

_HOP = "haproxy"
_HEADER = "x-haproxy-timers"


def evidence(traces: Traces) -> Evidence:
    """The wait and the connect of every HAProxy on the path."""
    return Evidence(held=tuple(held for name, value in traces.timing_headers if name.lower() == _HEADER for held in _timers(value)))


def _timers(value: str) -> Iterator[Held]:
    told = dict(item.split("=", 1) for item in value.replace(" ", "").split(";") if "=" in item)
    connect_ms, wait_ms = told.get("Tc", ""), told.get("Tw", "")
    if connect_ms.isdecimal() and connect_ms.isascii():
        yield Held(_HOP, "lb", int(connect_ms) * NS_PER_MS, "service", "request", NS_PER_MS)
    if wait_ms.isdecimal() and wait_ms.isascii():
        yield Held(_HOP, "lb", int(wait_ms) * NS_PER_MS, "wait", "request", NS_PER_MS)
