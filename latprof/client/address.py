"""Where the requests go: a URL as people write it, read into host, port and the dialect's path."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from urllib.parse import SplitResult, quote, urlsplit

from latprof.client.redact import Redactor, secrets_in_query
from latprof.errors import UsageError

_PORTS = {"http": 80, "https": 443}
_SCHEMES = {"ws": "http", "wss": "https"}  # a WebSocket begins as an HTTP request to the same place
_VERSION = re.compile(r"v\d+\w*")
_HOST = re.compile(r"[A-Za-z0-9._\-]+|[0-9A-Fa-f:.]+(%[\w.\-]+)?")


@dataclass(frozen=True, slots=True)
class Address:
    """One endpoint. ``target`` is the request line's path and query; ``str()`` leaves the query out, which may hold a key."""

    scheme: str
    host: str
    port: int
    path: str
    query: str = field(default="", repr=False)  # it may hold a key

    @property
    def is_tls(self) -> bool:
        """Whether the connection is encrypted."""
        return self.scheme == "https"

    @property
    def is_loopback(self) -> bool:
        """Whether it is on this machine, as far as its name tells."""
        return self.host in {"localhost", "::1"} or self.host.startswith("127.")

    @property
    def target(self) -> str:
        """What stands in the request line."""
        return f"{self.path}?{self.query}" if self.query else self.path

    @property
    def authority(self) -> str:
        """``host:port`` with the brackets an IPv6 address needs; the port is always there, for messages."""
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    @property
    def host_header(self) -> str:
        """The ``Host`` header: the port only where it is not the scheme's own. A scope id (``%eth0``) means nothing to the peer."""
        host = self.host.split("%", 1)[0]
        host = f"[{host}]" if ":" in host else host
        return host if self.port == _PORTS[self.scheme] else f"{host}:{self.port}"

    @property
    def secrets(self) -> list[str]:
        """Secret values in the query."""
        return secrets_in_query(self.query)

    def __str__(self) -> str:
        return f"{self.scheme}://{self.authority}{self.path}"


def read_address(url: str, endpoint: str = "/chat/completions") -> Address:
    """Read ``url``: with or without ``/v1``, with or without a trailing slash, or the full path of ``endpoint``.

    A path that already has a version segment (``/v1``, ``/v1beta/openai``, ``/api/v3``) is a base to which ``endpoint`` is added; any other
    path gets ``/v1`` first. A query (``?api-version=...``) is kept.

    Raises:
        UsageError: no scheme, no host, a bad port, credentials in the URL. The text never repeats credentials.
    """
    parts = _split(url)
    if parts.username is not None or parts.password is not None:
        raise UsageError(
            f"--url must not hold credentials, got {_shown(url)}; give a bearer token with --api-key-env NAME, anything else with --header"
        )
    host = _ascii_host(parts.hostname or "", url)
    return Address(
        scheme=parts.scheme,
        host=host,
        port=_port(parts, url),
        path=_full_path(parts.path, endpoint),
        query=quote(parts.query, safe="=&%+:/?@!$'()*,;-._~"),
    )


def _split(url: str) -> SplitResult:
    wanted = "--url must be such as http://127.0.0.1:8000 or https://host/v1"
    try:
        parts = urlsplit(url.strip())
    except ValueError as error:
        raise UsageError(f"{wanted}, got {_shown(url)} ({error})") from None
    parts = parts._replace(scheme=_SCHEMES.get(parts.scheme, parts.scheme))
    if parts.scheme not in _PORTS:
        hint = "" if "://" in url or not url.strip() else f"; did you mean http://{_bare(url)}?"
        raise UsageError(f"{wanted}, got {_shown(url)}{hint}")
    if not parts.hostname:
        raise UsageError(f"{wanted}, got {_shown(url)}, which names no host")
    return parts


def _port(parts: SplitResult, url: str) -> int:
    try:
        port = parts.port
    except ValueError:
        port = 0
    if port is None:
        return _PORTS[parts.scheme]
    if port == 0:
        raise UsageError(f"--url must have a port from 1 to 65535, got {_shown(url)}")
    return port


def _ascii_host(host: str, url: str) -> str:
    try:
        # The codec refuses nothing in a plain IPv6 address but is not meant for one.
        name = host if ":" in host else host.encode("idna").decode("ascii")
    except UnicodeError:
        name = ""
    if not _HOST.fullmatch(name):
        raise UsageError(f"--url must name a host or an IP address, got {_shown(url)}")
    return name


def _full_path(path: str, endpoint: str) -> str:
    base = quote(path.rstrip("/"), safe="/%:@!$&'()*+,;=-._~")
    if base.endswith(endpoint):
        return base
    versioned = any(_VERSION.fullmatch(segment) for segment in base.split("/"))
    return base + endpoint if versioned else f"{base}/v1{endpoint}"


def _shown(url: str) -> str:
    return repr(_bare(url))


def _bare(url: str) -> str:
    """``url`` for a message: no userinfo (with a scheme or without), no query."""
    bare = url.strip().split("?", 1)[0].split("#", 1)[0]
    scheme, mark, rest = bare.rpartition("://")
    authority, slash, path = rest.partition("/")
    return Redactor()(f"{scheme}{mark}{authority.rpartition('@')[2]}{slash}{path}")
