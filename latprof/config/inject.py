"""The configuration of the causal check: where requests are delayed on purpose, and by how much."""

from __future__ import annotations

import re
from typing import Annotated, Literal
from urllib.parse import urlsplit

from pydantic import BeforeValidator, Field, model_validator

from latprof.config.stub import STAGES
from latprof.config.values import DurationNs, Section
from latprof.units import NS_PER_MS, NS_PER_S

_BARE = re.compile(r"[0-9.]+")
_PLACE = re.compile(r"[A-Za-z0-9][A-Za-z0-9._\-]*")
_LISTEN = re.compile(r"(?:(?P<host>[A-Za-z0-9._\-]+|\[[0-9A-Fa-f:.]+\])?:)?(?P<port>\d{1,5})")
_DEFAULT_PORTS = {"http": 80, "https": 443}
MOST_DELAYS = 16


def _with_units(value: object) -> object:
    """Durations; what has no unit of its own is in that of the last, as in ``0,5,20,50ms``."""
    texts = [str(one).strip() for one in value] if isinstance(value, list | tuple) else str(value).split(",")
    texts = [text.strip() for text in texts]
    unit = "" if not texts or _BARE.fullmatch(texts[-1]) else texts[-1].lstrip("0123456789. ")
    written = [f"{text}{unit}" if _BARE.fullmatch(text) and unit else text for text in texts]
    for text in written:
        if _BARE.fullmatch(text) and float(text) != 0:
            raise ValueError(f"must be durations with a unit such as 0,5,20,50ms, got {text!r} without one")
    return written


def _read_listen(value: object) -> object:
    match = None if value is None or isinstance(value, bool) else _LISTEN.fullmatch(str(value).strip())
    if value is not None and (match is None or not 0 < int(match["port"]) < 1 << 16):
        raise ValueError(f"must be a port from 1 to 65535, or host:port, such as 9100 or 127.0.0.1:9100, got {value!r}")
    return None if match is None else f"{match['host'] or '127.0.0.1'}:{int(match['port'])}"


def _read_upstream(value: object) -> object:
    """Scheme, host and port. Credentials are not repeated."""
    if value is None:
        return None
    wanted = "must be such as http://127.0.0.1:8001 or https://host"
    try:
        parts = urlsplit(str(value).strip())
        port = parts.port
    except ValueError:
        raise ValueError(f"{wanted}, got an address that cannot be read") from None
    if "@" in parts.netloc:
        raise ValueError("must not hold credentials, got some; the hop passes on what the gateway says, keys included")
    if parts.scheme not in _DEFAULT_PORTS or not parts.hostname:
        raise ValueError(f"{wanted}, got {value!r}")
    if parts.path.strip("/") or parts.query or parts.fragment:
        raise ValueError(f"{wanted}, without a path, for the hop changes none; got {value!r}: leave the path to the gateway")
    host = f"[{parts.hostname}]" if ":" in parts.hostname else parts.hostname
    return f"{parts.scheme}://{host}:{port or _DEFAULT_PORTS[parts.scheme]}"


class Inject(Section):
    """Delays put in front of a part of the stack by a hop of latprof's own, at random: what TTFT makes of them is evidence of cause.

    request   every request draws its delay: a slope of 1 is time that the answer waits for
    block     all requests of a stretch of time have the same: what the delay does to the load is in it too
    both      blocks of either kind in turn
    """

    before: Annotated[
        str,
        Field(
            description="gateway: in front of everything; router, prefill, decode: stages of the stub; with listen and upstream any name"
        ),
    ] = "gateway"
    listen: Annotated[
        str | None,
        BeforeValidator(_read_listen),
        Field(description="host:port at which the hop waits for a gateway that is pointed at it; loopback for a port alone"),
    ] = None
    upstream: Annotated[
        str | None,
        BeforeValidator(_read_upstream),
        Field(description="where the gateway sent requests before: scheme, host and port, to which the hop passes them on"),
    ] = None
    delays_ns: Annotated[
        tuple[DurationNs, ...],
        BeforeValidator(_with_units),
        Field(alias="delays", description="one is drawn for each request, or block; with 0 among them"),
    ] = (0, 5 * NS_PER_MS, 20 * NS_PER_MS, 50 * NS_PER_MS)
    block_ns: Annotated[DurationNs, Field(alias="block", gt=0)] = 5 * NS_PER_S
    per: Literal["request", "block", "both"] = "both"

    @model_validator(mode="after")
    def _several(self) -> Inject:
        if len(set(self.delays_ns)) < 2:
            raise ValueError("delays must hold at least two different durations such as 0,20ms, for a slope needs a difference")
        if len(set(self.delays_ns)) != len(self.delays_ns):
            raise ValueError("delays must differ from each other, got one of them twice")
        if len(self.delays_ns) > MOST_DELAYS:
            raise ValueError(f"delays must be {MOST_DELAYS} at most, got {len(self.delays_ns)}: each needs requests of its own")
        return self

    @model_validator(mode="after")
    def _placed(self) -> Inject:
        if not _PLACE.fullmatch(self.before):
            raise ValueError(f"before must be a name of letters, digits, dots and dashes such as engine, got {self.before!r}")
        if self.upstream is not None and self.upstream == f"http://{self.listen}":
            raise ValueError(f"upstream must be another address than listen, got {self.listen} for both; name what stands behind the hop")
        return self

    @property
    def has_own_address(self) -> bool:
        """Whether the hop waits for somebody who is pointed at it, instead of being put into a way that latprof knows."""
        return self.listen is not None

    def host_and_port(self, of: Literal["listen", "upstream"]) -> tuple[str, int]:
        """One of its two addresses, the host without the brackets of IPv6."""
        address = (self.listen if of == "listen" else self.upstream) or ""
        host, _, port = address.rpartition("://")[2].rpartition(":")
        return host.strip("[]"), int(port)


def check_place(inject: Inject, *, uses_stub: bool) -> None:
    """Whether the hop can stand where it is said to.

    Raises:
        ValueError: it cannot; the text names the key.
    """
    stages = f"{', '.join(map(repr, STAGES[:-1]))} or {STAGES[-1]!r}"
    told = {"listen": inject.listen, "upstream": inject.upstream}
    given = [f"inject.{key}" for key, value in told.items() if value is not None]
    if given and uses_stub:
        raise ValueError(
            f"{given[0]}: the stack in a box is brought up by the run, with the hop in it where inject.before says ({stages}); drop"
            f" {' and '.join(given)}, or name a stack of your own with target.url"
        )
    if len(given) == 1:
        missing = next(f"inject.{key}" for key, value in told.items() if value is None)
        raise ValueError(
            f"{given[0]} needs {missing}, got none: listen is where the gateway is pointed at the hop, upstream where its requests"
            " went before; say both"
        )
    if given and "before" not in inject.model_fields_set:
        raise ValueError("inject.before: must name what stands behind inject.upstream, such as engine, got nothing")
    if not given and inject.before not in STAGES:
        raise ValueError(
            f"inject.before: must be {stages}, got {inject.before!r}; anywhere else the hop can stand where a gateway is pointed at it: say"
            " inject.listen and inject.upstream"
        )
    if not given and inject.before != "gateway" and not uses_stub:
        raise ValueError(
            f"inject.before: {inject.before} is a stage of the stack in a box, but target.url names another stack, whose insides latprof"
            " cannot reach; say gateway (in front of everything), or point the stack's own upstream at a hop: inject.listen and inject.upstream"
        )
