from __future__ import annotations

from pathlib import Path

import pyarrow as pa
from hypothesis import given
from hypothesis import strategies as st

from latprof.spans.span import Span, SpanEvent, SpanKind
from latprof.spans.store import PARQUET, STREAM, Spans, SpanWriter, compact, load


def span_of(trace: int, span: int, start_unix_ns: int = 10, end_unix_ns: int = 20, **rest: object) -> Span:
    return Span(
        trace_id=f"{trace:032x}",
        span_id=f"{span:016x}",
        parent_id=str(rest.get("parent_id", "")),
        name=f"name {span}",
        kind=SpanKind.SERVER,
        start_unix_ns=start_unix_ns,
        end_unix_ns=end_unix_ns,
        attributes={"int": 2**62, "text": "é\u0000", "no": False, "half": 0.5},
        events=(SpanEvent("first_chunk", 15, {"bytes": 3}),),
        resource={"service.name": f"service {span % 3}"},
        scope="library",
    )


def write(folder: Path, *batches: list[Span]) -> None:
    writer = SpanWriter(folder)
    for number, batch in enumerate(batches):
        writer.append(batch, [1_000 + number] * len(batch))
    writer.close()


def test_what_was_written_is_read_back_before_and_after_compaction(tmp_path: Path) -> None:
    batches = [[span_of(trace, span) for trace in (3, 1)] for span in range(1, 8)]
    write(tmp_path, *batches)
    for _ in range(2):
        spans = load(tmp_path)
        assert len(spans) == 14
        assert spans.trace_ids == (f"{1:032x}", f"{3:032x}")
        assert spans.for_trace(f"{3:032x}") == tuple(batch[0] for batch in batches)
        compact(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == [PARQUET]
    assert pa.parquet.read_table(tmp_path / PARQUET).column("received_unix_ns").to_pylist()[:3] == [1000, 1000, 1001]


def test_compacting_nothing_and_compacting_twice(tmp_path: Path) -> None:
    compact(tmp_path)
    assert list(tmp_path.iterdir()) == []
    write(tmp_path, [span_of(1, 1)])
    compact(tmp_path)
    compact(tmp_path)
    assert len(load(tmp_path)) == 1


def test_an_unknown_trace_and_an_empty_folder_have_no_spans(tmp_path: Path) -> None:
    assert len(load(tmp_path)) == 0
    assert load(tmp_path).for_trace("f" * 32) == ()
    write(tmp_path)
    assert load(tmp_path).trace_ids == ()
    (tmp_path / STREAM).write_bytes(b"")
    assert len(load(tmp_path)) == 0


def test_of_two_spans_with_one_id_the_one_that_ended_last_counts() -> None:
    early, late = span_of(1, 7, end_unix_ns=20), span_of(1, 7, end_unix_ns=30)
    other = span_of(1, 8, start_unix_ns=5)
    for order in ([early, late, other], [late, early, other]):
        spans = Spans.of(order)
        assert len(spans) == 3
        assert spans.for_trace(f"{1:032x}") == (other, late)


def test_a_file_cut_anywhere_gives_its_whole_batches(tmp_path: Path) -> None:
    writer = SpanWriter(tmp_path)
    path = tmp_path / STREAM
    ends, spans = [path.stat().st_size], []
    for number in range(1, 4):
        spans.append([span_of(number, span) for span in range(1, 4)])
        writer.append(spans[-1], [1] * 3)
        ends.append(path.stat().st_size)
    whole = path.read_bytes()
    assert ends[-1] == len(whole)  # nothing waits in a buffer when `append` returns
    for cut in range(0, len(whole), 97):
        path.write_bytes(whole[:cut])
        complete = sum(end <= cut for end in ends[1:])
        assert len(load(tmp_path)) == 3 * complete, cut


def test_a_partial_folder_can_be_compacted(tmp_path: Path) -> None:
    write(tmp_path, [span_of(1, 1)], [span_of(2, 2)])
    path = tmp_path / STREAM
    path.write_bytes(path.read_bytes()[:-50])
    compact(tmp_path)
    assert load(tmp_path).for_trace(f"{1:032x}") == (span_of(1, 1),)


@given(st.lists(st.tuples(st.integers(1, 5), st.integers(1, 9)), max_size=40))
def test_every_span_is_found_under_its_trace(ids: list[tuple[int, int]]) -> None:
    spans = Spans.of([span_of(trace, span) for trace, span in ids])
    assert len(spans) == len(ids)
    for trace in range(1, 6):
        found = [int(span.span_id, 16) for span in spans.for_trace(f"{trace:032x}")]
        assert found == sorted({span for its, span in ids if its == trace})
