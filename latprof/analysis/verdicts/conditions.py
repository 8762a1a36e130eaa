"""What a run was asked, of what system, measured where: whether two sides of a comparison differ in more than what they are to tell apart.

asked    load, workload, objectives: where these differ, so will the latencies, and neither stack is to blame
system   what is under test: the stack in a box, the address, the stations; this is what a comparison is about
place    the machine that measured: another one has other timers, and under the stack in a box other everything
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from functools import lru_cache
from pathlib import PurePath
from typing import Any, Final

from latprof.config import Config
from latprof.units import NS_PER_MS

Flat = Mapping[str, Any]

_SYSTEM: Final = ("stub", "stations", "target.url", "target.unix_socket", "target.proxy", "targets")
# They change no latency: where the folder is, which draw it was (a replication's own), how spans come in, and what only names secrets.
_LEFT_OUT: Final = (
    "out", "load.seed", "stub.seed", "stub.truth", "spans", "target.headers", "target.api_key_env", "target.proxy_auth_env",
    "target.ca_file", "target.client_cert", "target.client_key",
)  # fmt: skip
_PLACE: Final = ("platform", "machine", "cpu_model", "cpus", "python", "latprof")
# In virtual time nothing depends on how fast the machine is.
_PLACE_OF_SIMULATION: Final = ("platform", "machine", "python", "latprof")


@dataclass(frozen=True, slots=True)
class Conditions:
    """Flat keys of the configuration where they are not the default, and facts of the machine."""

    asked: Flat
    system: Flat
    place: Flat
    arrival_model: str = "unknown"
    is_simulated: bool = False


@dataclass(frozen=True, slots=True)
class Apart:
    """In what two conditions differ, in words: ``load.rate_per_s 50 -> 60``."""

    asked: tuple[str, ...] = ()
    system: tuple[str, ...] = ()
    place: tuple[str, ...] = ()


def conditions(meta: Mapping[str, Any]) -> Conditions:
    """The conditions of a run, from its run.json."""
    config = {key: _named(key, value) for key, value in _flat(meta.get("config", {})) if not _is_below(key, _LEFT_OUT)}
    told = {key: value for key, value in config.items() if key not in _defaults() or _defaults()[key] != value}
    host, is_simulated = meta.get("host", {}), bool(meta.get("is_simulated"))
    place = {key: host[key] for key in (_PLACE_OF_SIMULATION if is_simulated else _PLACE) if host.get(key) is not None}
    if "python" in place:
        place["python"] = place["python"].rpartition(".")[0]  # a patch release computes the same
    return Conditions(
        asked={key: value for key, value in told.items() if not _is_below(key, _SYSTEM)},
        system={key: value for key, value in told.items() if _is_below(key, _SYSTEM)},
        place=place,
        arrival_model=str(meta.get("arrival_model", "unknown")),
        is_simulated=is_simulated,
    )


def differences(a: Conditions, b: Conditions) -> Apart:
    """In what ``b`` differs from ``a``."""
    place = list(_apart(a.place, b.place))
    if a.is_simulated != b.is_simulated:
        names = ["virtual time" if one.is_simulated else "a live run" for one in (a, b)]
        place.insert(0, f"{names[0]} -> {names[1]}")
    return Apart(tuple(_apart(a.asked, b.asked)), tuple(_apart(a.system, b.system)), tuple(place))


def _apart(a: Flat, b: Flat) -> Iterator[str]:
    for key in sorted(a.keys() | b.keys()):
        before, after = (one.get(key, _defaults().get(key)) for one in (a, b))
        if before != after:
            yield f"{key} {_word(before)} -> {_word(after)}"


def _named(key: str, value: Any) -> Any:
    """A file goes by its name: it lies elsewhere on another machine."""
    return PurePath(value).name if key in {"workload.trace", "workload.tokenizer"} and value is not None else value


def _word(value: object) -> str:
    if isinstance(value, str) and value.endswith("ns") and value[:-2].isdecimal():
        return f"{int(value[:-2]) / NS_PER_MS:g}ms"  # as people write it, not as configurations are kept
    return "none" if value is None else str(value)


def _is_below(key: str, names: tuple[str, ...]) -> bool:
    return any(key == name or key.startswith(f"{name}.") for name in names)


def _flat(value: object, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Dotted keys; an empty mapping is none."""
    if isinstance(value, Mapping):
        for key, below in value.items():
            yield from _flat(below, f"{prefix}.{key}" if prefix else str(key))
    else:
        yield prefix, value


@lru_cache(maxsize=1)
def _defaults() -> Flat:
    return dict(_flat(Config().model_dump(mode="json", by_alias=True)))


def fingerprint(of: Conditions) -> str:
    """A short hash of everything in ``of``, to see at a glance whether two are the same."""
    body = json.dumps(asdict(of), sort_keys=True, default=str)
    return hashlib.sha256(body.encode()).hexdigest()[:16]
