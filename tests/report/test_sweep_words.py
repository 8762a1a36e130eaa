"""What a search and a grid say."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest

from latprof.analysis.sweeps.highest import Highest, Tried
from latprof.report.sweep.grid import saved, settled
from latprof.report.sweep.highest import as_json, sentences

GOAL, OBJECTIVES = 0.99, {"ttft": 200.0, "tpot": 50.0}
MET = Tried(37.0, 995, 1_000, met=True, is_sure=True, trusted=True)
MISSED = Tried(38.0, 900, 1_000, met=False, is_sure=True, trusted=True)


def told(met: Tried | None, missed: Tried | None) -> list[str]:
    found = Highest(met, missed, tuple(tried for tried in (met, missed) if tried is not None))
    return list(sentences(found, "rate", GOAL, OBJECTIVES))


def test_the_highest_rate_in_one_sentence() -> None:
    lines = told(MET, MISSED)
    assert lines[0] == "highest rate that meets ttft:200 tpot:50 on 99 % of the requests: 37/s (38 missed)"
    assert [line.split() for line in lines[1:]] == [
        ["37/s", "99.50", "%", "1000", "requests", "met"],
        ["38/s", "90.00", "%", "1000", "requests", "missed"],
    ]


def test_what_was_not_found_is_said() -> None:
    assert told(None, MISSED)[0] == "not even 38/s meets ttft:200 tpot:50 on 99 % of the requests"
    assert told(MET, None)[0].endswith("nothing higher was asked for: the highest rate that does lies beyond")
    unsure = Tried(38.0, 989, 1_000, met=False, is_sure=False, trusted=True)
    assert "the ends are within chance of the goal" in told(MET, unsure)[1]
    untrusted = Tried(38.0, 1_000, 1_000, met=False, is_sure=True, trusted=False)
    lines = told(MET, untrusted)
    assert lines[0].endswith("37/s (38 was not to be trusted)")
    assert "the stack may well stand more" in lines[1]
    refused = Tried(200.0, 0, 0, met=False, is_sure=True, trusted=True)
    assert told(MET, refused)[-1].endswith("missed: more than the stack can do, not even run")


def test_the_search_as_json() -> None:
    refused = Tried(200.0, 0, 0, met=False, is_sure=True, trusted=True)
    value = as_json(Highest(MET, refused, (MET, refused)), "rate", GOAL, OBJECTIVES, Path("runs/x"))
    again = json.loads(json.dumps(value, allow_nan=False))
    assert (again["met"], again["missed"], again["tried"][1]["share"]) == (37.0, 200.0, None)


def by_replication(*values: float) -> dict[int, float]:
    return dict(enumerate(values))


def test_a_saving_is_told_from_chance_by_replications() -> None:
    clear = saved(by_replication(100, 110, 120), by_replication(50, 61, 69))
    assert clear.value == pytest.approx(50, abs=1)
    assert clear.half < 10
    assert math.isnan(saved(by_replication(100), by_replication(50)).half)
    assert saved(by_replication(100, 110), {1: 60.0}).value == 50  # only replications that both have


def test_more_stops_helping_where_no_later_step_is_shown_to() -> None:
    values = [by_replication(300, 310, 305), by_replication(200, 205, 210), by_replication(199, 206, 208), by_replication(120, 260, 215)]
    # The last mean is lower, but one of its replications is not: chance.
    assert settled((1, 2, 3, 4), values, 5.0) == 2
    assert settled((1, 2), values[:2], 5.0) == 2
    assert settled((1, 2), values[:2], 500.0) == 1
    alone = [by_replication(300), by_replication(200), by_replication(190)]
    assert settled((1, 2, 3), alone, 30.0) == 2
