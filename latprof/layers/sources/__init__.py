"""One file per stack: how its spans, headers and body timings become evidence."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from latprof.layers.evidence import Source
from latprof.layers.sources import envoy, haproxy, injected, litellm, llamacpp, stub

SOURCES: Final[Mapping[str, Source]] = {
    "injected": injected.evidence,
    "stub": stub.evidence,
    "haproxy": haproxy.evidence,
    "envoy": envoy.evidence,
    "litellm": litellm.evidence,
    "llamacpp": llamacpp.evidence,
}
"""Every source is asked about every request; each finds its own."""
