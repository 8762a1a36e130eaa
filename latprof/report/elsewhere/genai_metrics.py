"""The GenAI client metrics of a run as OTLP histograms: for dashboards that are built on the conventions.

Over the measured phase, cumulative from its first intended start to its last end, in the conventions' own buckets. Their smallest is 10 ms, too coarse
for a budget of layers: for that the report itself is the place.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from opentelemetry.proto.metrics.v1.metrics_pb2 import AggregationTemporality, Histogram, HistogramDataPoint

from latprof.analysis.metrics import itl_ns
from latprof.analysis.quantiles import FloatArray
from latprof.clock import WallAnchor
from latprof.observations.columns import BoolArray, Chunks, IntArray, Requests, elapsed_ns, known
from latprof.observations.folder import Run
from latprof.report.elsewhere.genai import SCOPE, Asked, asked_of, resource_of
from latprof.spans.encode import key_values
from latprof.spans.span import Scalar
from latprof.units import NS_PER_S

SECONDS: Final = tuple(0.01 * 2**power for power in range(14))
"""Bounds of the conventions' duration buckets: 0.01 s, doubling to 81.92 s."""

TOKENS: Final = tuple(float(4**power) for power in range(14))
"""Bounds of the conventions' token buckets: 1, 4, 16, ... 67108864."""


@dataclass(frozen=True, slots=True)
class Points:
    """Values of one metric under one set of attributes, in the metric's unit, shape (n,), n above 0."""

    attributes: Mapping[str, Scalar]
    values: FloatArray


@dataclass(frozen=True, slots=True)
class Metric:
    """One histogram of the conventions."""

    name: str
    unit: str
    about: str
    bounds: tuple[float, ...]
    points: tuple[Points, ...]


def metrics_of(run: Run) -> tuple[Metric, ...]:
    """The client metrics of the measured requests, by target; durations of failed ones under their ``error.type``, all else of successes.

    Durations are those of the operation itself, from the first byte sent: that is what the conventions measure. `latprof report` counts from the
    intended start.
    """
    requests = run.requests.select(run.requests.measured)
    asked = asked_of(run.meta)
    first_ns = elapsed_ns(requests.send_ns, np.where(known(requests.first_event_ns), requests.first_event_ns, requests.first_token_ns))
    return (
        Metric("gen_ai.client.operation.duration", "s", "GenAI operation duration.", SECONDS, tuple(_durations(requests, asked))),
        Metric(
            "gen_ai.client.operation.time_to_first_chunk",
            "s",
            "Time to receive the first chunk, measured from when the client issues the generation request to when the first chunk is received"
            " in the response stream.",
            SECONDS,
            tuple(_points(asked, requests, first_ns, NS_PER_S)),
        ),
        Metric(
            "gen_ai.client.operation.time_per_output_chunk",
            "s",
            "Time per output chunk, recorded for each chunk received after the first one, measured as the time elapsed from the end of the"
            " previous chunk to the end of the current chunk.",
            SECONDS,
            tuple(_gaps(requests, run.chunks, asked)),
        ),
        Metric(
            "gen_ai.client.token.usage",
            "{token}",
            "Number of input and output tokens used.",
            TOKENS,
            (
                *_points(asked, requests, requests.prompt_tokens, 1, {"gen_ai.token.type": "input"}),
                *_points(asked, requests, requests.output_tokens, 1, {"gen_ai.token.type": "output"}),
            ),
        ),
    )


def _by_target(requests: Requests, asked: Mapping[str, Asked]) -> Iterator[tuple[Asked, BoolArray]]:
    for name, one in asked.items():
        yield one, np.asarray((requests.target == name) if len(asked) > 1 else np.ones(len(requests)), np.bool_)


def _points(
    asked: Mapping[str, Asked], requests: Requests, values: IntArray, unit: int, more: Mapping[str, Scalar] | None = None
) -> Iterator[Points]:
    for one, mine in _by_target(requests, asked):
        told = values[mine & requests.success & known(values)]
        if len(told):
            yield Points(one.attributes | dict(more or {}), told / unit)


def _durations(requests: Requests, asked: Mapping[str, Asked]) -> Iterator[Points]:
    length_ns = elapsed_ns(requests.send_ns, requests.end_ns)
    for one, mine in _by_target(requests, asked):
        for error_class in sorted({str(name) for name in requests.error_class[mine]}):
            told = length_ns[mine & (requests.error_class == error_class) & known(length_ns)]
            if len(told):
                yield Points(one.attributes | ({"error.type": error_class} if error_class else {}), told / NS_PER_S)


def _gaps(requests: Requests, chunks: Chunks, asked: Mapping[str, Asked]) -> Iterator[Points]:
    rows, gaps_ns = itl_ns(requests, chunks)
    for one, mine in _by_target(requests, asked):
        told = gaps_ns[(mine & requests.success)[rows]]
        if len(told):
            yield Points(one.attributes, told / NS_PER_S)


def encode_metrics(run: Run) -> bytes:
    """`metrics_of` ``run`` as a binary ``ExportMetricsServiceRequest``; metrics without a value are left out."""
    measured = run.requests.select(run.requests.measured)
    anchor = WallAnchor(**run.meta["anchor"])
    request = ExportMetricsServiceRequest()
    of_resource = request.resource_metrics.add()
    of_resource.resource.attributes.extend(key_values(resource_of(run.meta)))
    of_scope = of_resource.scope_metrics.add()
    of_scope.scope.name = SCOPE
    if len(measured):
        ends_ns = measured.end_ns[known(measured.end_ns)]
        start_ns = int(measured.intended_ns.min())
        times = anchor.to_unix(start_ns), anchor.to_unix(int(ends_ns.max()) if len(ends_ns) else start_ns)
        for metric in metrics_of(run):
            if metric.points:
                points = [_histogram(metric, one, *times) for one in metric.points]
                histogram = Histogram(data_points=points, aggregation_temporality=_CUMULATIVE)
                of_scope.metrics.add(name=metric.name, unit=metric.unit, description=metric.about, histogram=histogram)
    body: bytes = request.SerializeToString()
    return body


_CUMULATIVE: Final[Any] = AggregationTemporality.AGGREGATION_TEMPORALITY_CUMULATIVE


def _histogram(metric: Metric, points: Points, start_unix_ns: int, end_unix_ns: int) -> Any:
    # Buckets are (lower, upper]: a value on a bound counts below it.
    counts = np.bincount(np.searchsorted(metric.bounds, points.values, side="left"), minlength=len(metric.bounds) + 1)
    return HistogramDataPoint(
        attributes=key_values(points.attributes),
        start_time_unix_nano=start_unix_ns,
        time_unix_nano=end_unix_ns,
        count=len(points.values),
        sum=float(points.values.sum()),
        min=float(points.values.min()),
        max=float(points.values.max()),
        bucket_counts=counts.tolist(),
        explicit_bounds=metric.bounds,
    )
