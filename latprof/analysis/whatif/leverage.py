"""The three bottlenecks of a replay; leverage by replaying it with every service 5 % longer and 5 % shorter, the same draws each time."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Final

import numpy as np

from latprof.analysis.contributions import Contributions, contributions_as
from latprof.analysis.quantiles import hd_quantile
from latprof.analysis.sweeps.bottlenecks import Bottlenecks, leader
from latprof.analysis.sweeps.operational import station_of
from latprof.analysis.whatif.changes import Change, Scenario, changed
from latprof.analysis.whatif.model import FIRST
from latprof.analysis.whatif.record import Load
from latprof.analysis.whatif.replays import Played, play
from latprof.layers.call import DECODE, UNTOLD

STEP: Final = 0.05
"""h of methods' d ln Q / d ln S, taken over (1 - h, 1 + h)."""

# Of a layer that is less of the call than this, no change of 5 % can be told from none.
_WORTH_A_REPLAY = 0.005


def bottlenecks(scenario: Scenario, load: Load, played: Played, p: float = 0.50) -> Bottlenecks:
    """Largest contribution, busiest station, highest elasticity, of the call at ``p``.

    Layers count for the station they belong to: a queue of prefill's for prefill, the first iteration for decode.
    """
    column = contributions_as(played.call, p, "percentile")
    budget: dict[str, float] = {}
    for name, part_ns in zip(played.call.names, column.total_ns.tolist(), strict=True):
        budget[station_of(name)] = budget.get(station_of(name), 0.0) + part_ns
    moves = elasticities(scenario, load, column, p)
    loads = {name: use.load for name, use in played.use.items() if not math.isnan(use.load)}
    return Bottlenecks(
        budget=leader(budget, {name: moves.get(name, value / column.value_ns) * column.value_ns for name, value in budget.items()}),
        capacity=leader(loads, loads),
        leverage=leader(moves, moves),
    )


def elasticities(scenario: Scenario, load: Load, column: Contributions, p: float) -> Mapping[str, float]:
    """By layer d ln Q_p / d ln S, of every layer of the stack that is some of the call, its queue and the load's answer included."""
    moves = {}
    for name in _layers(scenario, column):
        sides = [hd_quantile(play(changed(scenario, [Change(name, "scale", 1 + sign * STEP, name)]), load).e2el_ns, p) for sign in (1, -1)]
        if min(sides) > 0:
            moves[name] = math.log(sides[0] / sides[1]) / math.log((1 + STEP) / (1 - STEP))
    return moves


def _layers(scenario: Scenario, column: Contributions) -> list[str]:
    names = []
    decode_ns = 0.0
    service_ns = np.maximum(column.total_ns - column.wait_ns, 0.0)
    for part, part_ns in zip(scenario.parts, service_ns.tolist(), strict=True):
        if part.name in {FIRST, DECODE, UNTOLD}:
            decode_ns += part_ns
        elif part.kind in {"station", "service"} and part_ns >= _WORTH_A_REPLAY * column.value_ns:
            names.append(part.name)
    return [*names, DECODE] if decode_ns >= _WORTH_A_REPLAY * column.value_ns else names
