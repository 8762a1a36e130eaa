"""What flags say, turned into a configuration: each flag stands for a key, and a mistake in it is told by both names."""

from __future__ import annotations

import contextlib
import json
import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from latprof.errors import ConfigError, UsageError

if TYPE_CHECKING:
    from latprof.config import Config

NULL = object()
"""A null that was said, as in ``--set load.duration=null``: unlike a flag left out it overrides the file."""


class Said(NamedTuple):
    """What one flag says: the configuration key it stands for, its own name, and the value (None: it was not given)."""

    path: str
    flag: str
    value: object


def nested(said: Iterable[Said]) -> dict[str, Any]:
    """What was said, nested like the configuration file; flags left out never override the file."""
    tree: dict[str, Any] = {}
    for path, flag, value in said:
        if value is None:
            continue
        node = tree
        *parents, leaf = _keys(path)
        for depth, parent in enumerate(parents, start=1):
            node = node.setdefault(parent, {})
            if not isinstance(node, dict):
                raise UsageError(f"{flag} {path}: {'.'.join(parents[:depth])} was given a value of its own, {node!r}; drop one of the two")
        node[leaf] = None if value is NULL else value
    return tree


def assignments(texts: Iterable[str] | None) -> Iterator[Said]:
    """What ``--set KEY=VALUE`` says; the value is read as YAML."""
    from latprof.yaml_text import read_yaml

    for text in texts or ():
        path, equals, value = text.partition("=")
        if not equals or not all(path.split(".")):
            raise UsageError(f"--set wants KEY=VALUE such as stub.gateway.auth=5ms, got {path!r}{' and no value' if not equals else ''}")
        try:
            read = read_yaml(value)
        except ConfigError as error:
            raise UsageError(f"--set {path}: wants a YAML value such as 5ms or {{mean: 5ms}}; {value!r} {error}") from None
        yield Said(path, "--set", NULL if read is None else read)


def _keys(path: str) -> list[str]:
    """The keys of a dotted path. Layer names hold dots of their own: stub.plant.gateway.auth is one key below stub.plant."""
    keys = path.split(".")
    by_layer = keys[:2] in (["stub", "plant"], ["stub", "speedup"])
    return [*keys[:2], ".".join(keys[2:])] if by_layer and len(keys) > 2 else keys


@contextlib.contextmanager
def flags_named(said: Iterable[Said]) -> Iterator[None]:
    """A mistake in a value that came from a flag names the flag beside the configuration key: ``load.rate_per_s (--request-rate): ...``."""
    try:
        yield
    except ConfigError as error:
        text = str(error)
        for path, flag in {path: flag for path, flag, value in said if value is not None}.items():
            # A key of one word is told from that word in a sentence by where it stands.
            begins = r"(?<![\w.\-/])" if "." in path else "^"
            text = re.sub(rf"{begins}({re.escape(path)}(?:\.[\w\-]+)*)(?!\w)", rf"\1 ({flag})", text, count=1, flags=re.MULTILINE)
        raise ConfigError(text) from None


def length_said(num_prompts: int | None, duration: str | None, warmup: str | None) -> tuple[Said, ...]:
    """How long the measured load is, and what goes before it."""
    measured = Said("load.num_requests", "--num-prompts", num_prompts), Said("load.duration", "--duration", duration)
    return (*measured, *warmup_said(warmup))


def workload_said(
    isl: int | None, osl: int | None, trace: Path | None, trace_window: str | None, time_scale: float | None, preset: str | None
) -> tuple[Said, ...]:
    """What is asked, where flags say so."""
    return (
        Said("workload.prompt_tokens", "--isl", isl),
        Said("workload.output_tokens", "--osl", osl),
        Said("workload.trace", "--trace", trace),
        Said("workload.trace_window", "--trace-window", trace_window),
        Said("workload.time_scale", "--time-scale", time_scale),
        Said("workload.preset", "--preset", preset),
    )


def load_said(request_rate: str | None, concurrency: int | None, max_concurrency: int | None) -> tuple[Said, ...]:
    """Open or closed loop: the flag that says which puts the file's other choice out of force."""
    is_open, is_closed = request_rate is not None, concurrency is not None
    return (
        Said("load.phases", "--request-rate", NULL if is_open else None),
        Said("load.phases", "--concurrency", NULL if is_closed else None),
        Said("load.rate_per_s", "--concurrency", NULL if is_closed and not is_open else None),
        Said("load.concurrency", "--request-rate", NULL if is_open and not is_closed else None),
        Said("load.rate_per_s", "--request-rate", request_rate),
        Said("load.concurrency", "--concurrency", concurrency),
        Said("load.max_concurrency", "--max-concurrency", max_concurrency),
    )


def headers_said(lines: list[str] | None) -> dict[str, str] | None:
    """``Name: value`` or ``NAME=VALUE``. What cannot be read is not repeated: it may be a key."""
    if not lines:
        return None
    headers = {}
    for line in lines:
        match = _HEADER.fullmatch(line)
        if match is None:
            raise UsageError(
                "--header wants 'Name: value', got a text (not repeated here, it may hold a key) that does not begin with 'Name:'"
            )
        headers[match["name"]] = match["value"].strip()
    return headers


_HEADER = re.compile(r"\s*(?P<name>[!#$%&'*+.^_`|~0-9A-Za-z-]+)\s*[:=](?P<value>.*)", re.DOTALL)


def json_object(flag: str, text: str | None) -> dict[str, Any] | None:
    """A JSON object. What is none is not repeated: it may hold a key."""
    if text is None:
        return None
    wanted = f"{flag} wants a JSON object such as '{{\"temperature\": 0}}'"
    try:
        value = json.loads(text)
    except ValueError as error:
        raise UsageError(f"{wanted}, got what is not JSON: {error}") from None
    if not isinstance(value, dict):
        raise UsageError(f"{wanted}, got a {type(value).__name__}")
    return value


def warmup_said(text: str | None) -> tuple[Said, ...]:
    """A bare number is requests, as peers have it; with a unit it is time. Either replaces both of a file's."""
    if text is None:
        return ()
    count, duration = (int(text), "0s") if text.isdecimal() else (0, text)
    return Said("load.warmup_requests", "--warmup", count), Said("load.warmup", "--warmup", duration)


def injected_said(text: str | None, listen: str | None, upstream: str | None) -> tuple[Said, ...]:
    """``STAGE=DELAYS``, and where the hop stands; what is wrong with any is said by the configuration."""
    address = Said("inject.listen", "--inject-listen", listen), Said("inject.upstream", "--inject-upstream", upstream)
    if text is None:
        return address
    stage, equals, delays = text.partition("=")
    if not equals:
        raise UsageError(f"--inject-delay wants STAGE=DELAYS such as gateway=0,5,20,50ms, got {text!r}")
    return Said("inject.before", "--inject-delay", stage.strip()), Said("inject.delays", "--inject-delay", delays), *address


def goodput_said(text: str | None) -> dict[str, str] | None:
    """``METRIC:MS`` pairs, apart by spaces or commas."""
    if text is None:
        return None
    wanted = "--goodput wants objectives in ms such as 'ttft:200 tpot:50'"
    objectives = {}
    for item in text.replace(",", " ").split():
        name, colon, value = item.partition(":")
        if not colon or not value:
            raise UsageError(f"{wanted}, got {item!r}")
        objectives[name] = value.removesuffix("ms")
    if not objectives:
        raise UsageError(f"{wanted}, got none; leave the flag out to count no goodput")
    return objectives


def config_of(path: Path | None, set_: list[str] | None, out: Path | None) -> Config:
    """The configuration of a file with ``--set`` and ``--out`` laid over it."""
    from latprof.config import load_config

    said = (Said("out", "--out", out), *assignments(set_))
    with flags_named(said):
        return load_config(path, nested(said))
