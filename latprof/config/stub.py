"""The configuration of the stack in a box: `stub` and everything below it."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from latprof.config.values import DurationNs, PositiveInt, Section, ServiceTime, Share, law
from latprof.units import NS_PER_MS, NS_PER_S


class Station(Section):
    """A layer of the stub served by ``workers`` servers from one first-come queue."""

    service: ServiceTime = ServiceTime()
    workers: PositiveInt = 64

    @model_validator(mode="before")
    @classmethod
    def _bare_service(cls, value: object) -> object:
        return {"service": value} if isinstance(value, str | int | float) and not isinstance(value, bool) else value


class TokenizeModel(Section):
    """What a tokenizer takes in virtual time, where none can be run: t0 + per_token * the prompt's tokens."""

    # The bundled tokenizer in the live gateway: 8 to 65 536 tokens, with the thread's hand-over.
    t0_ns: Annotated[DurationNs, Field(alias="t0")] = 150_000
    per_token_ns: Annotated[float, Field(ge=0)] = 3_000.0


class Gateway(Section):
    """The API gateway: its layers in path order. ``tokenize: real`` runs the bundled tokenizer in a thread; its service is measured."""

    validate_: Annotated[Station, Field(alias="validate")] = Station(service=law("300us"))
    auth: Station = Station(service=law("1ms", "lognormal", 0.3))
    ratelimit: Station = Station(service=law("500us"))
    # A classifier with a tail: what makes the slowest requests slow is a layer here, not the machine the stub runs on.
    safety: Station = Station(service=law("10ms", "lognormal", 0.8))
    render: Station = Station(service=law("400us"))
    tokenize: Literal["real"] | Station = "real"
    tokenize_workers: PositiveInt = 1
    token_cache: Annotated[
        int, Field(ge=0, description="conversations whose tokens are kept: a prompt that begins with one is tokenized from there on")
    ] = 0
    tokenize_model: Annotated[TokenizeModel, Field(description="stands for `tokenize: real` in a simulation")] = TokenizeModel()
    per_chunk: Annotated[ServiceTime, Field(description="held per chunk on the way back")] = ServiceTime()
    max_in_flight: Annotated[
        PositiveInt | None, Field(description="works on so many requests at once: one keeps its place until its answer is over")
    ] = None
    ws_limit_ns: Annotated[DurationNs, Field(alias="ws_limit", gt=0, description="how long a WebSocket may be used")] = 3600 * NS_PER_S


BalancingPolicy = Literal["round_robin", "least_outstanding", "power_of_two", "prefix_affinity"]


class Router(Section):
    """The load balancer before the engine pools."""

    route: Station = Station(service=law("800us", "lognormal", 0.3))
    per_chunk: ServiceTime = ServiceTime()
    policy: Annotated[BalancingPolicy, Field(description="which replica of a pool a request goes to")] = "least_outstanding"
    affinity_slack: Annotated[
        int, Field(ge=0, description="prefix_affinity: requests a replica may have over the fewest before its prefix counts no more")
    ] = 8


class Prefill(Section):
    """The prefill pool: t = t0 + a*n + b*(m*n + n^2/2) for n new tokens on m cached, ``workers`` at once."""

    workers: PositiveInt = 16
    # About an 8B model on one H100 for short prompts: 25-40 ms and 0.15-0.30 ms a token.
    t0_ns: Annotated[DurationNs, Field(alias="t0")] = 30 * NS_PER_MS
    per_token_ns: Annotated[float, Field(ge=0, description="a, ns per new token")] = 200_000.0
    per_token_pair_ns: Annotated[float, Field(ge=0, description="b, ns per pair of tokens that attend to each other")] = 0.5
    cache_block_tokens: PositiveInt = 128
    cache_blocks: Annotated[int, Field(ge=0, description="prefix-cache capacity in blocks (LRU); 0 caches nothing")] = 4096
    replicas: Annotated[PositiveInt, Field(description="pools like this, each with workers and a cache of its own")] = 1


class Decode(Section):
    """The decode pool: one token per stream and iteration, t = t1 + per_sequence * batch; ``slots`` streams at once."""

    slots: PositiveInt = 64
    t1_ns: Annotated[DurationNs, Field(alias="t1")] = 14 * NS_PER_MS
    per_sequence_ns: Annotated[float, Field(ge=0)] = 100_000.0
    stream_interval: Annotated[PositiveInt, Field(description="tokens in a chunk after the first token's, which goes at once")] = 1
    kv_transfer: Station = Station(service=law("1500us"))
    kv_per_token_ns: Annotated[float, Field(ge=0, description="added to kv_transfer, ns per prompt token")] = 0.0
    kv_overlap_layers: Annotated[
        PositiveInt, Field(description="layers sent while the next is computed: only the last, or what outlasts the prefill, is waited for")
    ] = 1
    replicas: Annotated[PositiveInt, Field(description="pools like this, each with slots of its own")] = 1


Efficiency = Annotated[float, Field(gt=0, le=1)]


class Engine(Section):
    """How the engine is built, and what presets fill its costs. ``stub.prefill`` and ``stub.decode`` hold the coefficients in both modes.

    disaggregated  a prefill pool and a decode pool, with a transfer of the KV between
    colocated      replicas that compute prompts and answers in shared iterations (continuous batching, chunked prefill)
    """

    mode: Literal["disaggregated", "colocated"] = "disaggregated"
    replicas: Annotated[PositiveInt, Field(description="colocated replicas behind the router")] = 1
    token_budget: Annotated[PositiveInt, Field(description="tokens of one iteration: decodes take one each, prompts what is left")] = 8192
    max_sequences: Annotated[PositiveInt, Field(description="requests that have begun and are not over, per replica")] = 256
    kv_tokens: Annotated[int | None, Field(gt=0, description="KV memory of a replica; found from the presets, else unlimited")] = None
    kv_blocks: Annotated[int | None, Field(gt=0, description="the same in blocks of stub.prefill.cache_block_tokens")] = None
    accepted_tokens: Annotated[float, Field(ge=1, description="speculative decoding: mean tokens per stream and iteration")] = 1.0

    hardware: Annotated[str | None, Field(description="a preset of hardware, such as H100; needs a model")] = None
    model: Annotated[str | None, Field(description="a preset of a model's shape, such as llama-3-8b; needs hardware")] = None
    gpus: Annotated[PositiveInt, Field(description="chips of one replica, or of one worker of a pool")] = 1
    precision: Annotated[Literal["bf16", "fp8"], Field(description="of weights and FLOPs")] = "bf16"
    kv_bytes: Annotated[PositiveInt, Field(description="bytes of one number in the KV cache")] = 2
    compute_efficiency: Annotated[Efficiency, Field(description="of peak FLOP/s, about 0.3 to 0.6: calibrate")] = 0.45
    bandwidth_efficiency: Annotated[Efficiency, Field(description="of memory bandwidth, about 0.5 to 0.8: calibrate")] = 0.65
    overhead_ns: Annotated[DurationNs, Field(alias="overhead", description="of every iteration under a hardware preset: calibrate")] = (
        2 * NS_PER_MS
    )
    comm_ns: Annotated[DurationNs, Field(alias="comm", description="of every iteration: all-reduces among gpus")] = 0
    context_tokens: Annotated[
        int | None, Field(gt=0, description="mean context of a stream: what a decode pool filled from hardware reads per sequence")
    ] = None
    link: Annotated[str | None, Field(description="a preset of a link between the pools, such as ib-ndr-400")] = None
    decode_rate: Annotated[str | None, Field(description="a preset of tokens/s per stream, such as cerebras-gpt-oss-120b")] = None
    decode_rate_per_s: Annotated[float | None, Field(gt=0, description="tokens/s per stream, whatever the batch")] = None
    prefill_rate_per_s: Annotated[float | None, Field(gt=0, description="prompt tokens/s, whatever the context")] = None

    # What a roofline knows beyond stub.prefill's and stub.decode's coefficients; filled by the presets, or given.
    weights_ns: Annotated[float, Field(ge=0, description="colocated: reading the weights, once per iteration")] = 0.0
    experts_ns: Annotated[
        float, Field(ge=0, description="colocated: reading all experts; an iteration reads those that its tokens touch")
    ] = 0.0
    experts_missed: Annotated[Share, Field(description="probability that a token does not use a given expert")] = 1.0
    kv_token_ns: Annotated[float, Field(ge=0, description="colocated: reading one token of context")] = 0.0
    stream_ns: Annotated[float, Field(ge=0, description="colocated: FLOPs of one decoded token")] = 0.0

    @model_validator(mode="after")
    def _can_be_built(self) -> Engine:
        if self.max_sequences > self.token_budget:
            raise ValueError(f"token_budget must be at least max_sequences of {self.max_sequences}, got {self.token_budget}")
        if self.kv_tokens is not None and self.kv_blocks is not None:
            raise ValueError("kv_tokens and kv_blocks say the same: drop one")
        if (self.hardware is None) != (self.model is None):
            raise ValueError("hardware and model belong together: give both, or neither")
        return self


Stage = Literal["gateway", "router", "prefill", "decode"]
STAGES: tuple[Stage, ...] = ("gateway", "router", "prefill", "decode")


class Fault(Section):
    """Something planted to go wrong in one stage.

    stall     adds ``for`` to ``layer`` on ``share`` of the requests
    freeze    the whole stage stands still for ``for``, once, ``at`` after its first measured request
    status    answers ``status`` (429, 500, ...) on ``share`` of the requests, with a body
    truncate  cuts the answer's stream in mid-event on ``share`` of the requests
    malformed sends JSON that does not parse in the stream
    error     sends an error event in the stream
    drop      closes the connection before the headers
    silent    accepts the request and never answers
    buffer    holds the whole answer and lets it go at once
    """

    stage: Stage = "gateway"
    kind: Literal["stall", "freeze", "status", "truncate", "malformed", "error", "drop", "silent", "buffer"]
    share: Share = 1.0
    layer: str | None = None
    for_ns: Annotated[DurationNs, Field(alias="for")] = 0
    at_ns: Annotated[DurationNs, Field(alias="at")] = 0
    status: Annotated[int, Field(ge=400, le=599)] = 500


class Stub(Section):
    """The serving stack in a box. Draws are keyed by (seed, session, turn, layer), never by order of use."""

    seed: int = 1
    gateway: Gateway = Gateway()
    router: Router = Router()
    engine: Engine = Engine()
    prefill: Prefill = Prefill()
    decode: Decode = Decode()
    plant: Annotated[dict[str, DurationNs], Field(description="layer name -> constant added to its service")] = Field(default={})
    speedup: Annotated[
        dict[str, Annotated[float, Field(gt=0)]],
        Field(description="layer name or `decode` -> divide its service by this"),
    ] = Field(default={})
    faults: tuple[Fault, ...] = ()
    truth: Annotated[bool, Field(description="write what every stage really did to truth/ in the run folder")] = False
