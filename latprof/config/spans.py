"""``spans``: how spans come in."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from latprof.config.values import DurationNs, Section
from latprof.units import NS_PER_S


class Spans(Section):
    """How spans come in and how long to wait for late ones."""

    otlp_host: str = "127.0.0.1"
    grpc_port: Annotated[
        int | None, Field(ge=0, le=65535, description="0 takes a free one; default 4317 with a URL, free with the stub")
    ] = None
    http_port: Annotated[int | None, Field(ge=0, le=65535, description="default 4318 with a URL, free with the stub")] = None
    grace_ns: Annotated[DurationNs, Field(alias="grace", ge=0, description="wait for late spans; less once all expected hops arrived")] = (
        6 * NS_PER_S
    )
    hops: Annotated[tuple[str, ...], Field(description="hop names from the client inwards; found from the spans when absent")] = ()
