"""The words of a budget file: percentiles, durations with units, shares, names; each read with its place for the message when it is wrong."""

from __future__ import annotations

import difflib
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeVar, cast

from latprof.analysis.verdicts.replications import DECOMPOSED, METRICS, SHARES
from latprof.errors import ConfigError
from latprof.layers.vocabulary import LAYERS, is_known
from latprof.units import NS_PER_MS, NS_PER_S, duration_ns

Level = Literal["error", "warn", "off"]
T = TypeVar("T", bound=str)

_STATISTIC = re.compile(r"p\s*\(?\s*(?P<percent>\d+(?:\.\d+)?)\s*\)?")
_WORDS: Mapping[str, float | None] = {"med": 0.5, "median": 0.5, "avg": None, "mean": None}
_EXPRESSION = re.compile(
    r"\s*(?P<subject>[A-Za-z_][\w.@+\-]*|\*)(?:\s+in\s+(?P<metric>\w+))?\s*:?\s*(?P<statistic>[a-z]+\s*(?:\(\s*[\d.]+\s*\)|[\d.]+)?)?"
    r"\s*(?P<comparison><=|<|>=|>|===?|!=)\s*(?P<value>\S.*?)\s*"
)
_PREFIXES = tuple(dict.fromkeys(name.split(".", 1)[0] for name in LAYERS if "." in name))


@dataclass(frozen=True, slots=True)
class Expression:
    """What a condition in one line says."""

    metric: str
    layer: str
    p: float | None
    bound: float
    is_upper: bool


def expression(where: str, text: str) -> Expression:
    """Read ``ttft p95 < 600ms``, ``gateway in e2el p(99) < 1s``, ``errors rate<0.01``."""
    match = _EXPRESSION.fullmatch(text)
    if match is None or match["comparison"] not in {"<", "<=", ">", ">="}:
        raise ConfigError(f"{where} must be a condition such as 'ttft p95 < 600ms' or 'goodput > 95%', got {text!r}")
    subject, told = match["subject"], (match["statistic"] or "").strip()
    is_metric = match["metric"] is None and (subject in METRICS or subject in SHARES)
    metric = subject if is_metric else checked_metric(where, match["metric"] or "ttft")
    layer = "" if is_metric else checked_layer(where, subject)
    if layer and metric not in DECOMPOSED:
        raise ConfigError(f"{where}: layers add up to {', '.join(DECOMPOSED)}, got {metric}")
    if metric in SHARES:
        if told not in {"", "rate"}:
            raise ConfigError(f"{where}: {metric} is a share and has no {told}; write '{metric} {match['comparison']} {match['value']}'")
        p = None
    elif not told:
        raise ConfigError(f"{where}: say which percentile of {subject}, such as '{subject} p95 {match['comparison']} {match['value']}'")
    else:
        p = statistic(where, told)
    return Expression(metric, layer, p, quantity(where, match["value"], metric), match["comparison"].startswith("<"))


def statistic(where: str, written: Any) -> float | None:
    """``p95``, ``p(99.9)``, ``med`` as a quantile in (0, 1); None for ``mean``."""
    text = str(written).strip()
    if text in _WORDS:
        return _WORDS[text]
    match = _STATISTIC.fullmatch(text)
    if match is None:
        raise ConfigError(f"{where} must be a percentile such as p95, or mean, got {written!r}")
    percent = float(match["percent"])
    if not 0 < percent < 100:
        raise ConfigError(f"{where}: no sample has a p{match['percent']}: a percentile lies between 0 and 100, without them; such as p99")
    if percent < 1:
        raise ConfigError(
            f"{where}: p{match['percent']} is nearly the least of all; for a quantile of {percent:g} write p{100 * percent:g}"
        )
    return percent / 100


def named(p: float | None) -> str:
    """``p95``, or ``mean``."""
    return "mean" if p is None else f"p{100 * p:g}"


def quantity(where: str, written: Any, metric: str) -> float:
    """A bound of ``metric``: a share, or ns."""
    return share(where, written) if metric in SHARES else duration(where, written)


def duration(where: str, written: Any) -> int:
    """A duration in ns. Its unit must be written: 600 could be anything."""
    text = str(written).strip()
    if isinstance(written, bool) or re.fullmatch(r"[-+]?[\d.]+", text):
        raise ConfigError(f"{where} must carry a unit such as 600ms or 1.5s, got {written!r}")
    try:
        return duration_ns(text)
    except ValueError as error:
        raise ConfigError(f"{where} {error}") from None


def share(where: str, written: Any) -> float:
    """A share: ``5%``, or a fraction such as 0.05."""
    wanted = f"{where} must be a share such as 5% (or 0.05), got {written!r}"
    text = str(written).strip()
    try:
        value = float(text.removesuffix("%")) / (100 if text.endswith("%") else 1)
    except ValueError:
        raise ConfigError(wanted) from None
    if isinstance(written, bool) or not math.isfinite(value) or not 0 <= value <= 1:
        raise ConfigError(wanted)
    if value == 1 and not text.endswith("%"):
        raise ConfigError(f"{where} must say which 1 is meant: write 1% or 100%, got {written!r}")
    return value


def amount(value: float, *, is_share: bool) -> str:
    """A bound as a person writes it: ``600ms``, ``1.5s``, ``95%``."""
    if is_share:
        return f"{100 * value:.6g}%"
    return f"{value / NS_PER_S:.6g}s" if abs(value) >= NS_PER_S else f"{value / NS_PER_MS:.6g}ms"


def checked_metric(where: str, name: Any) -> str:
    """A metric that there is."""
    known = (*METRICS, *SHARES)
    if name not in known:
        raise ConfigError(f"{where}: there is no metric {name!r}{_nearest(str(name), known)}")
    return str(name)


def checked_layer(where: str, name: Any) -> str:
    """A layer of the vocabulary, or a prefix of some."""
    if not isinstance(name, str) or not is_known(name):
        raise ConfigError(f"{where}: there is no layer or metric {name!r}{_nearest(str(name), (*METRICS, *SHARES, *_PREFIXES, *LAYERS))}")
    return name


def keys(where: str, written: Any, known: Sequence[str] | None) -> Mapping[str, Any]:
    """A mapping with no other keys than ``known`` (None: any)."""
    if not isinstance(written, Mapping):
        got = "nothing" if written is None else f"a {type(written).__name__}"
        raise ConfigError(f"{where or 'the file'} must be a mapping{f' with keys such as {known[0]}' if known else ''}, got {got}")
    for key in written:
        if known is not None and key not in known:
            raise ConfigError(f"{where + '.' if where else ''}{key} is not a known key{_nearest(str(key), known)}")
    return {str(key): value for key, value in written.items()}


def one_of(where: str, written: Any, known: Iterable[T]) -> T:
    """One of a few words."""
    words = tuple(known)
    # YAML reads a bare off as false.
    word = "off" if written is False else written
    if word not in words:
        raise ConfigError(f"{where} must be one of {', '.join(words)}, got {written!r}")
    return cast("T", word)


def exactly_one(where: str, written: Mapping[str, Any], wanted: Sequence[str]) -> tuple[str, Any]:
    """The one key of ``wanted`` that is there."""
    found = [key for key in wanted if written.get(key) is not None]
    if len(found) != 1:
        raise ConfigError(
            f"{where} needs {'exactly one of ' if len(wanted) > 1 else ''}{' and '.join(wanted)}, got {' and '.join(found) or 'none'}"
        )
    return found[0], written[found[0]]


def _nearest(name: str, known: Sequence[str]) -> str:
    close = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
    return f"; did you mean {close[0]}?" if close else f"; known: {', '.join(known)}"
