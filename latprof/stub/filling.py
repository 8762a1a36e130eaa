"""From presets to coefficients: the roofline of a model on a machine, published rates, links.

Formulas (P_a active parameters, N_L layers, d = heads * head_dim, F and B what is reached of peak FLOP/s and bandwidth, summed over chips):

    prompt   t0 + [2*P_a*n + 4*N_L*d*(m*n + n^2/2)] / F                    for n new tokens on m cached
    decode   t1 + max([W(b) + kappa*sum(m_j)] / B, 2*P_a*b / F) + comm       for b streams of contexts m_j
             kappa = 2 * N_L * kv_heads * head_dim * bytes;  W(b) = shared + experts * (1 - (1 - topk/E)^b)
    transfer setup + n * kappa / link
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

from latprof.config import Decode, Engine, Prefill, Station, Stub
from latprof.errors import ConfigError
from latprof.stub.presets import Preset, preset

_USABLE_MEMORY: Final = 0.9  # the usual share an engine takes of a chip's memory for weights and KV
_PARAMETER_BYTES: Final = {"bf16": 2, "fp8": 1}
_NS: Final = 1e9


@dataclass(frozen=True, slots=True)
class Roofline:
    """A model on a machine, in ns per unit."""

    per_token_ns: float
    per_pair_ns: float
    weights_ns: float
    experts_ns: float
    experts_missed: float
    kv_token_ns: float
    kv_token_bytes: float
    kv_tokens: int

    def decode_ns(self, streams: int, context_tokens: float) -> float:
        """A decode step without its fixed part."""
        memory = self.weights_ns + self.experts_ns * (1 - self.experts_missed**streams) + self.kv_token_ns * context_tokens * streams
        return max(memory, self.per_token_ns * streams)


def roofline(engine: Engine, chip: Preset, shape: Preset) -> Roofline:
    """The coefficients of ``shape`` on ``engine.gpus`` of ``chip``.

    Raises:
        ConfigError: the chip's speed at this precision is not known, or the model does not fit.
    """
    peak = chip.get(engine.precision)
    if peak is None:
        other = next(name for name in _PARAMETER_BYTES if chip.get(name) is not None)
        raise ConfigError(f"stub.engine.precision: no {engine.precision} speed of {chip.name} is known; set it to {other}")
    flops = peak * engine.gpus * engine.compute_efficiency
    bandwidth = chip["bandwidth"] * engine.gpus * engine.bandwidth_efficiency
    weight_bytes = shape["parameters"] * _PARAMETER_BYTES[engine.precision]
    expert_bytes = (shape.get("expert_parameters") or 0.0) * _PARAMETER_BYTES[engine.precision]
    kv_bytes = 2 * shape["layers"] * shape["kv_width"] * engine.kv_bytes
    room = chip["memory"] * engine.gpus * _USABLE_MEMORY - weight_bytes
    if room <= 0:
        raise ConfigError(
            f"stub.engine.gpus: {shape.name} in {engine.precision} takes {weight_bytes / 1e9:.0f} GB, and {engine.gpus} x {chip.name}"
            f" have {chip['memory'] * engine.gpus * _USABLE_MEMORY / 1e9:.0f} GB to use; give more gpus"
        )
    experts, active = shape.get("experts"), shape.get("active_experts")
    return Roofline(
        per_token_ns=2 * shape["active_parameters"] / flops * _NS,
        per_pair_ns=4 * shape["layers"] * shape["width"] / flops * _NS,
        weights_ns=(weight_bytes - expert_bytes) / bandwidth * _NS,
        experts_ns=expert_bytes / bandwidth * _NS,
        experts_missed=1.0 if experts is None or active is None else 1 - active / experts,
        kv_token_ns=kv_bytes / bandwidth * _NS,
        kv_token_bytes=kv_bytes,
        kv_tokens=int(room / kv_bytes),
    )


def filled(stub: Stub) -> Stub:
    """``stub`` with every coefficient a number: what presets, rates and speculation say is written into it, and their names are gone.

    The same again for a stub that is filled, or that names no preset.

    Raises:
        ConfigError: an unknown preset, one that does not suit, or a coefficient given beside a preset that says it too.
    """
    engine = stub.engine
    if engine.hardware is not None and engine.model is not None:
        _unsaid(stub, "stub.engine.hardware", "prefill", "decode")
        chip = preset("hardware", engine.hardware, "stub.engine.hardware")
        shape = preset("models", engine.model, "stub.engine.model")
        known = roofline(engine, chip, shape)
        stub = _colocated(stub, known) if engine.mode == "colocated" else _pools(stub, known)
        stub = _linked(stub, known)
    elif engine.link is not None:
        raise ConfigError("stub.engine.link: how much KV a token has is known from hardware and model only; give both")
    stub = _rated(stub)
    if stub.engine.mode == "disaggregated" and engine.accepted_tokens > 1:
        stub = _speculating(stub)
    gone = dict.fromkeys(("hardware", "model", "link", "decode_rate", "decode_rate_per_s", "prefill_rate_per_s"))
    return stub.model_copy(update={"engine": stub.engine.model_copy(update=gone)})


def _colocated(stub: Stub, known: Roofline) -> Stub:
    engine = stub.engine
    own: dict[str, Any] = {
        "weights_ns": known.weights_ns,
        "experts_ns": known.experts_ns,
        "experts_missed": known.experts_missed,
        "kv_token_ns": known.kv_token_ns,
        "stream_ns": known.per_token_ns,
    }
    if engine.kv_tokens is None and engine.kv_blocks is None:
        own["kv_tokens"] = known.kv_tokens
    prefill = {"t0_ns": engine.overhead_ns, "per_token_ns": known.per_token_ns, "per_token_pair_ns": known.per_pair_ns}
    decode = {"t1_ns": engine.overhead_ns, "per_sequence_ns": 0.0}
    return _with(stub, engine=own, prefill=prefill, decode=decode)


def _pools(stub: Stub, known: Roofline) -> Stub:
    """A pool's step is a straight line in its batch: the chord of the roofline between one stream and all slots (exact while memory binds)."""
    engine, slots = stub.engine, stub.decode.slots
    fixed_ns = engine.overhead_ns + engine.comm_ns
    prefill = {"t0_ns": fixed_ns, "per_token_ns": known.per_token_ns, "per_token_pair_ns": known.per_pair_ns}
    if engine.decode_rate is not None or engine.decode_rate_per_s is not None:
        return _with(stub, prefill=prefill)
    if engine.context_tokens is None:
        raise ConfigError(
            "stub.engine.context_tokens: a decode pool's step depends on how much context its streams read, and none was given; give the mean"
            " context of a stream in tokens, or set stub.engine.mode to colocated, where each stream's own is known"
        )
    one_ns = known.decode_ns(1, engine.context_tokens)
    slope_ns = (known.decode_ns(slots, engine.context_tokens) - one_ns) / (slots - 1) if slots > 1 else 0.0
    decode = {"t1_ns": round(fixed_ns + one_ns - slope_ns), "per_sequence_ns": slope_ns}
    return _with(stub, prefill=prefill, decode=decode)


def _linked(stub: Stub, known: Roofline) -> Stub:
    engine = stub.engine
    if engine.link is None:
        return stub
    if engine.mode == "colocated":
        raise ConfigError("stub.engine.link: a colocated engine moves no KV; drop it, or set stub.engine.mode to disaggregated")
    if stub.decode.kv_transfer != Decode().kv_transfer or stub.decode.kv_per_token_ns:
        raise ConfigError("stub.decode.kv_transfer: stub.engine.link says how long a transfer takes; drop one of the two")
    link = preset("links", engine.link, "stub.engine.link")
    station = Station.model_validate({"service": f"{round(link['setup'] * _NS)}ns", "workers": stub.decode.kv_transfer.workers})
    return _with(stub, decode={"kv_transfer": station, "kv_per_token_ns": known.kv_token_bytes / link["bandwidth"] * _NS})


def _rated(stub: Stub) -> Stub:
    engine = stub.engine
    rate = engine.decode_rate_per_s
    if engine.decode_rate is not None:
        if rate is not None:
            raise ConfigError("stub.engine.decode_rate: decode_rate_per_s says it too; drop one of the two")
        rate = preset("rates", engine.decode_rate, "stub.engine.decode_rate")["decode"]
    if rate is not None:
        if engine.accepted_tokens > 1:
            raise ConfigError("stub.engine.accepted_tokens: a decode rate counts the tokens that come out, speculation included; drop it")
        if engine.hardware is not None and engine.mode == "colocated":
            raise ConfigError(
                "stub.engine.decode_rate: hardware says how long the shared iterations of a colocated engine take; drop one of the two"
            )
        _unsaid(stub, "stub.engine.decode_rate", "decode")
        stub = _with(stub, decode={"t1_ns": round(_NS / rate), "per_sequence_ns": 0.0})
    if engine.prefill_rate_per_s is not None:
        if engine.hardware is not None:
            raise ConfigError("stub.engine.prefill_rate_per_s: hardware and model say what a prompt costs; drop one of the two")
        stub = _with(stub, prefill={"per_token_ns": _NS / engine.prefill_rate_per_s, "per_token_pair_ns": 0.0})
    return stub


def _speculating(stub: Stub) -> Stub:
    """A pool makes one token an iteration: speculation is an iteration as much shorter as it accepts more."""
    accepted, decode = stub.engine.accepted_tokens, stub.decode
    faster = {"t1_ns": round(decode.t1_ns / accepted), "per_sequence_ns": decode.per_sequence_ns / accepted}
    return _with(stub, engine={"accepted_tokens": 1.0}, decode=faster)


def _with(stub: Stub, **sections: dict[str, Any]) -> Stub:
    return stub.model_copy(update={name: getattr(stub, name).model_copy(update=update) for name, update in sections.items()})


_SAID: Final = {"prefill": (Prefill(), ("t0_ns", "per_token_ns", "per_token_pair_ns")), "decode": (Decode(), ("t1_ns", "per_sequence_ns"))}


def _unsaid(stub: Stub, path: str, *sections: str) -> None:
    """Refuse coefficients that were given beside a preset that says them too."""
    for section in sections:
        default, keys = _SAID[section]
        for key in keys:
            if getattr(getattr(stub, section), key) != getattr(default, key):
                name = type(default).model_fields[key].alias or key
                raise ConfigError(f"stub.{section}.{name}: {path} says it too; drop one of the two")
