"""What is swept: axes as they are written, the points they span, and the configuration of each."""

from __future__ import annotations

import difflib
import itertools
import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from latprof.config import Config
from latprof.config.values import Section
from latprof.errors import ConfigError, UsageError
from latprof.report.sweep.values import Axis

LOADS = ("rate", "concurrency")
_LIST = "a list of numbers such as 1,2,4,8"


def speedup_axis(text: str) -> Axis:
    """``decode=1,2,4``: a layer of the stack in a box, or a prefix of layers, and how many times faster it gets.

    Raises:
        UsageError: it is not that, or no layer of that name works; the nearest is named.
    """
    layer, equals, values = text.partition("=")
    if not equals or not layer.strip():
        raise UsageError(f"--speedup wants LAYER=K,K,... such as decode=1,2,4,8, got {text!r}")
    name = layer.strip()
    known = known_speedups()
    if name not in known:
        close = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
        nearest = f"did you mean {close[0]}? " if close else ""
        raise UsageError(f"--speedup {name}: is no layer of the stack in a box that works; {nearest}known here: {', '.join(known)}")
    return Axis(name, "speedup", _numbers(f"--speedup {name}", values))


def load_axis(name: str, text: str, flag: str) -> Axis:
    """``10,20,40`` for the axis `rate` or `concurrency`.

    Raises:
        UsageError: it is no list of numbers above 0, or a concurrency is not a whole number.
    """
    values = _numbers(flag, text)
    if name == "concurrency" and any(value != int(value) for value in values):
        raise UsageError(f"{flag} wants whole numbers of requests in flight, got {text}")
    return Axis(name, "rate" if name == "rate" else "concurrency", values)


def key_axis(text: str) -> Axis:
    """``stub.prefill.replicas=1,2,4``: a key of the configuration that holds a number, by its dotted path.

    Raises:
        UsageError: it is not that. Whether there is such a key `check` finds out.
    """
    path, equals, values = text.partition("=")
    if not equals or "." not in path or not all(path.split(".")):
        raise UsageError(f"--vary wants KEY=V,V,... such as stub.prefill.replicas=1,2,4, got {text!r}")
    if path.startswith("stub.speedup."):
        raise UsageError(f"--vary {path}: a speed-up is swept by --speedup {path.removeprefix('stub.speedup.')}={values}")
    return Axis(path, "key", _numbers(f"--vary {path}", values))


def swept_load(text: str) -> tuple[str, str]:
    """``rate=5,10`` or ``concurrency=1,2`` of ``--sweep``: which of the two, and the rest of the text.

    Raises:
        UsageError: it is neither.
    """
    name, equals, values = text.partition("=")
    if not equals or name not in LOADS:
        raise UsageError(f"--sweep wants rate=5,10,20 or concurrency=1,2,4, got {text!r}; to sweep speed-ups: latprof sweep --speedup")
    return name, values


def span(text: str, flag: str) -> tuple[float, float | None]:
    """``5:200``, or ``5`` (as far up as it takes), for a search.

    Raises:
        UsageError: it is not that.
    """
    low, colon, high = text.partition(":")
    try:
        ends = (float(low), float(high) if colon else None)
    except ValueError:
        ends = (math.nan, None)
    if not 0 < ends[0] < math.inf or (ends[1] is not None and not ends[0] < ends[1] < math.inf):
        raise UsageError(f"{flag} wants a span LOW:HIGH such as 5:200 (or LOW alone) with --find-goodput, got {text!r}")
    return ends


def known_speedups() -> tuple[str, ...]:
    """The layers and prefixes of the stack in a box that a speed-up can name."""
    from latprof.stub.models.stages import STAGE_LAYERS

    layers = dict.fromkeys(layer for stage in STAGE_LAYERS.values() for layer in stage)
    return ("gateway", "decode", *(layer for layer in layers if layer not in {"engine.queue", "decode.first"}))


def _numbers(flag: str, text: str) -> tuple[float, ...]:
    """Different numbers above 0, ascending."""
    items = [item.strip() for item in text.split(",")]
    if not any(items):
        raise UsageError(f"{flag} wants {_LIST}, got none")
    values = []
    for item in items:
        try:
            value = float(item)
        except ValueError:
            raise UsageError(f"{flag} wants {_LIST}, got {item!r} in it") from None
        if not 0 < value < math.inf:
            raise UsageError(f"{flag} wants numbers above 0, got {item}; 1 is the stack as it is")
        values.append(value)
    if twice := next((f"{value:g}" for value in values if values.count(value) > 1), None):
        raise UsageError(f"{flag} names {twice} more than once")
    return tuple(values)


def settings(axes: Sequence[Axis], *, is_zipped: bool) -> tuple[Mapping[str, float], ...]:
    """The points: the grid of all axes, or their values side by side.

    Raises:
        UsageError: no axis, one named twice, rate and concurrency at once, or axes of different lengths side by side.
    """
    names = [axis.name for axis in axes]
    if not names:
        raise UsageError("a sweep needs something to sweep: --speedup decode=1,2,4,8, --rate 10,20,40 or --concurrency 1,2,4")
    if twice := next((name for name in names if names.count(name) > 1), None):
        raise UsageError(f"{twice} is swept twice; write its values as one list")
    if set(LOADS) <= set(names):
        raise UsageError("--rate is an open loop and --concurrency a closed one: they exclude each other, sweep them one after the other")
    if is_zipped and len({len(axis.values) for axis in axes}) > 1:
        lengths = ", ".join(f"{axis.name} {len(axis.values)}" for axis in axes)
        raise UsageError(f"--together moves all axes at once and wants lists of one length, got {lengths}")
    rows: Iterator[tuple[float, ...]] = zip(*(axis.values for axis in axes), strict=True) if is_zipped else itertools.product(*(axis.values for axis in axes))  # fmt: skip
    return tuple(dict(zip(names, row, strict=True)) for row in rows)


def config_at(config: Config, setting: Mapping[str, float], replication: int = 0, out: Path | None = None) -> Config:
    """The configuration of one run: the setting laid over ``config``, and seeds of its own for every replication.

    The draws of all settings are the same: they hang on the seed, the session, the turn and the layer, never on how fast anything goes.
    """
    for path, value in setting.items():
        if _is_key(path):
            config = _with(config, path, value)
    speedups = {name: value for name, value in setting.items() if name not in LOADS and not _is_key(name)}
    stub = config.stub.model_copy(
        update={"seed": config.stub.seed + replication, "speedup": {**config.stub.speedup, **speedups}},
    )
    load: dict[str, Any] = {"seed": config.load.seed + replication}
    if "rate" in setting:
        load |= {"rate_per_s": setting["rate"], "concurrency": None, "phases": None}
    if "concurrency" in setting:
        load |= {"concurrency": int(setting["concurrency"]), "rate_per_s": None, "phases": None}
    return config.model_copy(update={"stub": stub, "load": config.load.model_copy(update=load), "out": out})


def _is_key(name: str) -> bool:
    """Layers have dots of their own; the sections of a configuration are no layers."""
    return name.split(".", 1)[0] in Config.model_fields


def _with(config: Config, path: str, value: float) -> Config:
    """``config`` with another number at a dotted path; what is said elsewhere stays said, what is left out stays left out.

    Raises:
        ConfigError: there is no such key, or it cannot hold the number.
    """
    number = int(value) if value == int(value) else value
    sections = [config]
    *parents, leaf = path.split(".")
    for key in parents:
        sections.append(getattr(sections[-1], _field(sections[-1], key, path), None))  # type: ignore[arg-type]
        if not isinstance(sections[-1], Section):
            raise ConfigError(f"--vary {path}: {key} holds no other keys here; name one that holds a number")
    said = sections[-1].model_dump(mode="json", by_alias=True, exclude_unset=True)
    _field(sections[-1], leaf, path)
    try:
        changed: Section = type(sections[-1]).model_validate({**said, leaf: number})
    except ValidationError as error:
        raise ConfigError(f"--vary {path}: cannot be {value:g} ({error.errors()[0]['msg']})") from None
    for section, key in zip(sections[-2::-1], parents[::-1], strict=True):
        changed = section.model_copy(update={_field(section, key, path): changed})
    if not isinstance(changed, Config):
        raise TypeError(f"the top of a configuration is a Config, got {type(changed).__name__}")
    return changed


def _field(section: Section, key: str, path: str) -> str:
    """The attribute behind a key of a section."""
    fields = {field.alias or name: name for name, field in type(section).model_fields.items()}
    if key not in fields:
        close = difflib.get_close_matches(key, fields, n=1, cutoff=0.5)
        nearest = f"did you mean {close[0]}?" if close else f"known here: {', '.join(fields)}"
        raise ConfigError(f"--vary {path}: {key} is not a known key; {nearest}")
    return fields[key]


def check(config: Config, axes: Sequence[Axis], *, is_zipped: bool = False) -> None:
    """Refuse before the first run what no run could do.

    Raises:
        UsageError: a speed-up of somebody's endpoint, or what the schedule or the stack refuses.
    """
    from latprof.schedule.resolve import resolve_load

    speedups = [axis.name for axis in axes if axis.kind == "speedup"]
    if speedups and not config.uses_stub:
        raise UsageError(
            f"--speedup {speedups[0]}: latprof can make the stack in a box faster, not {config.every_target[0].url}; measure it once and ask"
            f" latprof whatif RUN --speedup {speedups[0]}=8, or sweep --rate or --concurrency"
        )
    for setting in settings(axes, is_zipped=is_zipped):
        at = config_at(config, setting)
        if at.uses_stub:
            from latprof.stub.models.stages import check as check_stub

            check_stub(at.stub)
        try:
            resolve_load(at)
        except ConfigError as error:
            told = ", ".join(f"{name}={value:g}" for name, value in setting.items())
            raise ConfigError(f"{error} (in the sweep, at {told})") from None
