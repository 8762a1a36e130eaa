"""Which delay a request gets: by its draw alone, and balanced."""

from __future__ import annotations

from collections import Counter

import pytest
from scipy import stats

from latprof.client.trace_ids import trace_ids
from latprof.schedule.delays import Delays, Per

FOUR = (0, 5, 20, 50)


def design(per: Per, seed: int = 1) -> Delays:
    return Delays(FOUR, 1000, per, seed)


def traces(number: int, run_id: str = "00112233aabbccdd") -> list[str]:
    return [trace_ids(run_id, 7, session, 0, 0)[0] for session in range(number)]


@pytest.mark.parametrize("per", ["request", "block", "both"])
def test_draws_follow_from_the_seed_and_the_request_alone(per: Per) -> None:
    ids, others = traces(200), traces(200, "ffffffffffffffff")
    drawn = [design(per).of(trace, n // 20) for n, trace in enumerate(ids)]
    assert drawn == [design(per).of(trace, n // 20) for n, trace in enumerate(others)]  # another run, the same sessions
    assert drawn != [design(per, seed=2).of(trace, n // 20) for n, trace in enumerate(ids)]
    backwards = [design(per).of(trace, (199 - n) // 20) for n, trace in enumerate(reversed(ids))]
    assert drawn == backwards[::-1]


def test_requests_draw_evenly_and_not_by_block() -> None:
    drawn = [design("request").of(trace, n // 100) for n, trace in enumerate(traces(8000))]
    assert stats.chisquare(list(Counter(drawn).values())).pvalue > 1e-4
    assert all(len(set(drawn[begin : begin + 100])) == 4 for begin in range(0, 8000, 100))
    table = [[drawn[begin : begin + 1000].count(delay) for delay in FOUR] for begin in range(0, 8000, 1000)]
    assert stats.chi2_contingency(table).pvalue > 1e-4


def test_blocks_share_one_delay_and_every_four_hold_all_four() -> None:
    blocks = [{design("block").of(trace, block) for trace in traces(20)} for block in range(400)]
    assert all(len(block) == 1 for block in blocks)
    drawn = [block.pop() for block in blocks]
    assert all(set(drawn[begin : begin + 4]) == set(FOUR) for begin in range(0, 400, 4))
    assert len({tuple(drawn[begin : begin + 4]) for begin in range(0, 400, 4)}) > 15  # of 24 orders: no pattern a load could follow


def test_both_kinds_come_in_pairs_in_any_order() -> None:
    both = design("both")
    shared = [both.is_shared(block) for block in range(400)]
    assert all(shared[begin] != shared[begin + 1] for begin in range(0, 400, 2))
    assert 60 < sum(shared[::2]) < 140
    of_blocks = [both.of(traces(1)[0], block) for block in range(400) if shared[block]]
    assert all(set(of_blocks[begin : begin + 4]) == set(FOUR) for begin in range(0, 200, 4))
    own = next(block for block in range(400) if not shared[block])
    assert {both.of(trace, own) for trace in traces(60)} == set(FOUR)
