from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pyarrow as pa
from hypothesis import given, settings
from hypothesis import strategies as st
from observed_attempts import begun, ended

from latprof.client.stamps import Attempt, ChunkLog, ErrorClass
from latprof.observations.columns import CHUNKS_SCHEMA, REQUESTS_SCHEMA, Chunks, Requests, batch_of, elapsed_ns, known
from latprof.schedule.plan import WARMUP
from latprof.units import MISSING_NS

INTS = st.one_of(st.just(MISSING_NS), st.just(0), st.integers(-(2**63), 2**63 - 1))
TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)
KINDS: dict[str, st.SearchStrategy[Any]] = {
    "int": INTS,
    "str": TEXTS,
    "list[tuple[str, str]]": st.lists(st.tuples(TEXTS, TEXTS), max_size=3),
}
ATTEMPTS = st.builds(Attempt, **{field.name: KINDS[str(field.type)] for field in dataclasses.fields(Attempt)})


def names(kind: type) -> list[str]:
    return [field.name for field in dataclasses.fields(kind)]


def plain(value: Any) -> Any:
    """A numpy cell as the attempt holds it."""
    return list(value) if isinstance(value, tuple) else value if isinstance(value, str) else int(value)


def test_attempt_arrow_and_requests_have_the_same_columns() -> None:
    assert names(Attempt) == REQUESTS_SCHEMA.names == names(Requests)
    assert names(ChunkLog) == CHUNKS_SCHEMA.names == names(Chunks)


@given(st.lists(ATTEMPTS, max_size=4))
@settings(max_examples=150, deadline=None)
def test_an_attempt_survives_arrow_and_numpy(attempts: list[Attempt]) -> None:
    requests = Requests.from_attempts(attempts)
    again = Requests.from_arrow(requests.to_arrow())
    assert len(again) == len(attempts)
    for row, attempt in enumerate(attempts):
        for name in names(Attempt):
            assert plain(getattr(again, name)[row]) == getattr(attempt, name), name
        assert again.success[row] == attempt.succeeded
        assert again.measured[row] == (attempt.phase != WARMUP)


# Small numbers, some that differ in their upper half alone, and, now and then, some that are not sorted by halves.
NUMBERS = st.one_of(st.integers(0, 9), st.sampled_from([3 + (1 << 16), 3 + (2 << 16), 1 << 31]), st.sampled_from([-2, 1 << 32, 1 << 40]))


@given(
    st.booleans(),
    st.lists(st.tuples(NUMBERS, st.integers(0, 2**62), st.integers(0, 2**31 - 1), st.integers(0, 3)), max_size=20),
)
def test_chunks_survive_arrow_and_their_tokens_group_by_request(are_small: bool, rows: list[tuple[int, int, int, int]]) -> None:
    rows = [row for row in rows if not are_small or 0 <= row[0] < 1 << 32]
    columns = np.array(rows, np.int64).reshape(-1, 4).T
    chunks = Chunks.from_arrow(Chunks(*columns).to_arrow())
    assert list(zip(chunks.request, chunks.at_ns, chunks.size, chunks.channel, strict=True)) == rows
    assert chunks.has_token.tolist() == [row[3] != 0 for row in rows]
    of: dict[int, list[int]] = {}
    for request, at_ns, _, channel in rows:
        if channel:
            of.setdefault(request, []).append(at_ns)
    tokens = chunks.tokens
    assert tokens.request.tolist() == sorted(of)
    assert [part.tolist() for part in np.split(tokens.at_ns, tokens.first[1:-1])][: len(of)] == [of[request] for request in sorted(of)]
    assert tokens.counts.tolist() == [len(of[request]) for request in sorted(of)]
    wanted = np.array([9, 3, 1 << 40, 3], np.int64)
    assert tokens.of(wanted).tolist() == [wanted.tolist().index(request) if request in wanted else -1 for request in sorted(of)]
    assert tokens.of(np.empty(0, np.int64)).tolist() == [-1] * len(of)


def test_missing_is_null_in_arrow_and_zero_is_not() -> None:
    attempt = begun(3)
    attempt.prompt_tokens = 0
    batch = batch_of([attempt])
    assert batch["end_ns"].null_count == 1
    assert batch["prompt_tokens"].to_pylist() == [0]
    requests = Requests.from_arrow(pa.Table.from_batches([batch]))
    assert requests.end_ns.dtype == np.int64
    assert requests.end_ns[0] == MISSING_NS
    assert known(requests.end_ns).tolist() == [False]
    assert elapsed_ns(requests.intended_ns, requests.end_ns).tolist() == [MISSING_NS]
    assert elapsed_ns(requests.intended_ns, requests.ready_ns).tolist() == [80_000]


def test_more_rows_than_one_slice_keep_their_order() -> None:
    pauses: list[int] = []
    batch = batch_of([ended(i) for i in range(1000)], lambda: pauses.append(1))
    assert batch["request"].to_pylist() == list(range(1000))
    assert batch["timing_headers"][999].as_py()[1] == {"name": "server-timing", "value": "route;dur=999"}
    assert len(pauses) > 1000 / 64


def test_what_a_server_made_up_does_not_cost_the_batch() -> None:
    odd, fine = ended(0), ended(1)
    odd.output_tokens = 10**30
    odd.error_text = "half a pair \ud83d"
    odd.timing_headers = [("x-\udcff", "v")]
    requests = Requests.from_attempts([odd, fine])
    assert requests.output_tokens[0] == MISSING_NS
    assert requests.error_text[0] == "half a pair \\ud83d"
    assert requests.timing_headers[0] == (("x-\\udcff", "v"),)
    assert requests.request.tolist() == [0, 1]
    assert requests.end_ns[1] == fine.end_ns


def test_select_takes_masks_and_row_numbers() -> None:
    requests = Requests.from_attempts([ended(0), ended(1, error_class=ErrorClass.TIMEOUT), begun(2)])
    assert requests.success.tolist() == [True, False, False]
    assert requests.select(requests.success).request.tolist() == [0]
    assert requests.select(np.array([2, 0])).trace_id.tolist() == [f"{2:032x}", f"{0:032x}"]


def test_equal_texts_share_one_object() -> None:
    requests = Requests.from_attempts([ended(i) for i in range(50)])
    assert len({id(phase) for phase in requests.phase}) == 1
