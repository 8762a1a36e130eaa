"""The configuration: YAML validated into typed, frozen models.

Durations are written with their unit (``250ms``, ``10s``) and held in ns; the YAML key has no suffix, the attribute ends in ``_ns``.
Every key has a default, so that no configuration at all is the quickstart. An unknown key is an error that names the nearest known one.
"""

from __future__ import annotations

import difflib
import hashlib
import json
import re
from collections.abc import Iterator, Mapping
from os import PathLike
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, ValidationError, model_validator

from latprof.config_inject import Inject, check_place
from latprof.config_stub import STAGES, BalancingPolicy, Decode, Engine, Fault, Gateway, Prefill, Router, Stage, Station, Stub
from latprof.config_values import DurationNs, PositiveInt, Section, ServiceTime, Share, ShareLaw, Shares, TokenCount, law
from latprof.errors import ConfigError, unreadable
from latprof.units import NS_PER_S
from latprof.yaml_text import read_yaml

__all__ = [
    "BUNDLED_TOKENIZER",
    "STAGES",
    "Arrival",
    "BalancingPolicy",
    "Config",
    "Decode",
    "DialectName",
    "DurationNs",
    "Engine",
    "Fault",
    "Gateway",
    "Inject",
    "Load",
    "LoadPhase",
    "NamedTarget",
    "PositiveInt",
    "Prefill",
    "Rate",
    "Router",
    "Section",
    "ServiceTime",
    "Share",
    "ShareLaw",
    "Sine",
    "Spans",
    "Stage",
    "Station",
    "Stub",
    "Target",
    "TokenCount",
    "Workload",
    "load_config",
]

BUNDLED_TOKENIZER = Path(__file__).parent / "assets" / "tokenizer.json"
"""The small byte-level BPE that ships with latprof: the stub's tokenizer, and the default for prompts of exact length."""


# --- what is asked, and when -------------------------------------------------------------------------------------------------------------


DialectName = Literal["openai-chat", "openai-completions", "openai-responses", "openai-responses-ws", "anthropic-messages"]
"""The APIs that can be spoken: the keys of `latprof.client.dialects.DIALECTS`."""


class Target(Section):
    """Where the requests go. No URL means the stack in a box."""

    url: str | None = None
    model: str = "stub"
    dialect: Annotated[DialectName, Field(description="the API spoken")] = "openai-chat"
    api_key_env: Annotated[str | None, Field(description="name of the environment variable that holds the bearer token")] = None
    headers: dict[str, str] = Field(default={})
    extra_body: dict[str, Any] = Field(default={})
    timeout_ns: Annotated[DurationNs, Field(alias="timeout", gt=0, description="from actual start to the end of the answer")] = (
        120 * NS_PER_S
    )
    connect_timeout_ns: Annotated[DurationNs, Field(alias="connect_timeout", gt=0)] = 10 * NS_PER_S
    sampled: Annotated[bool, Field(description="set the sampled flag of traceparent: ask the stack for its spans")] = True
    kernel_stamps: Annotated[bool, Field(description="stamp arrivals in the kernel where it can; else after each read")] = True
    connection: Annotated[
        Literal["reuse", "fresh", "session"], Field(description="kept alive and shared; a new one per request; or one per session")
    ] = "reuse"
    unix_socket: Annotated[Path | None, Field(description="connect to this socket instead of the URL's host")] = None
    proxy: Annotated[
        str | None, Field(description="an HTTP proxy, asked to CONNECT; latprof heeds no proxy variables of the environment")
    ] = None
    proxy_auth_env: Annotated[str | None, Field(description="name of the environment variable that holds the proxy's user:password")] = None
    ca_file: Path | None = None
    client_cert: Path | None = None
    client_key: Path | None = None
    tls_verify: bool = True
    max_connections: PositiveInt = 4096
    ws_streams: Annotated[
        int, Field(ge=1, le=16, description="WebSocket: sessions on one connection, told apart by stream_id; 1 is a connection for each")
    ] = 1
    ws_traceparent: Annotated[
        bool | None,
        Field(description="WebSocket: trace context in each turn's metadata; on for the stub, off for real endpoints unless asked"),
    ] = None
    retries: Annotated[int, Field(ge=0, description="each retry is a new attempt row; off by default")] = 0


def _read_workers(value: object) -> object:
    if value == "auto":
        return value
    try:
        count = int(str(value))
    except ValueError:
        count = 0
    if count < 1 or isinstance(value, bool):
        raise ValueError(f"must be a number of processes from 1 up, or auto, got {value!r}")
    return count


Arrival = Literal["poisson", "constant", "gamma"]
Rate = Annotated[float, Field(ge=0, allow_inf_nan=False)]


class Sine(Section):
    """A rate that goes up and down around its mean; it begins there and rises first."""

    mean_per_s: Annotated[float, Field(gt=0, allow_inf_nan=False)]
    amplitude_per_s: Rate
    period_ns: Annotated[DurationNs, Field(alias="period", gt=0)]

    @model_validator(mode="after")
    def _never_below_zero(self) -> Sine:
        if self.amplitude_per_s > self.mean_per_s:
            raise ValueError(f"amplitude_per_s must not be above mean_per_s, got {self.amplitude_per_s:g} above {self.mean_per_s:g}")
        return self


class LoadPhase(Section):
    """One stretch of the load: how long, and one way to say how fast."""

    name: Annotated[str, Field(min_length=1, description="what its requests are called; those of `warmup` do not count")]
    duration_ns: Annotated[DurationNs | None, Field(alias="duration", gt=0)] = None
    num_requests: Annotated[int | None, Field(gt=0, description="sessions; with a duration whichever ends first")] = None
    rate_per_s: Annotated[float | None, Field(gt=0, allow_inf_nan=False)] = None
    ramp_per_s: Annotated[tuple[Rate, Rate] | None, Field(description="from one rate to the other in a straight line")] = None
    steps_per_s: Annotated[tuple[Rate, ...] | None, Field(min_length=1, description="one after the other, each for an equal part")] = None
    sine: Sine | None = None
    series: Annotated[tuple[tuple[DurationNs, Rate], ...] | None, Field(description="(time, rate): each holds until the next")] = None
    series_file: Annotated[Path | None, Field(description="the same as a CSV file of time,rate lines")] = None
    concurrency: Annotated[int | None, Field(gt=0, description="closed loop: this many sessions always on")] = None
    arrival: Annotated[Arrival | None, Field(description="law of the gaps; load.arrival unless given")] = None
    burstiness: Annotated[float | None, Field(gt=0, allow_inf_nan=False, description="load.burstiness unless given")] = None
    max_concurrency: Annotated[int | None, Field(gt=0, description="wait for a place beyond this many in flight")] = None

    @model_validator(mode="after")
    def _one_pace(self) -> LoadPhase:
        ways = ("rate_per_s", "ramp_per_s", "steps_per_s", "sine", "series", "series_file", "concurrency")
        given = [way for way in ways if getattr(self, way) is not None]
        if len(given) != 1:
            raise ValueError(f"wants exactly one of {', '.join(ways)}, got {' and '.join(given) or 'none'}")
        if self.duration_ns is None and given[0] not in {"rate_per_s", "concurrency", "series", "series_file"}:
            raise ValueError(f"{given[0]} needs a duration, got none; say how long it takes")
        if self.duration_ns is None and self.num_requests is None and given[0] in {"rate_per_s", "concurrency"}:
            raise ValueError("needs a duration or num_requests, got neither; say when it ends")
        for key in ("arrival", "burstiness", "max_concurrency"):
            if self.concurrency is not None and getattr(self, key) is not None:
                raise ValueError(f"{key} and concurrency exclude each other: in a closed loop the answers decide when requests go")
        return self


class NamedTarget(Target):
    """One of several targets. What it leaves out is taken from `target`."""

    name: Annotated[str, Field(min_length=1, description="what its rows are called")]
    weight: Annotated[float, Field(gt=0, description="its share of the sessions, relative to the others'")] = 1.0

    def over(self, shared: Target) -> Target:
        """With what it does not say itself from ``shared``."""
        return shared.model_copy(update={key: getattr(self, key) for key in self.model_fields_set & set(Target.model_fields)})


class Load(Section):
    """When the requests go. Open loop by `rate_per_s`; closed loop when only `concurrency` is given; or phase by phase."""

    phases: Annotated[tuple[LoadPhase, ...] | None, Field(description="one after the other, in place of the keys below")] = None
    arrival: Literal["poisson", "constant", "gamma", "trace"] = "poisson"
    rate_per_s: Annotated[float | None, Field(gt=0)] = None
    burstiness: Annotated[float, Field(gt=0, description="gamma shape: 1 is Poisson, below 1 burstier")] = 1.0
    concurrency: Annotated[int | None, Field(gt=0, description="closed loop: this many requests always in flight")] = None
    max_concurrency: Annotated[int | None, Field(gt=0, description="open loop: wait for a place beyond this many in flight")] = None
    num_requests: Annotated[int | None, Field(gt=0)] = None
    duration_ns: Annotated[DurationNs | None, Field(alias="duration")] = None
    max_requests: Annotated[int | None, Field(gt=0, description="never send more than this many, warm-up included")] = None
    warmup_requests: Annotated[int, Field(ge=0)] = 0
    warmup_ns: Annotated[DurationNs, Field(alias="warmup", ge=0)] = 2 * NS_PER_S
    seed: int = 1
    workers: Annotated[
        int | Literal["auto"],
        BeforeValidator(_read_workers),
        Field(description="processes that send; auto: as the load needs and the cores allow"),
    ] = 1

    @model_validator(mode="after")
    def _one_loop(self) -> Load:
        if self.concurrency is not None and self.rate_per_s is not None:
            raise ValueError(
                "load.concurrency makes a closed loop and load.rate_per_s an open one: they exclude each other, drop one;"
                " to cap an open loop use load.max_concurrency"
            )
        return self

    @model_validator(mode="after")
    def _names_once(self) -> Load:
        if self.phases is not None and not self.phases:
            raise ValueError("load.phases must hold at least one phase, got none; leave the key out for a load of one phase")
        names = [phase.name for phase in self.phases or ()]
        double = next((name for name in names if names.count(name) > 1), None)
        if double is not None:
            raise ValueError(f"load.phases: every phase needs a name of its own, got {double!r} twice")
        return self


class Workload(Section):
    """What is asked: synthetic sessions with prompts of exact token length, or a trace replayed."""

    trace: Path | None = None
    trace_format: Annotated[
        Literal["auto", "azure", "bailian", "burstgpt", "copilot", "dag_jsonl", "mooncake", "native", "otel", "sharegpt"],
        Field(description="auto: the file says which"),
    ] = "auto"
    trace_window_ns: Annotated[DurationNs | None, Field(alias="trace_window", description="only this much of the trace's beginning")] = None
    trace_times: Annotated[bool, Field(description="false: the trace says what is asked, and the load section when")] = True
    time_scale: Annotated[float, Field(gt=0, description="10 replays ten times faster: starts, think times and tools alike")] = 1.0
    answers: Annotated[
        Literal["planned", "real"],
        Field(description="what stands for an answer in the turns that continue it: text of its length, or itself"),
    ] = "planned"
    preset: Annotated[
        Literal["chat", "code", "agent"] | None, Field(description="laws fitted to a published trace; keys given beside it come first")
    ] = None
    prompt_tokens: Annotated[TokenCount, Field(description="the message that begins a conversation")] = TokenCount(mean=256)
    cached_share: Annotated[Shares, Field(description="this much of a conversation's beginning is the same text in all sessions")] = (
        ShareLaw(mean=0.0)
    )
    output_tokens: TokenCount = TokenCount(mean=8)
    turns: Annotated[TokenCount, Field(description="messages of the user in a session")] = TokenCount(mean=1)
    reply_tokens: Annotated[TokenCount | None, Field(description="the user's later messages; as prompt_tokens when absent")] = None
    think: Annotated[ServiceTime, Field(description="from an answer to the user's next message")] = ServiceTime()
    restart_share: Annotated[Share, Field(description="of the user's later messages: begin the conversation anew, by prompt_tokens")] = 0.0
    calls: Annotated[TokenCount, Field(description="calls of the model for one message of the user; tools run between them")] = TokenCount(
        mean=1
    )
    tools: Annotated[TokenCount, Field(description="tools side by side between two calls")] = TokenCount(mean=1)
    tool_time: ServiceTime = law("1s")
    tool_tokens: Annotated[TokenCount, Field(description="what each tool adds to the conversation")] = TokenCount(mean=512)
    subagents: Annotated[Share, Field(description="of the tools: agents with a conversation of their own")] = 0.0
    subagent_calls: Annotated[TokenCount, Field(description="calls of the model by one of them")] = TokenCount(mean=3)
    subagent_forks: Annotated[Share, Field(description="of them: begin with the conversation of the agent that called them")] = 0.5
    max_context_tokens: Annotated[PositiveInt, Field(description="a conversation that would grow beyond begins anew")] = 400_000
    tokenizer: Annotated[Path | None, Field(description="a tokenizer.json; the bundled one when absent")] = None


class Spans(Section):
    """How spans come in and how long to wait for late ones."""

    otlp_host: str = "127.0.0.1"
    grpc_port: Annotated[
        int | None, Field(ge=0, le=65535, description="0 takes a free one; default 4317 with a URL, free with the stub")
    ] = None
    http_port: Annotated[int | None, Field(ge=0, le=65535, description="default 4318 with a URL, free with the stub")] = None
    grace_ns: Annotated[DurationNs, Field(alias="grace", ge=0, description="wait for late spans; less once all expected hops arrived")] = (
        6 * NS_PER_S
    )
    hops: Annotated[tuple[str, ...], Field(description="hop names from the client inwards; found from the spans when absent")] = ()


# --- the whole ---------------------------------------------------------------------------------------------------------------------------


class Config(Section):
    """Everything a run is made of."""

    target: Target = Target()
    targets: Annotated[tuple[NamedTarget, ...], Field(description="several targets; each session is drawn to one by weight")] = ()
    load: Load = Load()
    workload: Workload = Workload()
    spans: Spans = Spans()
    goodput: Annotated[
        dict[Literal["ttft", "tpot", "itl", "e2el"], Annotated[float, Field(gt=0)]],
        Field(description="objectives in ms"),
    ] = Field(default={})
    stations: Annotated[
        dict[str, PositiveInt],
        Field(description="layer -> how many requests it serves at once; for what-if on a real stack, whose spans do not say"),
    ] = Field(default={})
    inject: Annotated[Inject | None, Field(description="the causal check: delays put in front of a part of the stack at random")] = None
    stub: Stub = Stub()
    out: Annotated[Path | None, Field(description="run folder; runs/<time> when absent")] = None

    @property
    def uses_stub(self) -> bool:
        """Whether the run brings up the stack in a box."""
        return self.every_target[0].url is None

    @property
    def every_target(self) -> tuple[Target, ...]:
        """The targets in full: those of `targets`, else the one of `target`."""
        return tuple(one.over(self.target) for one in self.targets) or (self.target,)

    @model_validator(mode="after")
    def _targets_agree(self) -> Config:
        names = [one.name for one in self.targets]
        if twice := {name for name in names if names.count(name) > 1}:
            raise ValueError(f"targets must have names of their own, got {', '.join(sorted(twice))} more than once")
        if len({one.url is None for one in self.every_target}) > 1:
            raise ValueError("targets: give all of them a url, or none: those without one mean the stack in a box")
        return self

    @model_validator(mode="after")
    def _can_inject(self) -> Config:
        if self.inject is None:
            return self
        if self.targets:
            raise ValueError(f"inject: one hop stands in front of one target, got {len(self.targets)} targets; measure them one by one")
        check_place(self.inject, uses_stub=self.uses_stub)
        if self.inject.has_own_address:  # the client does not speak through it
            return self
        for key in ("proxy", "proxy_auth_env"):
            if getattr(self.target, key) is not None:
                raise ValueError(f"inject: the hop speaks through no proxy, but target.{key} is given; drop one of the two")
        if self.target.dialect.endswith("-ws"):
            raise ValueError(
                f"inject: the hop delays HTTP requests, and over a WebSocket (target.dialect {self.target.dialect}) there are none;"
                " say another dialect"
            )
        return self

    def hash(self) -> str:
        """A fingerprint of everything that shapes the load and the stack; the output folder is left out."""
        body = self.model_dump(mode="json", by_alias=True, exclude={"out"})
        return hashlib.sha256(json.dumps(body, sort_keys=True).encode()).hexdigest()[:16]


def load_config(path: str | PathLike[str] | None = None, overrides: Mapping[str, Any] | None = None) -> Config:
    """Read ``path`` (or nothing), lay ``overrides`` (nested like the file) over it, and validate.

    Raises:
        ConfigError: the file cannot be read, is not YAML, or says something that cannot be meant.
    """
    file = None if path is None else Path(path)
    over = overrides or {}
    try:
        config = Config.model_validate(_merge({} if file is None else _read_yaml(file), over))
    except ValidationError as error:
        raise ConfigError("\n".join(_explain(error, file, over))) from None
    return _with_paths_from(config, file, over)


def _read_yaml(path: Path) -> dict[str, Any]:
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(
            f"{path}: cannot be read ({unreadable(error)}); give the path of a YAML file, or none for the quickstart"
        ) from None
    try:
        written = read_yaml(text)
    except ConfigError as error:
        raise ConfigError(f"{path}: {error}") from None
    if written is None:
        return {}
    if not isinstance(written, dict):
        raise ConfigError(f"{path}: must be a mapping with keys such as target, load, workload; got a {type(written).__name__}")
    return written


_FILES = (("workload", "trace"), ("workload", "tokenizer"), ("target", "ca_file"), ("target", "client_cert"), ("target", "client_key"))


def _with_paths_from(config: Config, path: Path | None, overrides: Mapping[str, Any]) -> Config:
    """Relative file names in a configuration are relative to the file that names them (or to here, when they exist here)."""
    for section_name, key in _FILES:
        section = getattr(config, section_name)
        named = getattr(section, key)
        in_file = path is not None and named is not None and not _reaches(overrides, (section_name, key))
        if path is not None and in_file and not named.exists():  # an absolute name stays itself below any parent
            config = config.model_copy(update={section_name: section.model_copy(update={key: path.parent / named})})
    if path is not None and not _reaches(overrides, ("targets",)):
        targets = tuple(_with_files_beside(path, target) for target in config.targets)
        config = config.model_copy(update={"targets": targets})
    if path is not None and config.load.phases is not None and not _reaches(overrides, ("load", "phases")):
        phases = tuple(_with_series_beside(path, phase) for phase in config.load.phases)
        config = config.model_copy(update={"load": config.load.model_copy(update={"phases": phases})})
    return config


def _with_files_beside(path: Path, target: NamedTarget) -> NamedTarget:
    files = {key: getattr(target, key) for section, key in _FILES if section == "target" and key in target.model_fields_set}
    return target.model_copy(update={key: path.parent / file for key, file in files.items() if file is not None and not file.exists()})


def _with_series_beside(path: Path, phase: LoadPhase) -> LoadPhase:
    if phase.series_file is None or phase.series_file.exists():
        return phase
    return phase.model_copy(update={"series_file": path.parent / phase.series_file})


def _merge(base: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    merged = dict(base)
    for key, value in over.items():
        below = merged.get(key)
        merged[key] = _merge(below, value) if isinstance(value, Mapping) and isinstance(below, Mapping) else value
    return merged


def _reaches(overrides: Mapping[str, Any], location: tuple[int | str, ...]) -> bool:
    """Whether what stands at ``location`` came from the overrides, not from the file."""
    node: Any = overrides
    for part in location:
        if not isinstance(node, Mapping):
            return True  # the whole branch was laid over
        if part not in node:
            return False
        node = node[part]
    return True


# What pydantic adds to a location to tell the members of a union, and a key from its value.
_TAG = re.compile(r"\[key\]|literal\[.*|function-.*|Station")
# What stands there may be a key: it is never repeated.
_UNTOLD = tuple((section, key) for section in ("target", "targets") for key in ("headers", "extra_body"))


def _explain(error: ValidationError, path: Path | None, overrides: Mapping[str, Any]) -> Iterator[str]:
    """One line per mistake: where, what was wanted, what was got."""
    for mistake in error.errors():
        location = mistake["loc"]
        prefix = f"{path}: " if path is not None and not _reaches(overrides, location) else ""
        where = ".".join(str(part) for part in location if not _TAG.fullmatch(str(part))) or "configuration"
        if mistake["type"] == "extra_forbidden":
            yield f"{prefix}{where} is not a known key{_nearest(location)}"
        else:
            wanted = mistake["msg"].removeprefix("Value error, ").replace("Input should be", "must be")
            wanted = "must be a mapping" if mistake["type"].startswith(("model_", "dict_")) else wanted
            key = (location[0], location[2]) if location[:1] == ("targets",) and len(location) > 2 else location[:2]
            is_told = "got " in wanted or isinstance(mistake["input"], dict) or key in _UNTOLD
            # What concerns the whole names its keys itself.
            yield (f"{prefix}{where}: {wanted}" if location else f"{prefix}{wanted}") + ("" if is_told else f", got {mistake['input']!r}")


def _nearest(location: tuple[int | str, ...]) -> str:
    known = _keys_at(location[:-1])
    close = difflib.get_close_matches(str(location[-1]), known, n=1, cutoff=0.5)
    if close:
        return f"; did you mean {'.'.join([*map(str, location[:-1]), close[0]])}?"
    return f"; known here: {', '.join(known)}" if known else ""


def _keys_at(location: tuple[int | str, ...]) -> list[str]:
    schema: dict[str, Any] = Config.model_json_schema()
    node = schema
    for part in location:
        if isinstance(part, int):
            node = next((one["items"] for one in (node, *node.get("anyOf", [])) if isinstance(one.get("items"), dict)), {})
        else:
            node = node.get("properties", {}).get(part, {})
        for wrapper in (node, *node.get("allOf", []), *node.get("anyOf", [])):
            if "$ref" in wrapper:
                node = schema["$defs"][wrapper["$ref"].rsplit("/", 1)[-1]]
                break
    return list(node.get("properties", {}))
