"""Streams read while they are written, torn anywhere."""

from __future__ import annotations

import os
import random
import time
from pathlib import Path

import pyarrow as pa
import pytest
from observed_attempts import begun, ended

from latprof.client.stamps import ChunkLog, ErrorClass
from latprof.observations.columns import REQUESTS_SCHEMA
from latprof.observations.recorder import Recorder
from latprof.observations.tail import RequestsTail, Tail
from latprof.spans.span import Span, SpanKind
from latprof.spans.store import STREAM, SpanWriter

_LONG_AGO = 0


def span(number: int) -> Span:
    return Span(
        trace_id=f"{number:032x}",
        span_id=f"{number:016x}",
        parent_id="",
        name=f"name {number % 7}",
        kind=SpanKind.SERVER,
        start_unix_ns=number,
        end_unix_ns=number + 5,
        attributes={"n": number},
        events=(),
        resource={"service.name": f"service {number % 3}"},
        scope="test",
    )


def written_spans(folder: Path, batches: int) -> bytes:
    """A stream whose batches have dictionaries of their own, as the receiver's have."""
    writer = SpanWriter(folder)
    for batch in range(batches):
        spans = [span(batch * 100 + number) for number in range(1 + batch % 5)]
        writer.append(spans, [one.end_unix_ns for one in spans])
    writer.close()
    return (folder / STREAM).read_bytes()


@pytest.mark.parametrize("seed", range(6))
def test_every_batch_comes_once_wherever_the_writer_was_cut_off(tmp_path: Path, seed: int) -> None:
    whole = written_spans(tmp_path, 30)
    expected = pa.ipc.open_stream(whole).read_all().to_pylist()
    path = tmp_path / "growing.arrows"
    tail, rng, read = Tail(path), random.Random(seed), []
    assert tail.new() == []
    with path.open("wb", buffering=0) as file:
        at = 0
        while at < len(whole):
            step = rng.choice([1, 7, 8, 64, 1_000, 5_000])
            file.write(whole[at : at + step])
            at += step
            read += [row for batch in tail.new() for row in batch.to_pylist()]
            done = sum(batch.num_rows for batch in _whole_batches(whole[:at]))
            assert len(read) == done
    assert read == expected
    assert tail.new() == []
    tail.close()


def _whole_batches(data: bytes) -> list[pa.RecordBatch]:
    batches = []
    try:
        for batch in pa.ipc.open_stream(data):
            batches.append(batch)  # noqa: PERF402 - those before the tear count
    except (pa.ArrowException, OSError, EOFError):
        pass
    return batches


def test_attempts_come_as_they_end_and_those_in_flight_as_they_were(tmp_path: Path) -> None:
    recorder = Recorder(tmp_path, ChunkLog(), flush_every_s=0.02)
    tail = RequestsTail(tmp_path)
    first, second = begun(1), begun(2)
    recorder.begin(first)
    recorder.begin(second)
    recorder.end(ended(3, error_class=ErrorClass.TIMEOUT))
    rows: list[dict[str, object]] = []
    deadline = time.monotonic() + 10.0
    while not rows and time.monotonic() < deadline:
        rows += tail.new().to_pylist()
        time.sleep(0.01)
    assert [(row["request"], row["error_class"]) for row in rows] == [(3, "timeout")]
    while (found := tail.in_flight(["request", "first_token_ns"], _LONG_AGO))[0].num_rows < 2 and time.monotonic() < deadline:
        time.sleep(0.01)
    table, taken_unix_ns = found
    assert table.column_names == ["request", "first_token_ns"]
    assert table["request"].to_pylist() == [1, 2]
    assert table["first_token_ns"].to_pylist() == [None, None]
    assert abs(time.time_ns() - taken_unix_ns) < 60 * 10**9
    first.first_token_ns = second.first_token_ns = 5
    recorder.end(first)
    recorder.end(second)
    recorder.close()
    assert sorted(row["request"] for row in tail.new().to_pylist()) == [1, 2]
    assert tail.new().num_rows == 0
    assert tail.new().schema.equals(REQUESTS_SCHEMA)
    tail.close()


def test_workers_have_streams_of_their_own(tmp_path: Path) -> None:
    tail = RequestsTail(tmp_path)
    for worker in range(3):
        with Recorder(tmp_path, ChunkLog(), worker=worker) as recorder:
            recorder.end(ended(10 + worker))
        assert tail.new()["request"].to_pylist() == [10 + worker]
    tail.close()


def test_a_snapshot_that_was_left_lying_is_not_believed(tmp_path: Path) -> None:
    with Recorder(tmp_path, ChunkLog(), flush_every_s=0.01) as recorder:
        recorder.begin(begun(1))
        deadline = time.monotonic() + 10.0
        while not (tmp_path / "requests.w0.inflight.arrows").exists() and time.monotonic() < deadline:
            time.sleep(0.01)
    path = tmp_path / "requests.w0.inflight.arrows"
    os.utime(path, ns=(10**18, 10**18))
    tail = RequestsTail(tmp_path)
    assert tail.in_flight(["request"], 10**18 + 1) == (REQUESTS_SCHEMA.empty_table().select(["request"]), 0)
    table, taken_unix_ns = tail.in_flight(["request"], 10**18)
    assert (table.num_rows, taken_unix_ns) == (1, 10**18)
    tail.close()


def test_nothing_is_there_yet(tmp_path: Path) -> None:
    tail = RequestsTail(tmp_path)
    assert tail.new().num_rows == 0
    assert tail.in_flight(["request"], _LONG_AGO)[0].num_rows == 0
    (tmp_path / "requests.w0.arrows").write_bytes(b"")
    assert tail.new().num_rows == 0
    tail.close()
