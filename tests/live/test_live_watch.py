"""A run put together from what it writes: made attempts through the real recorder, made spans through the real writer, a clock of our own."""

from __future__ import annotations

import math
import os
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from made_shown import made_shown

from latprof.client.driver import Counters
from latprof.client.stamps import Attempt, ChunkLog, ErrorClass
from latprof.clock import wall_anchor
from latprof.live.drawing import lines
from latprof.live.processes import Use
from latprof.live.values import Shown
from latprof.live.watch import Watch
from latprof.observations.recorder import Recorder
from latprof.observations.tail import RequestsTail
from latprof.schedule.plan import WARMUP, OnDemand, Phase, Planned
from latprof.spans.store import OTHERS_STREAM, SpanWriter
from latprof.units import MISSING_NS, NS_PER_MS, NS_PER_S
from latprof.workload.sessions import Session, Turn

_ONE = Session(0, (Turn("hello", 1, 4),))
OPEN = Phase("measured", tuple(Planned(_ONE, index * NS_PER_S // 20) for index in range(401)), "constant", rate_per_s=20.0)


class Senders:
    """Two processes that send, as the watch asks them."""

    def __init__(self, lags_ns: list[int] | None = None, *, has_kernel_stamps: bool = True) -> None:
        self.pids = [1 << 30]  # nobody has it
        self.has_kernel_stamps = has_kernel_stamps
        self._lags_ns = lags_ns or []

    def take_lags_ns(self) -> list[int]:
        taken, self._lags_ns = self._lags_ns, []
        return taken


class Made:
    """A run folder, a watch over it, and the time, which begins when the phase does."""

    def __init__(self, folder: Path) -> None:
        self.anchor = wall_anchor()
        self.began_ns = self.now_ns = self.anchor.monotonic_ns
        self.watch = Watch(now=lambda: self.now_ns)
        self.watch.open(folder, self.anchor, (), 2 * NS_PER_S)
        self.counters = Counters()
        self.recorder = Recorder(folder, ChunkLog(), flush_every_s=0.01)
        self._seen = RequestsTail(folder)
        SpanWriter(folder).close()

    def close(self) -> None:
        self.watch.close()
        self._seen.close()
        self.recorder.close()

    def attempt(
        self, number: int, at_s: float, ttft_ms: float = 100.0, phase: str = "measured", error: ErrorClass = ErrorClass.NONE
    ) -> None:
        intended_ns = self.began_ns + round(at_s * NS_PER_S)
        made = Attempt(number, number, 0, 0, phase, f"{number:032x}", f"{number:016x}", 8, 4, intended_ns=intended_ns)
        made.ready_ns = made.start_ns = made.send_ns = made.written_ns = intended_ns
        made.first_token_ns = intended_ns + round(ttft_ms * NS_PER_MS) if error == ErrorClass.NONE else MISSING_NS
        made.end_ns = intended_ns + round((ttft_ms + 50) * NS_PER_MS)
        made.last_token_ns = made.first_token_ns
        made.error_class, made.error_text = error, str(error)
        made.output_tokens = 4
        self.counters.sent += 1
        self.counters.add(made)
        self.recorder.end(made)

    def at(self, seconds: float, *, looks: int = 1) -> Shown:
        """What is shown so long after the beginning of the phase."""
        self.now_ns = self.began_ns + round(seconds * NS_PER_S)
        shown = self.watch.look()
        for _ in range(looks - 1):
            self.now_ns += NS_PER_S // 2
            shown = self.watch.look()
        return shown

    def written(self, rows: int) -> None:
        """Until the recorder's thread has put ``rows`` more attempts on disk."""
        deadline = time.monotonic() + 10.0
        while (rows := rows - self._seen.new().num_rows) > 0:
            assert time.monotonic() < deadline
            time.sleep(0.005)


@pytest.fixture
def made(tmp_path: Path) -> Iterator[Made]:
    one = Made(tmp_path)
    try:
        yield one
    finally:
        one.close()


def test_before_the_load_it_says_what_is_done(made: Made) -> None:
    made.watch.step("bringing the stack in a box up")
    made.now_ns += NS_PER_S
    made.watch.step("asking once before the load")
    made.now_ns += NS_PER_S // 2
    shown = made.watch.look()
    assert [(step.text, step.took_ns, step.so_far_ns) for step in shown.steps] == [
        ("bringing the stack in a box up", NS_PER_S, NS_PER_S * 3 // 2),
        ("asking once before the load", None, NS_PER_S // 2),
    ]
    assert shown.driven is None
    assert not shown.is_driving


def test_an_open_loop_is_seen_as_it_goes(made: Made) -> None:
    made.watch.drive(OPEN, made.counters, Senders())
    for number in range(160):
        made.attempt(number, number / 20, ttft_ms=100 + number)
    made.counters.in_flight = 2
    made.written(160)
    made.at(3.0)
    shown = made.at(8.2)
    driven = shown.driven
    assert driven is not None
    assert shown.is_driving
    assert (driven.sent, driven.ok, driven.planned, driven.in_flight) == (160, 160, 401, 2)
    assert (driven.end, driven.length_ns) == ("known", 20 * NS_PER_S)
    assert driven.intended_per_s == pytest.approx(20.0, rel=0.02)
    assert driven.so_far.n == 160
    assert driven.so_far.p50_ns == pytest.approx(179.5 * NS_PER_MS, rel=0.01)
    assert 150 * NS_PER_MS < driven.now.p50_ns < 260 * NS_PER_MS
    assert "160 of 401" in _text(shown)
    assert shown.doubts == ()


def test_the_warm_up_is_not_in_the_figures_of_the_load_that_counts(made: Made) -> None:
    warmup = Phase(WARMUP, OPEN.planned[:40], "constant", rate_per_s=20.0)
    made.watch.drive(warmup, made.counters, Senders())
    for number in range(40):
        made.attempt(number, number / 20, ttft_ms=900, phase=WARMUP)
    made.written(40)
    shown = made.at(2.5)
    assert shown.driven is not None
    assert shown.driven.is_warmup
    assert shown.driven.so_far.n == 40
    made.watch.rest()
    assert not made.watch.look().is_driving
    made.counters = Counters()
    made.watch.drive(OPEN, made.counters, Senders())
    made.attempt(50, 3.0, ttft_ms=100)
    made.written(1)
    shown = made.at(4.0)
    assert shown.driven is not None
    assert not shown.driven.is_warmup
    assert shown.driven.so_far.n == 1
    assert shown.driven.so_far.p50_ns == pytest.approx(100 * NS_PER_MS, rel=0.01)


def test_loops_without_a_known_end_show_what_they_know(made: Made) -> None:
    endless = Phase("measured", OnDemand(lambda _: _ONE, 0, None), "closed", concurrency=4, duration_ns=30 * NS_PER_S)
    made.watch.drive(endless, made.counters, Senders())
    shown = made.at(1.0)
    assert shown.driven is not None
    assert (shown.driven.end, shown.driven.length_ns, shown.driven.planned) == ("known", 30 * NS_PER_S, None)
    assert shown.driven.closed_places == 4
    counted = Phase("measured", OPEN.planned[:100], "closed", concurrency=4)
    made.counters = Counters(sent=24, done=20, in_flight=4)
    made.watch.drive(counted, made.counters, Senders())
    shown = made.at(5.0)
    assert shown.driven is not None
    assert shown.driven.end == "estimate"
    assert shown.driven.length_ns == pytest.approx(5 * NS_PER_S * 100 / 20, rel=0.3)
    made.watch.drive(Phase("measured", OPEN.planned[:100], "closed", concurrency=4), Counters(), Senders())
    shown = made.at(6.0)
    assert shown.driven is not None
    assert shown.driven.end == "unknown"
    talks = Session(0, (Turn("hello", 1, 4), Turn("again", 1, 4)))
    several = tuple(Planned(talks, index * NS_PER_S) for index in range(11))
    made.watch.drive(Phase("measured", several, "poisson", rate_per_s=1.0), Counters(), Senders())
    shown = made.at(7.0)
    assert shown.driven is not None
    assert (shown.driven.end, shown.driven.length_ns, shown.driven.planned) == ("starts", 10 * NS_PER_S, 22)


def test_doubts_come_as_they_appear_in_the_words_of_the_report(made: Made, tmp_path: Path) -> None:
    made.watch.ports_taken = ("--otlp-grpc-port 4317: 127.0.0.1:4317 is in use by another process",)
    made.watch.drive(OPEN, made.counters, Senders([30 * NS_PER_MS] * 50, has_kernel_stamps=False))
    for number in range(90):
        made.attempt(number, number / 20)
    made.written(90)
    found = {doubt.id: doubt for doubt in made.at(5.0).doubts}
    assert set(found) == {"loop_lag", "otlp_port"}
    assert "lagged by 30 ms" in found["loop_lag"].text
    for number in range(90, 100):
        made.attempt(number, number / 20, error=ErrorClass.TIMEOUT)
    made.written(10)
    shown = made.at(6.0)
    assert [doubt.level for doubt in shown.doubts] == ["fatal", "fatal", "warning"], "the gravest first"
    assert shown.errors == (("timeout", 10),)
    assert "10 of 100 requests failed" in next(doubt.text for doubt in shown.doubts if doubt.id == "failures")
    assert "no_spans" in {doubt.id for doubt in made.at(15.0).doubts}
    (tmp_path / OTHERS_STREAM).touch()
    shown = made.at(17.0)
    assert "no_spans" not in {doubt.id for doubt in shown.doubts}
    assert "traces of the server's own" in shown.no_layers


def test_lateness_of_a_handful_is_no_doubt_yet(made: Made) -> None:
    made.watch.drive(OPEN, made.counters, Senders([200 * NS_PER_MS]))
    for number in range(5):
        made.attempt(number, number / 20)
    made.written(5)
    assert made.at(2.0).doubts == ()


def test_a_watch_over_nothing_yet_has_nothing_to_show(tmp_path: Path) -> None:
    watch = Watch()
    assert watch.look() == Shown(load="", no_layers=watch.look().no_layers)
    watch.open(tmp_path, wall_anchor(), (), NS_PER_S)
    watch.drive(OPEN, Counters(), Senders())
    shown = watch.look()
    assert shown.driven is not None
    assert math.isnan(shown.driven.now.p50_ns)
    watch.close()


def test_notes_stay(made: Made) -> None:
    made.watch.note("the server refuses stream_options")
    made.watch.note("and more")
    assert made.watch.look().notes == made.watch.notes == ("the server refuses stream_options", "and more")


def test_what_the_processes_use_is_asked_of_the_kernel() -> None:
    began_ns = time.monotonic_ns()
    use = Use([os.getpid()], began_ns)
    until_ns = time.process_time_ns() + 150 * NS_PER_MS
    while time.process_time_ns() < until_ns:
        pass
    cpu_share, starved_share = use.shares(began_ns + 2 * NS_PER_S)
    assert 0.05 <= cpu_share < 0.5
    assert starved_share >= 0
    assert all(math.isnan(share) for share in use.shares(began_ns + 1)), "too soon to say"
    assert all(math.isnan(share) for share in Use([1 << 30], began_ns).shares(began_ns + 2 * NS_PER_S))


def _text(shown: Shown) -> str:
    return "\n".join("".join(text for text, _ in line) for line in lines(shown, (200, 50)))


def test_the_made_view_is_a_possible_one() -> None:
    assert "TTFT p50 now" in _text(made_shown())
