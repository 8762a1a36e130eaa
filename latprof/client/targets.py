"""Where the sessions of a run go: one endpoint, or several by weight. A session stays with its target: its cache and its connection are there.

Which target a session is drawn to follows from (seed, session) alone: not from order, nor from how many workers there are.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import partial
from hashlib import blake2b
from itertools import accumulate
from typing import TYPE_CHECKING, Any, Protocol

from latprof.client.endpoint import Endpoint, resolve_endpoint
from latprof.client.redact import Redactor
from latprof.client.stamps import Attempt, ChunkLog
from latprof.client.transport import Ask, Encode, Encoder, HttpTransport, Transport
from latprof.client.wire import StampClock
from latprof.workload.sessions import NO_ANSWERS, Answers, Session

if TYPE_CHECKING:
    from latprof.config import Config

_DRAW_BYTES = 8


@dataclass(frozen=True, slots=True)
class Targets:
    """Endpoints with their names (empty where there is but the one) and weights, index by index; plain values, keys included."""

    endpoints: tuple[Endpoint, ...]
    names: tuple[str, ...] = ("",)
    weights: tuple[float, ...] = (1.0,)
    seed: int = 0

    def index_of(self, session: int) -> int:
        """Which target ``session`` is drawn to."""
        if len(self.endpoints) == 1:
            return 0
        draw = blake2b(b"target %d %d" % (self.seed, session), digest_size=_DRAW_BYTES).digest()
        at = int.from_bytes(draw, "big") / 2 ** (8 * _DRAW_BYTES) * sum(self.weights)
        reached = list(accumulate(self.weights))
        return next((index for index, weight in enumerate(reached) if at < weight), len(reached) - 1)

    def shared_by(self, workers: int) -> Targets:
        """What each of ``workers`` processes gets: its part of the connections."""
        shares = (replace(endpoint, max_connections=-(-endpoint.max_connections // workers)) for endpoint in self.endpoints)
        return replace(self, endpoints=tuple(shares))


def resolve_targets(config: Config, stub_url: str | None, environment: Mapping[str, str]) -> Targets:
    """Every target of ``config``, checked as far as it can be without a connection; ``stub_url`` is where those without a URL go.

    Raises:
        UsageError: see `resolve_endpoint`; the target is named.
    """
    endpoints = tuple(resolve_endpoint(target, target.url or stub_url or "", environment) for target in config.every_target)
    if not config.targets:
        return Targets(endpoints, seed=config.load.seed)
    names, weights = (tuple(getattr(one, field) for one in config.targets) for field in ("name", "weight"))
    return Targets(endpoints, names, weights, config.load.seed)


class ClosableTransport(Transport, Protocol):
    """What the driver's process needs of a transport beside the driver's own needs."""

    redact: Redactor

    @property
    def clock(self) -> StampClock:
        """Where its stamps come from."""

    @property
    def stale_retries(self) -> int:
        """How many requests were sent again because a kept connection had died."""

    def encoder(self, *, include_usage: bool = True) -> Encode:
        """The way to make bodies for it."""

    def sockets(self) -> list[int]:
        """The descriptors of the connections in use."""

    async def close(self) -> None:
        """Close every connection."""


class SoleTransport(ClosableTransport, Protocol):
    """A transport to one endpoint."""

    endpoint: Endpoint


class TargetsTransport:
    """A transport per target; each ask goes through its session's. The attempt's ``target`` says which."""

    def __init__(self, targets: Targets) -> None:
        self.targets = targets
        self.transports = [open_sole(endpoint) for endpoint in targets.endpoints]
        self.redact = Redactor([secret for endpoint in targets.endpoints for secret in endpoint.secrets])

    @property
    def clock(self) -> StampClock:
        """That of the first; all are alike."""
        return self.transports[0].clock

    @property
    def stale_retries(self) -> int:
        """Of all together."""
        return sum(transport.stale_retries for transport in self.transports)

    def encoder(self, *, include_usage: bool = True) -> Encode:
        """Each session's body in the dialect of its target."""
        return encoder_of(self.targets, include_usage=include_usage)

    def sockets(self) -> list[int]:
        """Of all together."""
        return [socket for transport in self.transports for socket in transport.sockets()]

    async def send(self, ask: Ask, attempt: Attempt, chunks: ChunkLog) -> str:  # noqa: D102
        index = self.targets.index_of(ask.session)
        attempt.target = self.targets.names[index]
        return await self.transports[index].send(ask, attempt, chunks)

    async def close(self) -> None:
        """Close every connection."""
        for transport in self.transports:
            await transport.close()


class TargetsEncoder:
    """`Encode` for several targets. Can be handed to another process."""

    def __init__(self, targets: Targets, *, include_usage: bool = True) -> None:
        self._targets = targets
        self._include_usage = include_usage
        self._encoders = [_encoder(endpoint, include_usage=include_usage) for endpoint in targets.endpoints]

    def __call__(self, session: Session, step: int, answers: Answers = NO_ANSWERS) -> Ask:  # noqa: D102
        return self._encoders[self._targets.index_of(session.session)](session, step, answers)

    def __reduce__(self) -> tuple[Any, ...]:
        return partial(TargetsEncoder, include_usage=self._include_usage), (self._targets,)


def open_transport(targets: Targets) -> ClosableTransport:
    """The transport for ``targets``, inside a running event loop: that of the one there is, or one that tells them apart."""
    return open_sole(targets.endpoints[0]) if targets.names == ("",) else TargetsTransport(targets)


def encoder_of(targets: Targets, *, include_usage: bool) -> Encode:
    """The encoder for ``targets``; no event loop needed."""
    if len(targets.endpoints) == 1:
        return _encoder(targets.endpoints[0], include_usage=include_usage)
    return TargetsEncoder(targets, include_usage=include_usage)


def open_sole(endpoint: Endpoint) -> SoleTransport:
    """The transport for one endpoint, inside a running event loop."""
    if endpoint.dialect.over == "http":
        return HttpTransport(endpoint)
    from latprof.client.websocket import WebSocketTransport  # 2 MB that few runs need

    return WebSocketTransport(endpoint)


def _encoder(endpoint: Endpoint, *, include_usage: bool) -> Encode:
    if endpoint.dialect.over == "http":
        return Encoder(endpoint, include_usage=include_usage)
    from latprof.client.websocket import FrameEncoder

    return FrameEncoder(endpoint, include_usage=include_usage)
