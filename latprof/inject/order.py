"""What the hop is told: one line of JSON on stdin. No key is in it: a request's headers pass through the hop's memory and nowhere else."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, NamedTuple

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
    def authority(self) -> str:
        """The ``Host`` of requests that go there."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == (80 if self.tls is None else 443) else f"{host}:{self.port}"

    @property
    def shown(self) -> str:
        """For messages."""
        return self.unix_socket or f"{self.host}:{self.port}"


class Counts(NamedTuple):
    """Requests the hop has had: of this run, and others, which it leaves alone."""

    own: int
    others: int


@dataclass(frozen=True, slots=True)
class HopOrder:
    """Everything the hop needs: where to, what to draw delays from, and where to write down what it did.

    ``listen_fd`` is a socket it is started with, which others are pointed at; None takes a free port of loopback, for latprof itself.
    """

    folder: str
    run_id: str
    upstream: Upstream
    delays_ns: tuple[int, ...]
    block_ns: int
    per: Per
    seed: int
    listen_fd: int | None = None

    def as_json(self) -> dict[str, Any]:
        """Plain values."""
        return asdict(self)

    @classmethod
    def of(cls, told: Mapping[str, Any]) -> HopOrder:
        """From `as_json`."""
        upstream = dict(told["upstream"])
        tls = None if upstream["tls"] is None else TlsFiles(**upstream["tls"])
        return cls(**{**told, "upstream": Upstream(**{**upstream, "tls": tls}), "delays_ns": tuple(told["delays_ns"])})
