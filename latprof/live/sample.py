"""The layers of a sample of the requests, while the run goes.

Understanding one request takes about 2 ms, so only a share of them is looked at: those whose trace id, which is well mixed, begins a low enough
number. The share follows from an allowance of CPU time, and says itself which spans need not be kept: a trace is in the sample before anything
of it has come.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from latprof.analysis.quantiles import hd_weights, tail_weights
from latprof.clock import WallAnchor
from latprof.layers.build import build_layers
from latprof.layers.table import Layers
from latprof.layers.vocabulary import path_order
from latprof.live.values import UNKNOWN, Bar, Sampled
from latprof.observations.columns import REQUESTS_SCHEMA, IntArray, Requests, int_column
from latprof.schedule.plan import WARMUP
from latprof.spans.store import SCHEMA, Spans
from latprof.units import NS_PER_MS, NS_PER_S

_KEPT = 120
_ENOUGH_FOR_A_TAIL = 40
_FIRST_GUESS_NS = 3 * NS_PER_MS
# Of each go 5 ms are the same however many requests are looked at; a few together cost half as much as one by one.
_AT_ONCE, _MOST_AT_ONCE = 8, 16
_LONGEST_WAIT_NS = 3 * NS_PER_S
_DEBT_S = 2
# Of what the allowance lasts for, so many seconds may wait their turn.
_BACKLOG_S = 8
_MOST_SPANS = 40_000
# From a span's reception to its place in the file, and half of the time between two looks.
_WRITTEN_NS = NS_PER_S // 2
_DIGITS = 8
_WHOLE = 16**_DIGITS


@dataclass(slots=True)
class _Share:
    """Which traces are in the sample: those that lie below a bound. It can be raised only for what begins afterwards."""

    below: int = _WHOLE
    before: int = _WHOLE  # the bound for what began before ``since_ns``
    since_ns: int = 0

    def lower(self) -> None:
        self.below = max(1, self.below // 2)
        self.before = min(self.before, self.below)

    def higher(self, now_ns: int) -> None:
        self.before, self.below, self.since_ns = self.below, min(_WHOLE, self.below * 2), now_ns

    def of_spans(self, table: pa.Table) -> pa.Table:
        return table if self.below >= _WHOLE else table.filter(self._has(table, self.below))

    def of_requests(self, table: pa.Table) -> pa.ChunkedArray:
        """The mask of those in the sample."""
        old = self._has(table, self.before)
        if self.before >= self.below:
            return old
        return pc.or_(old, pc.and_(self._has(table, self.below), pc.greater(table["intended_ns"], self.since_ns)))

    @staticmethod
    def _has(table: pa.Table, below: int) -> pa.ChunkedArray:
        # Hexadecimal digits of one length sort as their numbers do.
        bound = f"{below:0{_DIGITS}x}" if below < _WHOLE else "g"
        return pc.less(pc.utf8_slice_codeunits(table["trace_id"], 32 - _DIGITS, 32), bound)


@dataclass(frozen=True, slots=True)
class _Understood:
    """One request: layer -> (total, wait) in ns."""

    layers: dict[str, tuple[int, int]]
    ttft_ns: int
    hops: tuple[str, ...]


class LayerSample:
    """Requests and spans in, a budget out; ``allowance`` is the share of a core it may take."""

    def __init__(
        self,
        anchor: WallAnchor,
        hops: Sequence[str],
        grace_ns: int,
        allowance: float = 0.004,
        cpu_ns: Callable[[], int] = time.thread_time_ns,
    ) -> None:
        self._anchor, self._hops, self._grace_ns = anchor, tuple(hops), grace_ns
        self._allowance, self._cpu_ns = allowance, cpu_ns
        self._cost_ns = float(_FIRST_GUESS_NS)
        self._credit_ns = float(_AT_ONCE * _FIRST_GUESS_NS)
        self._looked_ns: int | None = None
        self._understood_ns: int = 0
        self._share = _Share()
        self._due = REQUESTS_SCHEMA.empty_table()
        self._spans = SCHEMA.empty_table()
        self._exported_ns: int | None = None  # the longest from the end of a span to its reception
        self._understood: deque[_Understood] = deque(maxlen=_KEPT)
        self._sampled: Sampled | None = None
        self._calm = 0

    @property
    def sampled(self) -> Sampled | None:
        """The budget of the sample, as of the last `understand`."""
        return self._sampled

    @property
    def has_spans(self) -> bool:
        """Whether any span of the run has come."""
        return self._exported_ns is not None

    def begin(self) -> None:
        """The load that counts begins: what the warm-up told is left behind."""
        self._understood.clear()
        self._sampled = None
        self._due = REQUESTS_SCHEMA.empty_table()

    def take_requests(self, table: pa.Table) -> None:
        """Attempts that are over, as `latprof.observations.columns.REQUESTS_SCHEMA`."""
        if not table.num_rows:
            return
        succeeded = pc.and_(pc.equal(table["error_class"], ""), pc.is_valid(table["first_token_ns"]))
        mine = pc.and_(succeeded, self._share.of_requests(table))
        # One pass over the 45 columns: each costs half a millisecond however few the rows.
        self._due = pa.concat_tables([self._due, table.filter(mine)])

    def take_spans(self, batches: Sequence[pa.RecordBatch]) -> None:
        """Spans as they came in, as `latprof.spans.store.SCHEMA`."""
        if not batches:
            return
        table = pa.Table.from_batches(batches)
        longest_ns = pc.max(pc.subtract(table["received_unix_ns"], table["end_unix_ns"])).as_py() or 0
        self._exported_ns = max(self._exported_ns or 0, min(longest_ns, self._grace_ns))
        self._spans = pa.concat_tables([self._spans, self._share.of_spans(table)])
        if self._spans.num_rows > _MOST_SPANS:
            self._share.lower()
            self._spans = self._share.of_spans(self._spans.slice(self._spans.num_rows - _MOST_SPANS))

    def understand(self, now_ns: int) -> None:
        """Look at as many requests as the allowance lasts for, of those whose spans must have come; to be called now and then."""
        elapsed_ns = 0 if self._looked_ns is None else now_ns - self._looked_ns
        self._looked_ns = now_ns
        self._credit_ns = min(self._credit_ns + self._allowance * elapsed_ns, _AT_ONCE * self._cost_ns + self._allowance * NS_PER_S)
        wait_ns = (self._grace_ns if self._exported_ns is None else self._exported_ns) + _WRITTEN_NS
        ripe = np.flatnonzero(int_column(self._due["end_ns"]) < now_ns - wait_ns)
        affordable = int(self._credit_ns / self._cost_ns)
        if len(ripe) and affordable >= min(len(ripe), _AT_ONCE) and self._is_time(len(ripe), now_ns):
            self._understood_ns = now_ns
            self._spend(ripe[: min(affordable, _MOST_AT_ONCE)])
        self._keep_the_share(now_ns)

    def _is_time(self, ripe: int, now_ns: int) -> bool:
        return self._sampled is None or ripe >= _AT_ONCE or now_ns - self._understood_ns >= _LONGEST_WAIT_NS

    def _spend(self, rows: IntArray) -> None:
        began_ns = self._cpu_ns()
        self._understand(self._due.take(rows))
        self._sampled = _sampled(self._understood)
        self._due = self._due.take(np.delete(np.arange(self._due.num_rows), rows)).combine_chunks()
        spent_ns = self._cpu_ns() - began_ns
        # The first time everything takes ten times as long: that is not to be paid off for the rest of a short run.
        self._credit_ns = max(self._credit_ns - spent_ns, -_DEBT_S * self._allowance * NS_PER_S)
        self._cost_ns += 0.3 * (min(spent_ns / len(rows), 2 * self._cost_ns) - self._cost_ns)

    def _keep_the_share(self, now_ns: int) -> None:
        most = max(4.0, _BACKLOG_S * self._allowance * NS_PER_S / self._cost_ns)
        if self._due.num_rows > 2 * most:
            self._share.lower()
            self._due = self._due.filter(self._share.of_requests(self._due))
            self._calm = 0
        elif self._due.num_rows < most / 4:
            self._calm += 1
            if self._calm > 20 and self._share.below < _WHOLE:
                self._share.higher(now_ns)
                self._calm = 0

    def _understand(self, taken: pa.Table) -> None:
        requests = Requests.from_arrow(taken)
        # The warm-up is understood as well; who asks says beside it that it does not count.
        requests = replace(requests, phase=np.where(requests.phase == WARMUP, "", requests.phase).astype(object))
        traces = taken["trace_id"].combine_chunks()
        mine = pc.is_in(self._spans["trace_id"], traces)
        tables = build_layers(requests, Spans(self._spans.filter(mine)), self._anchor, self._hops)
        self._understood.extend(_rows(tables.ttft))
        self._spans = self._spans.filter(pc.invert(mine)).combine_chunks()


def _rows(layers: Layers) -> list[_Understood]:
    return [
        _Understood(
            {
                name: (int(total), int(wait))
                for name, total, wait in zip(layers.names, layers.total_ns[row], layers.wait_ns[row], strict=True)
                if total
            },
            int(layers.total_ns[row].sum()),
            layers.hops,
        )
        for row in range(len(layers.rows))
    ]


def _sampled(understood: Sequence[_Understood]) -> Sampled | None:
    """Contributions, as the report's: at the median by Harrell-Davis weights, and the mean of the slowest 5 %."""
    ordered = sorted(understood, key=lambda one: one.ttft_ns)
    if not ordered:
        return None
    hops = max((one.hops for one in ordered), key=len)
    names = sorted({name for one in ordered for name in one.layers}, key=lambda name: path_order(name, hops))
    cells = np.array([[one.layers.get(name, (0, 0)) for name in names] for one in ordered], np.float64).reshape(len(ordered), len(names), 2)
    p50 = np.tensordot(hd_weights(len(ordered), 0.5), cells, axes=1)
    has_tail = len(ordered) >= _ENOUGH_FOR_A_TAIL
    tail = tail_weights(len(ordered)) @ cells[:, :, 0] if has_tail else np.full(len(names), UNKNOWN)
    bars = tuple(Bar(name, float(p50[at, 0]), float(p50[at, 1]), float(tail[at])) for at, name in enumerate(names))
    return Sampled(bars, float(p50[:, 0].sum()), float(tail.sum()), len(ordered))
