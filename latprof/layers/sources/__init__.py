"""One file per stack: how its spans, headers and body timings become evidence."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from latprof.layers.evidence import Source
from latprof.layers.sources import envoy, haproxy, litellm, llamacpp, stub

SOURCES: Final[Mapping[str, Source]] = {
    "stub": stub.evidence,
    "haproxy": haproxy.evidence,
    "envoy": envoy.evidence,
    "litellm": litellm.evidence,
    "llamacpp": llamacpp.evidence,
}
"""Every source is asked about every request; each finds its own."""
