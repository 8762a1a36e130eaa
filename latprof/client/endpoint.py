"""One place to send to, resolved from configuration and environment once: plain values that a worker process can be handed.

It holds keys: it travels through pipes only, and its ``repr`` shows none.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal
from urllib.parse import urlsplit

import orjson

from latprof.client.address import Address, read_address
from latprof.client.dialects import DIALECTS
from latprof.client.dialects.dialect import Dialect
from latprof.client.headers import head_prefix, request_headers
from latprof.client.redact import is_sensitive, secrets_in_body, secrets_in_headers
from latprof.client.tls import TlsFiles, tls_context
from latprof.errors import UsageError

if TYPE_CHECKING:
    from latprof.config import Target

Reuse = Literal["reuse", "fresh", "session"]
"""Which request may use a connection again: any, none, or those of the same session."""


@dataclass(frozen=True, slots=True)
class Proxy:
    """An HTTP proxy that is asked to CONNECT; ``authorization`` is the header's value, or empty."""

    host: str
    port: int
    authorization: str = field(default="", repr=False)


@dataclass(frozen=True, slots=True)
class Endpoint:
    """Where requests go and what all of them share. ``head``: the request line and the shared headers, each with its line end."""

    address: Address
    dialect_name: str
    model: str
    head: bytes = field(repr=False)
    secrets: tuple[str, ...] = field(repr=False)
    sends_authorization: bool
    key_variable: str
    extra_body: Mapping[str, Any] = field(repr=False)
    timeout_ns: int
    connect_timeout_ns: int
    max_connections: int
    reuse: Reuse = "reuse"
    sampled: bool = True
    kernel_stamps: bool = True
    tls: TlsFiles | None = None
    proxy: Proxy | None = None
    unix_socket: str = ""
    via: tuple[str, int] | None = None
    """A hop of latprof's own on this machine: connected to in place of the address, in the clear; it holds the connection onwards."""
    ws_streams: int = 1
    ws_traceparent: bool = False

    @property
    def dialect(self) -> Dialect:
        """How to ask and to read."""
        return DIALECTS[self.dialect_name]


def resolve_endpoint(target: Target, url: str, environment: Mapping[str, str]) -> Endpoint:
    """Check everything that can be checked without a connection. ``url`` stands apart from ``target.url``, which is None for the stack in a box.

    Raises:
        UsageError: the URL, a header, the key's environment variable, the extra body, a TLS file or the proxy cannot be used.
    """
    dialect = DIALECTS[target.dialect]
    address = read_address(url, dialect.endpoint)
    _refuse_other_path(address, dialect, url)
    headers = request_headers(target, address, environment)
    proxy = _proxy(target, environment)
    tls = TlsFiles.of(target) if address.is_tls else None
    if tls is not None:
        tls_context(tls)
    try:
        orjson.dumps(target.extra_body)
    except TypeError as error:
        raise UsageError(f"--extra-body (target.extra_body) cannot be written as JSON: {error}") from None
    secrets = [
        *secrets_in_headers(headers),
        *address.secrets,
        *secrets_in_body(target.extra_body),
        *((proxy.authorization.partition(" ")[2],) if proxy is not None else ()),
    ]
    return Endpoint(
        address=address,
        dialect_name=dialect.name,
        model=target.model,
        head=head_prefix(headers, address),
        secrets=tuple(filter(None, secrets)),
        sends_authorization=any(is_sensitive(name) for name in headers),
        key_variable=target.api_key_env or "",
        extra_body=target.extra_body,
        timeout_ns=target.timeout_ns,
        connect_timeout_ns=target.connect_timeout_ns,
        max_connections=target.max_connections,
        reuse=target.connection,
        sampled=target.sampled,
        kernel_stamps=target.kernel_stamps,
        tls=tls,
        proxy=proxy,
        unix_socket="" if target.unix_socket is None else str(target.unix_socket),
        ws_streams=target.ws_streams,
        # Real endpoints keep metadata with the response, and may limit it: nothing is written there unasked.
        ws_traceparent=target.url is None if target.ws_traceparent is None else target.ws_traceparent,
    )


def _refuse_other_path(address: Address, dialect: Dialect, url: str) -> None:
    """A URL that ends in another dialect's path: what was meant is not what would be asked."""
    base = urlsplit(url.strip()).path.rstrip("/")
    named = max((other.endpoint for other in DIALECTS.values() if base.endswith(other.endpoint)), key=len, default=dialect.endpoint)
    if named != dialect.endpoint:
        other = next(other.name for other in DIALECTS.values() if other.endpoint == named)
        raise UsageError(
            f"--url ends in {named}, which is not where dialect {dialect.name} asks ({dialect.endpoint} on {address.authority}); "
            f"say --dialect {other}, or leave the path out of --url"
        )


def _proxy(target: Target, environment: Mapping[str, str]) -> Proxy | None:
    if target.proxy is None:
        return None
    wanted = "--proxy (target.proxy) must be such as http://proxy.example:3128"
    try:
        parts = urlsplit(target.proxy)
        host, port = parts.hostname, parts.port
    except ValueError:
        raise UsageError(f"{wanted}; what was given is no URL") from None
    if parts.scheme != "http" or not host or not re.fullmatch(r"[A-Za-z0-9._:\-]+", host):
        raise UsageError(f"{wanted}, got a {parts.scheme or 'scheme-less'} one; a TLS connection to the proxy itself is not made")
    if parts.username is not None or parts.password is not None:
        raise UsageError(
            "--proxy (target.proxy) must not hold credentials; name the variable that holds user:password with target.proxy_auth_env"
        )
    return Proxy(host, port or 80, _proxy_authorization(target, environment))


def _proxy_authorization(target: Target, environment: Mapping[str, str]) -> str:
    if target.proxy_auth_env is None:
        return ""
    import base64

    pair = environment.get(target.proxy_auth_env, "")
    if ":" not in pair:
        raise UsageError(f"target.proxy_auth_env names {target.proxy_auth_env}, which must be set to user:password")
    return f"Basic {base64.b64encode(pair.encode()).decode()}"
