"""The request's headers: checked and written out before the run, so that the hot path only joins bytes."""

from __future__ import annotations

import re
from collections.abc import Mapping
from importlib.metadata import version
from typing import TYPE_CHECKING

from latprof.client.address import Address
from latprof.client.dialects import DIALECTS
from latprof.errors import UsageError

if TYPE_CHECKING:
    from latprof.config import Target

_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_VALUE = re.compile(r"[\t\x20-\x7e\x80-\xff]*")
# Framing, and what the measurement itself rests on.
_OURS = frozenset(
    {"content-length", "transfer-encoding", "connection", "accept-encoding", "traceparent", "tracestate", "expect", "upgrade"}
)


def request_headers(target: Target, address: Address, environment: Mapping[str, str]) -> dict[str, str]:
    """Every header that all requests share, lower-case names; those of the configuration replace latprof's own.

    Raises:
        UsageError: the key's environment variable is missing, or a header cannot be sent. No value is ever repeated in the text.
    """
    dialect = DIALECTS[target.dialect]
    headers = {
        "host": address.host_header,
        "user-agent": f"latprof/{version('latprof')}",
        "accept": "text/event-stream",
        # A compressed stream would be stamped by the compressor's blocks.
        "accept-encoding": "identity",
        "content-type": "application/json",
        **dict(dialect.headers),
    }
    if target.api_key_env is not None:
        name, before = dialect.key_header
        headers[name] = before + _api_key(target.api_key_env, environment)
    headers.update(_checked(target.headers))
    return headers


def head_prefix(headers: Mapping[str, str], address: Address) -> bytes:
    """The request line and the shared headers, up to where each request's own headers follow."""
    lines = [f"POST {address.target} HTTP/1.1", *(f"{name}: {value}" for name, value in headers.items())]
    return "".join(f"{line}\r\n" for line in lines).encode("latin-1")


def _api_key(name: str, environment: Mapping[str, str]) -> str:
    if not _VARIABLE.fullmatch(name):
        # Most likely the key itself, which must not be repeated.
        raise UsageError("--api-key-env wants the NAME of an environment variable such as OPENAI_API_KEY, got what cannot be one")
    key = environment.get(name, "").strip()
    if not key:
        raise UsageError(f"--api-key-env names {name}, which is not set or empty; export {name}=... or leave the flag out")
    if not _VALUE.fullmatch(key):
        raise UsageError(f"--api-key-env: the value of {name} holds characters that no header can carry; check for line breaks in it")
    return key


def _checked(headers: Mapping[str, str]) -> dict[str, str]:
    for name, value in headers.items():
        if not _NAME.fullmatch(name):
            raise UsageError(f"--header (target.headers): {name!r} is not a header name; write it as 'name: value'")
        if name.lower() in _OURS:
            raise UsageError(f"--header (target.headers): {name} is set by latprof itself; leave it out")
        if not _VALUE.fullmatch(value):
            raise UsageError(f"--header (target.headers): the value of {name} holds a line break or a character outside Latin-1")
    return {name.lower(): value.strip() for name, value in headers.items()}
