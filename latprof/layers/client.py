"""The client's own stamps as the root of every request's tree.

intended   ready      start                send      written                          first token
   |lateness |cap wait | build (dns connect tls) | upload |============ leg ============|

A body that continues a real answer is written in the think time; what that spills past the intended start is build, before lateness.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from latprof.clock import WallAnchor
from latprof.layers.evidence import Hop, Leg, Piece
from latprof.layers.tree import CLIENT, HopNode, LegNode
from latprof.observations.columns import Requests
from latprof.units import MISSING_NS

STAMPS: Final = (
    "intended_ns", "built_ns", "ready_ns", "start_ns", "dns_start_ns", "dns_end_ns", "connect_start_ns", "connect_end_ns", "tls_end_ns", "send_ns",
    "written_ns", "first_token_ns", "end_ns",
)  # fmt: skip
"""The columns of a request that are looked at here."""


def stamps_of(requests: Requests, row: int) -> dict[str, int]:
    """The client's stamps of one request."""
    return {name: int(getattr(requests, name)[row]) for name in STAMPS}


def client_node(stamps: Mapping[str, int], anchor: WallAnchor, *, is_retry: bool) -> HopNode:
    """The client's hop for one request with a first token: window [intended start, first token] in Unix ns."""

    def at(name: str) -> int:
        stamp = stamps[name]
        return anchor.to_unix(stamp) if stamp != MISSING_NS else MISSING_NS

    intended_ns, first_token_ns = at("intended_ns"), at("first_token_ns")
    built_ns = max(at("built_ns"), intended_ns)
    ready_ns = max(at("ready_ns"), built_ns)  # a timer may wake some µs early
    send_ns = _first_known(at("send_ns"), at("start_ns"), intended_ns)
    written_ns = min(_first_known(at("written_ns"), send_ns), first_token_ns)
    spans = (
        ("client.build", intended_ns, built_ns, 1),
        ("client.retry" if is_retry else "client.lateness", built_ns, ready_ns, 1),
        ("client.cap_wait", ready_ns, max(at("start_ns"), intended_ns), 1),
        ("client.build", max(at("start_ns"), intended_ns), send_ns, 1),
        ("net.dns", at("dns_start_ns"), at("dns_end_ns"), 2),
        ("net.connect", at("connect_start_ns"), at("connect_end_ns"), 2),
        ("net.tls", at("connect_end_ns"), at("tls_end_ns"), 2),
        ("net.upload", send_ns, written_ns, 1),
    )
    pieces = [
        # Building may include a wait for a connection, which is not told apart.
        Piece(CLIENT, CLIENT, layer, begun_ns, ended_ns, MISSING_NS if layer == "client.build" else 0, level, "client")
        for layer, begun_ns, ended_ns, level in spans
        if MISSING_NS not in (begun_ns, ended_ns)
    ]
    leg = Leg(CLIENT, CLIENT, written_ns, first_token_ns, first_token_ns)
    return HopNode(Hop(CLIENT, CLIENT, intended_ns, first_token_ns, first_token_ns), pieces, [LegNode(leg)])


def wire_leg(stamps: Mapping[str, int], anchor: WallAnchor) -> Leg:
    """First byte out to last byte in: what bounds the clocks of the hops behind the address."""
    out_ns, in_ns, first_ns = (
        anchor.to_unix(stamps[name]) if stamps[name] != MISSING_NS else MISSING_NS for name in ("send_ns", "end_ns", "first_token_ns")
    )
    return Leg(CLIENT, CLIENT, out_ns, in_ns, first_ns)


def _first_known(*stamps_ns: int) -> int:
    return next(stamp for stamp in stamps_ns if stamp != MISSING_NS)
