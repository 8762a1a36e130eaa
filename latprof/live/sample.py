"""The layers of a sample of the requests, while the run goes.

Understanding one request takes about 2 ms, so only a share of them is looked at: those whose trace id, which is well mixed, ends in a low enough
number. The share follows from an allowance of CPU time, and says itself which spans need not be kept: a trace is in the sample before anything
of it has come.

    requests   |........x.....x.|..x......o.x....|...x.......x....|  . not looked at   x shown   o looked at, not shown
    looked at  |  below 0.12    |  below 0.18    |  below 0.12    |  each time what ended since the last one: nothing waits longer
    shown      |<---------- the last minute, below 0.12 --------->|  by the smallest bound of all: a request counts whenever it came
"""

from __future__ import annotations

import time
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
from latprof.observations.columns import REQUESTS_SCHEMA, BoolArray, IntArray, Requests, int_column
from latprof.schedule.plan import WARMUP
from latprof.spans.store import SCHEMA, Spans
from latprof.units import NS_PER_MS, NS_PER_S

_WINDOW_NS = 60 * NS_PER_S
"""What the sample is of. An allowance of 0.4 % lasts for one request a second; the slowest 5 % want 40 of them."""
_SHOWN_AT_LEAST, _SHOWN_AT_MOST = 4, 120  # of fewer nothing is shown, unless they are all there are
_ENOUGH_FOR_A_TAIL = 40
_FIRST_GUESS_NS = 3 * NS_PER_MS
# Of each go 5 ms are the same however many requests are looked at; a few together cost half as much as one by one.
_FIRST, _AT_ONCE = 8, 5
# Chance brings a few more than the allowance lasts for: they are paid off before the next ones. To leave them out would lower the bound for a minute.
_ON_CREDIT = 4
_FIRST_OF = 32
_FIRST_WAIT_NS, _LONGEST_WAIT_NS = 2 * NS_PER_S, 3 * NS_PER_S
_DEBT_S, _FIRST_DEBT_S = 4, 1
# The bound is for so much of what the allowance lasts for, and stays until it is off by the factor.
_SPENT = 0.8
_OFF = 1.5
_CALM = 10
_RATE_NS = 10 * NS_PER_S
_MOST_SPANS, _MOST_DUE = 40_000, 4_000
# From a span's reception to its place in the file, and half of the time between two looks.
_WRITTEN_NS = NS_PER_S // 2
_DIGITS = 8
_WHOLE = 16**_DIGITS
_STEPS_KEPT = 8


class _Share:
    """Which traces are in the sample: those that lie below a bound. It can be raised only for what begins afterwards."""

    def __init__(self) -> None:
        # Ascending in both: what began since then has this bound.
        self._since_ns: list[int] = [0]
        self._bounds: list[int] = [_WHOLE]

    @property
    def below(self) -> int:
        """The bound for what begins now."""
        return self._bounds[-1]

    def lower(self, below: int) -> None:
        """For all that is not looked at yet."""
        self._bounds = [min(bound, max(1, below)) for bound in self._bounds]

    def higher(self, below: int, now_ns: int) -> None:
        """For what begins from now on."""
        self._since_ns.append(now_ns)
        self._bounds.append(min(_WHOLE, below))
        if len(self._bounds) > _STEPS_KEPT:
            del self._since_ns[1], self._bounds[1]  # what began in that step keeps to the lower bound of the one before

    def bounds(self, began_ns: IntArray) -> IntArray:
        """Those of requests that began then."""
        step = np.searchsorted(self._since_ns, began_ns, side="right") - 1
        return np.array(self._bounds, np.int64)[np.maximum(step, 0)]

    def of_spans(self, table: pa.Table) -> pa.Table:
        if self.below >= _WHOLE:
            return table
        # Hexadecimal digits of one length sort as their numbers do.
        return table.filter(pc.less(_digits(table), f"{self.below:0{_DIGITS}x}"))

    def of_requests(self, table: pa.Table) -> pa.Table:
        if self._bounds[0] >= _WHOLE:
            return table
        return table.filter(pa.array(_keys(table) < self.bounds(int_column(table["intended_ns"]))))


def _digits(table: pa.Table) -> pa.ChunkedArray:
    return pc.utf8_slice_codeunits(table["trace_id"], 32 - _DIGITS, 32)


def _keys(table: pa.Table) -> IntArray:
    return np.array([int(digits, 16) for digits in _digits(table).to_pylist()], np.int64)


@dataclass(frozen=True, slots=True)
class _Understood:
    """One request: layer -> (total, wait) in ns."""

    layers: dict[str, tuple[int, int]]
    ttft_ns: int
    hops: tuple[str, ...]
    key: int
    intended_ns: int
    end_ns: int


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
        self._credit_ns = float(_FIRST * _FIRST_GUESS_NS)
        self._looked_ns: int | None = None
        self._understood_ns: int = 0
        self._share = _Share()
        self._due = REQUESTS_SCHEMA.empty_table()
        self._spans = SCHEMA.empty_table()
        self._exported_ns: int | None = None  # the longest from the end of a span to its reception
        self._understood: list[_Understood] = []
        self._sampled: Sampled | None = None
        self._shown: list[_Understood] = []
        # Every request that succeeded, looked at or not: its end, and the bound that decides about it.
        self._end_ns = self._bound = np.empty(0, np.int64)
        self._has_looked = False
        self._until_ns = 0  # what ended by then was looked at, or left
        self._first_ns: int | None = None  # the first end of all
        self._calm = 0

    @property
    def sampled(self) -> Sampled | None:
        """The budget of the sample, as of the last `understand`; its ages as well."""
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
        self._end_ns = self._bound = np.empty(0, np.int64)
        self._first_ns = None

    def take_requests(self, table: pa.Table) -> None:
        """Attempts that are over, as `latprof.observations.columns.REQUESTS_SCHEMA`."""
        if not table.num_rows:
            return
        succeeded = pc.and_(pc.equal(table["error_class"], ""), pc.is_valid(table["first_token_ns"]))
        end_ns, intended_ns = (int_column(table[name].filter(succeeded)) for name in ("end_ns", "intended_ns"))
        if not len(end_ns):
            return
        self._first_ns = int(end_ns.min()) if self._first_ns is None else self._first_ns
        self._end_ns = np.concatenate([self._end_ns, end_ns])
        self._bound = np.concatenate([self._bound, self._share.bounds(intended_ns)])
        self._due = pa.concat_tables([self._due, self._share.of_requests(table.filter(succeeded))])

    def take_spans(self, batches: Sequence[pa.RecordBatch]) -> None:
        """Spans as they came in, as `latprof.spans.store.SCHEMA`."""
        if not batches:
            return
        table = pa.Table.from_batches(batches)
        longest_ns = pc.max(pc.subtract(table["received_unix_ns"], table["end_unix_ns"])).as_py() or 0
        self._exported_ns = max(self._exported_ns or 0, min(longest_ns, self._grace_ns))
        self._spans = pa.concat_tables([self._spans, self._share.of_spans(table)])
        if self._spans.num_rows > _MOST_SPANS:
            self._lower(self._share.below // 2)
            self._spans = self._spans.slice(max(0, self._spans.num_rows - _MOST_SPANS))

    def understand(self, now_ns: int) -> None:
        """Look at as many requests as the allowance lasts for, of those whose spans must have come; to be called now and then."""
        elapsed_ns = 0 if self._looked_ns is None else now_ns - self._looked_ns
        self._looked_ns = now_ns
        self._credit_ns = min(self._credit_ns + self._allowance * elapsed_ns, _AT_ONCE * self._cost_ns + self._allowance * NS_PER_S)
        wait_ns = (self._grace_ns if self._exported_ns is None else self._exported_ns) + _WRITTEN_NS
        until_ns = now_ns - wait_ns
        is_ripe = int_column(self._due["end_ns"]) < until_ns
        ripe, affordable = int(is_ripe.sum()), int(self._credit_ns / self._cost_ns)
        if ripe and affordable >= min(ripe, _AT_ONCE) and self._is_time(ripe, now_ns):
            self._understood_ns = now_ns
            self._spend(is_ripe, affordable + _ON_CREDIT, until_ns)
        self._keep_the_share(now_ns)
        if self._sampled is not None:
            ages_ns = [now_ns - one.intended_ns for one in self._shown]
            self._sampled = replace(self._sampled, oldest_ns=max(ages_ns), newest_ns=min(ages_ns))

    def _is_time(self, ripe: int, now_ns: int) -> bool:
        if not self._has_looked:  # the first few of a load are its coldest: rather a little later, of more
            return ripe >= _FIRST_OF or self._first_ns is None or now_ns - self._first_ns >= _FIRST_WAIT_NS
        return ripe >= _AT_ONCE or now_ns - self._understood_ns >= _LONGEST_WAIT_NS

    def _spend(self, is_ripe: BoolArray, most: int, until_ns: int) -> None:
        """Look at those of the lowest traces, and leave the others for good: there will be younger ones."""
        is_first, began_ns = not self._has_looked, self._cpu_ns()
        self._has_looked = True
        ripe = self._due.filter(pa.array(is_ripe))
        self._due = self._due.filter(pa.array(~is_ripe)).combine_chunks()
        keys = _keys(ripe)
        rows = np.argsort(keys, kind="stable")
        if len(rows) > most:
            since = (self._end_ns >= self._until_ns) & (self._end_ns < until_ns)
            self._bound[since] = np.minimum(self._bound[since], keys[rows[most]])
        self._until_ns = until_ns
        self._understand(ripe.take(rows[:most]))
        self._spans = self._spans.filter(pc.invert(pc.is_in(self._spans["trace_id"], ripe["trace_id"].combine_chunks()))).combine_chunks()
        self._show()
        looked_at, spent_ns = min(len(rows), most), self._cpu_ns() - began_ns
        # The first time everything takes ten times as long: that is not to be paid off for the rest of a short run.
        debt_s = _FIRST_DEBT_S if is_first else _DEBT_S
        self._credit_ns = max(self._credit_ns - spent_ns, -debt_s * self._allowance * NS_PER_S)
        self._cost_ns += 0.3 * (min(spent_ns / looked_at, 2 * self._cost_ns) - self._cost_ns)

    def _show(self) -> None:
        """The budget of those below the smallest bound of the window: what was looked at by a higher one came by too many."""
        after_ns = self._until_ns - _WINDOW_NS
        young = self._end_ns >= after_ns
        self._end_ns, self._bound = self._end_ns[young], self._bound[young]
        self._understood = [one for one in self._understood if one.end_ns >= after_ns]
        old_enough = self._end_ns < self._until_ns
        bound = int(self._bound[old_enough].min(initial=_WHOLE))
        shown = sorted((one for one in self._understood if one.key < bound), key=lambda one: one.end_ns)
        if len(shown) > _SHOWN_AT_MOST:
            shown = shown[-_SHOWN_AT_MOST:]
            old_enough &= self._end_ns >= shown[0].end_ns
        of = int(old_enough.sum())
        if shown and len(shown) >= min(of, _SHOWN_AT_LEAST):  # else what was seen before stays, and says how old it is
            self._shown, self._sampled = shown, _sampled(shown, of)

    def _lower(self, below: int) -> None:
        self._share.lower(below)
        waiting = self._end_ns >= self._until_ns
        self._bound[waiting] = np.minimum(self._bound[waiting], self._share.below)
        self._due, self._spans = self._share.of_requests(self._due), self._share.of_spans(self._spans)
        self._calm = 0

    def _keep_the_share(self, now_ns: int) -> None:
        if self._due.num_rows > _MOST_DUE:
            self._lower(self._share.below // 2)
        if not self._has_looked or self._first_ns is None:
            return  # how many there are, and what they cost, is not known yet
        over_ns = min(max(now_ns - self._first_ns, NS_PER_S), _RATE_NS)
        came = int((self._end_ns > now_ns - over_ns).sum())
        wanted = min(_WHOLE, int(_WHOLE * _SPENT * self._allowance * over_ns / (self._cost_ns * max(came, 1))))
        if wanted * _OFF < self._share.below:
            self._lower(wanted)
        self._calm = self._calm + 1 if wanted > _OFF * self._share.below or (wanted == _WHOLE > self._share.below) else 0
        if self._calm > _CALM:
            self._share.higher(wanted, now_ns)
            self._calm = 0

    def _understand(self, taken: pa.Table) -> None:
        requests = Requests.from_arrow(taken)
        # The warm-up is understood as well; who asks says beside it that it does not count.
        requests = replace(requests, phase=np.where(requests.phase == WARMUP, "", requests.phase).astype(object))
        traces = taken["trace_id"].combine_chunks()
        mine = pc.is_in(self._spans["trace_id"], traces)
        tables = build_layers(requests, Spans(self._spans.filter(mine)), self._anchor, self._hops)
        rows = tables.ttft.rows
        stamps = zip(*(column[rows].tolist() for column in (_keys(taken), requests.intended_ns, requests.end_ns)), strict=True)
        self._understood.extend(_rows(tables.ttft, list(stamps)))


def _rows(layers: Layers, stamps: Sequence[tuple[int, int, int]]) -> list[_Understood]:
    return [
        _Understood(
            {
                name: (int(total), int(wait))
                for name, total, wait in zip(layers.names, layers.total_ns[row], layers.wait_ns[row], strict=True)
                if total
            },
            int(layers.total_ns[row].sum()),
            layers.hops,
            *stamps[row],
        )
        for row in range(len(layers.rows))
    ]


def _sampled(understood: Sequence[_Understood], of: int) -> Sampled:
    """Contributions, as the report's: at the median by Harrell-Davis weights, and the mean of the slowest 5 %."""
    ordered = sorted(understood, key=lambda one: one.ttft_ns)
    hops = max((one.hops for one in ordered), key=len)
    names = sorted({name for one in ordered for name in one.layers}, key=lambda name: path_order(name, hops))
    cells = np.array([[one.layers.get(name, (0, 0)) for name in names] for one in ordered], np.float64).reshape(len(ordered), len(names), 2)
    p50 = np.tensordot(hd_weights(len(ordered), 0.5), cells, axes=1)
    has_tail = len(ordered) >= _ENOUGH_FOR_A_TAIL
    tail = tail_weights(len(ordered)) @ cells[:, :, 0] if has_tail else np.full(len(names), UNKNOWN)
    bars = tuple(Bar(name, float(p50[at, 0]), float(p50[at, 1]), float(tail[at])) for at, name in enumerate(names))
    return Sampled(bars, float(p50[:, 0].sum()), float(tail.sum()), len(ordered), of)
