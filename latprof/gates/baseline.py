"""Baselines: what a gate remembers of good runs, as a small JSON file that lives in git beside the code.

    runs -> save -> file -> load -> an arm like any other (`latprof.analysis.verdicts.arms`), and the ceilings beside it

Figures keep every digit: a simulation of the same seeds must come out equal to the ns. Nothing in the file tells when it was written, so that
saving the same runs again changes nothing.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from latprof.analysis.verdicts.arms import PERCENTILES, Arm, Key
from latprof.analysis.verdicts.conditions import Conditions, differences, fingerprint
from latprof.analysis.verdicts.estimates import Estimate, from_figures, without_interval
from latprof.analysis.verdicts.replications import SHARES, Selector, untold_by
from latprof.errors import ConfigError, UsageError
from latprof.gates.words import named
from latprof.layers.vocabulary import belongs_to
from latprof.units import NS_PER_MS, ms

SCHEMA = "latprof.baseline/1"
"""Additions keep the number."""

CEILING_AT = (0.50, 0.95)
"""The percentiles of the end-to-end metrics that get a ceiling."""
CEILING_SHARE = 0.20
"""How far above the first baseline the ceiling is, unless another share is asked for."""

_LINE = 140


@dataclass(frozen=True, slots=True, eq=False)
class Baseline:
    """A baseline file. ``ceilings_ns`` by figure are fixed when it is first saved, and stay when it is saved again.

    Rises that each stay within the tolerance cannot add up beyond them. A percentile that says nothing has no ceiling.
    """

    path: Path
    arm: Arm
    ceilings_ns: Mapping[Key, float]


# --- writing ------------------------------------------------------------------------------------------------------------------------------


def save(arm: Arm, path: Path, *, ceiling_share: float | None = None) -> Baseline:
    """Write ``arm`` to ``path``. The ceilings of a file that is there already stay, unless ``ceiling_share`` asks for new ones.

    Raises:
        UsageError: the file cannot be written, a figure lies above the ceiling that is to stay, or the ceilings are of another load.
        ConfigError: what is there is not a baseline of this schema.
    """
    before = load(path) if path.exists() and ceiling_share is None else None
    if before is not None:
        _check_same_load(before, arm)
    kept = before.ceilings_ns if before is not None else {}
    for key, ceiling_ns in kept.items():
        value = arm.figure(key).value
        if value > ceiling_ns and _can_be_held(arm, key):
            raise UsageError(
                f"{path}: {key} is {ms(value):.2f} ms, above the fixed ceiling of {ms(ceiling_ns):.2f} ms; make it faster, or"
                " set new ceilings with --ceiling 20%"
            )
    share = CEILING_SHARE if ceiling_share is None else ceiling_share
    ceilings = {key: arm.figure(key).value * (1 + share) for key in ceiling_keys(arm) if _can_be_held(arm, key)} | dict(kept)
    try:
        path.write_text(f"{_written(_as_json(arm, ceilings))}\n", encoding="utf-8")
    except OSError as error:
        raise UsageError(f"{path}: cannot be written ({error.strerror}); name a file in a folder that can be") from None
    return Baseline(path, arm, ceilings)


def _check_same_load(before: Baseline, arm: Arm) -> None:
    asked = differences(before.arm.conditions, arm.conditions).asked
    if asked:
        raise UsageError(
            f"{before.path}: is the baseline of another load ({'; '.join(asked[:3])}), and its ceilings say nothing about this one; name another"
            " file, or set new ceilings with --ceiling 20%"
        )


def ceiling_keys(arm: Arm) -> list[Key]:
    """The figures that get a ceiling, if they rest on enough."""
    keys = [key for key in arm.metric_keys() if key.p in CEILING_AT]
    return [key for key in keys if math.isfinite(arm.figure(key).value)]


def _can_be_held(arm: Arm, key: Key) -> bool:
    """Whether a figure is more than chance: the p95 of three requests, fixed as a ceiling, would fail every gate that comes after."""
    found = arm.figure(key)
    return found.is_given(key.p) and (found.has_interval or (key.p or 0) <= 0.5)


def _as_json(arm: Arm, ceilings: Mapping[Key, float]) -> dict[str, Any]:
    statistics = (*PERCENTILES, None)
    return {
        "schema": SCHEMA,
        "fingerprint": fingerprint(arm.conditions),
        "conditions": asdict(arm.conditions),
        "seeds": list(arm.seeds),
        "ceilings_ms": {str(key): ms(value) for key, value in ceilings.items()},
        "metrics": {
            metric: {named(p): _figure(arm, Selector(metric), p) for p in ((None,) if metric in SHARES else statistics)}
            for metric in arm.metrics
        },
        "layers": {
            metric: {name: {named(p): _figure(arm, Selector(metric, name), p) for p in statistics} for name in names}
            for metric, names in arm.layers.items()
        },
    }


def _figure(arm: Arm, selector: Selector, p: float | None) -> dict[str, Any]:
    """In ns or as a share; ``each`` is what the interval is made of, ``pooled`` the figure of all requests together where ``value`` is another."""
    one = arm.figure(Key(selector, p))
    told: dict[str, Any] = {"value": _or_none(one.value), "n": one.n, "n_eff": _or_none(one.n_eff)}
    if one.has_interval:
        told["each"] = list(one.figures)
    if one.pooled is not None:
        told["pooled"] = float(one.pooled)
    if one.counted is not None:
        told["counted"] = list(one.counted)
    return told | ({"why": one.why} if one.why else {})


def _or_none(value: float) -> float | None:
    return float(value) if math.isfinite(value) else None


def _written(value: Any, indent: int = 0) -> str:
    """JSON with one figure to the line, so that a changed figure is a changed line."""
    flat = json.dumps(value, ensure_ascii=False, allow_nan=False)
    is_figure = isinstance(value, Mapping) and "value" in value
    if not isinstance(value, Mapping) or not value or is_figure or (len(flat) + indent <= _LINE and not _holds_figures(value)):
        return flat
    pad = " " * (indent + 2)
    lines = ",\n".join(f"{pad}{json.dumps(key, ensure_ascii=False)}: {_written(below, indent + 2)}" for key, below in value.items())
    return f"{{\n{lines}\n{' ' * indent}}}"


def _holds_figures(value: Mapping[str, Any]) -> bool:
    return any(isinstance(below, Mapping) and ("value" in below or _holds_figures(below)) for below in value.values())


# --- reading ------------------------------------------------------------------------------------------------------------------------------


def load(path: Path) -> Baseline:
    """Read a baseline file.

    Raises:
        ConfigError: it is not one, it is damaged, or of another schema version.
    """
    told = _read(path)
    try:
        found = _conditions(told["conditions"])
        arm = Arm(
            name=str(path),
            seeds=tuple(int(seed) for seed in told["seeds"]),
            metrics=tuple(told["metrics"]),
            layers={metric: tuple(names) for metric, names in told["layers"].items()},
            figure=lru_cache(maxsize=None)(lambda key: _kept(told, key)),
            conditions=found,
        )
        ceilings = {_key(name): float(value) * NS_PER_MS for name, value in told["ceilings_ms"].items()}
        for key in (*arm.metric_keys(), *(key for metric in arm.layers for key in arm.layer_keys(metric))):
            arm.figure(key)  # found out now, not in the middle of a gate
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise ConfigError(
            f"{path}: is damaged ({type(error).__name__}: {error}); wanted a baseline as latprof wrote it; take it from git again, or save a new one"
        ) from None
    return Baseline(path, arm, ceilings)


def _read(path: Path) -> dict[str, Any]:
    try:
        told = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read ({error.strerror}); latprof baseline save RUN... --to FILE writes one") from None
    except ValueError as error:  # not UTF-8, or not JSON
        raise ConfigError(f"{path}: is not a baseline ({error}); latprof baseline save RUN... --to FILE writes one") from None
    schema = told.get("schema") if isinstance(told, dict) else None
    if schema != SCHEMA:
        is_ours = re.fullmatch(r"latprof\.baseline/\d+", str(schema))
        what = (
            "save a new baseline with this latprof, or use the latprof that wrote it"
            if is_ours
            else "name a file that latprof baseline save wrote"
        )
        raise ConfigError(f"{path}: schema must be {SCHEMA}, got {schema!r}; {what}")
    return dict(told)


def _conditions(told: Mapping[str, Any]) -> Conditions:
    return Conditions(
        asked=dict(told["asked"]),
        system=dict(told["system"]),
        place=dict(told["place"]),
        arrival_model=str(told["arrival_model"]),
        is_simulated=bool(told["is_simulated"]),
    )


def _key(name: str) -> Key:
    """The key of an end-to-end figure from its name: ``ttft p95``."""
    metric, _, statistic = name.partition(" ")
    return Key(Selector(metric), float(statistic.removeprefix("p")) / 100)


def _kept(told: Mapping[str, Any], key: Key) -> Estimate:
    """The figure as it was kept; a prefix is the sum of its children."""
    selector, statistic = key.selector, named(key.p)
    seeds = len(told["seeds"])
    if not selector.layer:
        return _read_figure(told["metrics"].get(selector.metric, {}), statistic, seeds, str(key))
    layers = told["layers"].get(selector.metric, {})
    reason = untold_by(tuple(layers), selector)
    if reason:
        return without_interval(math.nan, seeds, 0, reason)
    return _total([_read_figure(layers[name], statistic, seeds, str(key)) for name in layers if belongs_to(name, selector.layer)])


def _read_figure(kept: Mapping[str, Any], statistic: str, replications: int, what: str) -> Estimate:
    one = kept.get(statistic)
    if one is None:
        there = f"; it has {', '.join(kept)}" if kept else ""
        return without_interval(math.nan, replications, 0, f"the baseline has no {what}{there}")
    value = math.nan if one["value"] is None else float(one["value"])
    worth = math.nan if one["n_eff"] is None else float(one["n_eff"])
    if not one.get("each"):
        return without_interval(value, replications, int(one["n"]), str(one["why"]), worth)
    counted = (float(one["counted"][0]), float(one["counted"][1])) if "counted" in one else None
    each = [float(figure) for figure in one["each"]]
    pooled = float(one["pooled"]) if "pooled" in one else None
    return from_figures(value, each, replications, int(one["n"]), n_eff=worth, counted=counted, note=str(one.get("why", "")), pooled=pooled)


def _total(parts: Sequence[Estimate]) -> Estimate:
    """The sum of contributions, which is the contribution of the sum."""
    first, together = parts[0], sum(part.together for part in parts)
    without = next((part for part in parts if not part.has_interval), None)
    if without is not None:
        return without_interval(together, first.replications, first.n, without.why, first.n_eff)
    each = [sum(figures) for figures in zip(*(part.figures for part in parts), strict=True)]
    value = sum(part.value for part in parts)
    return from_figures(value, each, first.replications, first.n, n_eff=first.n_eff, note=first.why, pooled=together)


# --- holding runs against it --------------------------------------------------------------------------------------------------------------


def mismatches(baseline: Arm, arm: Arm) -> Iterator[str]:
    """Why a run cannot be held against a baseline at all: it was asked something else, or measured elsewhere. What is under test may differ."""
    apart = differences(baseline.conditions, arm.conditions)
    yield from apart.asked
    yield from apart.place
