"""A gate: replications held against a budget, and against a baseline where the budget asks for one.

run folders -> replications -> one claim per rule -> verdicts (Holm) -> pass, fail, inconclusive, or invalid
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace

from latprof.analysis.arms import Arm, Key, arm_of
from latprof.analysis.assertions import Claim, judge
from latprof.analysis.compare import Moved, Tolerance, are_pairs, change, compare_layers, layer_keys, moved
from latprof.analysis.differences import ALPHA
from latprof.analysis.doubts import Doubt
from latprof.analysis.estimates import without_interval
from latprof.analysis.replications import SHARES, Replication, Selector, estimate
from latprof.analysis.spending import Spending, spend
from latprof.baseline import Baseline, mismatches
from latprof.budget import Budget, Limit, Regression
from latprof.budget_words import amount
from latprof.errors import UsageError
from latprof.report.gate_values import Gated, GatedRun, Inconclusive

# A generator that waits for its core measures that wait: a report can say so beside the figures, a verdict cannot.
_FATAL = ("starved", "generator_cpu")
# Layers that do not add up, or of too few requests, cannot keep a promise or break it.
_FATAL_FOR_LAYERS = ("residual", "span_coverage", "unknown_spans", "spans_lost")


def gate(
    title: str,
    replications: Sequence[Replication],
    budget: Budget,
    baseline: Baseline | None = None,
    *,
    inconclusive: Inconclusive = "exit-3",
    alpha: float = ALPHA,
) -> Gated:
    """Hold ``replications`` against ``budget``; ``alpha`` is less than 5 % where more than one look is taken.

    Raises:
        UsageError: there are none, they do not repeat one experiment, one is there twice, or a regression has nothing to be held against.
    """
    _check_once(replications)
    here = arm_of(title, replications)
    if budget.regressions and baseline is None:
        raise UsageError(
            f"{budget.path or 'the budget'} has rules of kind regression, and there is no baseline; name one with --baseline FILE"
            " (latprof baseline save writes it), or drop them"
        )
    claims = [_claim(replications, limit) for limit in budget.every_limit]
    handed_on: tuple[Moved, ...] = ()
    notes: tuple[str, ...] = ()
    if baseline is not None:
        claims += _against(baseline, here, budget, replications)
        notes = _apart(baseline.arm, here)
        handed_on = () if notes else _moved(baseline.arm, here, budget)
    return Gated(
        title=title,
        verdicts=judge(claims, alpha),
        doubts=_doubts(replications, names_layers=budget.names_layers),
        runs=tuple(_run(one) for one in replications),
        spending=_spending(replications, budget),
        moved=handed_on,
        notes=notes,
        inconclusive=inconclusive,
        alpha=alpha,
    )


def _check_once(replications: Sequence[Replication]) -> None:
    if not replications:
        raise UsageError("a gate needs at least one run, got none; name a run folder")
    counts = Counter(str(one.meta.get("run_id") or one.folder) for one in replications)
    twice = [str(one.folder) for one in replications if counts[str(one.meta.get("run_id") or one.folder)] > 1]
    if twice:
        raise UsageError(f"{' and '.join(dict.fromkeys(twice))} hold the same run; a gate takes every run once")


# --- limits -------------------------------------------------------------------------------------------------------------------------------


def _claim(replications: Sequence[Replication], limit: Limit) -> Claim:
    return Claim(
        name=limit.name,
        estimate=estimate(replications, limit.selector, limit.p),
        bound=limit.bound,
        is_upper=limit.is_upper,
        level="warn" if limit.level == "warn" else "error",
        aggregate=limit.aggregate,
        is_share=limit.selector.metric in SHARES,
    )


def _spending(replications: Sequence[Replication], budget: Budget) -> Spending | None:
    promised = budget.latency
    if promised is None:
        return None
    return spend(replications, promised.metric, promised.p, promised.total_ns, promised.layers_ns)


# --- regressions --------------------------------------------------------------------------------------------------------------------------


def _against(baseline: Baseline, here: Arm, budget: Budget, replications: Sequence[Replication]) -> Iterator[Claim]:
    """The regressions, and beside each the fixed ceiling of its metric: a baseline that is saved anew every week cannot carry the gate upwards."""
    for rule in budget.regressions:
        yield from _regressions(baseline.arm, here, rule)
    wanted = dict.fromkeys(Key(Selector(rule.selector.metric), rule.p) for rule in budget.regressions if rule.level == "error")
    for key in wanted:
        if key in baseline.ceilings_ns:
            bound = baseline.ceilings_ns[key]
            yield Claim(f"{key} < ceiling {amount(bound, is_share=False)}", estimate(replications, key.selector, key.p), bound)


def _regressions(baseline: Arm, here: Arm, rule: Regression) -> Iterator[Claim]:
    """One claim; for layer ``*`` one per layer that could break the rule."""
    apart = _apart(baseline, here)
    for key in _keys(baseline, here, rule):
        found = change(baseline, here, key, Tolerance(rule.tolerance, rule.min_abs_ns))
        told = found.estimate
        if rule.selector.layer == "*" and found.a.value + found.b.value < rule.min_abs_ns:
            continue  # too small to rise by so much; judged by the sum of both arms, which does not tell which of them is larger
        if apart:
            told = without_interval(told.value, told.replications, told.n, "; ".join(apart), told.n_eff)
        name = rule.name.replace(str(rule.selector), str(key.selector), 1)
        yield Claim(name, told, found.margin, level="warn" if rule.level == "warn" else "error", is_change=True)


def _moved(baseline: Arm, here: Arm, budget: Budget) -> tuple[Moved, ...]:
    """Time that layers only handed to each other, in the metrics whose layers the budget is about."""
    metrics = dict.fromkeys(rule.selector.metric for rule in budget.regressions if rule.selector.layer)
    pairs = are_pairs(baseline, here)
    return tuple(one for metric in metrics for one in moved(compare_layers(baseline, here, metric), paired_arms=pairs))


def _keys(baseline: Arm, here: Arm, rule: Regression) -> Iterable[Key]:
    if rule.selector.layer != "*":
        return [Key(rule.selector, rule.p)]
    layers = dict.fromkeys(key.selector.layer for key in layer_keys(baseline, here, rule.selector.metric))
    return [Key(Selector(rule.selector.metric, layer), rule.p) for layer in layers]


def _apart(baseline: Arm, here: Arm) -> tuple[str, ...]:
    """Why the baseline cannot be compared with: it asked for something else, or was measured elsewhere."""
    return tuple(f"the baseline differs: {what}" for what in mismatches(baseline, here))


# --- validity -----------------------------------------------------------------------------------------------------------------------------


def _doubts(replications: Sequence[Replication], *, names_layers: bool) -> tuple[Doubt, ...]:
    """Every doubt once, as grave as it is anywhere, the gravest first; doubts about the generator are fatal, and with a rule about a layer those about layers."""
    found: dict[str, list[Doubt]] = {}
    for one in replications:
        unsteady = one.steady.doubt()
        for doubt in (*one.doubts, *([unsteady] if unsteady is not None else [])):
            # Halves are asked about after the cut, by `Steady`; what the sample is too small for is told by every assertion.
            if doubt.id not in {"drift", "small_sample"}:
                is_fatal = doubt.id in _FATAL or (names_layers and doubt.id in _FATAL_FOR_LAYERS)
                found.setdefault(doubt.id, []).append(replace(doubt, level="fatal") if is_fatal else doubt)
    gravest = [_of_several(same, len(replications)) for same in found.values()]
    return tuple(sorted([*gravest, *_same_seed(replications)], key=lambda doubt: _RANK[doubt.level]))


def _of_several(same: Sequence[Doubt], runs: int) -> Doubt:
    gravest = min(same, key=lambda doubt: _RANK[doubt.level])
    return gravest if runs == 1 else replace(gravest, text=f"{gravest.text} (in {len(same)} of {runs} runs; this is one of them)")


_RANK = {"fatal": 0, "warning": 1, "note": 2}


def _same_seed(replications: Sequence[Replication]) -> list[Doubt]:
    seeds = [one.seed for one in replications]
    if len(set(seeds)) == len(seeds):
        return []
    is_simulated = all(one.meta.get("is_simulated") for one in replications)
    text = "replications have the same seed: they repeat one schedule, and their spread tells of the machine alone"
    return [
        Doubt(
            "same_seed",
            "fatal" if is_simulated else "warning",
            text,
            "give each run a --seed of its own, as latprof run --replications does",
        )
    ]


def _run(one: Replication) -> GatedRun:
    return GatedRun(str(one.folder), one.seed, len(one.failed), int(one.failed.sum()), one.steady.words)
