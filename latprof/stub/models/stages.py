"""Which layers each stage has, in path order, with plants, speed-ups and stalls applied.

gateway   validate auth ratelimit safety render tokenize          ... proxy.hold on the way back
router    router                                                  ... proxy.hold on the way back
prefill   engine.queue prefill
decode    kv.transfer decode.first

A colocated engine lives in the stage decode: engine.queue prefill decode.first; the stage prefill has nothing to do then.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from latprof.config import STAGES, Fault, ServiceTime, Stage, Station, Stub
from latprof.errors import ConfigError
from latprof.layers.vocabulary import belongs_to
from latprof.stub.filling import filled
from latprof.stub.models.draws import Key, hits, service_ns

HOLD = "proxy.hold"
GATEWAY_LAYERS = ("gateway.validate", "gateway.auth", "gateway.ratelimit", "gateway.safety", "gateway.render", "gateway.tokenize")
STAGE_LAYERS: dict[Stage, tuple[str, ...]] = {
    "gateway": (*GATEWAY_LAYERS, HOLD),
    "router": ("router", HOLD),
    "prefill": ("engine.queue", "prefill"),
    "decode": ("kv.transfer", "decode.first"),
}
COLOCATED_LAYERS: dict[Stage, tuple[str, ...]] = {
    "gateway": STAGE_LAYERS["gateway"],
    "router": STAGE_LAYERS["router"],
    "prefill": (),
    "decode": ("engine.queue", "prefill", "decode.first"),
}
_UNHURRIED = ServiceTime()


@dataclass(frozen=True, slots=True)
class Layer:
    """One layer of one stage: its law, and what was planted into it."""

    name: str
    law: ServiceTime
    workers: int
    plant_ns: int = 0
    speedup: float = 1.0
    stalls: tuple[tuple[str, Fault], ...] = ()  # with the purpose their draws are keyed by

    def service_ns(self, key: Key, added_ns: int = 0) -> int:
        """This request's service time, everything applied; ``added_ns`` is what it takes beyond the law."""
        return self.adjust_ns(service_ns(self.law, key, self.name) + added_ns, key)

    def hold_ns(self, key: Key, stage: Stage, nth: int) -> int:
        """How long the ``nth`` chunk is kept on its way back through ``stage``; plants and stalls keep the first one only."""
        own_ns = service_ns(self.law, key, f"{self.name}.{stage}.{nth}")
        return self.adjust_ns(own_ns, key) if nth == 0 else round(own_ns / self.speedup)

    def adjust_ns(self, own_ns: int, key: Key) -> int:
        """A service time that was found otherwise (measured, or computed from tokens), with plant, speed-up and stalls applied.

        A plant is the layer's own work, so a speed-up scales it; a stall comes from outside, so nothing does.
        """
        return round((own_ns + self.plant_ns) / self.speedup) + self.stall_ns(key)

    def stall_ns(self, key: Key) -> int:
        """What stalls add to this request."""
        return sum(fault.for_ns for purpose, fault in self.stalls if hits(key, purpose, fault.share))


def stage_layers(stub: Stub) -> dict[Stage, tuple[str, ...]]:
    """The layers of every stage of this stack, in path order."""
    return COLOCATED_LAYERS if stub.engine.mode == "colocated" else STAGE_LAYERS


def layer_of(stub: Stub, stage: Stage, name: str) -> Layer:
    """The layer ``name`` of ``stage``, ready to be asked for service times."""
    station = _station(stub, stage, name)
    # A planted hold is the gateway's: one hop keeps the chunk, not each in turn.
    planted = name != HOLD or stage == "gateway"
    stalls = tuple((purpose, fault) for purpose, fault in planted_faults(stub, stage, "stall") if _stalled_layer(stub, fault) == name)
    return Layer(name, station.service, station.workers, stub.plant.get(name, 0) if planted else 0, speedup_of(stub, name), stalls)


def servers_of(stub: Stub) -> dict[str, int]:
    """How many requests each layer that works has in service at most; `decode` by its slots, of which `decode.first` is the first token.

    The layers of a colocated engine share its iterations: none of them is a number of servers.
    """
    named = [(stage, layer) for stage, layers in stage_layers(stub).items() for layer in layers]
    if stub.engine.mode == "colocated":
        return {layer: _station(stub, stage, layer).workers for stage, layer in named if stage in {"gateway", "router"} and layer != HOLD}
    stations = {
        layer: _station(stub, stage, layer).workers for stage, layer in named if layer not in {HOLD, "engine.queue", "decode.first"}
    }
    return stations | {"prefill": stub.prefill.workers * stub.prefill.replicas, "decode": stub.decode.slots * stub.decode.replicas}


def replicas_of_pools(stub: Stub) -> dict[str, int]:
    """Layer -> how many replicas its servers are shared out among, by a balancer: a request waits at its own, however free the others are."""
    if stub.engine.mode == "colocated":
        return {}
    return {"prefill": stub.prefill.replicas, "decode": stub.decode.replicas}


def speedup_of(stub: Stub, layer: str) -> float:
    """The product of the speed-ups that name the layer or a prefix of it."""
    factor = 1.0
    for name, times in stub.speedup.items():
        if belongs_to(layer, name):
            factor *= times
    return factor


def planted_faults(stub: Stub, stage: Stage, *kinds: str) -> tuple[tuple[str, Fault], ...]:
    """The faults of these kinds (all, when none is named) in ``stage``, each with the purpose its draws are keyed by."""
    numbered = ((f"fault.{index}", fault) for index, fault in enumerate(stub.faults))
    return tuple((purpose, fault) for purpose, fault in numbered if fault.stage == stage and (not kinds or fault.kind in kinds))


def check(stub: Stub) -> None:
    """Refuse a configuration that names layers the stack has not, or asks of one what it cannot do.

    Raises:
        ConfigError: with the path, what was got and what would be right.
    """
    filled(stub)
    for name in stub.plant:
        _known(f"stub.plant.{name}", name, _served(stub))
    for name in stub.speedup:
        _check_speedup(stub, name)
    for index, fault in enumerate(stub.faults):
        _check_fault(stub, f"stub.faults.{index}", fault)


def _station(stub: Stub, stage: Stage, name: str) -> Station:
    gateway = stub.gateway
    if stage == "gateway" and name == "gateway.tokenize":
        # A real tokenizer's service is measured; only its workers are a number that can be chosen.
        return Station(workers=gateway.tokenize_workers) if gateway.tokenize == "real" else gateway.tokenize
    stations = {
        "gateway.validate": gateway.validate_,
        "gateway.auth": gateway.auth,
        "gateway.ratelimit": gateway.ratelimit,
        "gateway.safety": gateway.safety,
        "gateway.render": gateway.render,
        HOLD: Station(service=gateway.per_chunk if stage == "gateway" else stub.router.per_chunk),
        "router": stub.router.route,
        "prefill": Station(service=_UNHURRIED, workers=stub.prefill.workers),
        "kv.transfer": stub.decode.kv_transfer,
        "decode.first": Station(service=_UNHURRIED, workers=stub.decode.slots),
    }
    return stations[name]


def _served(stub: Stub) -> tuple[str, ...]:
    """Every layer that works; engine.queue is nothing but a wait."""
    layers = stage_layers(stub)
    return tuple(dict.fromkeys(layer for stage in STAGES for layer in layers[stage] if layer != "engine.queue"))


def _known(path: str, name: str, known: Iterable[str]) -> None:
    if name not in known:
        raise ConfigError(f"{path}: {name!r} is not a layer of the stub that works; known here: {', '.join(known)}")


def _check_speedup(stub: Stub, name: str) -> None:
    path = f"stub.speedup.{name}"
    prefixes = ("gateway", "decode", *(layer for layer in _served(stub) if layer != "decode.first"))
    _known(path, name, prefixes)
    if belongs_to("gateway.tokenize", name) and stub.gateway.tokenize == "real":
        raise ConfigError(f"{path}: stub.gateway.tokenize is real, so its time is measured and cannot be divided; give it a service time")


def _stalled_layer(stub: Stub, fault: Fault) -> str:
    """The layer a stall hits: the first of its stage that works, when none is named."""
    layers = stage_layers(stub)[fault.stage]
    return fault.layer or next((layer for layer in layers if layer != "engine.queue"), "")


def _check_fault(stub: Stub, path: str, fault: Fault) -> None:
    served = [layer for layer in stage_layers(stub)[fault.stage] if layer != "engine.queue"]
    if not served:
        raise ConfigError(f"{path}: stub.engine.mode is colocated, so stage {fault.stage} does nothing; plant it in stage decode")
    if fault.kind not in {"stall", "freeze"} and fault.stage != "gateway":
        raise ConfigError(f"{path}: {fault.kind} can be planted in stage gateway only, got {fault.stage}")
    if fault.kind in {"stall", "freeze"} and fault.for_ns == 0:
        raise ConfigError(f"{path}.for: a {fault.kind} needs a duration such as 150ms, got none")
    if fault.kind == "stall":
        _known(f"{path}.layer", _stalled_layer(stub, fault), served)
    elif fault.layer is not None:
        raise ConfigError(f"{path}.layer: only a stall has a layer, got {fault.layer!r} for {fault.kind}; leave it out")
