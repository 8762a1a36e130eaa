"""From the configuration to colocated engines: costs with their speed-ups, limits, replicas."""

from __future__ import annotations

from collections.abc import Hashable
from typing import TypeVar

from latprof.config import Stub
from latprof.stub.filling import filled
from latprof.stub.models.costs import Coefficients, Costs, costs
from latprof.stub.models.engine import UNLIMITED, Engine, Limits
from latprof.stub.models.stages import speedup_of

J = TypeVar("J", bound=Hashable)


def costs_of(stub: Stub) -> Costs:
    """What an iteration of the configured colocated engine costs, presets filled in and speed-ups applied."""
    stub = filled(stub)
    engine, prefill, decode = stub.engine, stub.prefill, stub.decode
    own = Coefficients(
        t0_ns=prefill.t0_ns,
        per_token_ns=prefill.per_token_ns,
        per_pair_ns=prefill.per_token_pair_ns,
        t1_ns=decode.t1_ns,
        per_sequence_ns=decode.per_sequence_ns,
        per_stream_ns=engine.stream_ns,
        weights_ns=engine.weights_ns,
        experts_ns=engine.experts_ns,
        experts_missed=engine.experts_missed,
        kv_token_ns=engine.kv_token_ns,
        comm_ns=engine.comm_ns,
    )
    return costs(own, speedup_of(stub, "prefill"), speedup_of(stub, "decode"))


def limits_of(stub: Stub) -> Limits:
    """What one replica holds at once."""
    stub = filled(stub)
    engine, block_tokens = stub.engine, stub.prefill.cache_block_tokens
    blocks = engine.kv_blocks
    if blocks is None:
        blocks = UNLIMITED if engine.kv_tokens is None else engine.kv_tokens // block_tokens
    return Limits(engine.token_budget, engine.max_sequences, blocks, block_tokens, stub.prefill.cache_blocks, engine.accepted_tokens)


def replicas_of(stub: Stub) -> list[Engine[J]]:
    """The colocated replicas of the configuration, idle."""
    own, limits = costs_of(stub), limits_of(stub)
    return [Engine(own, limits) for _ in range(stub.engine.replicas)]
