"""Layers of a sample: they add up, wait for their spans, and keep to the CPU time they are allowed."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np
import pyarrow as pa
import pytest

from latprof.client.stamps import Attempt, ErrorClass
from latprof.client.trace_ids import trace_ids
from latprof.clock import WallAnchor
from latprof.live.sample import _WINDOW_NS, LayerSample
from latprof.observations.columns import batch_of
from latprof.schedule.plan import WARMUP
from latprof.spans.span import Span, SpanEvent, SpanKind
from latprof.spans.store import STREAM, SpanWriter
from latprof.units import MISSING_NS, NS_PER_MS, NS_PER_S

MS = NS_PER_MS
ANCHOR = WallAnchor(monotonic_ns=0, unix_ns=1_700_000_000 * NS_PER_S, bracket_ns=100)
GRACE_NS = 6 * NS_PER_S
EXPORTED_NS = 300 * MS


def attempt(number: int, intended_ns: int, auth_ms: int = 20, phase: str = "measured") -> Attempt:
    trace_id, span_id = trace_ids("ab" * 8, 1, number, 0, 0)
    made = Attempt(number, number, 0, 0, phase, trace_id, span_id, 8, 4, intended_ns=intended_ns)
    made.ready_ns = made.start_ns = intended_ns
    made.send_ns, made.written_ns = intended_ns + MS, intended_ns + 2 * MS
    made.first_token_ns = intended_ns + (10 + auth_ms) * MS
    made.last_token_ns = made.end_ns = made.first_token_ns + 40 * MS
    return made


def spans_of(made: Attempt, auth_ms: int = 20) -> list[Span]:
    """A gateway that serves it, and its layer ``gateway.auth``."""
    begun, ended = (ANCHOR.to_unix(at_ns) for at_ns in (made.intended_ns + 4 * MS, made.end_ns - MS))
    resource = {"service.name": "latprof-stub-gateway", "host.name": "gateway"}
    first = SpanEvent("first_chunk", ANCHOR.to_unix(made.first_token_ns - 2 * MS))
    own = f"{made.request + 1:016x}"
    return [
        Span(made.trace_id, own, made.span_id, "POST", SpanKind.SERVER, begun, ended, {}, (first,), resource, "latprof.stub"),
        Span(
            made.trace_id,
            f"{made.request + (1 << 32):016x}",
            own,
            "auth",
            SpanKind.INTERNAL,
            begun,
            begun + auth_ms * MS,
            {"latprof.layer": "gateway.auth", "latprof.wait_ns": 0},
            (),
            resource,
            "latprof.stub",
        ),
    ]


def table(attempts: Sequence[Attempt]) -> pa.Table:
    return pa.Table.from_batches([batch_of(attempts)])


@pytest.fixture
def batches(tmp_path_factory: pytest.TempPathFactory) -> Callable[[Sequence[Span]], list[pa.RecordBatch]]:
    """Spans as the receiver would have written them, some time after their end."""

    def written(spans: Sequence[Span]) -> list[pa.RecordBatch]:
        folder = tmp_path_factory.mktemp("spans")
        writer = SpanWriter(folder)
        writer.append(spans, [span.end_unix_ns + EXPORTED_NS for span in spans])
        writer.close()
        return list(pa.ipc.open_stream((folder / STREAM).read_bytes()))

    return written


class Cpu:
    """A clock of CPU time that a request costs ``per_request_ns`` of."""

    def __init__(self, per_request_ns: int) -> None:
        self.per_request_ns, self.used_ns = per_request_ns, 0

    def watch(self, sample: LayerSample) -> None:
        understand = sample._understand

        def counted(taken: pa.Table) -> None:
            self.used_ns += taken.num_rows * self.per_request_ns
            understand(taken)

        sample._understand = counted  # type: ignore[method-assign]

    def __call__(self) -> int:
        return self.used_ns


def sampled_after(sample: LayerSample, seconds: float, from_s: float = 0.0) -> None:
    for second in np.arange(from_s, from_s + seconds, 1.0):
        sample.understand(round(second * NS_PER_S))


def test_layers_add_up_to_the_ttft_of_the_sample(batches: Callable[[Sequence[Span]], list[pa.RecordBatch]]) -> None:
    sample = LayerSample(ANCHOR, (), GRACE_NS, allowance=1.0)
    made = [attempt(number, number * 50 * MS, auth_ms=10 + number % 30) for number in range(60)]
    sample.take_spans(batches([span for one in made for span in spans_of(one, 10 + one.request % 30)]))
    sample.take_requests(table(made))
    sampled_after(sample, 20)
    found = sample.sampled
    assert found is not None
    assert found.n == 60
    assert sum(one.p50_ns for one in found.bars) == pytest.approx(found.p50_ns)
    assert sum(one.tail_ns for one in found.bars) == pytest.approx(found.tail_ns)
    assert found.p50_ns == pytest.approx((10 + 24.5) * MS, rel=0.03)
    layers = {one.layer: one for one in found.bars}
    assert layers["gateway.auth"].p50_ns == pytest.approx(24.5 * MS, rel=0.05)
    assert layers["gateway.auth"].tail_ns == pytest.approx(39 * MS, rel=0.03)
    assert found.bars[0].layer.startswith("client."), "path order"


def test_a_request_waits_for_its_spans_as_long_as_they_have_taken(batches: Callable[[Sequence[Span]], list[pa.RecordBatch]]) -> None:
    sample = LayerSample(ANCHOR, (), GRACE_NS, allowance=1.0)
    early, late = attempt(1, 0), attempt(2, 2 * NS_PER_S)
    sample.take_spans(batches(spans_of(early)))
    sample.take_requests(table([early, late]))
    sample.understand(0)
    sample.understand(early.end_ns + EXPORTED_NS + 2 * NS_PER_S)
    first = sample.sampled
    assert first is not None
    assert first.n == 1, "the spans of the second one may be on their way"
    sample.take_spans(batches(spans_of(late)))
    sample.understand(late.end_ns + EXPORTED_NS + 3 * NS_PER_S)
    both = sample.sampled
    assert both is not None
    assert both.n == 2
    assert any(one.layer == "gateway.auth" for one in both.bars)


def test_without_spans_it_waits_out_the_grace_and_shows_what_the_client_knows() -> None:
    sample = LayerSample(ANCHOR, (), GRACE_NS, allowance=1.0)
    made = [attempt(number, 0) for number in range(5)]
    sample.take_requests(table(made))
    sample.understand(0)
    sample.understand(5 * NS_PER_S)
    early = sample.sampled
    assert early is None
    assert not sample.has_spans
    sample.understand(8 * NS_PER_S)
    found = sample.sampled
    assert found is not None
    assert {one.layer.split(".")[0] for one in found.bars} == {"client", "net", "net+server"}
    assert math.isnan(found.tail_ns), "five requests have no slowest 5 %"


def test_failures_are_left_out_and_warm_up_is_left_behind() -> None:
    sample = LayerSample(ANCHOR, (), 0, allowance=1.0)
    failed = attempt(1, 0)
    failed.error_class = ErrorClass.TIMEOUT
    untold = attempt(2, 0)
    untold.first_token_ns = MISSING_NS
    sample.take_requests(table([failed, untold, attempt(3, 0, phase=WARMUP)]))
    sampled_after(sample, 4)
    found = sample.sampled
    assert found is not None
    assert found.n == 1, "the warm-up is looked at as well"
    sample.begin()
    assert sample.sampled is None


def test_what_came_while_nobody_looked_is_of_before_the_window() -> None:
    """After Ctrl-Z and, minutes later, fg."""
    sample = LayerSample(ANCHOR, (), 0)
    sample.take_requests(table([attempt(number, number * 100 * MS) for number in range(50)]))
    sample.understand(200 * NS_PER_S)
    first = sample.sampled
    assert first is None
    sample.take_requests(table([attempt(50 + number, 200 * NS_PER_S) for number in range(6)]))
    for second in range(201, 230):
        sample.understand(second * NS_PER_S)
    assert sample.sampled is not None
    assert sample.sampled.of == 6


def test_one_of_many_is_no_picture_of_them() -> None:
    """After the warm-up the share is as small as it has to be, and of the first seconds of the load next to nothing is in it."""
    cpu = Cpu(3 * MS)
    sample = LayerSample(ANCHOR, (), 0, cpu_ns=cpu)
    cpu.watch(sample)
    told = []
    for second in range(24):
        if second == 8:
            sample.begin()
        sample.take_requests(table([attempt(second * 100 + number, second * NS_PER_S + number * 9 * MS) for number in range(100)]))
        sample.understand((second + 1) * NS_PER_S + 500 * MS)
        told.append(sample.sampled)
    assert told[7] is not None
    assert told[8] is None
    assert all(one is None or one.n >= 4 for one in told)
    assert told[-1] is not None


@pytest.mark.parametrize("per_s", [20, 400])
def test_cpu_time_is_kept_to_whatever_the_load(per_s: int) -> None:
    cpu = Cpu(2 * MS)
    sample = LayerSample(ANCHOR, (), 0, allowance=0.01, cpu_ns=cpu)
    cpu.watch(sample)
    for second in range(40):
        sample.take_requests(table([attempt(second * per_s + number, second * NS_PER_S) for number in range(per_s)]))
        sample.understand((second + 1) * NS_PER_S)
        assert sample._due.num_rows < 3 * per_s + 100, "what waits is bounded"
    assert cpu.used_ns <= 0.01 * 40 * NS_PER_S + 32 * 2 * MS
    assert sample.sampled is not None
    assert sample.sampled.n >= 60, "and it is used"


def test_the_sample_is_drawn_by_trace_and_not_by_speed(batches: Callable[[Sequence[Span]], list[pa.RecordBatch]]) -> None:
    """Where only a share is looked at, fast and slow requests are in it alike, with the spans that came before anybody knew."""
    sample = LayerSample(ANCHOR, (), GRACE_NS, allowance=0.02)
    cpu = Cpu(2 * MS)
    sample._cpu_ns = cpu
    cpu.watch(sample)
    slow = 0.25
    for second in range(30):
        made = [attempt(second * 100 + number, second * NS_PER_S, 20 if number % 4 else 200) for number in range(100)]
        sample.take_spans(batches([span for one in made for span in spans_of(one, (one.first_token_ns - one.intended_ns) // MS - 10)]))
        sample.take_requests(table(made))
        sample.understand((second + 2) * NS_PER_S)
    assert sample.sampled is not None
    understood = list(sample._understood)
    assert len(understood) > 80
    found = sum(one.ttft_ns > 100 * MS for one in understood) / len(understood)
    assert found == pytest.approx(slow, abs=0.15)
    assert all("gateway.auth" in one.layers for one in understood), "no trace lost its spans to the share"


def test_a_share_that_is_raised_again_takes_only_what_began_afterwards(
    batches: Callable[[Sequence[Span]], list[pa.RecordBatch]],
) -> None:
    sample = LayerSample(ANCHOR, (), GRACE_NS, allowance=0.02)
    cpu = Cpu(2 * MS)
    sample._cpu_ns = cpu
    cpu.watch(sample)
    number = 0
    for second in range(80):  # a burst, then a trickle
        made = []
        for _ in range(300 if second < 5 else 4):
            made.append(attempt(number, second * NS_PER_S))
            number += 1
        sample.take_spans(batches([span for one in made for span in spans_of(one)]))
        sample.take_requests(table(made))
        sample.understand((second + 2) * NS_PER_S)
    assert sample._share.below > 16**8 // 8, "the trickle is looked at almost whole again"
    assert all("gateway.auth" in one.layers for one in sample._understood)


def test_requests_and_spans_agree_on_who_is_in_the_sample(batches: Callable[[Sequence[Span]], list[pa.RecordBatch]]) -> None:
    sample = LayerSample(ANCHOR, (), GRACE_NS)
    sample._share.lower(16**8 // 2)
    made = [attempt(number, 0) for number in range(200)]
    sample.take_spans(batches([span for one in made for span in spans_of(one)]))
    sample.take_requests(table(made))
    with_spans, with_rows = set(sample._spans["trace_id"].to_pylist()), set(sample._due["trace_id"].to_pylist())
    assert with_spans == with_rows
    assert 70 < len(with_spans) < 130


def _uniform_apart(some: Sequence[int], among: Sequence[int]) -> float:
    """Kolmogorov and Smirnov's distance of ``some`` from all they were drawn from, in units in which 1.63 is rarer than one in a hundred."""
    ranks = np.searchsorted(np.sort(among), np.sort(some), side="right") / len(among)
    steps = np.arange(len(some) + 1) / len(some)
    apart = max(np.abs(ranks - steps[1:]).max(), np.abs(ranks - steps[:-1]).max())
    return float(apart * math.sqrt(len(some)))


@pytest.mark.parametrize("burst", [1, 4], ids=["steady", "four times as many from 20 to 30 s"])
def test_the_sample_is_a_fair_one_of_the_last_minute_from_the_beginning(burst: int) -> None:
    """TTFT rises all the time: a sample that is too old, or has too many of one second, has another median than the requests it stands for."""
    cpu = Cpu(3 * MS)
    sample = LayerSample(ANCHOR, (), 0, cpu_ns=cpu)
    cpu.watch(sample)
    made: list[Attempt] = []
    asked = 0
    rng = np.random.default_rng(1)
    for second in range(90):
        came = []
        for offset in range(50 * (burst if 20 <= second < 30 else 1)):
            came.append(attempt(asked, second * NS_PER_S + offset * 5 * MS, 20 + 4 * second + int(rng.integers(40))))
            asked += 1
        made += came
        sample.take_requests(table(came))
        sample.understand((second + 1) * NS_PER_S + 500 * MS)
        if second < 3:
            continue
        found = sample.sampled
        assert found is not None
        until_ns = sample._until_ns
        population = [one for one in made if until_ns - _WINDOW_NS <= one.end_ns < until_ns]
        assert found.of == len(population), "it says of how many"
        # After a burst the bound is that of the burst for a minute, and fewer are shown.
        assert found.newest_ns < (12 if burst == 1 else 20) * NS_PER_S, (
            f"at {second} s nothing is younger than {found.newest_ns / NS_PER_S:.1f} s"
        )
        assert found.newest_ns <= found.oldest_ns < _WINDOW_NS + 12 * NS_PER_S
        if second % 10 == 9:
            mine = {one.intended_ns for one in sample._shown}
            assert _uniform_apart([*mine], [one.intended_ns for one in population]) < 1.63
            ttfts_ms = [(one.first_token_ns - one.intended_ns) / MS for one in population]
            error = math.sqrt(math.pi / 2) * float(np.std(ttfts_ms)) / math.sqrt(found.n)  # of a median, about
            assert found.p50_ns / MS == pytest.approx(float(np.median(ttfts_ms)), abs=3 * error)
    assert sample.sampled is not None
    assert sample.sampled.n >= (40 if burst == 1 else 10), "and the allowance is used"
    assert cpu.used_ns <= 0.004 * 92 * NS_PER_S + 24 * 3 * MS
