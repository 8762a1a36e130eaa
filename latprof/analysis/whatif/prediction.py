"""What a stated change would do to a recorded run: its requests replayed with their own services, and the answer withheld where that is not sound.

1. model      every layer of the record as a station, a pure delay, or the decode pool
2. check      the replay without change against the record: p50 within 5 %, p99 within 10 %, of TTFT and of the call; of the task, or it is left out
3. predict    the replay with the changes; the same draws, so that what differs is the change

The predicted figures are the replay's own, not the record scaled by the ratio of two replays (``anchored``, which stands beside them): what the
replay misses without change lies in some layer, and a ratio would carry it over to layers and times that it does not belong to. Layers also
add up to the replay's own figures only. In the experiment of `harness.whatif` neither is clearly nearer.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from latprof.analysis.contributions import contributions_as
from latprof.analysis.quantiles import hd_quantile
from latprof.analysis.whatif.answer import ALLOWED, AT, NAMES, Answer, LayerChange, Metric, Prediction, Reproduced, Worth
from latprof.analysis.whatif.blocks import block_of, interval
from latprof.analysis.whatif.changes import Change, Scenario, changed
from latprof.analysis.whatif.doubts import Findings, doubts_of, pooled
from latprof.analysis.whatif.leverage import bottlenecks
from latprof.analysis.whatif.model import Model, held, model_of
from latprof.analysis.whatif.naive import Naive, naive
from latprof.analysis.whatif.record import Load, Record
from latprof.analysis.whatif.replays import Played, play, rate_per_s, recorded_tasks_ns
from latprof.analysis.whatif.shapley import MOST, shapley, subsets
from latprof.errors import InconclusiveError, UsageError
from latprof.layers.table import IntArray, Layers
from latprof.units import NS_PER_MS


def what_if(record: Record, changes: Sequence[Change], load: Load | None = None, *, with_shapley: bool = False) -> Answer:
    """Predict the record under ``changes``, its load that of the run unless ``load`` is given.

    Raises:
        UsageError: there is no change, or one that this run cannot make.
        InconclusiveError: the replay without change does not reproduce the record, so nothing it says could be trusted.
    """
    load = load or record.load
    if not changes and load == record.load:
        raise UsageError("nothing is changed; say what, with --speedup decode=8, --layer gateway=-50%, --servers prefill=4 or --arrivals")
    if with_shapley and not 2 <= len(changes) <= MOST:
        raise UsageError(f"--shapley shares a saving among 2 to {MOST} changes, got {len(changes)}")
    model = model_of(record)
    before, own, reproduced = checked(model)
    after = changed(before, changes)
    # What there is now is the run as it was; the same stack under the load that is asked for is where the naive line and single changes start.
    base = own if load == record.load else play(before, load)
    new = play(after, load) if changes else base
    predictions = (
        *_predict(record, own, new, naive(base, before, after)),
        *_predict_tasks(reproduced, new, len(recorded_tasks_ns(record))),
    )
    worth = _worth(before, base, changes, load) if with_shapley else ()
    leaders, leaders_now = bottlenecks(after, load, new), bottlenecks(before, record.load, own)
    findings = Findings(record, model, before.decode, load, predictions_gap(predictions), base, new, changes, _task_missed(reproduced))
    return Answer(
        folder=record.folder,
        changes=tuple(changes),
        load=load,
        own_load=record.load,
        arrival_model=record.arrival_model,
        requests=len(record),
        reproduced=reproduced,
        predictions=predictions,
        layers=_layers(record.call, new.call),
        use_now=own.use,
        use_predicted=new.use,
        per_s_now=rate_per_s(record.intended_ns),
        per_s_predicted=new.per_s,
        bottlenecks_now=leaders_now,
        bottlenecks=leaders,
        held=held(model),
        decode=_decode_text(before),
        worth=worth,
        doubts=tuple(doubts_of(findings)),
        presets=record.presets,
    )


# --- the check ----------------------------------------------------------------------------------------------------------------------------


def checked(model: Model) -> tuple[Scenario, Played, tuple[Reproduced, ...]]:
    """The model of decode that reproduces the record, its replay without change, and how near that is.

    Raises:
        InconclusiveError: none does.
    """
    tried = []
    for decode in model.decode:
        scenario = Scenario(model, decode)
        played = play(scenario, model.record.load)
        reproduced = reproduction(model.record, played)
        tried.append((scenario, played, reproduced))
        if all(one.is_near for one in _deciding(reproduced)):
            return tried[-1]
    scenario, played, reproduced = min(tried, key=lambda one: max(abs(each.off) / ALLOWED[each.p] for each in _deciding(one[2])))
    raise InconclusiveError(_refusal(model.record, played, reproduced))


def reproduction(record: Record, played: Played) -> tuple[Reproduced, ...]:
    """Every percentile that is checked; Harrell-Davis quantiles of both sides."""
    recorded, replayed = _recorded(record), _values(played)
    tasks_ns = recorded_tasks_ns(record)
    if len(tasks_ns) and len(played.tasks_ns):
        recorded["task"], replayed["task"] = tasks_ns, played.tasks_ns
    return tuple(
        Reproduced(metric, p, hd_quantile(recorded[metric], p), hd_quantile(replayed[metric], p)) for metric in recorded for p in AT
    )


def _deciding(reproduced: Sequence[Reproduced]) -> list[Reproduced]:
    """Those without which nothing is predicted. A task also hangs on which sessions came to their end: it is left out alone."""
    return [one for one in reproduced if one.metric != "task"]


def _recorded(record: Record) -> dict[Metric, IntArray]:
    return _values(Played(record.call, np.arange(len(record)), record.intended_ns, np.empty(0, np.int64), {}, np.nan))


def _values(played: Played) -> dict[Metric, IntArray]:
    return {"ttft": played.ttft_ns, "e2el": played.e2el_ns}


def _refusal(record: Record, played: Played, reproduced: Sequence[Reproduced]) -> str:
    missed = [one for one in _deciding(reproduced) if not one.is_near]
    told = "; ".join(
        f"{NAMES[one.metric]} p{100 * one.p:g} comes out as {one.replayed_ns / NS_PER_MS:.4g} ms and was {one.recorded_ns / NS_PER_MS:.4g} ms"
        f" ({100 * one.off:+.0f} %, {100 * ALLOWED[one.p]:.0f} % allowed)"
        for one in missed
    )
    p = missed[0].p
    was, came = (contributions_as(call, p, "percentile").total_ns for call in (record.call, played.call))
    worst = int(np.argmax(np.abs(came - was)))
    return (
        f"{record.folder}: no what-if from this run: replayed without any change, {told}. The largest difference is in"
        f" {record.call.names[worst]}: {came[worst] / NS_PER_MS:.4g} ms replayed, {was[worst] / NS_PER_MS:.4g} ms recorded at p{100 * p:g} of"
        f" the call. {_cause(record)}"
    )


def _cause(record: Record) -> str:
    if record.shares_engine:
        return (
            "Its engine computes prompts and answers in the same iterations, which a replay of stations cannot;"
            " latprof sweep --simulate plays them"
        )
    if record.replicas:
        return (
            f"Its {pooled(record)} share requests out by a balancer, and the replay takes them for one pool with one queue; latprof sweep --simulate"
            " plays the balancer"
        )
    return (
        "A queue there is not first come, first served by the servers assumed, or something that is no layer held requests up; see that"
        " `stations` in the configuration tells the servers, and that the run has no doubt (latprof report)"
    )


# --- the prediction -----------------------------------------------------------------------------------------------------------------------


def _predict(record: Record, own: Played, new: Played, naively: Naive) -> list[Prediction]:
    """Every percentile as recorded, replayed without any change (``own``) and with all of them (``new``)."""
    recorded, replayed, predicted = _recorded(record), _values(own), _values(new)
    line: dict[Metric, IntArray] = dict(zip(recorded, naively, strict=True))
    blocks = block_of(new.jobs, len(record))
    return [
        Prediction(
            metric=metric,
            p=p,
            now_ns=hd_quantile(recorded[metric], p),
            replayed_ns=hd_quantile(replayed[metric], p),
            predicted_ns=hd_quantile(predicted[metric], p),
            naive_ns=hd_quantile(line[metric], p),
            bounds_ns=interval(predicted[metric], blocks, p),
            requests=min(len(record), len(new.jobs)),
        )
        for metric in recorded
        for p in AT
    ]


def _predict_tasks(reproduced: Sequence[Reproduced], new: Played, tasks: int) -> list[Prediction]:
    """The percentiles of the task that the replay without change reproduces; ``tasks`` were recorded."""
    if not len(new.tasks_ns):
        return []
    return [
        Prediction(
            "task", one.p, one.recorded_ns, one.replayed_ns, hd_quantile(new.tasks_ns, one.p), None, None, min(tasks, len(new.tasks_ns))
        )
        for one in reproduced
        if one.metric == "task" and one.is_near
    ]


def _task_missed(reproduced: Sequence[Reproduced]) -> Mapping[float, float]:
    """How far off the task is, by percentile, where it is not near enough to predict."""
    return {one.p: one.off for one in reproduced if one.metric == "task" and not one.is_near}


def predictions_gap(predictions: Sequence[Prediction]) -> float:
    """The naive line's largest miss among the percentiles that are given, with its sign."""
    return max((one.naive_gap for one in predictions if one.is_given), key=abs, default=0.0)


def _layers(now: Layers, predicted: Layers) -> tuple[LayerChange, ...]:
    """Contributions to the call; of a kind that both sides can be held against each other by, however few the requests are."""
    nows = {p: contributions_as(now, p, "percentile") for p in AT}
    news = {p: contributions_as(predicted, p, "percentile") for p in AT}
    return tuple(
        LayerChange(
            layer=name,
            now_ns={p: float(nows[p].total_ns[column]) for p in AT},
            predicted_ns={p: float(news[p].total_ns[column]) for p in AT},
            wait_ns={p: float(news[p].wait_ns[column]) for p in AT},
        )
        for column, name in enumerate(now.names)
    )


def _worth(before: Scenario, base: Played, changes: Sequence[Change], load: Load) -> tuple[Worth, ...]:
    values: dict[frozenset[int], dict[tuple[Metric, float], float]] = {}
    for subset in subsets(len(changes)):
        played = play(changed(before, [changes[i] for i in sorted(subset)]), load) if subset else base
        values[subset] = {(metric, p): -hd_quantile(of_metric, p) for metric, of_metric in _values(played).items() for p in AT}
    keys = list(values[frozenset()])
    shared = {key: shapley({subset: of[key] for subset, of in values.items()}) for key in keys}
    return tuple(Worth(change, {key: shared[key][i] for key in keys}) for i, change in enumerate(changes))


def _decode_text(scenario: Scenario) -> str:
    decode = scenario.decode
    if decode.kind == "slots":
        return "every answer takes its own recorded time, and holds a slot meanwhile"
    t1_ms, per_ms = decode.t1_ns / NS_PER_MS, decode.per_sequence_ns / NS_PER_MS
    return f"iterations of {t1_ms:.4g} ms + {per_ms:.3g} ms a stream, fitted to the record ({100 * decode.error:.1f} % off in the median answer)"
