"""``target`` and ``targets``: where the requests go."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field

from latprof.config.values import DurationNs, PositiveInt, Section
from latprof.units import NS_PER_S

DialectName = Literal["openai-chat", "openai-completions", "openai-responses", "openai-responses-ws", "anthropic-messages"]
"""The APIs that can be spoken: the keys of `latprof.client.dialects.DIALECTS`."""


class Target(Section):
    """Where the requests go. No URL means the stack in a box."""

    url: str | None = None
    model: str = "stub"
    dialect: Annotated[DialectName, Field(description="the API spoken")] = "openai-chat"
    api_key_env: Annotated[str | None, Field(description="name of the environment variable that holds the bearer token")] = None
    headers: dict[str, str] = Field(default={})
    extra_body: dict[str, Any] = Field(default={})
    timeout_ns: Annotated[DurationNs, Field(alias="timeout", gt=0, description="from actual start to the end of the answer")] = (
        120 * NS_PER_S
    )
    connect_timeout_ns: Annotated[DurationNs, Field(alias="connect_timeout", gt=0)] = 10 * NS_PER_S
    sampled: Annotated[bool, Field(description="set the sampled flag of traceparent: ask the stack for its spans")] = True
    kernel_stamps: Annotated[bool, Field(description="stamp arrivals in the kernel where it can; else after each read")] = True
    connection: Annotated[
        Literal["reuse", "fresh", "session"], Field(description="kept alive and shared; a new one per request; or one per session")
    ] = "reuse"
    unix_socket: Annotated[Path | None, Field(description="connect to this socket instead of the URL's host")] = None
    proxy: Annotated[
        str | None, Field(description="an HTTP proxy, asked to CONNECT; latprof heeds no proxy variables of the environment")
    ] = None
    proxy_auth_env: Annotated[str | None, Field(description="name of the environment variable that holds the proxy's user:password")] = None
    ca_file: Path | None = None
    client_cert: Path | None = None
    client_key: Path | None = None
    tls_verify: bool = True
    max_connections: PositiveInt = 4096
    ws_streams: Annotated[
        int, Field(ge=1, le=16, description="WebSocket: sessions on one connection, told apart by stream_id; 1 is a connection for each")
    ] = 1
    ws_traceparent: Annotated[
        bool | None,
        Field(description="WebSocket: trace context in each turn's metadata; on for the stub, off for real endpoints unless asked"),
    ] = None
    retries: Annotated[int, Field(ge=0, description="each retry is a new attempt row; off by default")] = 0


class NamedTarget(Target):
    """One of several targets. What it leaves out is taken from `target`."""

    name: Annotated[str, Field(min_length=1, description="what its rows are called")]
    weight: Annotated[float, Field(gt=0, description="its share of the sessions, relative to the others'")] = 1.0

    def over(self, shared: Target) -> Target:
        """With what it does not say itself from ``shared``."""
        return shared.model_copy(update={key: getattr(self, key) for key in self.model_fields_set & set(Target.model_fields)})
