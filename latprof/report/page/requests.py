"""Single requests as waterfalls: examples, never a summary."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

from latprof.analysis.exemplars import Exemplar
from latprof.layers.course import Course, joined
from latprof.layers.partition import Segment
from latprof.observations.columns import Requests
from latprof.report.colours import colour_of
from latprof.units import ms

Courses = Callable[[Iterable[int]], Iterator[Course]]
"""The courses of some rows of the requests."""


def waterfalls(chosen: Sequence[Exemplar], requests: Requests, courses: Courses) -> list[dict[str, Any]]:
    """One picture an exemplar: every stay in a layer from the intended start, in ms, with what of it was wait."""
    by_row = {course.row: course for course in courses(sorted({one.row for one in chosen}))}
    return [_waterfall(one, by_row[one.row], requests) for one in chosen if one.row in by_row]


def _waterfall(one: Exemplar, course: Course, requests: Requests) -> dict[str, Any]:
    row = one.row
    zero_ns = int(requests.intended_ns[row])
    return {
        "label": one.label,
        "column_ms": ms(one.value_ns),
        "own_ms": ms(one.own_ns),
        "session": int(requests.session[row]),
        "turn": int(requests.turn[row]),
        "trace_id": str(requests.trace_id[row]),
        "prompt_tokens": _count(int(requests.prompt_tokens[row])),
        "output_tokens": _count(int(requests.output_tokens[row])),
        "is_placed": course.is_placed,
        "first_token_ms": ms(course.before[-1].end_ns - zero_ns) if course.before else None,
        "stays": [_stay(stay, zero_ns) for stay in joined(course.segments) if stay[-1].end_ns > stay[0].start_ns],
    }


def _stay(stay: Sequence[Segment], zero_ns: int) -> dict[str, Any]:
    wait_ns = sum(segment.end_ns - segment.start_ns for segment in stay if segment.part == "wait")
    return {
        "layer": stay[0].layer,
        "colour": colour_of(stay[0].layer),
        "start_ms": ms(stay[0].start_ns - zero_ns),
        "end_ms": ms(stay[-1].end_ns - zero_ns),
        "wait_ms": ms(wait_ns),
    }


def _count(value: int) -> int | None:
    return value if value >= 0 else None
