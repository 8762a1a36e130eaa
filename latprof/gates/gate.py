"""A gate: replications held against a budget, and against a baseline where the budget asks for one.

run folders -> replications -> one claim per rule -> verdicts (Holm) -> pass, fail, inconclusive, or invalid
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence

from latprof.analysis.verdicts.arms import Arm, Key, arm_of
from latprof.analysis.verdicts.assertions import Claim, Weight, judge
from latprof.analysis.verdicts.compare import Change, Moved, Tolerance, are_pairs, change, compare_layers, layer_keys, moved
from latprof.analysis.verdicts.differences import ALPHA
from latprof.analysis.verdicts.estimates import Estimate, without_interval
from latprof.analysis.verdicts.replications import SHARES, Replication, Selector, estimate
from latprof.analysis.verdicts.spending import Spending, spend
from latprof.analysis.verdicts.trust import doubts_of
from latprof.errors import UsageError
from latprof.gates.baseline import Baseline, mismatches
from latprof.gates.budget import Budget, Limit, Regression
from latprof.gates.words import amount
from latprof.report.gate.values import Gated, GatedRun, Inconclusive


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
        doubts=doubts_of(replications, names_layers=budget.names_layers),
        runs=tuple(_run(one) for one in replications),
        spending=_spending(replications, budget),
        moved=handed_on,
        notes=notes,
        inconclusive=inconclusive,
        alpha=alpha,
        presets=here.presets or (),
    )


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
        p=limit.p,
    )


def _spending(replications: Sequence[Replication], budget: Budget) -> Spending | None:
    promised = budget.latency
    if promised is None:
        return None
    return spend(replications, promised.metric, promised.p, promised.total_ns, promised.layers_ns)


# --- regressions --------------------------------------------------------------------------------------------------------------------------


def _against(baseline: Baseline, here: Arm, budget: Budget, replications: Sequence[Replication]) -> Iterator[Claim]:
    """The regressions, and the fixed ceilings of the baseline: one that is saved anew every week cannot carry the gate upwards."""
    apart = _apart(baseline.arm, here)
    for rule in budget.regressions:
        yield from _regressions(baseline.arm, here, rule, apart)
    levels: dict[Key, Weight] = {}
    for rule in budget.regressions:
        key = Key(Selector(rule.selector.metric), rule.p)
        levels[key] = "warn" if rule.level == "warn" and levels.get(key, "warn") == "warn" else "error"
    for key, bound in baseline.ceilings_ns.items():
        found = estimate(replications, key.selector, key.p)
        # A ceiling that no rule brings, of a percentile that these runs cannot tell, is shown as open and holds nobody up.
        level = levels.get(key, "error" if found.has_interval else "warn")
        yield Claim(f"{key} < ceiling {amount(bound, is_share=False)}", _unless(apart, found), bound, level=level, p=key.p)


def _regressions(baseline: Arm, here: Arm, rule: Regression, apart: Sequence[str]) -> list[Claim]:
    """One claim; for layer ``*`` one per layer that could break the rule. A rule that finds nothing to judge is not kept: it is open."""
    changes = {key: change(baseline, here, key, Tolerance(rule.tolerance, rule.min_abs_ns)) for key in _keys(baseline, here, rule)}
    judged = {key: found for key, found in changes.items() if rule.selector.layer != "*" or _could_rise(found, rule)}
    level: Weight = "warn" if rule.level == "warn" else "error"
    if not judged:
        metric = rule.selector.metric
        why = (
            f"no layer of {metric} is as large as min_abs; lower it"
            if changes
            else f"neither the runs nor the baseline tell layers of {metric}"
        )
        nothing = without_interval(math.nan, len(here.seeds), 0, why)
        return [Claim(rule.name, nothing, rule.min_abs_ns, level=level, is_change=True)]
    return [
        Claim(
            rule.name.replace(str(rule.selector), str(key.selector), 1),
            _unless(apart, found.estimate),
            found.margin,
            level=level,
            is_change=True,
            p=key.p,
        )
        for key, found in judged.items()
    ]


def _could_rise(found: Change, rule: Regression) -> bool:
    """Whether a layer is large enough; judged by the sum of both arms, which does not tell which of them is larger."""
    both = found.a.value + found.b.value
    return not (both == 0 or both < rule.min_abs_ns)  # a figure that is not a number is told, not hidden


def _unless(apart: Sequence[str], told: Estimate) -> Estimate:
    """``told``, without a verdict where the baseline is of something else."""
    return without_interval(told.value, told.replications, told.n, "; ".join(apart), told.n_eff) if apart else told


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


# --- runs ---------------------------------------------------------------------------------------------------------------------------------


def _run(one: Replication) -> GatedRun:
    return GatedRun(str(one.folder), one.seed, len(one.failed), int(one.failed.sum()), one.steady.words)
