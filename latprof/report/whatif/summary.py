"""A what-if as plain values, for ``--json``: everything the terminal shows, times in ms, unrounded."""

from __future__ import annotations

import math

from latprof.analysis.sweeps.bottlenecks import Bottlenecks
from latprof.analysis.whatif.answer import AT, Answer, Prediction
from latprof.analysis.whatif.replays import Use
from latprof.report import presets
from latprof.units import NS_PER_MS


def summary(answer: Answer) -> dict[str, object]:
    """The answer as plain values for JSON, times in ms."""
    return {
        "folder": answer.folder,
        "changes": [{"layer": one.layer, "how": one.how, "amount": one.amount, "text": one.text} for one in answer.changes],
        "arrival_model": answer.arrival_model,
        "replayed_load": answer.load.text,
        "requests": answer.requests,
        "reproduced": [
            {"metric": one.metric, "p": one.p, "recorded_ms": _f(one.recorded_ns), "replayed_ms": _f(one.replayed_ns), "off": one.off}
            for one in answer.reproduced
        ],
        "predictions": [_prediction(one) for one in answer.predictions],
        "layers": [
            {
                "layer": line.layer,
                **{
                    f"p{100 * p:g}": {
                        "now_ms": _f(line.now_ns[p]) if p in answer.given else None,
                        "predicted_ms": _f(line.predicted_ns[p]) if p in answer.given else None,
                        "wait_ms": _f(line.wait_ns[p]) if p in answer.given else None,
                    }
                    for p in AT
                },
            }
            for line in answer.layers
        ],
        "stations": {name: {"now": _use(answer.use_now[name]), "predicted": _use(use)} for name, use in answer.use_predicted.items()},
        "rate_per_s": {"now": answer.per_s_now, "predicted": answer.per_s_predicted},
        "bottlenecks": {"now": _three(answer.bottlenecks_now), "predicted": _three(answer.bottlenecks)},
        "shapley": [
            {
                "change": one.change.text,
                "saved_ms": {f"{metric}_p{100 * p:g}": _f(ns) if p in answer.given else None for (metric, p), ns in one.saved_ns.items()},
            }
            for one in answer.worth
        ],
        "decode": answer.decode,
        "held": dict(answer.held),
        "presets": list(presets.lines(answer.presets)),
        "doubts": [{"id": one.id, "level": one.level, "text": one.text, "remedy": one.remedy} for one in answer.doubts],
    }


def _prediction(one: Prediction) -> dict[str, object]:
    """Null throughout where the percentile rests on too few requests."""
    if not one.is_given:
        names = ("now_ms", "replayed_ms", "predicted_ms", "anchored_ms", "interval_ms", "naive_ms", "naive_gap")
        return {"metric": one.metric, "p": one.p, **dict.fromkeys(names)}
    return {
        "metric": one.metric,
        "p": one.p,
        "now_ms": _f(one.now_ns),
        "replayed_ms": _f(one.replayed_ns),
        "predicted_ms": _f(one.predicted_ns),
        "anchored_ms": _f(one.anchored_ns),
        "interval_ms": None if one.bounds_ns is None else [_f(bound) for bound in one.bounds_ns],
        "naive_ms": None if one.naive_ns is None else _f(one.naive_ns),
        "naive_gap": None if one.naive_ns is None else one.naive_gap,
    }


def _use(use: Use) -> dict[str, object]:
    return {
        "servers": use.servers or None,
        "utilisation": None if math.isnan(use.load) else use.load,
        "busy": use.busy,
        "service_ms": _f(use.work_ns),
        "wait_ms": _f(use.wait_ns),
        "source": use.source,
    }


def _three(found: Bottlenecks) -> dict[str, object]:
    leaders = {"budget": found.budget, "capacity": found.capacity, "leverage": found.leverage}
    return {name: None if leader is None else {"layers": list(leader.names), "value": leader.value} for name, leader in leaders.items()}


def _f(value_ns: float) -> float | None:
    return None if math.isnan(value_ns) else value_ns / NS_PER_MS
