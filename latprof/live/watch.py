"""A run as it is seen from beside it: its files as they are written, its counters, its processes; put together for the view."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Protocol

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from latprof.analysis.validity.doubts import Doubt, Facts, evidence, generator, load, outcome
from latprof.clock import WallAnchor
from latprof.live.processes import Use
from latprof.live.recent import IN_FLIGHT_COLUMNS, Counted, Recent, in_words, planned_per_s
from latprof.live.sample import LayerSample
from latprof.live.values import UNKNOWN, Driven, End, Moment, Shown, Step, Ttft
from latprof.observations.columns import IntArray
from latprof.observations.tail import RequestsTail, Tail
from latprof.schedule.plan import WARMUP, OnDemand, Phase, Scheduled
from latprof.spans.store import OTHERS_STREAM, STREAM
from latprof.units import NS_PER_S

# Workers write twice a second, and a look costs as much for a row as for fifty.
_READ_EVERY_NS = NS_PER_S
# Rows of the phase before may come for so long.
_MIXED_NS = 3 * NS_PER_S
_SNAPSHOT_BELIEVED_NS = 2 * NS_PER_S
# Two batches of an exporter that waits the usual 5 s.
_NO_SPANS_AFTER_NS = 12 * NS_PER_S
_ENOUGH_TO_DOUBT = 20
# Below this a pace says little about the end.
_ENOUGH_FOR_AN_ESTIMATE = 10

LIVE: tuple[Callable[[Facts], Doubt | None], ...] = (
    outcome.failures,
    generator.lateness,
    generator.generator_cpu,
    generator.starved,
    generator.loop_lag,
    evidence.port_taken,
    evidence.span_coverage,
    load.cap_held,
)
"""The doubts that can be known before the end, in the words of the report."""


class Counters(Protocol):
    """Where a phase stands; changed as it goes."""

    sent: int
    done: int
    failed: int
    in_flight: int
    tokens: int


class Generator(Protocol):
    """The processes that send."""

    has_kernel_stamps: bool

    @property
    def pids(self) -> list[int]:
        """Their process ids."""

    def take_lags_ns(self) -> list[int]:
        """How late their event loops got to ticks, since this was last asked."""


@dataclass(frozen=True, slots=True, eq=False)
class _Going:
    """A phase that is driven."""

    phase: Phase
    counters: Counters
    generator: Generator
    began_ns: int


@dataclass(frozen=True, slots=True, eq=False)
class _Schedule:
    """What a phase says beforehand. ``offsets_ns`` of every request, where it has one turn a session and an open loop; else None."""

    planned: int | None
    length_ns: int | None
    end: End
    offsets_ns: IntArray | None


@dataclass(frozen=True, slots=True)
class _Figures:
    """What rows tell, as of the last time they were read."""

    now: Ttft = field(default_factory=Ttft)
    so_far: Ttft = field(default_factory=Ttft)
    waiting: int = 0
    longest_ns: float = UNKNOWN
    intended_per_s: float = UNKNOWN

    @classmethod
    def of(cls, recent: Recent, now_ns: int) -> _Figures:
        return cls(recent.now(now_ns), recent.so_far, *recent.waiting(), recent.intended_per_s(now_ns))


class Watch:
    """One run. `look` is called by the view's thread; everything else by the run itself, and does next to nothing."""

    def __init__(self, is_stopping: Callable[[], bool] = lambda: False, now: Callable[[], int] = time.monotonic_ns) -> None:
        self.load = ""
        self.target = ""
        self.ports_taken: tuple[str, ...] = ()
        self._is_stopping = is_stopping
        self._now = now
        self._notes: tuple[str, ...] = ()
        self._steps: tuple[tuple[str, int], ...] = ()
        self._going: _Going | None = None
        self._files: _Files | None = None
        # the view's own
        self._seen: _Going | None = None
        self._schedule = _Schedule(None, None, "unknown", None)
        self._recent: Recent | None = None
        self._use: Use | None = None
        self._driven: Driven | None = None
        self._history: tuple[Moment, ...] = ()
        self._doubts: tuple[Doubt, ...] = ()
        self._figures = _Figures()
        self._read_ns = 0

    # --- the run's side -------------------------------------------------------------------------------------------------------------------

    @property
    def notes(self) -> tuple[str, ...]:
        """What the run had to say: to be printed when the view is gone."""
        return self._notes

    def step(self, text: str) -> None:
        """``text`` is what is done now, outside of the load."""
        self._steps = (*self._steps, (text, self._now()))

    def note(self, text: str) -> None:
        """Something worth knowing, to stay."""
        self._notes = (*self._notes, text)

    def open(self, folder: Path, anchor: WallAnchor, hops: Sequence[str], grace_ns: int) -> None:
        """The run folder is there; ``grace_ns`` is how long after a request its spans may come."""
        self._files = _Files(folder, RequestsTail(folder), Tail(folder / STREAM), LayerSample(anchor, hops, grace_ns), anchor)

    def drive(self, phase: Phase, counters: Counters, generator: Generator) -> None:
        """From now on ``phase`` is driven."""
        self._going = _Going(phase, counters, generator, self._now())

    def rest(self) -> None:
        """The phase is over: from now on no file is read."""
        self._going = None

    # --- the view's side ------------------------------------------------------------------------------------------------------------------

    def look(self) -> Shown:
        """Everything, as of now."""
        now_ns, going = self._now(), self._going
        if going is not None:
            if going is not self._seen:
                self._begin(going)
            self._drive(going, now_ns)
        files = self._files
        shown = Shown(
            load=self.load,
            target=self.target,
            steps=self._told_steps(now_ns),
            driven=self._driven,
            is_driving=going is not None,
            is_stopping=self._is_stopping(),
            history=self._history,
            sampled=None if files is None else files.sample.sampled,
            no_layers=self._why_no_layers(),
            doubts=self._doubts,
            notes=self._notes,
        )
        if self._recent is None:
            return shown
        return replace(shown, errors=in_words(self._recent.errors), error_text=self._recent.error_text)

    def close(self) -> None:
        """Give the files back."""
        if self._files is not None:
            self._files.requests.close()
            self._files.spans.close()

    def _begin(self, going: _Going) -> None:
        before, self._seen = self._seen, going
        self._schedule = _schedule_of(going.phase)
        if self._recent is None or before is None or not before.phase.is_measured:
            self._recent = Recent(going.began_ns)
            if self._files is not None:
                self._files.sample.begin()
        else:
            self._recent.begin(going.began_ns)
        self._history = ()
        self._figures = _Figures()
        self._use = Use(going.generator.pids, going.began_ns)

    def _drive(self, going: _Going, now_ns: int) -> None:
        recent, counters = self._recent, going.counters
        if recent is None:
            return
        recent.count(Counted(now_ns, counters.sent, counters.in_flight, counters.tokens))
        if self._files is not None and now_ns - self._read_ns >= _READ_EVERY_NS:
            self._read_ns = now_ns
            self._read(self._files, recent, going, now_ns)
            self._doubts = tuple(self._raised(recent, going, now_ns))
            self._history = recent.history(now_ns)
            self._figures = _Figures.of(recent, now_ns)
        self._driven = _driven(going, self._schedule, recent, self._figures, now_ns)

    def _read(self, files: _Files, recent: Recent, going: _Going, now_ns: int) -> None:
        is_mixed = now_ns - going.began_ns < _MIXED_NS
        is_warmup = not going.phase.is_measured
        ended = files.requests.new()
        if is_mixed:
            ended = _of(ended, is_warmup=is_warmup)
        recent.end(ended, now_ns)
        oldest_unix_ns = files.anchor.to_unix(now_ns - _SNAPSHOT_BELIEVED_NS)
        snapshot, taken_unix_ns = files.requests.in_flight(IN_FLIGHT_COLUMNS, oldest_unix_ns)
        recent.fly(_of(snapshot, is_warmup=is_warmup) if is_mixed else snapshot, min(now_ns, files.anchor.to_monotonic(taken_unix_ns)))
        recent.lags.add(np.array(going.generator.take_lags_ns(), np.int64))
        files.sample.take_requests(ended)
        files.sample.take_spans(files.spans.new())
        files.sample.understand(now_ns)

    def _raised(self, recent: Recent, going: _Going, now_ns: int) -> list[Doubt]:
        counters, files = going.counters, self._files
        cpu_share, starved_share = self._use.shares(now_ns) if self._use is not None else (UNKNOWN, UNKNOWN)
        enough = recent.lateness.n >= _ENOUGH_TO_DOUBT
        no_spans = files is not None and not files.has_spans and now_ns - going.began_ns > _NO_SPANS_AFTER_NS
        facts = Facts(
            sent=counters.sent,
            ok=counters.done,
            failed=counters.failed,
            errors=dict(in_words(recent.errors)),
            error_text=recent.error_text,
            ttft_p50_ns=recent.so_far.p50_ns,
            lateness_p99_ns=recent.lateness.percentile(0.99) if enough else UNKNOWN,
            loop_lag_p99_ns=recent.lags.percentile(0.99) if enough else UNKNOWN,
            cpu_share=cpu_share,
            starved_share=starved_share,
            stamps="kernel" if going.generator.has_kernel_stamps else "user",
            cap_wait_share=recent.cap_wait_share() if going.phase.max_concurrency is not None and enough else UNKNOWN,
            spans=0 if no_spans else 1,
            ports_taken=self.ports_taken,
        )
        return sorted((found for ask in LIVE if (found := ask(facts)) is not None), key=_rank)

    def _told_steps(self, now_ns: int) -> tuple[Step, ...]:
        steps = self._steps
        ends = [*(began_ns for _, began_ns in steps[1:]), None][: len(steps)]
        return tuple(
            Step(text, None if end_ns is None else end_ns - began_ns, now_ns - began_ns)
            for (text, began_ns), end_ns in zip(steps, ends, strict=True)
        )

    def _why_no_layers(self) -> str:
        if self._files is not None and self._files.sample.has_spans:
            return "spans come in; the first requests are looked at when theirs are complete"
        if self._files is not None and self._files.has_spans:
            return "spans come in under traces of the server's own; the report joins them to requests"
        return "no spans yet; without them everything behind the address is one layer"


@dataclass(frozen=True, slots=True, eq=False)
class _Files:
    """The run folder as it is read."""

    folder: Path
    requests: RequestsTail
    spans: Tail
    sample: LayerSample
    anchor: WallAnchor

    @property
    def has_spans(self) -> bool:
        """Whether any have come; those of other traces are joined to requests by the report alone."""
        return self.sample.has_spans or (self.folder / OTHERS_STREAM).exists()


def _of(table: pa.Table, *, is_warmup: bool) -> pa.Table:
    """The rows of the warm-up, or those of everything else."""
    return table.filter((pc.equal if is_warmup else pc.not_equal)(table["phase"], WARMUP))


def _driven(going: _Going, schedule: _Schedule, recent: Recent, figures: _Figures, now_ns: int) -> Driven:
    phase, counters = going.phase, going.counters
    elapsed_ns = now_ns - going.began_ns
    waiting, longest_ns = (figures.waiting, figures.longest_ns) if counters.in_flight else (0, UNKNOWN)
    offsets_ns = schedule.offsets_ns
    length_ns, end = schedule.length_ns, schedule.end
    over = counters.done + counters.failed
    if length_ns is None and schedule.planned and over >= _ENOUGH_FOR_AN_ESTIMATE:
        length_ns, end = round(elapsed_ns * schedule.planned / over), "estimate"
    return Driven(
        name=phase.name,
        is_warmup=not phase.is_measured,
        elapsed_ns=elapsed_ns,
        length_ns=length_ns,
        end=end,
        sent=counters.sent,
        planned=schedule.planned,
        ok=counters.done,
        failed=counters.failed,
        in_flight=counters.in_flight,
        intended_per_s=figures.intended_per_s if offsets_ns is None else planned_per_s(offsets_ns, elapsed_ns),
        achieved_per_s=recent.achieved_per_s(),
        tokens_per_s=recent.tokens_per_s(),
        closed_places=phase.concurrency,
        now=figures.now,
        so_far=figures.so_far,
        waiting=waiting,
        longest_ns=longest_ns,
    )


def _schedule_of(phase: Phase) -> _Schedule:
    planned = phase.planned_requests
    is_open = phase.loop == "open"
    offsets_ns = _offsets_ns(phase) if is_open else None
    single = planned is not None and planned == len(phase.planned)
    length_ns = phase.duration_ns
    if length_ns is None and offsets_ns is not None and len(offsets_ns):
        length_ns = int(offsets_ns[-1]) or None  # all at once: the answers decide how long it takes
    end: End = "unknown" if length_ns is None else "known" if single or phase.duration_ns is not None else "starts"
    return _Schedule(planned, length_ns, end, offsets_ns if single else None)


def _offsets_ns(phase: Phase) -> IntArray | None:
    """When sessions should start, from the beginning of the phase."""
    if isinstance(phase.planned, OnDemand):
        return None
    if isinstance(phase.planned, Scheduled):
        return np.asarray(phase.planned.offsets_ns, np.int64)
    return np.array([planned.offset_ns or 0 for planned in phase.planned], np.int64)


def _rank(doubt: Doubt) -> int:
    return ("fatal", "warning", "note").index(doubt.level)
