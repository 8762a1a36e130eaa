"""Single requests as a trace for ui.perfetto.dev or chrome://tracing: one track per request, its layers nested in it.

    p95: request 41, 88.1 ms   |==================== request 41 ====================|
                               |===== time to first token =====|=decode=|==stream===|
                               |late|build|net|gateway.auth|...|
                                              |wait|service|

Trace Event Format, nestable async events (``b`` and ``e`` of one id): requests overlap, which events of a thread must not. Shown are the exemplars
of the percentiles and a random sample, for no viewer is of use with a hundred thousand tracks.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, BinaryIO

import numpy as np
import orjson

from latprof.analysis.exemplars import Exemplar, exemplars
from latprof.layers.course import Course, joined, sample_rows
from latprof.layers.partition import Segment
from latprof.layers.table import IntArray, Layers
from latprof.observations.columns import Requests
from latprof.observations.folder import Run
from latprof.report.inert import harmless, plain
from latprof.units import MISSING_NS, NS_PER_US, ms

MOST_REQUESTS = 2_000
"""Tracks of the random sample."""

TTFT = "time to first token"

_EXEMPLARS, _SAMPLE = 1, 2  # "processes" of the trace: groups of tracks
_TOLD = ("prompt_tokens", "output_tokens", "cached_tokens", "status")
# The last of those a request has is where its track ends.
_ENDS = ("end_ns", "last_token_ns", "first_token_ns", "headers_ns", "written_ns", "send_ns", "start_ns", "ready_ns", "intended_ns")

Event = dict[str, Any]
Courses = Callable[[Iterable[int]], Iterator[Course]]


@dataclass(frozen=True, slots=True)
class Shown:
    """Which requests a trace shows: exemplars, and a sample of the ``of`` other measured requests, failed ones in their proportion among them."""

    exemplars: tuple[Exemplar, ...]
    sample: IntArray  # row numbers in the run's `Requests`, in order of intended start
    of: int
    seed: int

    @property
    def sentence(self) -> str:
        """What was left out, if anything."""
        number = len(self.sample)
        what = f"all {self.of}" if number == self.of else f"{number} (drawn with seed {self.seed}) of the {self.of}"
        return f"exemplars of {', '.join(one.label for one in self.exemplars) or 'nothing'}; {what} other measured requests"


def choose(run: Run, ttft: Layers, most: int = MOST_REQUESTS) -> Shown:
    """The exemplars of the TTFT, and at most ``most`` other measured requests drawn from the run's own seed."""
    requests = run.requests
    found = exemplars(ttft, intended_ns=requests.intended_ns[ttft.rows])
    measured = np.flatnonzero(requests.measured)
    others = np.setdiff1d(measured, [one.row for one in found])
    seed = int(run.meta.get("seed", 0))
    drawn = sample_rows(others, seed, most)
    in_order = drawn[np.argsort(requests.intended_ns[drawn], kind="stable")]
    return Shown(found, in_order, len(others), seed)


def write(file: BinaryIO, run: Run, shown: Shown, courses: Courses) -> None:
    """Write the trace as JSON; stamps are µs with ns as decimals, from the first intended start of the measured requests."""
    measured_ns = run.requests.intended_ns[run.requests.measured]
    zero_ns = int(measured_ns.min()) if len(measured_ns) else 0
    head = {
        "latprof_run": run.meta.get("run_id", ""),
        "model": run.meta.get("target", {}).get("model", ""),
        "shown": shown.sentence,
        "layers_are": "as spans and stamps place them; of a simulated run, lengths laid end to end",
    }
    file.write(b'{"displayTimeUnit":"ns","otherData":' + orjson.dumps(harmless(head)) + b',"traceEvents":[\n')
    between = b""
    for event in _events(run, shown, courses, zero_ns):
        file.write(between + orjson.dumps(event))
        between = b",\n"
    file.write(b"\n]}\n")


def _events(run: Run, shown: Shown, courses: Courses, zero_ns: int) -> Iterator[Event]:
    labels: dict[int, list[str]] = {}
    for one in shown.exemplars:
        labels.setdefault(one.row, []).append(one.label)
    yield from _group(_EXEMPLARS, "Exemplars: one request each, the nearest to a percentile of the TTFT")
    yield from _group(_SAMPLE, f"Sample: {shown.sentence.partition('; ')[2]}")
    for group, rows in ((_EXEMPLARS, list(labels)), (_SAMPLE, shown.sample.tolist())):
        known = {course.row: course for course in courses(rows)}
        for row in rows:
            track = _Track(group, int(run.requests.request[row]), zero_ns)
            yield from _request(run.requests, row, track, known.get(row), ", ".join(labels.get(row, ())))


def _group(number: int, name: str) -> Iterator[Event]:
    for what, argument in (("process_name", {"name": name}), ("process_sort_index", {"sort_index": number})):
        yield {"ph": "M", "name": what, "pid": number, "args": argument}


@dataclass(frozen=True, slots=True)
class _Track:
    group: int
    request: int
    zero_ns: int

    def slice(
        self, name: str, start_ns: int, end_ns: int, inside: Iterable[Event] = (), told: Mapping[str, Any] | None = None
    ) -> Iterator[Event]:
        """A slice with what lies in it: a viewer takes events of one instant in the order of the file, and so nests them."""
        common = {"cat": "request", "id": f"{self.request:#x}", "pid": self.group, "tid": self.group, "name": plain(name)}
        args = {key: plain(value) if isinstance(value, str) else value for key, value in (told or {}).items()}
        yield {"ph": "b", **common, "ts": (start_ns - self.zero_ns) / NS_PER_US, "args": args}
        yield from inside
        yield {"ph": "e", **common, "ts": (end_ns - self.zero_ns) / NS_PER_US}


def _request(requests: Requests, row: int, track: _Track, course: Course | None, label: str) -> Iterator[Event]:
    intended_ns = int(requests.intended_ns[row])
    end_ns = max(_stamps(requests, row))
    name = f"request {track.request}"
    if requests.error_class[row]:
        name += f": {requests.error_class[row]}"
    inside: Iterable[Event] = ()
    if course is not None:
        first_token_ns = int(requests.first_token_ns[row])
        name += f", {ms(first_token_ns - intended_ns):.3f} ms"
        inside = (
            *track.slice(TTFT, intended_ns, first_token_ns, _layers(track, course.before)),
            *_layers(track, course.after),
        )
    yield from track.slice(f"{label}: {name}" if label else name, intended_ns, end_ns, inside, _told(requests, row, course, label))


def _layers(track: _Track, segments: Sequence[Segment]) -> Iterator[Event]:
    for stay in joined(segments):
        first, last = stay[0], stay[-1]
        told = {"source": first.provenance}
        parts: Iterable[Event] = ()
        if len(stay) == 1:
            told["part"] = first.part
        else:
            parts = [event for one in stay for event in track.slice(one.part, one.start_ns, one.end_ns)]
        yield from track.slice(first.layer, first.start_ns, last.end_ns, parts, told)


def _stamps(requests: Requests, row: int) -> Iterator[int]:
    for name in _ENDS:
        stamp_ns = int(getattr(requests, name)[row])
        if stamp_ns != MISSING_NS:
            yield stamp_ns


def _told(requests: Requests, row: int, course: Course | None, label: str) -> dict[str, Any]:
    """What a viewer lists beside the slice. A figure that is not known is not there."""
    told: dict[str, Any] = {"example of": label} if label else {}
    told |= {name: int(getattr(requests, name)[row]) for name in ("session", "turn", "attempt")}
    told |= {name: value for name in _TOLD if (value := int(getattr(requests, name)[row])) != MISSING_NS}
    told |= {name: text for name in ("trace_id", "target", "error_class", "error_text") if (text := str(getattr(requests, name)[row]))}
    if course is not None and not course.is_placed:
        told["layers"] = "laid end to end: only their lengths are known"
    return told
