"""How much of every layer an open loop asks for, before anything is played: rate times mean service over servers."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from latprof.config import Stage, Stub
from latprof.stub.filling import filled
from latprof.stub.models.costs import KV_UNITS, TICKS_PER_NS
from latprof.stub.models.engines import costs_of, limits_of
from latprof.stub.models.prefill import PrefixCache, prefill_ns
from latprof.stub.models.stages import GATEWAY_LAYERS, Layer, layer_of, servers_of, speedup_of
from latprof.stub.virtual.call import VirtualTurn
from latprof.stub.virtual.engines import ENGINE, transfer_ns
from latprof.units import NS_PER_S


@dataclass(frozen=True, slots=True)
class Demand:
    """What a mean turn asks for: its prompt's time in a prefill pool without plants and speed-ups, its tokens, and how many turns there are."""

    turns: int
    prefill_ns: float
    prompt_tokens: float
    output_tokens: float


def demand_of(stub: Stub, turns: Iterable[VirtualTurn]) -> Demand:
    """The means over ``turns`` (at least one), sent one after the other through a prefix cache as large as a pool's."""
    stub = filled(stub)
    cache, block_tokens = PrefixCache(stub.prefill.cache_blocks), stub.prefill.cache_block_tokens
    number = prompt_tokens = output_tokens = 0
    busy_ns = 0.0
    for turn in turns:
        cached = cache.match(turn.blocks[: max(0, turn.prompt_tokens - 1) // block_tokens]) * block_tokens
        cache.insert(turn.blocks, turn.lone_blocks)
        busy_ns += prefill_ns(stub.prefill, turn.prompt_tokens - cached, cached)
        number += 1
        prompt_tokens += turn.prompt_tokens
        output_tokens += turn.output_tokens
    return Demand(number, busy_ns / number, prompt_tokens / number, output_tokens / number)


def offered(stub: Stub, rate_per_s: float, demand: Demand) -> dict[str, float]:
    """Layer -> utilisation that ``rate_per_s`` turns of ``demand`` ask for; 1 and more is more than it can do.

    A decode pool is held against what it makes with every slot taken: slots / (t1 + per_sequence * slots) tokens per unit of time.
    """
    stub = filled(stub)
    per_ns, servers = rate_per_s / NS_PER_S, servers_of(stub)
    front: list[tuple[Stage, str]] = [("gateway", name) for name in GATEWAY_LAYERS]
    front.append(("router", "router"))
    busy = {name: per_ns * _mean_ns(stub, layer_of(stub, stage, name), demand) / servers[name] for stage, name in front}
    if stub.engine.mode == "colocated":
        return busy | {ENGINE: per_ns * _replica_ns(stub, demand) / stub.engine.replicas}
    pools = {
        "prefill": _adjusted(layer_of(stub, "prefill", "prefill"), demand.prefill_ns),
        "kv.transfer": _mean_ns(stub, layer_of(stub, "decode", "kv.transfer"), demand),
        "decode": demand.output_tokens * _iteration_ns(stub) + _adjusted(layer_of(stub, "decode", "decode.first"), 0),
    }
    return busy | {name: per_ns * one_ns / servers[name] for name, one_ns in pools.items()}


def _iteration_ns(stub: Stub) -> float:
    """With every slot taken."""
    return (stub.decode.t1_ns + stub.decode.per_sequence_ns * stub.decode.slots) / speedup_of(stub, "decode")


def _replica_ns(stub: Stub, demand: Demand) -> float:
    """The least of a colocated replica's time that a turn takes: its share of full iterations, its prompt's compute beside their memory."""
    limits = limits_of(stub)
    tokens = demand.prompt_tokens + demand.output_tokens
    streams = max(1, min(limits.max_sequences, int(limits.kv_blocks * limits.block_tokens // tokens)))
    context_units = round(streams * (demand.prompt_tokens + demand.output_tokens / 2) * KV_UNITS)
    memory_ns, compute_ns = (
        side / TICKS_PER_NS / streams * demand.output_tokens / limits.accepted_tokens
        for side in costs_of(stub).decode(streams, context_units)
    )
    prompt_ns = (demand.prefill_ns - stub.prefill.t0_ns) / speedup_of(stub, "prefill")
    return max(memory_ns, compute_ns + prompt_ns)


def _mean_ns(stub: Stub, layer: Layer, demand: Demand) -> float:
    law = layer.law
    mean_ns = sum(law.values_ns) / len(law.values_ns) if law.dist == "empirical" else law.mean_ns
    if layer.name == "gateway.tokenize" and stub.gateway.tokenize == "real":
        model = stub.gateway.tokenize_model
        mean_ns = model.t0_ns + model.per_token_ns * demand.prompt_tokens
    if layer.name == "kv.transfer":
        mean_ns += transfer_ns(stub, round(demand.prompt_tokens), round(demand.prefill_ns))
    return _adjusted(layer, mean_ns)


def _adjusted(layer: Layer, mean_ns: float) -> float:
    """With plant, speed-up and stalls, in the mean."""
    return (mean_ns + layer.plant_ns) / layer.speedup + sum(fault.share * fault.for_ns for _, fault in layer.stalls)
