from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from made_requests import MS, attempt, chunks, requests

from latprof.analysis.metrics import (
    cached_share,
    cap_wait_ns,
    connection_wait_ns,
    counts,
    e2el_ns,
    goodput,
    headers_ns,
    itl_ns,
    lateness_ns,
    rate,
    samples,
    tokens_per_chunk,
    tpot_ns,
    ttfo_ns,
    ttft_ns,
    ttft_sent_ns,
    wake_lateness_ns,
)
from latprof.client.stamps import ErrorClass
from latprof.observations.columns import Chunks
from latprof.units import MISSING_NS, NS_PER_S

NO_CHUNKS = chunks([(99, 1, 1)])


def test_every_latency_starts_where_it_says() -> None:
    rows = requests(attempt(0, intended_ns=-9 * MS, ready_ns=-8 * MS, start_ns=-2 * MS, first_answer_ns=20 * MS))
    assert ttft_ns(rows)[0] == 20 * MS
    assert ttft_sent_ns(rows)[0] == 10 * MS
    assert ttfo_ns(rows)[0] == 29 * MS
    assert headers_ns(rows)[0] == 14 * MS
    assert e2el_ns(rows)[0] == 50 * MS
    assert (lateness_ns(rows)[0], wake_lateness_ns(rows)[0], cap_wait_ns(rows)[0]) == (7 * MS, 1 * MS, 6 * MS)


def test_what_never_happened_is_missing_and_not_zero() -> None:
    rows = requests(attempt(0, first_token_ns=MISSING_NS, first_answer_ns=MISSING_NS, last_token_ns=MISSING_NS, output_tokens=MISSING_NS))
    for metric in (ttft_ns, ttft_sent_ns, ttfo_ns, e2el_ns):
        assert metric(rows)[0] == MISSING_NS
    assert tpot_ns(rows, NO_CHUNKS)[0] == MISSING_NS
    assert math.isnan(tokens_per_chunk(rows, NO_CHUNKS)[0])


@pytest.mark.parametrize(
    ("tokens", "token_chunks", "expected_ms"),
    [
        (4, 4, 10.0),  # a token per chunk: three gaps
        (16, 4, 2.5),  # four tokens per chunk: twelve tokens after the first chunk
        (3, 4, 15.0),  # fewer tokens than chunks: the first chunk still carried one
    ],
)
def test_tpot_leaves_the_first_chunks_tokens_out(tokens: int, token_chunks: int, expected_ms: float) -> None:
    rows = requests(attempt(0, output_tokens=tokens, token_chunks=token_chunks))
    assert tpot_ns(rows, NO_CHUNKS)[0] == expected_ms * MS


def test_an_answer_in_one_chunk_has_no_tpot() -> None:
    assert tpot_ns(requests(attempt(0, token_chunks=1)), NO_CHUNKS)[0] == MISSING_NS


def test_the_cached_share_is_of_the_requests_that_tell_it() -> None:
    told = attempt(0, prompt_tokens=100, cached_tokens=30), attempt(1, prompt_tokens=300, cached_tokens=0)
    silent = attempt(2, prompt_tokens=600, cached_tokens=MISSING_NS)
    assert cached_share(requests(*told, silent)) == 30 / 400
    assert math.isnan(cached_share(requests(silent)))


THOUGHT = {"output_tokens": 1_200, "reasoning_tokens": 1_000, "token_chunks": 200, "first_channel": "content", "last_token_ns": 4_011 * MS}


def test_reasoning_that_was_counted_and_not_streamed_is_no_part_of_the_pace() -> None:
    rows, log = requests(attempt(0, **THOUGHT)), chunks([(0, 11, 1), (0, 4_011, 1), (7, 12, 2)])
    assert tokens_per_chunk(rows, log)[0] == 1.0
    assert tpot_ns(rows, log)[0] == round(4_000 * MS / 199)
    assert goodput(rows, log, {"tpot": 5.0}).good == 0
    assert samples(rows, log)["tpot"].tolist() == [round(4_000 * MS / 199)]


@pytest.mark.parametrize(
    ("changed", "log"),
    [
        ({"first_channel": "reasoning"}, NO_CHUNKS),  # its chunks are not there to be asked
        ({}, chunks([(0, 11, 1), (0, 20, 2)])),  # thought in between
        ({"reasoning_tokens": MISSING_NS}, NO_CHUNKS),
        ({"reasoning_tokens": 0}, NO_CHUNKS),
        ({"reasoning_tokens": 1_200}, NO_CHUNKS),  # counted beside the output tokens
    ],
)
def test_reasoning_that_was_streamed_or_is_counted_apart_stays(changed: dict[str, Any], log: Chunks) -> None:
    assert tokens_per_chunk(requests(attempt(0, **(THOUGHT | changed))), log)[0] == 6.0


def test_itl_is_the_gap_between_chunks_that_carry_tokens_of_one_request() -> None:
    # Interleaved arrivals of two requests; channel 0 carries no token; request 7 is not asked for.
    log = chunks([(3, 10, 1), (1, 11, 2), (3, 12, 0), (7, 13, 1), (3, 15, 3), (1, 31, 1), (7, 90, 1), (3, 16, 1)])
    rows, gaps_ns = itl_ns(requests(attempt(3), attempt(1)), log)
    assert rows.tolist() == [0, 0, 1]
    assert gaps_ns.tolist() == [5 * MS, 1 * MS, 20 * MS]


def test_counts_keep_failures_by_class_and_the_warm_up_apart() -> None:
    rows = requests(
        attempt(0, phase="warmup"),
        attempt(1),
        attempt(2, error_class=ErrorClass.TIMEOUT),
        attempt(3, error_class=ErrorClass.TIMEOUT),
        attempt(4, error_class=ErrorClass.CONNECT, send_ns=MISSING_NS),
        attempt(5, end_ns=MISSING_NS),
    )
    found = counts(rows, planned=6)
    assert (found.planned, found.sent, found.ok, found.failed, found.warmup) == (6, 4, 1, 4, 1)
    assert found.errors == {"timeout": 2, "connect": 1, "unfinished": 1}
    assert found.failed_share == 0.8


def test_a_retry_is_not_offered_load() -> None:
    rows = requests(*(attempt(i, attempt=i % 2, intended_ns=i // 2 * NS_PER_S, send_ns=i * NS_PER_S // 2) for i in range(10)))
    assert rate(rows).achieved_per_s == pytest.approx(1)


def test_a_retry_is_no_further_turn_and_not_late() -> None:
    failed = {"error_class": ErrorClass.SERVER}
    rows = requests(
        attempt(0, **failed),
        attempt(1, session=0, attempt=1, start_ns=300 * MS, send_ns=301 * MS, first_token_ns=310 * MS),
        attempt(2, session=2, error_class=ErrorClass.CONNECT, send_ns=MISSING_NS),
        attempt(3, session=2, attempt=1, start_ns=300 * MS, send_ns=301 * MS, first_token_ns=310 * MS),  # the first that went
        attempt(4, start_ns=1 * MS),
    )
    found = counts(rows, planned=3)
    assert (found.sent, found.retries, found.turns_sent) == (4, 1, 3)
    assert (found.failed, found.recovered) == (2, 2)
    assert samples(rows, NO_CHUNKS)["lateness"].tolist() == [1 * MS]


def test_a_wait_for_a_connection_is_told_from_opening_one() -> None:
    opened = attempt(0, start_ns=0, dns_start_ns=2 * MS, dns_end_ns=3 * MS, connect_start_ns=3 * MS, connect_end_ns=7 * MS, send_ns=8 * MS)
    waited = attempt(1, start_ns=0, send_ns=30 * MS)
    assert connection_wait_ns(requests(opened, waited)).tolist() == [3 * MS, 30 * MS]


def test_rates_count_gaps_and_not_requests() -> None:
    at = [{"intended_ns": i * NS_PER_S // 10, "start_ns": i * NS_PER_S // 5, "send_ns": i * NS_PER_S // 5} for i in range(11)]
    rows = requests(*(attempt(i, **stamps, end_ns=4 * NS_PER_S) for i, stamps in enumerate(at)))
    found = rate(rows)
    assert found.intended_per_s == pytest.approx(10)
    assert found.achieved_per_s == pytest.approx(5)
    assert found.intended_cv == pytest.approx(0)
    assert found.duration_ns == 4 * NS_PER_S
    assert found.completed_per_s == pytest.approx(11 / 4)
    assert found.output_tokens_per_s == pytest.approx(44 / 4)


def test_poisson_arrivals_have_a_cv_of_one() -> None:
    stamps_ns = np.cumsum(np.random.default_rng(1).exponential(20 * MS, 2_000)).astype(int)
    found = rate(requests(*(attempt(i, intended_ns=int(at), start_ns=int(at)) for i, at in enumerate(stamps_ns))))
    assert found.intended_cv == pytest.approx(1, abs=0.08)


def test_one_request_has_no_rate() -> None:
    assert math.isnan(rate(requests(attempt(0))).intended_per_s)
    assert math.isnan(rate(requests(attempt(0, output_tokens=MISSING_NS))).output_tokens_per_s)


def test_goodput_counts_failures_as_misses() -> None:
    rows = requests(
        attempt(0),
        attempt(1, first_token_ns=31 * MS),
        attempt(2, error_class=ErrorClass.TIMEOUT),
        attempt(3, token_chunks=1),  # neither TPOT nor ITL: met
    )
    assert goodput(rows, NO_CHUNKS, {"ttft": 30.0, "tpot": 10.0}).good == 2
    assert goodput(rows, NO_CHUNKS, {"ttft": 30.0, "tpot": 9.9}).good == 1
    assert goodput(rows, NO_CHUNKS, {"e2el": 41.0}).share == 0.75
    assert goodput(rows, NO_CHUNKS, {"e2el": 40.9}).good == 0
    duration_s = rate(rows).duration_ns / NS_PER_S
    assert goodput(rows, NO_CHUNKS, {"ttft": 40.0}).per_s == pytest.approx(3 / duration_s)


def test_goodput_holds_itl_against_a_requests_mean_gap() -> None:
    log = chunks([(0, 10, 1), (0, 20, 1), (0, 50, 1)])
    rows = requests(attempt(0, first_token_ns=10 * MS, last_token_ns=50 * MS, token_chunks=3))
    assert goodput(rows, log, {"itl": 20.0}).good == 1
    assert goodput(rows, log, {"itl": 19.9}).good == 0


def test_samples_are_the_measured_successes_in_order_of_intended_start() -> None:
    rows = requests(
        attempt(0, intended_ns=5 * MS),
        attempt(1, intended_ns=2 * MS),
        attempt(2, phase="warmup"),
        attempt(3, error_class=ErrorClass.SERVER),
    )
    log = chunks([(0, 11, 1), (1, 12, 1), (0, 21, 1), (1, 32, 1), (2, 1, 1), (2, 2, 1)])
    found = samples(rows, log)
    assert found["ttft"].tolist() == [9 * MS, 6 * MS]
    assert found["itl"].tolist() == [20 * MS, 10 * MS]
