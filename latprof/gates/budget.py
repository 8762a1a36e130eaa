"""The budget file: what a stack is allowed, in YAML, in the repository of those who promise it.

budgets:                                       # or as k6 has it: "ttft p(95) < 600ms"
  - {metric: ttft, at: p95, max: 600ms}
  - {layer: gateway, at: p95, max: 50ms, level: warn}
  - {layer: "*", kind: regression, at: p50, tolerance: 5%, min_abs: 10ms}
latency_budget: {metric: ttft, at: p95, total: 600ms, layers: {gateway: 50ms, prefill: 300ms}}
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal, get_args

from latprof.analysis.verdicts.replications import DECOMPOSED, GOODPUT, METRICS, SHARES, Selector
from latprof.errors import ConfigError, unreadable
from latprof.gates.words import (
    Level,
    amount,
    checked_layer,
    checked_metric,
    duration,
    exactly_one,
    expression,
    keys,
    named,
    one_of,
    quantity,
    share,
    statistic,
)
from latprof.layers.vocabulary import belongs_to
from latprof.yaml_text import read_yaml

Aggregate = Literal["pooled", "median", "optimistic", "pessimistic"]
"""What stands for several replications. ``optimistic`` and ``pessimistic`` are pooled, and fail (pass) only if each replication by itself does."""


@dataclass(frozen=True, slots=True)
class Limit:
    """One bound on one figure, in ns or as a share. ``p`` None is the mean. ``name`` is what reports call it."""

    name: str
    selector: Selector
    p: float | None
    bound: float
    is_upper: bool = True
    level: Level = "error"
    aggregate: Aggregate = "pooled"


@dataclass(frozen=True, slots=True)
class Regression:
    """A rule against the baseline: broken by a rise of more than ``tolerance`` (a share) and more than ``min_abs_ns``. Layer ``*``: each layer."""

    name: str
    selector: Selector
    p: float | None
    tolerance: float
    min_abs_ns: int
    level: Level = "error"


@dataclass(frozen=True, slots=True)
class LatencyBudget:
    """Time promised to layers: at this percentile of the metric, in ns. What is not promised to any layer is left for the others."""

    metric: str
    p: float | None
    total_ns: int
    layers_ns: Mapping[str, int]
    level: Level = "error"
    aggregate: Aggregate = "pooled"

    @property
    def unpromised_ns(self) -> int:
        """What is left of the total."""
        return self.total_ns - sum(self.layers_ns.values())

    def limits(self) -> tuple[Limit, ...]:
        """The bounds that it implies: one for the total, one for each layer."""
        total = _limit(Selector(self.metric), self.p, self.total_ns, self.level)
        each = [_limit(Selector(self.metric, layer), self.p, ns, self.level) for layer, ns in self.layers_ns.items()]
        return tuple(replace(limit, aggregate=self.aggregate) for limit in (total, *each))


@dataclass(frozen=True, slots=True)
class Budget:
    """Everything a budget file says. ``objectives_ms`` say what good is, by default those of the run."""

    limits: tuple[Limit, ...] = ()
    regressions: tuple[Regression, ...] = ()
    latency: LatencyBudget | None = None
    objectives_ms: Mapping[str, float] | None = None
    path: Path | None = None

    @property
    def every_limit(self) -> tuple[Limit, ...]:
        """Those said one by one and those of the latency budget, without repetition and without those that are off."""
        both = (*self.limits, *(self.latency.limits() if self.latency is not None else ()))
        once: dict[tuple[object, ...], Limit] = {}
        for limit in both:
            meant = (limit.selector, limit.p, limit.bound, limit.is_upper, limit.aggregate)  # names are rounded
            if limit.level == "error" or (limit.level == "warn" and meant not in once):
                once[meant] = limit  # said as a warning and as an error, it is an error
        return tuple(once.values())

    @property
    def names_layers(self) -> bool:
        """Whether any rule is about a layer: then the layers must be trustworthy, too."""
        return any(one.layer for one in (*(rule.selector for rule in self.every_limit), *(rule.selector for rule in self.regressions)))


def load_budget(path: Path) -> Budget:
    """Read a budget file.

    Raises:
        ConfigError: it cannot be read, or says something that cannot be meant; the text names the place in it.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(
            f"--budget {path}: cannot be read ({unreadable(error)}); name a YAML file, or let latprof budget init RUN write a first one"
        ) from None
    try:
        return replace(read_budget(read_yaml(text)), path=path)
    except ConfigError as error:
        raise ConfigError(f"{path}: {error}") from None


def read_budget(written: Any) -> Budget:
    """A budget from what stands in its file.

    Raises:
        ConfigError: it says something that cannot be meant; the text names the place in it.
    """
    top = keys("", written, ("budgets", "thresholds", "latency_budget", "goodput", "aggregate"))
    aggregate = one_of("aggregate", top.get("aggregate", "pooled"), get_args(Aggregate))
    rules = [_rule(f"budgets[{index}]", rule, aggregate) for index, rule in enumerate(_listed("budgets", top.get("budgets")))]
    rules += _thresholds(top.get("thresholds"), aggregate)
    latency = _latency("latency_budget", top["latency_budget"], aggregate) if top.get("latency_budget") is not None else None
    budget = Budget(
        limits=tuple(rule for rule in rules if isinstance(rule, Limit)),
        regressions=tuple(rule for rule in rules if isinstance(rule, Regression) and rule.level != "off"),
        latency=latency,
        objectives_ms=_objectives(top.get("goodput")),
    )
    if not budget.every_limit and not budget.regressions:
        raise ConfigError('budgets must hold at least one rule that is not off, such as "ttft p95 < 600ms", got none')
    return budget


# --- rules --------------------------------------------------------------------------------------------------------------------------------

_LIMIT_KEYS = ("kind", "metric", "layer", "at", "max", "min", "level", "aggregate")
_REGRESSION_KEYS = ("kind", "metric", "layer", "at", "vs", "tolerance", "min_abs", "level")
_KINDS = ("limit", "contribution", "regression")


def _rule(where: str, written: Any, aggregate: Aggregate) -> Limit | Regression:
    if isinstance(written, str):
        said = expression(where, written)
        return replace(_limit(Selector(said.metric, said.layer), said.p, said.bound, "error", is_upper=said.is_upper), aggregate=aggregate)
    kind = one_of(f"{where}.kind", written.get("kind", "limit"), _KINDS) if isinstance(written, Mapping) else "limit"
    if kind == "regression":
        return _regression(where, keys(where, written, _REGRESSION_KEYS))
    rule = keys(where, written, _LIMIT_KEYS)
    selector = _selector(where, rule)
    if kind == "contribution" and not selector.layer:
        raise ConfigError(f"{where}: kind contribution needs a layer such as gateway, got none; a metric by itself needs no kind")
    if selector.layer == "*":
        raise ConfigError(f'{where}.layer: "*" is for kind: regression, where every layer has a bound of its own; name one layer here')
    side, value = exactly_one(where, rule, ("max", "min"))
    p = _at(where, rule, selector)
    bound = quantity(f"{where}.{side}", value, selector.metric)
    level = one_of(f"{where}.level", rule.get("level", "error"), get_args(Level))
    found = _limit(selector, p, bound, level, is_upper=side == "max")
    return replace(found, aggregate=one_of(f"{where}.aggregate", rule.get("aggregate", aggregate), get_args(Aggregate)))


def _regression(where: str, rule: Mapping[str, Any]) -> Regression:
    selector = _selector(where, rule)
    if selector.metric in SHARES:
        raise ConfigError(f"{where}.metric: a regression is of a time such as ttft, got {selector.metric}; give {selector.metric} a limit")
    one_of(f"{where}.vs", rule.get("vs", "baseline"), ("baseline",))
    p = _at(where, rule, selector)
    tolerance = share(f"{where}.tolerance", rule.get("tolerance", "5%"))
    min_abs_ns = duration(f"{where}.min_abs", rule.get("min_abs", "0ms"))
    level = one_of(f"{where}.level", rule.get("level", "error"), get_args(Level))
    name = f"{selector} {named(p)} vs baseline +{amount(tolerance, is_share=True)} and +{amount(min_abs_ns, is_share=False)}"
    return Regression(name, selector, p, tolerance, min_abs_ns, level)


def _selector(where: str, rule: Mapping[str, Any]) -> Selector:
    layer = rule.get("layer")
    metric = checked_metric(f"{where}.metric", rule.get("metric", "ttft"))
    if layer is None:
        return Selector(metric)
    if metric not in DECOMPOSED:
        raise ConfigError(f"{where}.metric: layers add up to {', '.join(DECOMPOSED)}, got {metric}; leave the layer out")
    return Selector(metric, layer if layer == "*" else checked_layer(f"{where}.layer", layer))


def _at(where: str, rule: Mapping[str, Any], selector: Selector) -> float | None:
    if selector.metric in SHARES:
        if rule.get("at") is not None:
            raise ConfigError(f"{where}.at: {selector.metric} is a share and has no percentiles; leave it out")
        return None
    if rule.get("at") is None:
        raise ConfigError(f"{where}.at is missing; say which percentile such as p95, or mean")
    return statistic(f"{where}.at", rule["at"])


def _limit(selector: Selector, p: float | None, bound: float, level: Level, *, is_upper: bool = True) -> Limit:
    is_share = selector.metric in SHARES
    what = str(selector) if is_share else f"{selector} {named(p)}"
    return Limit(f"{what} {'<' if is_upper else '>'} {amount(bound, is_share=is_share)}", selector, p, bound, is_upper, level)


def _thresholds(written: Any, aggregate: Aggregate) -> list[Limit | Regression]:
    """k6's way: what is measured, and a list of conditions on it."""
    rules: list[Limit | Regression] = []
    for subject, conditions in keys("thresholds", written if written is not None else {}, None).items():
        where = f"thresholds.{subject}"
        for index, condition in enumerate(_listed(where, [conditions] if isinstance(conditions, str) else conditions)):
            if not isinstance(condition, str):
                raise ConfigError(f"{where}[{index}] must be a condition such as p(95)<600ms, got {condition!r}")
            rules.append(_rule(f"{where}[{index}]", f"{subject} {condition}", aggregate))
    return rules


def _latency(where: str, written: Any, aggregate: Aggregate) -> LatencyBudget:
    said = keys(where, written, ("metric", "at", "total", "layers", "level"))
    metric = checked_metric(f"{where}.metric", said.get("metric", "ttft"))
    if metric not in DECOMPOSED:
        raise ConfigError(f"{where}.metric: layers add up to {', '.join(DECOMPOSED)}, got {metric}")
    total_ns = duration(f"{where}.total", exactly_one(where, said, ("total",))[1])
    layers_ns = {
        checked_layer(f"{where}.layers", layer): duration(f"{where}.layers.{layer}", value)
        for layer, value in keys(f"{where}.layers", said.get("layers") or {}, None).items()
    }
    for layer in layers_ns:
        inside = next((other for other in layers_ns if other != layer and belongs_to(other, layer)), None)
        if inside is not None:
            raise ConfigError(f"{where}.layers: {inside} is part of {layer}, and its time would be promised twice; drop one of the two")
    budget = LatencyBudget(
        metric,
        statistic(f"{where}.at", said.get("at", "p95")),
        total_ns,
        layers_ns,
        one_of(f"{where}.level", said.get("level", "error"), get_args(Level)),
        aggregate,
    )
    if budget.unpromised_ns < 0:
        promised = amount(sum(layers_ns.values()), is_share=False)
        raise ConfigError(
            f"{where}: the layers are promised {promised}, and the total is {amount(total_ns, is_share=False)}; make them fit"
        )
    return budget


def _objectives(written: Any) -> Mapping[str, float] | None:
    if written is None:
        return None
    objectives = keys(GOODPUT, written, tuple(metric for metric in METRICS if metric in {"ttft", "tpot", "itl", "e2el"}))
    return {metric: duration(f"{GOODPUT}.{metric}", value) / 1e6 for metric, value in objectives.items()} or None


def _listed(where: str, written: Any) -> Sequence[Any]:
    if written is None:
        return ()
    if not isinstance(written, list):
        raise ConfigError(f"{where} must be a list, got a {type(written).__name__}; begin each line with a dash")
    return written
