"""What an iteration costs: a roofline of merged FLOPs and bytes, or plain coefficients of time.

    iteration = start + max(memory, compute) + per_sequence * streams
    memory    = W(tokens) + kv * (context tokens read)
    compute   = per_token * n + per_pair * (m*n + n^2/2)  of every chunk of n prompt tokens on m computed ones  +  per_stream * streams

``start`` is the greater of the prefill's t0 and the decode's t1, of those present. Without a roofline (``W = kv = 0``) a pure decode step is
t1 + per_sequence * streams and a pure prompt t0 + a*n + b*(m*n + n^2/2), as in the pools. Everything is held in ticks of 2^-30 ns, as
integers: sums over many steps are exact, and a coefficient is off by less than 1e-8 of itself from 0.1 ns up.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

TICK_BITS: Final = 30
TICKS_PER_NS: Final = 1 << TICK_BITS
KV_UNITS: Final = 1 << 10
"""Parts of a token: a context that grows by a mean of 2.7 tokens per iteration is still an integer."""


def ticks(ns: float) -> int:
    """A duration in ns as ticks, rounded to the nearest."""
    return round(ns * TICKS_PER_NS)


@dataclass(frozen=True, slots=True)
class Coefficients:
    """Durations in ns, as configured or found by ``roofline``; speed-ups are applied by ``costs``."""

    t0_ns: float
    per_token_ns: float
    per_pair_ns: float
    t1_ns: float
    per_sequence_ns: float = 0.0
    per_stream_ns: float = 0.0
    weights_ns: float = 0.0
    experts_ns: float = 0.0
    experts_missed: float = 1.0
    """Probability that a given expert is not used by a given token: 1 - topk/E; W(b) = weights + experts * (1 - missed^b)."""
    kv_token_ns: float = 0.0
    comm_ns: float = 0.0


@dataclass(frozen=True, slots=True)
class Costs:
    """Coefficients in ticks, speed-ups applied. ``kv`` is per 1/1024 of a context token; ``pair2`` per half pair."""

    prefill_start: int
    per_token: int
    pair2: int
    prefill_weights: int
    prefill_experts: int
    prefill_kv: int
    decode_start: int
    per_sequence: int
    per_stream: int
    weights: int
    experts: int
    kv: int
    experts_missed: float

    def decode(self, streams: int, kv_units: int) -> tuple[int, int]:
        """A decode-only step: its memory side and its compute side, both with all that is added to the greater of them."""
        added = self.decode_start + self.per_sequence * streams
        memory = self.weights + self.kv * kv_units
        if self.experts:
            memory += self._touched(self.experts, streams)
        return added + memory, added + self.per_stream * streams

    def mixed(self, streams: int, kv_units: int, tokens: int, pairs2: int, context_tokens: int) -> int:
        """An iteration with prompts in it: ``tokens`` new ones that make ``pairs2`` = sum(2*m*n + n^2) on contexts m that sum to ``context_tokens``."""
        memory = self.prefill_kv * KV_UNITS * context_tokens
        compute = self.per_token * tokens + self.pair2 * pairs2
        if not streams:
            memory += self.prefill_weights + (self._touched(self.prefill_experts, tokens) if self.prefill_experts else 0)
            return self.prefill_start + max(memory, compute)
        memory += self.weights + self.kv * kv_units + (self._touched(self.experts, streams + tokens) if self.experts else 0)
        compute += self.per_stream * streams
        return max(self.prefill_start, self.decode_start) + self.per_sequence * streams + max(memory, compute)

    def _touched(self, experts: int, tokens: int) -> int:
        return round(experts * (1.0 - self.experts_missed**tokens))


def costs(own: Coefficients, prefill_speedup: float = 1.0, decode_speedup: float = 1.0) -> Costs:
    """Divide by the speed-ups. Reading the weights is the decode's where there are streams, else the prefill's."""
    by_prefill, by_decode = 1.0 / prefill_speedup, 1.0 / decode_speedup
    return Costs(
        prefill_start=ticks((own.t0_ns + own.comm_ns) * by_prefill),
        per_token=ticks(own.per_token_ns * by_prefill),
        pair2=ticks(own.per_pair_ns * by_prefill / 2),
        prefill_weights=ticks(own.weights_ns * by_prefill),
        prefill_experts=ticks(own.experts_ns * by_prefill),
        prefill_kv=ticks(own.kv_token_ns * by_prefill / KV_UNITS),
        decode_start=ticks((own.t1_ns + own.comm_ns) * by_decode),
        per_sequence=ticks(own.per_sequence_ns * by_decode),
        per_stream=ticks(own.per_stream_ns * by_decode),
        weights=ticks(own.weights_ns * by_decode),
        experts=ticks(own.experts_ns * by_decode),
        kv=ticks(own.kv_token_ns * by_decode / KV_UNITS),
        experts_missed=own.experts_missed,
    )


def kv_transfer_ns(tokens: int, per_token_ns: float, overlap_layers: int = 1, prefill_ns: int = 0) -> int:
    """What ``tokens`` of KV add to the set-up of a transfer: n * kappa / link.

    Sent layer by layer while the next is computed (``overlap_layers`` above 1), only what outlasts the prefill is waited for, and at least
    the last layer, which nothing hides.
    """
    whole_ns = tokens * per_token_ns
    return round(whole_ns if overlap_layers == 1 else max(whole_ns / overlap_layers, whole_ns - prefill_ns))
