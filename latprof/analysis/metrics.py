"""The metrics of each request and of a run, from raw stamps alone.

Columns in, columns out: ns, MISSING_NS where a request has no such figure. Latency counts from the intended start unless the name says sent.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

from latprof.analysis.quantiles import FloatArray, Numbers
from latprof.client.stamps import CHANNEL_CODES, Channel, ErrorClass
from latprof.observations.columns import BoolArray, Chunks, IntArray, Requests, elapsed_ns, known
from latprof.units import MISSING_NS, NS_PER_MS, NS_PER_S


def ttft_ns(requests: Requests) -> IntArray:
    """Intended start to the first token of any channel, shape (n,)."""
    return elapsed_ns(requests.intended_ns, requests.first_token_ns)


def ttft_sent_ns(requests: Requests) -> IntArray:
    """First byte of the request written to the first token: what a tool that forgets its own lateness reports."""
    return elapsed_ns(requests.send_ns, requests.first_token_ns)


def ttfo_ns(requests: Requests) -> IntArray:
    """Intended start to the first token of the answer itself, its text or a tool call: not of reasoning."""
    return elapsed_ns(requests.intended_ns, requests.first_answer_ns)


def headers_ns(requests: Requests) -> IntArray:
    """Intended start to the response headers."""
    return elapsed_ns(requests.intended_ns, requests.headers_ns)


def e2el_ns(requests: Requests) -> IntArray:
    """Intended start to the last token: the call."""
    return elapsed_ns(requests.intended_ns, requests.last_token_ns)


def lateness_ns(requests: Requests) -> IntArray:
    """Intended start to actual start. A wait for a place under the concurrency cap is part of it."""
    return elapsed_ns(requests.intended_ns, requests.start_ns)


def wake_lateness_ns(requests: Requests) -> IntArray:
    """Intended start to the moment the generator woke for it: the part of the lateness that is the generator's own fault.

    A body that could only be written after the intended start (it continues an answer that came late) is waited for, not overslept.
    """
    return elapsed_ns(np.maximum(requests.intended_ns, requests.built_ns), requests.ready_ns)


def connection_wait_ns(requests: Requests) -> IntArray:
    """From the actual start to the first byte, less resolving, connecting and TLS: building the request, and waiting for a connection."""
    before_ns = elapsed_ns(requests.start_ns, requests.send_ns)
    opening_ns = _length(requests.dns_start_ns, requests.dns_end_ns) + _length(
        requests.connect_start_ns, np.where(known(requests.tls_end_ns), requests.tls_end_ns, requests.connect_end_ns)
    )
    return np.where(known(before_ns), before_ns - opening_ns, MISSING_NS)


def _length(begun_ns: IntArray, ended_ns: IntArray) -> IntArray:
    """0 where it never happened: nothing was waited for."""
    return np.where(known(begun_ns) & known(ended_ns), ended_ns - begun_ns, 0)


def cap_wait_ns(requests: Requests) -> IntArray:
    """The wait for a place under the concurrency cap."""
    return elapsed_ns(requests.ready_ns, requests.start_ns)


def streamed_tokens(requests: Requests, chunks: Chunks) -> IntArray:
    """Output tokens that came in chunks, shape (n,): those of `is_unstreamed` less their reasoning; MISSING_NS where they are not known."""
    return np.where(is_unstreamed(requests, chunks), requests.output_tokens - requests.reasoning_tokens, requests.output_tokens)


def is_unstreamed(requests: Requests, chunks: Chunks) -> BoolArray:
    """Which of ``requests`` have reasoning in their usage that no chunk bore, shape (n,).

    Where reasoning is all of the output or more, the server counts it beside the output tokens and not among them: nothing is to be taken off.
    """
    reasoning = requests.reasoning_tokens  # MISSING_NS is below any count
    told = known(requests.output_tokens) & (reasoning > 0) & (reasoning < requests.output_tokens)
    if not told.any():
        return told
    code = CHANNEL_CODES[Channel.REASONING]
    came = (requests.first_channel == Channel.REASONING) | np.isin(requests.request, chunks.request[chunks.channel == code])
    return np.asarray(told & ~came, np.bool_)


def cached_share(requests: Requests) -> float:
    """Share of the prompt tokens that the servers say came from a cache, of the requests whose usage tells both; NaN where none does."""
    told = known(requests.cached_tokens) & known(requests.prompt_tokens)
    prompt_tokens = int(requests.prompt_tokens[told].sum())
    return int(requests.cached_tokens[told].sum()) / prompt_tokens if prompt_tokens else math.nan


def tokens_per_chunk(requests: Requests, chunks: Chunks) -> FloatArray:
    """`streamed_tokens` over token-bearing chunks, shape (n,); NaN where one of them is not known or zero."""
    tokens = streamed_tokens(requests, chunks)
    told = known(tokens) & (requests.token_chunks > 0)
    return np.asarray(np.divide(tokens, requests.token_chunks, where=told, out=np.full(len(requests), np.nan)))


def tpot_ns(requests: Requests, chunks: Chunks) -> IntArray:
    """(last - first token) / (`streamed_tokens` - tokens in the first chunk), rounded to ns.

    A chunk does not tell how many tokens it carries; the first one is taken to carry as many as the answer's chunks do on average, at least one.
    MISSING_NS for an answer in a single chunk, and where the output tokens are not known.
    """
    length_ns = elapsed_ns(requests.first_token_ns, requests.last_token_ns)
    tokens = streamed_tokens(requests, chunks)
    after_first = tokens - np.maximum(tokens_per_chunk(requests, chunks), 1.0)
    has = known(length_ns) & known(tokens) & (requests.token_chunks > 1) & (after_first > 0)
    per_token = np.divide(length_ns, after_first, where=has, out=np.zeros(len(requests)))
    return np.where(has, np.rint(per_token).astype(np.int64), MISSING_NS)


def itl_ns(requests: Requests, chunks: Chunks) -> tuple[IntArray, IntArray]:
    """Gaps between token-bearing chunks of ``requests``: (row of each gap, gap in ns), row after row, in order of arrival inside a row."""
    tokens = chunks.tokens
    row = tokens.of(requests.request)
    mine = np.flatnonzero((row >= 0) & (tokens.counts > 1))
    mine = mine[np.argsort(row[mine], kind="stable")]
    number = tokens.counts[mine] - 1
    # Gap i of a request lies behind its chunk i: counted on from the first of its chunks, over all requests in turn.
    behind = np.repeat(tokens.first[mine] - np.append(0, np.cumsum(number)[:-1]), number) + np.arange(number.sum())
    return np.repeat(row[mine], number), tokens.at_ns[behind + 1] - tokens.at_ns[behind]


def present(values_ns: IntArray) -> IntArray:
    """``values_ns`` without those that are missing."""
    return values_ns[known(values_ns)]


def in_intended_order(requests: Requests) -> IntArray:
    """Row numbers by intended start."""
    return np.argsort(requests.intended_ns, kind="stable")


# --- of the run ---------------------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Counts:
    """Rows of the measured phase (and, apart, of the warm-up). ``planned`` turns, MISSING_NS where only time ends the load.

    ``sent`` requests, of which ``retries`` repeat a turn that was sent before. ``recovered`` of the failed are of turns that succeeded when sent again.
    """

    planned: int
    sent: int
    retries: int
    ok: int
    failed: int
    errors: Mapping[str, int]  # by class, the most frequent first
    warmup: int
    recovered: int = 0

    @property
    def turns_sent(self) -> int:
        """Each once, however often it was sent."""
        return self.sent - self.retries

    @property
    def failed_share(self) -> float:
        """Failed over recorded; NaN without a single row."""
        rows = self.ok + self.failed
        return self.failed / rows if rows else np.nan


def counts(requests: Requests, planned: int = MISSING_NS) -> Counts:
    """Count the rows. ``sent`` are those whose first byte was written."""
    measured = requests.measured
    sent = measured & known(requests.send_ns)
    ok = measured & requests.success
    failed = measured & ~requests.success
    errors = Counter(str(text) or ErrorClass.UNFINISHED.value for text in requests.error_class[failed])
    return Counts(
        planned=planned,
        sent=int(sent.sum()),
        retries=_retries(requests.select(sent)),
        ok=int(ok.sum()),
        failed=int(failed.sum()),
        errors=dict(sorted(errors.items(), key=lambda item: (-item[1], item[0]))),
        warmup=int((~measured).sum()),
        recovered=_recovered(requests.select(measured)),
    )


def _retries(sent: Requests) -> int:
    """Of requests that were sent, those whose turn had been: an attempt that never got to its first byte repeats nothing."""
    if not (sent.attempt > 0).any():
        return 0
    return len(sent) - len(set(zip(sent.phase, sent.session, sent.turn, strict=True)))


def _recovered(measured: Requests) -> int:
    """Failed attempts at turns that have a success."""
    if not (measured.attempt > 0).any():
        return 0
    turns = list(zip(measured.phase, measured.session, measured.turn, strict=True))
    good = {turn for turn, is_good in zip(turns, measured.success, strict=True) if is_good}
    return sum(turn in good for turn, is_good in zip(turns, measured.success, strict=True) if not is_good)


@dataclass(frozen=True, slots=True)
class Rate:
    """How the load really came, per second; NaN where fewer than two requests tell. ``cv`` is that of the gaps between starts.

    ``duration_ns`` runs from the first intended start to the last end: throughput and goodput are over it.
    """

    intended_per_s: float
    achieved_per_s: float
    intended_cv: float
    achieved_cv: float
    duration_ns: int
    completed_per_s: float
    output_tokens_per_s: float


def rate(requests: Requests) -> Rate:
    """The rates of ``requests``: the measured rows, failures included."""
    ok = requests.select(requests.success)
    stamps = np.concatenate([requests.intended_ns, requests.end_ns, requests.start_ns])
    stamps = stamps[known(stamps)]
    duration_ns = int(np.ptp(stamps)) if len(stamps) else 0
    tokens = int(present(ok.output_tokens).sum()) if known(ok.output_tokens).any() else MISSING_NS
    # A turn is offered once, when its first attempt's first byte goes.
    first = requests.select(requests.attempt == 0)
    went_ns = np.where(known(first.send_ns), first.send_ns, first.start_ns)
    intended, achieved = _gaps(first.intended_ns), _gaps(went_ns)
    return Rate(
        intended_per_s=_per_s(intended),
        achieved_per_s=_per_s(achieved),
        intended_cv=_cv(intended),
        achieved_cv=_cv(achieved),
        duration_ns=duration_ns,
        completed_per_s=_over(len(ok), duration_ns),
        output_tokens_per_s=_over(tokens, duration_ns) if tokens != MISSING_NS else np.nan,
    )


def _gaps(stamps_ns: IntArray) -> IntArray:
    return np.asarray(np.diff(np.sort(present(stamps_ns))), np.int64)


def _per_s(gaps_ns: IntArray) -> float:
    return _over(len(gaps_ns), int(gaps_ns.sum()))


def _cv(gaps_ns: IntArray) -> float:
    return float(gaps_ns.std() / gaps_ns.mean()) if len(gaps_ns) and gaps_ns.any() else np.nan


def _over(amount: int, duration_ns: int) -> float:
    return amount / (duration_ns / NS_PER_S) if duration_ns else np.nan


@dataclass(frozen=True, slots=True)
class Goodput:
    """Requests that meet every objective (ms by metric id): per second over the run's duration, and as a share of all that were recorded."""

    objectives_ms: Mapping[str, float]
    good: int
    per_s: float
    share: float


def goodput(requests: Requests, chunks: Chunks, objectives_ms: Mapping[str, float]) -> Goodput:
    """Judge ``requests`` (the measured rows): failures and timeouts are misses.

    ``itl`` is held against a request's mean gap. An answer in one chunk has neither ``tpot`` nor ``itl`` and meets both, as peers count.
    """
    good = meets(requests, chunks, objectives_ms)
    share = float(good.mean()) if len(good) else np.nan
    return Goodput(dict(objectives_ms), int(good.sum()), _over(int(good.sum()), rate(requests).duration_ns), share)


def meets(requests: Requests, chunks: Chunks, objectives_ms: Mapping[str, float]) -> BoolArray:
    """Which of ``requests`` are good, shape (n,); see `goodput`."""
    good = requests.success.copy()
    for metric, limit_ms in objectives_ms.items():
        value_ns = _OBJECTIVES[metric](requests, chunks)
        good &= np.where(known(value_ns), value_ns <= limit_ms * NS_PER_MS, metric in {"tpot", "itl"})
    return good


def _mean_gap_ns(requests: Requests) -> IntArray:
    """Gaps add up to the time from the first token to the last: what lies between need not be known."""
    length_ns, number = elapsed_ns(requests.first_token_ns, requests.last_token_ns), requests.token_chunks - 1
    has = known(length_ns) & (number > 0)
    mean_ns = np.divide(length_ns, number, where=has, out=np.zeros(len(requests)))
    return np.where(has, np.rint(mean_ns).astype(np.int64), MISSING_NS)


_OBJECTIVES: Mapping[str, Callable[[Requests, Chunks], IntArray]] = {
    "ttft": lambda requests, _: ttft_ns(requests),
    "tpot": tpot_ns,
    "e2el": lambda requests, _: e2el_ns(requests),
    "itl": lambda requests, _: _mean_gap_ns(requests),
}

SAMPLED: Mapping[str, str] = {
    "ttft": "TTFT",
    "ttft_sent": "TTFT from send",
    "ttfo": "TTFO",
    "headers": "headers",
    "e2el": "call (e2e)",
    "tpot": "TPOT",
    "itl": "ITL",
    "lateness": "lateness",
}
"""Metric ids and what a table calls them."""


def samples(requests: Requests, chunks: Chunks) -> dict[str, Numbers]:
    """Every metric of `SAMPLED` over the measured successes, in order of intended start, without the missing."""
    mine: BoolArray = requests.measured & requests.success
    ok = requests.select(mine)
    ok = ok.select(in_intended_order(ok))
    return {
        "ttft": present(ttft_ns(ok)),
        "ttft_sent": present(ttft_sent_ns(ok)),
        "ttfo": present(ttfo_ns(ok)),
        "headers": present(headers_ns(ok)),
        "e2el": present(e2el_ns(ok)),
        "tpot": present(tpot_ns(ok, chunks)),
        "itl": itl_ns(ok, chunks)[1],
        "lateness": present(lateness_ns(ok.select(ok.attempt == 0))),  # a retry is late by its back-off
    }
