"""Behind the router: pools of prefill and decode, or colocated replicas, and the balancers before them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from latprof.config import Stage, Stub
from latprof.stub.models.balance import Balancer
from latprof.stub.models.costs import KV_UNITS, TICK_BITS, kv_transfer_ns
from latprof.stub.models.engine import Engine
from latprof.stub.models.engines import costs_of, replicas_of
from latprof.stub.models.stages import layer_of, speedup_of
from latprof.stub.virtual.back import WayBack
from latprof.stub.virtual.calendar import Calendar
from latprof.stub.virtual.call import Call, Then
from latprof.stub.virtual.integrals import Integrated
from latprof.stub.virtual.pools import VirtualDecode, VirtualReplica
from latprof.stub.virtual.stations import Service, VirtualPrefill, chain, delays, service_of
from latprof.stub.virtual.streams import Segments, Streams
from latprof.stub.virtual.tokens import ModelledTokenizer

ENGINE: Final = "engine"
"""Colocated replicas as one station: a request is served from when it is begun to its last token."""


@dataclass(frozen=True, slots=True)
class VirtualEngine:
    """Where the router's calls go; the integrals of the stations behind it; and what hands on the last iterations."""

    arrive: Then
    integrals: Mapping[str, Sequence[Integrated]]
    close: Callable[[], None]


class _Balanced:
    """Equal replicas behind a balancer, which looks at prompts where ``sees_prompts``: a call is theirs until `left` is told."""

    def __init__(self, stub: Stub, replicas: int, *, sees_prompts: bool = True) -> None:
        self._sees_prompts = sees_prompts
        self._balancer = Balancer(stub.router.policy, replicas, stub.router.affinity_slack)
        self._enter: Sequence[Then] = ()
        self._is_sole = replicas == 1

    def connect(self, enter: Sequence[Then]) -> None:
        """Where the calls of each replica go."""
        self._enter = enter

    def arrive(self, now_ns: int, call: Call) -> None:
        """Pick a replica."""
        if self._is_sole:
            self._enter[0](now_ns, call)
            return
        balancer = self._balancer
        if self._sees_prompts:
            replica = balancer.pick(now_ns, call.blocks, call.key, call.lone_blocks)
        else:
            replica = balancer.pick(now_ns, (), call.key)
        call.replica = replica
        balancer.begun(replica)
        self._enter[replica](now_ns, call)

    def left(self, _: int, call: Call) -> None:
        """The call's replica is done with it."""
        if not self._is_sole:
            self._balancer.ended(call.replica)


def disaggregated(calendar: Calendar, stub: Stub, out: Then, write: Segments) -> VirtualEngine:
    """Prefill pools, the transfer of the KV, decode pools."""
    shortest_ns = max(1, round((stub.decode.t1_ns + stub.decode.per_sequence_ns) / speedup_of(stub, "decode")))
    back = WayBack(stub, shortest_ns, out)
    first, speedup = layer_of(stub, "decode", "decode.first"), speedup_of(stub, "decode")
    decodes = _Balanced(stub, stub.decode.replicas, sees_prompts=False)
    pools = [
        VirtualDecode(calendar, stub.decode, first, speedup, _streams(stub, number, write, back, delays(first)), decodes.left)
        for number in range(stub.decode.replicas)
    ]
    decodes.connect([pool.arrive for pool in pools])
    transfer, of_transfer = chain(calendar, [station_of(stub, "decode", "kv.transfer")], decodes.arrive)
    prefills = _Balanced(stub, stub.prefill.replicas)

    def computed(now_ns: int, call: Call) -> None:
        prefills.left(now_ns, call)
        transfer(now_ns, call)

    layer = layer_of(stub, "prefill", "prefill")
    computing = [VirtualPrefill(calendar, stub.prefill, layer, computed) for _ in range(stub.prefill.replicas)]
    prefills.connect([pool.arrive for pool in computing])
    integrals: dict[str, Sequence[Integrated]] = {
        "prefill": [pool.integral for pool in computing],
        "kv.transfer": [of_transfer["kv.transfer"]],
        "decode": [pool.integral for pool in pools],
    }
    return VirtualEngine(prefills.arrive, integrals, lambda: _close(pools))


def colocated(calendar: Calendar, stub: Stub, out: Then, write: Segments) -> VirtualEngine:
    """Replicas that compute prompts and answers in the same iterations."""
    shortest_ns = max(1, min(costs_of(stub).decode(1, 0)) >> TICK_BITS)
    back = WayBack(stub, shortest_ns, out)
    layers = layer_of(stub, "decode", "prefill"), layer_of(stub, "decode", "decode.first")
    late = any(map(delays, layers))
    balanced = _Balanced(stub, stub.engine.replicas)
    engines: list[Engine[Call]] = replicas_of(stub)
    replicas = [
        VirtualReplica(calendar, engine, layers, _streams(stub, number, write, back, late), balanced.left)
        for number, engine in enumerate(engines)
    ]
    balanced.connect([replica.arrive for replica in replicas])
    return VirtualEngine(balanced.arrive, {ENGINE: replicas}, lambda: _close(replicas))


def station_of(stub: Stub, stage: Stage, name: str) -> tuple[str, int, Service]:
    """A layer that serves one request after the other: its name, its servers, and a call's service there."""
    layer = layer_of(stub, stage, name)
    if name == "gateway.tokenize" and stub.gateway.tokenize == "real":
        return name, layer.workers, ModelledTokenizer(stub.gateway, layer).service_ns
    if name == "kv.transfer" and stub.decode.kv_per_token_ns:
        # The last mark is the prefill's service, behind which a part of the transfer may hide.
        return name, layer.workers, lambda call: layer.service_ns(call.key, transfer_ns(stub, call.prompt_tokens, call.marks[-1]))
    return name, layer.workers, service_of(layer)


def transfer_ns(stub: Stub, prompt_tokens: int, prefill_ns: int) -> int:
    """What the KV of a prompt adds to the transfer's own service."""
    return kv_transfer_ns(prompt_tokens, stub.decode.kv_per_token_ns, stub.decode.kv_overlap_layers, prefill_ns)


def _streams(stub: Stub, number: int, write: Segments, back: WayBack, late: bool) -> Streams:
    accepted = round(stub.engine.accepted_tokens * KV_UNITS) if stub.engine.mode == "colocated" else KV_UNITS
    return Streams(number, write, back, stub.decode.stream_interval, accepted, delays_firsts=late)


def _close(pools: Sequence[VirtualDecode] | Sequence[VirtualReplica]) -> None:
    for pool in pools:
        pool.close()
