"""The layers, in path order, each with one line that says what time it owns.

A prefix names the sum of its children wherever a layer is named (``gateway``). ``a+b`` is time that belongs to neighbours which the evidence
cannot tell apart. ``unattributed@hop`` is time inside that hop's own span that no layer of it claims.
"""

from __future__ import annotations

from typing import Final

LAYERS: Final[dict[str, str]] = {
    "client.lateness": "the generator was late: intended start to the moment it woke",
    "client.retry": "earlier attempts at the same turn, and the wait before this one",
    "client.cap_wait": "waiting for a place under the concurrency cap",
    "client.build": "making the request and taking a connection from the pool",
    "net.dns": "name resolution",
    "net.connect": "TCP connect",
    "net.tls": "TLS handshake",
    "net.upload": "writing the request into the socket",
    "net.request": "on the way from one hop to the next, prompt included",
    "injected": "delayed on purpose by latprof's own hop, to see what depends on it",
    "lb": "load balancer: parsing, balancing, connecting upstream",
    "gateway.queue": "waiting for one of the places of a gateway that works on so many requests at once",
    "gateway.validate": "parsing and validating the request",
    "gateway.auth": "authentication",
    "gateway.ratelimit": "rate limits, quotas, pre-call hooks",
    "gateway.safety": "safety and policy checks",
    "gateway.render": "chat template",
    "gateway.tokenize": "tokenization in the gateway",
    "gateway.proxy": "the gateway's own work around the upstream call",
    "router": "choosing the replica",
    "engine.api": "the engine's HTTP front",
    "engine.tokenize": "tokenization in the engine",
    "engine.queue": "waiting for the scheduler",
    "prefill": "computing the prompt",
    "kv.transfer": "moving the KV cache from prefill to decode",
    "decode.first": "the decode iteration that makes the first token",
    "detokenize": "token ids to text",
    "proxy.hold": "a hop keeps the first chunk before it passes it on",
    "net.response": "on the way back from one hop to the next",
    "client.parse": "first byte to first token parsed",
    "server": "everything behind the address, where nothing tells its parts apart",
    "decode": "iterations after the first token",
    "stream": "chunks on their way after the first token",
    "tool": "the client's own work between turns, of a task",
    "think": "from what a turn comes after to its intended start, of a task",
}

WAIT_ONLY: Final = frozenset({"client.lateness", "client.retry", "client.cap_wait", "gateway.queue", "engine.queue"})
"""Layers that are nothing but waiting."""

UNATTRIBUTED: Final = "unattributed@"

_ORDER = {name: index for index, name in enumerate(LAYERS)}
_PREFIX_ORDER: dict[str, int] = {}
for _name, _index in _ORDER.items():
    _PREFIX_ORDER.setdefault(_name.split(".", 1)[0], _index)


def unattributed(hop: str) -> str:
    """The name of the time inside ``hop``'s own span that no layer claims."""
    return UNATTRIBUTED + hop


def merged(*layers: str) -> str:
    """The name of time that several layers share, in path order and without repetition."""
    parts = {part for layer in layers for part in layer.split("+")}
    return "+".join(sorted(parts, key=_rank))


def path_order(layer: str, hops: tuple[str, ...] = ()) -> tuple[int, int, str]:
    """A sort key that puts layers in path order; ``unattributed@hop`` follows the layers, in hop order."""
    if layer.startswith(UNATTRIBUTED):
        hop = layer.removeprefix(UNATTRIBUTED)
        return (1, hops.index(hop) if hop in hops else len(hops), layer)
    return (0, _rank(layer.rsplit("+", 1)[-1])[0], layer)


def is_known(layer: str) -> bool:
    """Whether ``layer`` is a layer, a prefix of layers, a merged name of such, or unattributed time."""
    if layer.startswith(UNATTRIBUTED):
        return len(layer) > len(UNATTRIBUTED)
    return all(part in _ORDER or part in _PREFIX_ORDER for part in layer.split("+"))


def belongs_to(layer: str, name: str) -> bool:
    """Whether ``layer`` counts towards ``name``: itself, a child of the prefix, or merged from nothing but such."""
    return layer == name or all(part == name or part.startswith(name + ".") for part in layer.split("+"))


def _rank(part: str) -> tuple[int, str]:
    return (_ORDER.get(part, _PREFIX_ORDER.get(part, len(_ORDER))), part)
