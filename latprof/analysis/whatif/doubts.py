"""Reasons to doubt a prediction: values with cause and remedy, as every doubt."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from latprof.analysis.quantiles import MIN_BEYOND, n_eff, rests_on_enough
from latprof.analysis.validity.doubts import Doubt
from latprof.analysis.verdicts.told import MOST_UNTOLD, parts, untold_share
from latprof.analysis.whatif.changes import Change
from latprof.analysis.whatif.decode_fit import Decode
from latprof.analysis.whatif.model import Model
from latprof.analysis.whatif.record import Load, Record
from latprof.analysis.whatif.replays import Played
from latprof.layers.call import DECODE
from latprof.layers.vocabulary import belongs_to

GAP = 0.10
"""A naive line that is off by more is warned of."""
BUSY = 0.60
"""Above this utilisation queues answer a change more than proportionally."""
FULL = 0.97
_LEFT_OUT = 0.01


@dataclass(frozen=True, eq=False)
class Findings:
    """What doubts are made of. ``task_missed`` is how far off the replay without change is in the task, where it is too far."""

    record: Record
    model: Model
    decode: Decode
    load: Load
    naive_gap: float
    base: Played
    new: Played
    changes: Sequence[Change]
    task_missed: Mapping[float, float]


def doubts_of(found: Findings) -> Iterator[Doubt]:
    """Every doubt, in the order of what it puts in question."""
    yield from _shared(found)
    yield from _pooled(found)
    yield from _overload(found)
    yield from _left_out(found)
    yield from _untold(found)
    yield from _task(found)
    yield from _tail(found)
    yield from _naive(found)
    yield from _stream(found)


def _shared(found: Findings) -> Iterator[Doubt]:
    if found.record.shares_engine:
        yield Doubt(
            "shared_engine",
            "warning",
            "the engine computes prompts and answers in the same iterations, and the replay takes them apart: what one does to the other is not in"
            " the predicted figures",
            "latprof sweep --simulate plays shared iterations; hold this against it",
        )


def pooled(record: Record) -> str:
    """The replicas that the replay takes for one pool, in words; empty where there are none."""
    return " and ".join(f"{n} replicas of {layer}" for layer, n in record.replicas.items())


def _pooled(found: Findings) -> Iterator[Doubt]:
    if found.record.replicas:
        yield Doubt(
            "pooled_replicas",
            "warning",
            f"{pooled(found.record)} behind a balancer are replayed as one pool with one queue: a request there waits for the first that is free, while in"
            " the stack it waits for its own, so waits come out too short where there are any",
            "latprof sweep --simulate plays the balancer; hold this against it",
        )


def _overload(found: Findings) -> Iterator[Doubt]:
    full = [name for name, use in found.new.use.items() if not math.isnan(use.load) and use.load >= FULL]
    if full and found.load.arrivals != "closed":
        yield Doubt(
            "overload",
            "warning",
            f"{' and '.join(full)} would be busy all the time: the queue grows for as long as the run lasts, and so do the predicted figures",
            "ask for less load, or for more of it with --servers",
        )


def _left_out(found: Findings) -> Iterator[Doubt]:
    left, sent = found.record.left_out, found.record.left_out + len(found.record)
    if left > _LEFT_OUT * sent:
        yield Doubt(
            "left_out",
            "warning",
            f"{left} of {sent} requests failed or told of no layers, and are left out: what they asked of the stack is missing from the replay",
            "measure again without failures, or below the stack's limits",
        )


def _untold(found: Findings) -> Iterator[Doubt]:
    """What of a changed layer lies in columns that the change leaves alone."""
    call = found.record.call
    for layer in dict.fromkeys(change.layer for change in found.changes if change.layer != DECODE):
        share = untold_share(call, layer)
        shared = [name for name in call.names if not belongs_to(name, layer) and any(belongs_to(part, layer) for part in parts(name))]
        where = [f"{100 * share:.0f} % of the requests do not tell of it"] if share > MOST_UNTOLD else []
        where += [f"some of it is in {name}" for name in shared if call.total_ns[:, call.names.index(name)].any()]
        if where:
            yield Doubt(
                "layer_untold",
                "warning",
                f"only what is known of {layer} was changed: {' and '.join(where)}, so the change is likely to do more than is predicted",
                "record a run whose hops all send their spans, of every request",
            )


def _task(found: Findings) -> Iterator[Doubt]:
    if found.task_missed:
        told = " and ".join(f"{100 * off:+.0f} % at p{100 * p:g}" for p, off in found.task_missed.items())
        yield Doubt(
            "task_missed",
            "warning",
            f"replayed without any change the task is {told} off, and so it is not predicted there: which sessions come to their end changes, or"
            " something that is no layer passes between their steps",
            "record so many sessions that all of them come to their end (load.num_requests in place of a duration)",
        )


def _tail(found: Findings) -> Iterator[Doubt]:
    independent = n_eff(found.new.e2el_ns, 0.99)
    fewest = min(len(found.record), len(found.new.jobs))
    if not rests_on_enough(fewest, fewest, 0.99):
        yield Doubt(
            "few_requests",
            "note",
            f"p99 is not given: it needs {MIN_BEYOND / 0.01:.0f} requests, and there are {fewest}",
            "record a longer run",
        )
    elif independent * 0.01 < MIN_BEYOND:
        yield Doubt(
            "few_requests",
            "note",
            f"p99 rests on {len(found.new.jobs)} requests, worth {independent:.0f} independent ones: it is a figure of these requests, not yet of the"
            " stack",
            "record a longer run",
        )


def _naive(found: Findings) -> Iterator[Doubt]:
    uses = {**found.base.use, **{name: use for name, use in found.new.use.items() if use.load > found.base.use[name].load}}
    busy = {name: use.load for name, use in uses.items() if use.load > BUSY}
    if abs(found.naive_gap) > GAP:
        yield Doubt(
            "naive",
            "note",
            f"subtracting the saved time would be {100 * found.naive_gap:+.0f} % off: waits change with the change",
            "take the replayed figures; the naive line stands beside them only for comparison",
        )
    elif busy:
        name = max(busy, key=lambda one: busy[one])
        yield Doubt(
            "busy",
            "note",
            f"{name} is used at {100 * busy[name]:.0f} %: small errors of service or load make large ones of its wait",
            "trust the direction more than the digits, or record at a lower load as well",
        )


def _stream(found: Findings) -> Iterator[Doubt]:
    """The way back is held: what every chunk costs there is not replayed, and may be what a fast decode runs into."""
    names = found.model.names
    if "proxy.hold" not in names or found.decode.kind != "iterations" or not any(change.layer == "decode" for change in found.changes):
        return
    hold_ns = float(found.record.call.total_ns[:, names.index("proxy.hold")].mean())
    decode = found.new.use.get("decode")
    tokens = float(found.record.tokens.mean())
    if decode is not None and tokens > 1 and hold_ns > decode.work_ns / tokens:
        yield Doubt(
            "per_chunk",
            "warning",
            f"proxy.hold keeps a chunk for {hold_ns / 1e6:.2g} ms and the engine would make one every {decode.work_ns / tokens / 1e6:.2g} ms: if every"
            " chunk is kept that long, the way back is what bounds the stream, and the replay does not say so",
            "see in the report whether later chunks are kept as well (ITL), and shorten that first",
        )
