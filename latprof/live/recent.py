"""What the last seconds of a load were like, and all of it so far: from rows as they are read, and counters as they come."""

from __future__ import annotations

import math
from bisect import bisect_left
from collections import Counter, deque
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from latprof.analysis.quantiles import percentile
from latprof.live.histogram import Histogram
from latprof.live.values import ENOUGH_FOR_P99, UNKNOWN, Moment, Ttft
from latprof.observations.columns import IntArray, elapsed_ns, int_column, known
from latprof.units import NS_PER_MS, NS_PER_S

WINDOW_NS = 5 * NS_PER_S
"""What "now" is."""

IN_FLIGHT_COLUMNS = ["request", "intended_ns", "first_token_ns", "phase"]
_HISTORY = 400
# Rows are written twice a second: what is younger than this may not have come yet.
_WRITTEN_NS = NS_PER_S
# For as long it is known which requests are over: longer than a snapshot of those in flight is believed.
_KEPT_NS = WINDOW_NS + 3 * NS_PER_S


@dataclass(frozen=True, slots=True)
class Counted:
    """The run's counters at one instant."""

    at_ns: int
    sent: int
    in_flight: int
    tokens: int


class Recent:
    """The figures of a load, phase by phase. Every method takes the time it is asked at."""

    def __init__(self, began_ns: int) -> None:
        self.errors: Counter[str] = Counter()
        self.error_text = ""
        self.lateness = Histogram()
        self.lags = Histogram()
        self._ttft = Histogram()
        self._held_back = self._started = 0
        self._told_of = ""  # the class of ``error_text``
        self.begin(began_ns)

    def begin(self, began_ns: int) -> None:
        """The next phase: what is of the last seconds, and what the counters said, begins anew; what is of all of it goes on."""
        self._began_ns = began_ns
        self._ended = _Window()
        self._flying = _Window()
        self._flying_ns = began_ns
        self._counted: deque[Counted] = deque([Counted(began_ns, 0, 0, 0)])
        self._history: deque[Moment] = deque(maxlen=_HISTORY)
        self._told_ns = began_ns

    # --- what comes in --------------------------------------------------------------------------------------------------------------------

    def end(self, table: pa.Table, now_ns: int) -> None:
        """Attempts that are over, as `latprof.observations.columns.REQUESTS_SCHEMA`."""
        stamp = {name: int_column(table[name]) for name in ("request", "intended_ns", "first_token_ns", "built_ns", "ready_ns", "start_ns")}
        stamp["attempt"] = int_column(table["attempt"])
        ok = np.asarray(pc.and_(pc.equal(table["error_class"], ""), pc.is_valid(table["end_ns"])).to_numpy(), np.bool_)
        ttft_ns = elapsed_ns(stamp["intended_ns"], stamp["first_token_ns"])
        self._ttft.add(ttft_ns[ok & known(ttft_ns)])
        self._ended.add(now_ns, stamp["request"], stamp["intended_ns"], stamp["first_token_ns"])
        self._ended.forget(now_ns - _KEPT_NS)
        # A retry's wait is not the generator's fault.
        late_ns = elapsed_ns(np.maximum(stamp["intended_ns"], stamp["built_ns"]), stamp["ready_ns"])
        self.lateness.add(late_ns[(stamp["attempt"] == 0) & known(late_ns)])
        held_ns = elapsed_ns(stamp["ready_ns"], stamp["start_ns"])
        self._held_back += int((held_ns > NS_PER_MS).sum())
        self._started += int(known(held_ns).sum())
        if not ok.all():
            self._note_errors(table.filter(pa.array(~ok)))

    def fly(self, table: pa.Table, taken_ns: int) -> None:
        """The attempts in flight at ``taken_ns``, `IN_FLIGHT_COLUMNS` of them, in place of those told before; what has ended since is left out."""
        self._flying_ns = taken_ns
        self._flying = _Window()
        request, intended_ns, first_token_ns = (int_column(table[name]) for name in IN_FLIGHT_COLUMNS[:3])
        still = ~np.isin(request, self._ended.request)
        self._flying.add(taken_ns, request[still], intended_ns[still], first_token_ns[still])

    def count(self, now: Counted) -> None:
        """The counters, some times a second."""
        self._counted.append(now)
        while len(self._counted) > 2 and self._counted[1].at_ns <= now.at_ns - WINDOW_NS:
            self._counted.popleft()

    def _note_errors(self, failed: pa.Table) -> None:
        for found in pc.value_counts(failed["error_class"].combine_chunks()).to_pylist():
            self.errors[found["values"]] += found["counts"]
        commonest = max(self.errors, key=lambda name: self.errors[name])
        if not self.error_text or commonest != self._told_of:
            texts = failed.filter(pc.equal(failed["error_class"], commonest))["error_text"].slice(0, 1).to_pylist()
            if texts:
                self.error_text, self._told_of = " ".join(texts[0].split())[:160], commonest

    # --- figures --------------------------------------------------------------------------------------------------------------------------

    @property
    def so_far(self) -> Ttft:
        """TTFT of the requests that succeeded."""
        few = self._ttft.n < ENOUGH_FOR_P99
        return Ttft(self._ttft.percentile(0.5), self._ttft.percentile(1.0 if few else 0.99), self._ttft.n)

    def now(self, now_ns: int) -> Ttft:
        """TTFT of the first tokens of the last seconds, also of answers that still go on."""
        return self._first_tokens(now_ns - WINDOW_NS, now_ns)

    def waiting(self) -> tuple[int, float]:
        """How many requests had no token yet when those in flight were last told, and how long one of them had waited by then (NaN without one)."""
        intended_ns = self._flying.intended_ns[~known(self._flying.first_token_ns) & (self._flying.intended_ns <= self._flying_ns)]
        return len(intended_ns), float(self._flying_ns - intended_ns.min()) if len(intended_ns) else UNKNOWN

    def achieved_per_s(self) -> float:
        """Requests sent per second, over the last seconds."""
        return self._per_s("sent")

    def tokens_per_s(self) -> float:
        """Tokens of the answers that ended, over the last seconds."""
        return self._per_s("tokens")

    def intended_per_s(self, now_ns: int) -> float:
        """Requests that should have gone per second, by their own intended starts: what a load of several turns has no schedule for."""
        after_ns = now_ns - WINDOW_NS - _WRITTEN_NS
        until_ns = now_ns - _WRITTEN_NS
        over_ns = until_ns - max(after_ns, self._began_ns)
        if over_ns < NS_PER_S:
            return UNKNOWN
        intended_ns = np.concatenate([self._ended.intended_ns, self._flying.intended_ns])
        return float(((intended_ns > after_ns) & (intended_ns <= until_ns)).sum()) * NS_PER_S / over_ns

    def cap_wait_share(self) -> float:
        """Share of the requests that a cap held back for more than a millisecond."""
        return self._held_back / self._started if self._started else UNKNOWN

    def history(self, now_ns: int) -> tuple[Moment, ...]:
        """One moment for every second that is over."""
        while now_ns - self._told_ns >= NS_PER_S + _WRITTEN_NS:
            self._told_ns += NS_PER_S
            self._history.append(self._moment(self._told_ns))
        return tuple(self._history)

    def _moment(self, at_ns: int) -> Moment:
        ttft = self._first_tokens(at_ns - NS_PER_S, at_ns)
        before, after = self._counted_at(at_ns - NS_PER_S), self._counted_at(at_ns)
        over_s = (after.at_ns - before.at_ns) / NS_PER_S
        rate, tokens = ((after.sent - before.sent) / over_s, (after.tokens - before.tokens) / over_s) if over_s > 0 else (UNKNOWN, UNKNOWN)
        return Moment(rate, ttft.p50_ns, ttft.p99_ns, after.in_flight, tokens)

    def _counted_at(self, at_ns: int) -> Counted:
        counted = list(self._counted)
        return counted[min(bisect_left(counted, at_ns, key=lambda one: one.at_ns), len(counted) - 1)]

    def _first_tokens(self, after_ns: int, until_ns: int) -> Ttft:
        ttfts_ns = np.concatenate([window.ttft_ns(after_ns, until_ns) for window in (self._ended, self._flying)])
        few = len(ttfts_ns) < ENOUGH_FOR_P99
        return Ttft(percentile(ttfts_ns, 0.5), percentile(ttfts_ns, 1.0 if few else 0.99), len(ttfts_ns))

    def _per_s(self, name: str) -> float:
        first, last = self._counted[0], self._counted[-1]
        over_s = (last.at_ns - first.at_ns) / NS_PER_S
        return float((getattr(last, name) - getattr(first, name)) / over_s) if over_s >= 0.5 else UNKNOWN


class _Window:
    """Request numbers with two of their stamps, and when they were told."""

    def __init__(self) -> None:
        self.told_ns, self.request, self.intended_ns, self.first_token_ns = np.empty((4, 0), np.int64)

    def add(self, now_ns: int, request: IntArray, intended_ns: IntArray, first_token_ns: IntArray) -> None:
        """More of them, told at ``now_ns``."""
        self.told_ns = np.concatenate([self.told_ns, np.full(len(request), now_ns, np.int64)])
        self.request = np.concatenate([self.request, request])
        self.intended_ns = np.concatenate([self.intended_ns, intended_ns])
        self.first_token_ns = np.concatenate([self.first_token_ns, first_token_ns])

    def ttft_ns(self, after_ns: int, until_ns: int) -> IntArray:
        """Of those whose first token came in between."""
        mine = (self.first_token_ns > after_ns) & (self.first_token_ns <= until_ns)
        return self.first_token_ns[mine] - self.intended_ns[mine]

    def forget(self, before_ns: int) -> None:
        """Those told before."""
        first = int(np.searchsorted(self.told_ns, before_ns))
        self.told_ns, self.request = self.told_ns[first:], self.request[first:]
        self.intended_ns, self.first_token_ns = self.intended_ns[first:], self.first_token_ns[first:]


def planned_per_s(offsets_ns: IntArray, elapsed_ns_: int) -> float:
    """Requests that a schedule has in its last seconds; ``offsets_ns`` ascending, from the beginning of the phase."""
    over_ns = min(elapsed_ns_, WINDOW_NS)
    if over_ns < NS_PER_S // 2:
        return math.nan
    first, after = np.searchsorted(offsets_ns, [elapsed_ns_ - over_ns, elapsed_ns_], side="right")
    return float(after - first) * NS_PER_S / over_ns


def in_words(errors: Mapping[str, int]) -> tuple[tuple[str, int], ...]:
    """Error classes with their numbers, the most frequent first."""
    return tuple(sorted(errors.items(), key=lambda found: (-found[1], found[0])))
