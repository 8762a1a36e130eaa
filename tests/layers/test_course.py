"""Single requests as they went: what is shown of one of them sums to its row of the table."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
from test_build import ANCHOR, LAYERS_MS, MS, attempt, made, skewed

from latprof.layers.build import build_layers
from latprof.layers.call import AFTER_FIRST_TOKEN
from latprof.layers.course import Course, joined, laid_out, placed, sample_rows
from latprof.layers.partition import Segment
from latprof.layers.table import Layers, Tables
from latprof.observations.columns import Requests
from latprof.spans.span import Span
from latprof.spans.store import Spans


def courses(by_ns: int = 0) -> tuple[Requests, Tables, list[Course], list[Span]]:
    """All rows of a made run, a warm-up and a failure among them, asked for in reverse; the decode pool's clock off by ``by_ns``."""
    rows, spans = made()
    rows[3].phase = "warmup"
    rows[5].error_class = "timeout"
    requests, sent = Requests.from_attempts(rows), skewed(spans, "decode", by_ns)
    tables = build_layers(requests, Spans.of(sent), ANCHOR)
    found = list(placed(tables, requests, Spans.of(sent), ANCHOR, reversed(range(len(rows)))))
    return requests, tables, found, spans


def tiles(segments: tuple[Segment, ...], start_ns: int, end_ns: int) -> bool:
    edges = [segments[0].start_ns, *(segment.end_ns for segment in segments)]
    follow = all(one.end_ns == other.start_ns for one, other in pairwise(segments))
    return follow and edges == sorted(edges) and (edges[0], edges[-1]) == (start_ns, end_ns)


def lengths(segments: tuple[Segment, ...], part: str | None = None) -> Counter[str]:
    summed: Counter[str] = Counter()
    for segment in segments:
        if part is None or segment.part == part:
            summed[segment.layer] += segment.end_ns - segment.start_ns
    return summed


def sums_to(course: Course, call: Layers) -> None:
    index = call.rows.tolist().index(course.row)
    for table, part in ((call.total_ns, None), (call.wait_ns, "wait"), (call.service_ns, "service")):
        found = lengths(course.segments, part)
        assert {name: found[name] for name in call.names} == dict(zip(call.names, table[index].tolist(), strict=True))


@pytest.mark.parametrize("by_ms", [0, 250, -250])
def test_a_course_tiles_its_window_and_sums_to_its_row(by_ms: int) -> None:
    requests, tables, found, _ = courses(by_ms * MS)
    assert [course.row for course in found] == [row for row in reversed(range(40)) if row not in {3, 5}]
    for course in found:
        intended_ns, first_ns, last_ns = (
            int(getattr(requests, name)[course.row]) for name in ("intended_ns", "first_token_ns", "last_token_ns")
        )
        assert tiles(course.before, intended_ns, first_ns)
        assert tiles(course.after, first_ns, last_ns)
        assert course.is_placed
        sums_to(course, tables.e2el)


def test_segments_are_where_the_spans_were() -> None:
    _, _, found, spans = courses()
    for course in found:
        began = {s.name: ANCHOR.to_monotonic(s.start_unix_ns) for s in spans if s.trace_id == f"{course.row:032x}"}
        for layer in LAYERS_MS:
            assert next(s.start_ns for s in course.before if s.layer == layer) == began[layer]


def test_a_request_without_a_last_token_ends_at_its_first() -> None:
    rows, spans = made(4)
    requests = Requests.from_attempts(rows)
    tables = build_layers(requests, Spans.of(spans), ANCHOR)
    call = replace(tables.e2el, rows=tables.e2el.rows[1:], total_ns=tables.e2el.total_ns[1:])
    first, second = placed(Tables(tables.ttft, call), requests, Spans.of(spans), ANCHOR, [0, 1])
    assert first.before
    assert first.after == ()
    assert second.after


def test_lengths_alone_are_laid_end_to_end_in_path_order() -> None:
    requests, tables, _, _ = courses()
    call = tables.e2el
    found = list(laid_out(call, requests, [7, 3, 0]))
    assert [course.row for course in found] == [7, 0]
    for course in found:
        assert not course.is_placed
        assert tiles(course.segments, int(requests.intended_ns[course.row]), int(requests.last_token_ns[course.row]))
        assert course.before[-1].end_ns == requests.first_token_ns[course.row]
        order = [call.names.index(stay[0].layer) for stay in joined(course.segments)]
        assert order == sorted(order)
        assert {segment.layer for segment in course.after} <= set(AFTER_FIRST_TOKEN)
        sums_to(course, call)


def test_neighbours_of_one_layer_are_one_stay() -> None:
    def segment(layer: str, start_ns: int, end_ns: int, part: str = "service") -> Segment:
        return Segment(layer, part, start_ns, end_ns, "span")  # type: ignore[arg-type]

    segments = [segment("a", 0, 1, "wait"), segment("a", 1, 3), segment("b", 3, 4), segment("a", 4, 5), segment("a", 6, 7)]
    assert [tuple((s.start_ns, s.end_ns) for s in stay) for stay in joined(segments)] == [((0, 1), (1, 3)), ((3, 4),), ((4, 5),), ((6, 7),)]
    assert list(joined([])) == []


def test_no_row_costs_nothing() -> None:
    requests = Requests.from_attempts([attempt(0, MS, 2 * MS)])
    tables = build_layers(requests, Spans.of([]), ANCHOR)
    assert list(placed(tables, requests, Spans.of([]), ANCHOR, [])) == []
    (course,) = placed(tables, requests, Spans.of([]), ANCHOR, [0])
    assert tiles(course.before, MS, 2 * MS)


# --- the sample ---------------------------------------------------------------------------------------------------------------------------


def test_a_sample_is_drawn_from_its_seed_alone_without_repetition_in_order() -> None:
    rows = np.arange(10, 1_010)
    drawn = sample_rows(rows, 7, 100)
    assert (drawn == sample_rows(rows, 7, 100)).all()
    assert (drawn != sample_rows(rows, 8, 100)).any()
    assert len(set(drawn.tolist())) == 100
    assert (np.diff(drawn) > 0).all()
    assert set(drawn.tolist()) <= set(rows.tolist())


def test_few_are_all_taken() -> None:
    rows = np.array([4, 9, 2])
    assert sample_rows(rows, 1, 3).tolist() == [4, 9, 2]
    assert sample_rows(rows[:0], 1, 3).tolist() == []
    assert sample_rows(rows, -1, 2).tolist() == [row for row in rows if row in sample_rows(rows, -1, 2)]


def test_every_row_is_as_likely_as_another() -> None:
    often = np.zeros(50)
    for seed in range(400):
        often[sample_rows(np.arange(50), seed, 10)] += 1
    # Binomial(400, 0.2): 80 on average, standard deviation 8; 50 of them stay within 5 deviations.
    assert often.min() > 40
    assert often.max() < 120
