"""The trace, held against the rules of the Trace Event Format that viewers rely on, and against the table of layers."""

from __future__ import annotations

import io
import json
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from made_courses import MadeCourses
from made_run import made_run

from latprof.layers.call import AFTER_FIRST_TOKEN
from latprof.observations.folder import Run
from latprof.report.elsewhere import perfetto
from latprof.report.elsewhere.perfetto import TTFT, Shown, choose

Slice = dict[str, Any]
"""name, start_ns, end_ns, args, inside."""


def trace_of(n: int = 1_200, most: int = 100, **meta: Any) -> tuple[Run, MadeCourses, Shown, dict[str, Any]]:
    run, layers, _ = made_run(n, **meta)
    courses = MadeCourses(run, layers)
    shown = choose(run, layers, most)
    file = io.BytesIO()
    perfetto.write(file, run, shown, courses)
    return run, courses, shown, json.loads(file.getvalue())


def ns(stamp_us: float) -> int:
    """As Perfetto reads a stamp: the nearest ns."""
    return round(stamp_us * 1_000)


def tracks(trace: dict[str, Any]) -> dict[tuple[int, str], list[Slice]]:
    """The slices of every track, nested as a viewer does it: events by stamp, those of one instant in the order of the file."""
    open_slices: dict[tuple[int, str], list[Slice]] = defaultdict(list)
    found: dict[tuple[int, str], list[Slice]] = defaultdict(list)
    events = [event for event in trace["traceEvents"] if event["ph"] in {"b", "e"}]
    for event in sorted(events, key=lambda event: event["ts"]):
        track = event["pid"], event["id"]
        if event["ph"] == "b":
            new: Slice = {"name": event["name"], "start_ns": ns(event["ts"]), "args": event["args"], "inside": []}
            (open_slices[track][-1]["inside"] if open_slices[track] else found[track]).append(new)
            open_slices[track].append(new)
        else:
            ended = open_slices[track].pop()
            assert ended["name"] == event["name"], "ends in the order in which they were begun"
            ended["end_ns"] = ns(event["ts"])
    assert not any(open_slices.values())
    return dict(found)


def all_of(slices: list[Slice]) -> Iterator[Slice]:
    for one in slices:
        yield one
        yield from all_of(one["inside"])


def test_every_event_has_what_the_format_asks_for() -> None:
    *_, trace = trace_of()
    assert set(trace) == {"displayTimeUnit", "otherData", "traceEvents"}
    assert trace["displayTimeUnit"] == "ns"
    for event in trace["traceEvents"]:
        if event["ph"] == "M":
            assert event["name"] in {"process_name", "process_sort_index"}
            continue
        assert event["ph"] in {"b", "e"}
        assert {"cat", "id", "pid", "tid", "name", "ts"} <= set(event)
        assert event["ts"] >= 0
        assert isinstance(event["id"], str)
    assert {event["pid"] for event in trace["traceEvents"]} == {1, 2}


def test_one_track_per_request_and_no_request_twice() -> None:
    run, _, shown, trace = trace_of()
    found = tracks(trace)
    assert all(len(slices) == 1 for slices in found.values())
    assert len({request for _, request in found}) == len(found) == len(shown.sample) + len({one.row for one in shown.exemplars})
    for (_, request), (whole,) in found.items():
        row = run.requests.request.tolist().index(int(request, 16))
        assert whole["end_ns"] - whole["start_ns"] == run.requests.end_ns[row] - run.requests.intended_ns[row]
        assert whole["start_ns"] == run.requests.intended_ns[row] - run.requests.intended_ns[0]


def test_layers_tile_the_time_to_first_token_and_the_rest_of_the_call() -> None:
    run, courses, _, trace = trace_of(most=200)
    with_layers = 0
    for (_, request), (whole,) in tracks(trace).items():
        row = int(request, 16)
        if run.requests.error_class[row]:
            assert whole["inside"] == []
            continue
        with_layers += 1
        ttft, *after = whole["inside"]
        assert ttft["name"] == TTFT
        index = courses.call.rows.tolist().index(row)
        expected = dict(zip(courses.call.names, courses.call.total_ns[index].tolist(), strict=True))
        for slices, names in ((ttft["inside"], set(expected) - set(AFTER_FIRST_TOKEN)), (after, set(AFTER_FIRST_TOKEN) & set(expected))):
            lengths = {one["name"]: one["end_ns"] - one["start_ns"] for one in slices}
            assert lengths == {name: expected[name] for name in names if expected[name]}
        edges = [edge for one in [*ttft["inside"], *after] for edge in (one["start_ns"], one["end_ns"])]
        assert edges[1:-1:2] == edges[2::2], "one begins where the other ends"
        assert (edges[0], edges[-1]) == (whole["start_ns"], whole["end_ns"] - 1_000_000)  # the stream ends 1 ms after its last token
    assert with_layers > 150


def test_wait_and_service_lie_in_their_layer() -> None:
    *_, trace = trace_of()
    tokenized = [one for slices in tracks(trace).values() for one in all_of(slices) if one["name"] == "gateway.tokenize"]
    assert tokenized
    for one in tokenized:
        assert [part["name"] for part in one["inside"]] == ["wait", "service"]
        wait, service = one["inside"]
        assert (wait["start_ns"], wait["end_ns"], service["end_ns"]) == (one["start_ns"], service["start_ns"], one["end_ns"])
    lateness = next(one for slices in tracks(trace).values() for one in all_of(slices) if one["name"] == "client.lateness")
    assert lateness["args"] == {"source": "client", "part": "wait"}


def test_exemplars_stand_apart_and_say_what_they_are_examples_of() -> None:
    run, _, shown, trace = trace_of()
    names = {event["pid"]: event["args"]["name"] for event in trace["traceEvents"] if event["name"] == "process_name"}
    assert names == {
        1: "Exemplars: one request each, the nearest to a percentile of the TTFT",
        2: f"Sample: 100 (drawn with seed 7) of the {len(run.requests) - 3} other measured requests",
    }
    labelled = [whole["name"] for (group, _), (whole,) in tracks(trace).items() if group == 1]
    assert [name.split(":")[0] for name in labelled] == [one.label for one in shown.exemplars] == ["p50", "p95", "p99"]
    assert all(" ms" in name for name in labelled)


def test_a_request_nearest_to_two_percentiles_has_one_track() -> None:
    run, layers, _ = made_run(300)
    shown = choose(run, layers)
    both = replace(shown, exemplars=(shown.exemplars[0], replace(shown.exemplars[0], label="p95")))
    file = io.BytesIO()
    perfetto.write(file, run, both, MadeCourses(run, layers))
    names = [whole["name"] for (group, _), (whole,) in tracks(json.loads(file.getvalue())).items() if group == 1]
    assert len(names) == 1
    assert names[0].startswith("p50, p95: request ")


def test_failed_requests_are_in_the_sample_under_their_error() -> None:
    *_, trace = trace_of(300, most=2_000)
    failed = [whole for (_, _), (whole,) in tracks(trace).items() if whole["args"].get("error_class")]
    assert sorted(whole["name"].split(": ")[1] for whole in failed) == ["server", "timeout"]


def test_a_sample_is_the_same_for_the_same_seed_and_all_of_a_small_run() -> None:
    run, layers, _ = made_run(600, seed=3)
    assert choose(run, layers, 50).sample.tolist() == choose(run, layers, 50).sample.tolist()
    other, *_ = made_run(600, seed=4)
    assert choose(run, layers, 50).sample.tolist() != choose(other, layers, 50).sample.tolist()
    everything = choose(run, layers)
    assert len(everything.sample) + len(everything.exemplars) == 602
    assert everything.sentence.endswith("all 599 other measured requests")


@pytest.mark.parametrize("n", [0, 1])
def test_runs_with_next_to_nothing_in_them(n: int) -> None:
    _, _, shown, trace = trace_of(n)
    assert len(tracks(trace)) == len(shown.sample) + len({one.row for one in shown.exemplars}) == (n + 2 if n else 0)


def test_stamps_keep_their_ns_over_a_long_run() -> None:
    # A day in: µs as a double still tell ns apart.
    run, layers, _ = made_run(30)
    day_ns = 86_400 * 10**9
    moved = {name: getattr(run.requests, name) for name in ("intended_ns", "first_token_ns", "last_token_ns", "end_ns")}
    late = replace(run.requests, **{name: np.where(run.requests.request > 0, stamps + day_ns, stamps) for name, stamps in moved.items()})
    run = replace(run, requests=late)
    file = io.BytesIO()
    perfetto.write(file, run, choose(run, layers), MadeCourses(run, layers))
    for (_, request), (whole,) in tracks(json.loads(file.getvalue())).items():
        row = int(request, 16)
        assert whole["end_ns"] == run.requests.end_ns[row]
