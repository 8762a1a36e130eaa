"""What the hop is told: one line of JSON on stdin. No key is in it: a request's headers pass through the hop's memory and nowhere else."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from latprof.client.tls import TlsFiles
from latprof.schedule.delays import Per


@dataclass(frozen=True, slots=True)
class Upstream:
    """Where the hop passes requests on to. ``tls`` is None for plain HTTP; ``unix_socket``, where given, comes before host and port."""

    host: str
    port: int
    unix_socket: str = ""
    tls: TlsFiles | None = None

    @property
    def shown(self) -> str:
        """For messages."""
        return self.unix_socket or f"{self.host}:{self.port}"


@dataclass(frozen=True, slots=True)
class HopOrder:
    """Everything the hop needs: where to, what to draw delays from, and where to write down what it did."""

    folder: str
    run_id: str
    upstream: Upstream
    delays_ns: tuple[int, ...]
    block_ns: int
    per: Per
    seed: int

    def as_json(self) -> dict[str, Any]:
        """Plain values."""
        return asdict(self)

    @classmethod
    def of(cls, told: Mapping[str, Any]) -> HopOrder:
        """From `as_json`."""
        upstream = dict(told["upstream"])
        tls = None if upstream["tls"] is None else TlsFiles(**upstream["tls"])
        return cls(**{**told, "upstream": Upstream(**{**upstream, "tls": tls}), "delays_ns": tuple(told["delays_ns"])})
