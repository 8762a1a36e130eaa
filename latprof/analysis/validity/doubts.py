"""Reasons to distrust a run, as values: what was seen, the likely cause, the remedy.

Each doubt is a function of the same `Facts`, which are recomputed from the run folder; `doubts` asks them all. A run with a fatal doubt is not valid.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Literal

from latprof.analysis.laws import Law
from latprof.analysis.validity.buffering import Buffering
from latprof.analysis.validity.instrument import Instrument
from latprof.analysis.validity.overload import Overload
from latprof.units import NS_PER_MS, ms

Level = Literal["note", "warning", "fatal"]

UNKNOWN = math.nan
"""A figure nobody knows: every comparison with it is false, so it raises no doubt."""

_ENOUGH_GAPS = 100
# Between so few requests one that goes 3 ms late makes another rate.
_FEW_REQUESTS = 20
# By so much the first and the last request of any phase may be late: that is told as lateness.
_SHIFTED_S = 0.05


@dataclass(frozen=True, slots=True)
class Doubt:
    """One reason. ``text`` says what was seen and what likely caused it, ``remedy`` what to do."""

    id: str
    level: Level
    text: str
    remedy: str


@dataclass(frozen=True, slots=True)
class StageFacts:
    """What one stage of the stub says of itself; `UNKNOWN` where it did not answer."""

    stage: str
    timer_error_p99_ns: float = UNKNOWN
    cpu_share: float = UNKNOWN


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """Everything doubts are made of. Shares are fractions, times ns; `UNKNOWN` (NaN) where a figure is not known."""

    is_simulated: bool = False  # played in virtual time: no generator, no spans
    laws: tuple[Law, ...] = ()  # of a simulated run
    assumed: tuple[str, ...] = ()  # what a simulated run had to take a model for, in words
    # outcome
    sent: int = 0  # turns, however often each was sent
    planned: int | None = None  # turns, where no time limit decides how many
    stale_retries: int = 0
    ok: int = 0
    failed: int = 0
    recovered: int = 0  # of the failed: their turns succeeded when they were sent again
    errors: Mapping[str, int] = field(default_factory=dict)
    error_text: str = ""  # what the first failure of the most frequent class said, redacted by the client
    partial: bool = False
    partial_reason: str = ""
    interrupted: bool = False
    # the generator
    ttft_p50_ns: float = UNKNOWN
    lateness_p99_ns: float = UNKNOWN  # intended start to waking
    connection_wait_p99_ns: float = UNKNOWN
    loop_lag_p99_ns: float = UNKNOWN
    cpu_share: float = UNKNOWN  # 1.0 is one core
    starved_share: float = UNKNOWN  # of the time, in which a worker could have run and no core was free
    stolen_share: float = UNKNOWN  # of the processor time that this machine asked for, given to others by its host
    itl_p50_ns: float = UNKNOWN
    stamps: str = "unknown"  # who stamps: kernel, user, or unknown
    interval_share: float = UNKNOWN  # of the token-bearing chunks, known only to have come between two stamps
    clock_steps: int = 0
    worker_deaths: tuple[str, ...] = ()
    instrument: Instrument | None = None
    cap_wait_share: float = UNKNOWN  # of the requests, held back by the concurrency cap for more than 1 ms
    asked_per_s: float = UNKNOWN  # the schedule's own rate
    offered_per_s: float = UNKNOWN
    asked_cv: float = UNKNOWN  # coefficient of variation of the gaps between intended starts
    offered_cv: float = UNKNOWN
    # the sample
    refused: tuple[str, ...] = ()  # percentiles the sample is too small for
    requests_with_layers: int = 0
    p99_inflation: float = UNKNOWN
    first_half_p50_ns: float = UNKNOWN
    second_half_p50_ns: float = UNKNOWN
    halves_apart: float = UNKNOWN  # standard errors
    tasks: int = 0  # sessions of several steps that came to their end
    tasks_cut: int = 0  # and those that the end of the load cut short
    tokens_not_from_usage: int = 0
    reasoning_unstreamed: int = 0  # answers with reasoning in their usage that no chunk bore
    stream_options_dropped: bool = False
    # spans and layers
    spans: int = 0
    span_coverage: float = UNKNOWN  # of the requests, with any span
    other_spans: int = 0  # of other traces, not used
    joined_by_answer: int = 0  # requests whose spans were found by the id of the answer
    join_refused: Mapping[str, int] = field(default_factory=dict)  # why not -> requests of whose answers spans tell
    missing_by_service: Mapping[str, int] = field(default_factory=dict)  # requests a service has not told of
    rejected: Mapping[str, int] = field(default_factory=dict)
    span_write_error: str = ""
    ports_taken: tuple[str, ...] = ()
    unattributed_share_p50: float = UNKNOWN
    unattributed: tuple[str, ...] = ()
    hops: tuple[str, ...] = ()
    services: tuple[str, ...] = ()
    clocks_corrected: Mapping[str, float] = field(default_factory=dict)  # clock -> offset in ns
    clocks_inconsistent: tuple[str, ...] = ()
    clock_errors: Mapping[str, tuple[float, float]] = field(default_factory=dict)  # clock -> ns it may yet be off by, down and up
    conflicts: Mapping[str, int] = field(default_factory=dict)  # layer -> requests
    buffering: Buffering | None = None
    # the causal check
    delayed: int = 0  # measured requests that passed the injecting hop
    undelayed: int = 0  # and those that did not, though there was one
    # the stack in a box
    overloads: tuple[Overload, ...] = ()  # what it was known beforehand not to keep up with
    stages: tuple[StageFacts, ...] = ()
    stages_died: str = ""


def no_success(facts: Facts) -> Doubt | None:
    """Nothing to measure."""
    if facts.ok:
        return None
    if facts.interrupted and not facts.failed:
        return Doubt(
            "no_success", "fatal", "no request was made: the run was ended before its load began", "run it again, and let the load begin"
        )
    what = (
        f"not one of {facts.failed} requests succeeded ({_listed(facts.errors)}{_said(facts)})" if facts.failed else "no request was made"
    )
    return Doubt(
        "no_success", "fatal", what, "look at the errors in the run folder (requests, column error_text), and try one request by hand"
    )


def failures(facts: Facts) -> Doubt | None:
    """Percentiles are over successes: failures leave the slowest out."""
    rows, lost = facts.ok + facts.failed, facts.failed - facts.recovered
    share, lost_share = (number / rows if rows else 0.0 for number in (facts.failed, lost))
    if not facts.ok or (share <= 0.01 and lost_share <= 0.002):
        return None
    level: Level = "fatal" if lost_share > 0.05 else "warning" if share > 0.01 else "note"
    left_out = "percentiles leave them out"
    if facts.recovered:
        left_out = f"{facts.recovered} of them were made good by a retry, timed from the first start; percentiles leave out the rest"
    elif level == "note":
        left_out += f": were they the slowest, p99 would be the p{99 * (1 - lost_share):.1f} of all"
    text = f"{facts.failed} of {rows} requests failed ({_percent(share)}): {_listed(facts.errors)}{_said(facts)}; {left_out}"
    return Doubt("failures", level, text, "lower the rate, or look at the server's log for these errors")


def not_sent(facts: Facts) -> Doubt | None:
    """A session that fails takes its other turns along: what was measured is a lighter load than the one asked for."""
    missing = 0 if facts.planned is None or facts.interrupted or facts.partial else facts.planned - facts.sent
    share = missing / facts.planned if facts.planned else 0.0
    if share <= 0.01 or not facts.failed:
        return None
    text = (
        f"{missing} of {facts.planned} planned requests ({_percent(share)}) were not sent, because their session had failed before:"
        f" {_listed(facts.errors)}{_said(facts)}"
    )
    return Doubt("not_sent", "fatal" if share > 0.05 else "warning", text, "find out why turns fail; fewer turns are another load")


def stale(facts: Facts) -> Doubt | None:
    """Sent again because a kept connection was dead: part of what the users of such a server would see."""
    share = facts.stale_retries / facts.sent if facts.sent else 0.0
    if not share:
        return None
    text = (
        f"{facts.stale_retries} requests ({_percent(share)}) met a kept connection that the server had closed, and were sent again on a new one;"
        " the time that took is in net.upload"
    )
    remedy = "raise the server's keep-alive timeout, or take --connection fresh to measure without kept connections"
    return Doubt("stale_connections", "warning" if share > 0.01 else "note", text, remedy)


def lateness(facts: Facts) -> Doubt | None:
    """The generator must not be what is measured."""
    late_ns, ttft_ns = facts.lateness_p99_ns, facts.ttft_p50_ns
    if not late_ns > max(NS_PER_MS, 0.01 * ttft_ns):
        return None
    busy = facts.loop_lag_p99_ns > 2 * NS_PER_MS or facts.cpu_share > 0.5
    cause = "the generator's machine is busy" if busy else "more came at one instant than can be sent at once"
    text = f"requests went late: {_ms(late_ns)} at p99 against a TTFT of {_ms(ttft_ns)} at p50; {cause}"
    remedy = "lower the rate, or run latprof on a machine (or cores) of its own; lateness is counted in TTFT, as layer client.lateness"
    return Doubt("lateness", "fatal" if late_ns > 0.10 * ttft_ns else "warning", text, remedy)


def connection_wait(facts: Facts) -> Doubt | None:
    """The pool must not be a queue."""
    wait_ns = facts.connection_wait_p99_ns
    if not wait_ns > max(5 * NS_PER_MS, 0.02 * facts.ttft_p50_ns):
        return None
    text = f"requests waited {_ms(wait_ns)} at p99 for a connection or their own building; that wait is in TTFT, as layer client.build"
    level: Level = "fatal" if wait_ns > 0.5 * facts.ttft_p50_ns else "warning"
    return Doubt("connection_wait", level, text, "raise target.max_connections, or lower the rate")


def unknown_spans(facts: Facts) -> Doubt | None:
    """Spans that no source understands explain nothing."""
    if not facts.spans or facts.hops or not facts.requests_with_layers:
        return None
    services = f" from {', '.join(facts.services)}" if facts.services else ""
    text = f"{facts.spans} spans came in{services}, and no source understands them: everything behind the address is one row"
    return Doubt("unknown_spans", "warning", text, "docs/layers.md lists the stacks whose spans become layers")


def loop_lag(facts: Facts) -> Doubt | None:
    """A loop that lags sends late and reads late. With stamps of the kernel what it read is still dated right; its own stamps are not."""
    lag_ns, ttft_ns = facts.loop_lag_p99_ns, facts.ttft_p50_ns
    if not lag_ns > max(5 * NS_PER_MS, 0.02 * ttft_ns):
        return None
    by_kernel = facts.stamps == "kernel"
    effect = "requests went late by as much, and chunks were read together" if by_kernel else "stamps may be late by as much"
    text = f"the client's event loop lagged by {_ms(lag_ns)} at p99; {effect}"
    distorts = lag_ns > 0.25 * ttft_ns or (facts.stamps == "user" and lag_ns > facts.itl_p50_ns)
    remedy = "lower the rate, add a worker (--workers), or give latprof cores of its own"
    return Doubt("loop_lag", "fatal" if distorts else "warning", text, remedy)


def starved(facts: Facts) -> Doubt | None:
    """A generator that waits for a core measures that wait."""
    if not (facts.starved_share > 0.2 and facts.lateness_p99_ns > NS_PER_MS):
        return None
    text = (
        f"other processes had the generator's cores: a worker was ready to run for {_percent(facts.starved_share)} of the time and had to wait,"
        f" and requests went {_ms(facts.lateness_p99_ns)} late at p99"
    )
    level: Level = "fatal" if facts.starved_share + max(0.0, facts.cpu_share) > 0.9 else "warning"
    return Doubt("starved", level, text, "run latprof on a machine (or cores) of its own; latprof doctor shows what this one can do")


def stolen(facts: Facts) -> Doubt | None:
    """A virtual machine that has to wait for its processors is late with everything; by how much, lateness and lag say."""
    if not facts.stolen_share > 0.05:
        return None
    text = (
        f"this virtual machine was refused {_percent(facts.stolen_share)} of the processor time it asked for (steal): its host gave it to others,"
        " and whatever ran here was late for it now and then"
    )
    remedy = (
        "run it again, or on a machine with processors of its own; where there is none, compare in turns (latprof compare --interleave)"
    )
    return Doubt("stolen", "warning", text, remedy)


def worker_died(facts: Facts) -> Doubt | None:
    """Its share of the load was not sent."""
    if not facts.worker_deaths:
        return None
    text = f"a worker process died, and the load ended with it: {'; '.join(facts.worker_deaths)}"
    return Doubt("worker_died", "fatal", text, "look at worker.w*.log in the run folder and the kernel's log (memory?), and run it again")


def intervals(facts: Facts) -> Doubt | None:
    """Chunks that were read together have one stamp between them."""
    if not facts.interval_share > 0.05:
        return None
    text = f"{_percent(facts.interval_share)} of the chunks came several to a read: when each of them arrived is only known to an interval"
    return Doubt("intervals", "note", text, "read ITL with care; it is the stack that sends in lumps, unless the event loop lags as well")


def stamped_by_user(facts: Facts) -> Doubt | None:
    """Without the kernel's stamps a late loop dates what it reads late."""
    if facts.stamps != "user":
        return None
    text = "arrivals are stamped when this process reads them, not by the kernel: late by the event loop's lag"
    return Doubt("user_stamps", "note", text, "none needed at low load; on Linux over TCP the kernel stamps")


def clock_step(facts: Facts) -> Doubt | None:
    """Spans of other hosts are placed by the wall clock, and the kernel stamps by it."""
    if not facts.clock_steps:
        return None
    text = (
        f"this machine's wall clock jumped {facts.clock_steps} time{'s' if facts.clock_steps > 1 else ''} by more than 1 ms during the run;"
        " around each jump arrivals may be dated wrong by up to as much"
    )
    return Doubt("clock_step", "warning", text, "let the clock be slewed, not stepped (chrony without makestep), and run it again")


def generator_cpu(facts: Facts) -> Doubt | None:
    """A generator near one core queues its own events."""
    if not facts.cpu_share > 0.80:
        return None
    text = f"a worker used {_percent(facts.cpu_share)} of a core; above 80 % it measures its own queue"
    return Doubt("generator_cpu", "fatal" if facts.cpu_share > 0.90 else "warning", text, "add a worker (--workers), or lower the rate")


def cap_held(facts: Facts) -> Doubt | None:
    """An open loop with a cap that binds is no longer open."""
    if not facts.cap_wait_share > 0.01:
        return None
    text = f"max_concurrency held {_percent(facts.cap_wait_share)} of the requests back; that wait is in TTFT, as layer client.cap_wait"
    return Doubt("cap_held", "note", text, "raise load.max_concurrency to measure the rate that was asked for")


def offered_load(facts: Facts) -> Doubt | None:
    """What was sent must be what was planned."""
    off = abs(facts.offered_per_s / facts.asked_per_s - 1) if facts.asked_per_s else UNKNOWN
    if not off > 0.005 or facts.sent < _FEW_REQUESTS or facts.interrupted or facts.partial:
        return None
    # A short burst is longer or shorter by the lateness of two requests, and that is told apart.
    if facts.offered_per_s and (facts.sent - 1) * abs(1 / facts.offered_per_s - 1 / facts.asked_per_s) < _SHIFTED_S:
        return None
    text = f"the load was {facts.offered_per_s:.4g}/s where the schedule has {facts.asked_per_s:.4g}/s ({_percent(off)} off)"
    remedy = "lower the rate, raise load.max_concurrency if it is set, or give the generator more CPU"
    return Doubt("offered_load", "fatal" if off > 0.05 else "warning", text, remedy)


def offered_gaps(facts: Facts) -> Doubt | None:
    """The right number of requests in lumps is another load: it queues differently."""
    off = abs(facts.offered_cv - facts.asked_cv)
    # Of a handful of gaps a single late one is a large share.
    if not off > 0.2 or facts.sent < _ENOUGH_GAPS or facts.interrupted or facts.partial:
        return None
    text = f"the gaps between requests vary by {facts.offered_cv:.2f} of their mean where the schedule has {facts.asked_cv:.2f}"
    remedy = "lower the rate, raise load.max_concurrency if it is set, or give the generator a core of its own"
    return Doubt("offered_gaps", "fatal" if off > 0.5 else "warning", text, remedy)


def small_sample(facts: Facts) -> Doubt | None:
    """A percentile needs ten independent requests beyond it."""
    if not facts.refused:
        return None
    worth = facts.requests_with_layers / facts.p99_inflation
    told = f" (in the tail worth about {worth:.0f} independent ones)" if facts.p99_inflation > 1 else ""
    upper = [label for label in facts.refused if label != "p50"]
    instead = "the mean of the slowest 5 % is shown instead"
    if len(upper) < len(facts.refused):
        instead = "the mean is shown instead of p50" + (f", the mean of the slowest 5 % instead of {_and(upper)}" if upper else "")
    text = f"{facts.requests_with_layers} requests{told} are too few for {_and(facts.refused)}; {instead}"
    return Doubt("small_sample", "warning", text, "run longer (p99 needs 1 000 independent requests), or at a lower rate")


def unstable(facts: Facts) -> Doubt | None:
    """What was foreseen by service times alone. Where TTFT grew as well its percentiles are the length of the run, whatever else they are."""
    if not facts.overloads:
        return None
    worst = max(facts.overloads, key=lambda one: one.utilisation)
    grew = _change(facts) > 0
    effect = "; TTFT grew with it, so its percentiles say how long the run was" if grew else ", and TTFT with it"
    remedy = f"{', '.join(worst.remedies[:-1])}, or {worst.remedies[-1]}"
    return Doubt("unstable", "fatal" if grew else "warning", f"unstable load: {worst.text}{effect}", remedy)


def drifted(facts: Facts) -> Doubt | None:
    """No steady state: the percentiles depend on when the run stopped."""
    change = _change(facts)
    if not change:
        return None
    if change > 0:
        cause, remedy = "a queue that grows", "lower the rate, or run longer"
    else:
        cause, remedy = "a cold start", "lengthen load.warmup, or run longer"
    halves = f"from {_ms(facts.first_half_p50_ns)} in the first half to {_ms(facts.second_half_p50_ns)} in the second"
    return Doubt("drift", "warning", f"no steady state: TTFT p50 went {halves}; likely {cause}", remedy)


def _change(facts: Facts) -> float:
    """By which share TTFT went up (or down, below 0) from the first half to the second; 0 where chance explains it, or it is little."""
    change = facts.second_half_p50_ns / facts.first_half_p50_ns - 1 if facts.first_half_p50_ns else UNKNOWN
    return change if abs(facts.halves_apart) > 3 and abs(change) > 0.05 else 0.0


def tasks_cut(facts: Facts) -> Doubt | None:
    """Of tasks that time ends, the short ones come to their end: the longer one takes, the likelier it is left out."""
    every = facts.tasks + facts.tasks_cut
    share = facts.tasks_cut / every if every else 0.0
    if share <= 0.05 or facts.interrupted or facts.partial:
        return None
    text = (
        f"the end of the load cut {facts.tasks_cut} of {every} tasks short ({_percent(share)}), the longer ones rather than the others: figures of"
        " the task are of those that came to their end, and too short"
    )
    remedy = "let a number of sessions end the load (load.num_requests), or make it many times as long as a task"
    return Doubt("tasks_cut", "warning", text, remedy)


def undelayed(facts: Facts) -> Doubt | None:
    """A delay that never reached a request says nothing of it."""
    every = facts.delayed + facts.undelayed
    share = facts.undelayed / every if every else 0.0
    if share <= 0.01:
        return None
    what = "there is no slope" if not facts.delayed else "slopes are of the others"
    text = f"{facts.undelayed} of {every} requests ({_percent(share)}) did not pass the injecting hop as requests of this run: {what}"
    remedy = "let the gateway have no upstream but the hop (inject.listen), hand the header traceparent on, and answer nothing from a cache"
    return Doubt("undelayed", "warning" if facts.delayed else "fatal", text, remedy)


def partial(facts: Facts) -> Doubt | None:
    """The folder of a killed run."""
    if not facts.partial:
        return None
    return Doubt("partial", "warning", f"this run is partial: {facts.partial_reason or 'it did not end'}", "run it again for a full one")


def interrupted(facts: Facts) -> Doubt | None:
    """Ctrl-C."""
    if not facts.interrupted:
        return None
    return Doubt("interrupted", "warning", "the run was interrupted before its load was over", "let it end for a full result")


def stream_options(facts: Facts) -> Doubt | None:
    """The server's choice, said once."""
    if not facts.stream_options_dropped:
        return None
    return Doubt(
        "stream_options",
        "note",
        "the server refuses stream_options; they were left out",
        "none needed; usage may be missing from the answers",
    )


def token_counts(facts: Facts) -> Doubt | None:
    """A chunk is not a token."""
    if not facts.tokens_not_from_usage or not facts.ok:
        return None
    text = f"output tokens of {facts.tokens_not_from_usage} of {facts.ok} answers are not from usage but counted by chunks or a tokenizer"
    return Doubt(
        "token_counts", "warning", text, "read TPOT and tokens/s with care, or let the server send usage (stream_options.include_usage)"
    )


def reasoning(facts: Facts) -> Doubt | None:
    """Tokens that were thought, counted, and never seen: before the first chunk, as a rule."""
    if not facts.reasoning_unstreamed:
        return None
    text = (
        f"usage counts reasoning in {facts.reasoning_unstreamed} of {facts.ok} answers that none of their chunks bore: tokens per chunk, TPOT and"
        " what-ifs take the output tokens without it"
    )
    remedy = "none needed; the time it took is before the first token that came, and tokens/s counts it"
    return Doubt("reasoning", "note", text, remedy)


def port_taken(facts: Facts) -> Doubt | None:
    """The run went on without these spans."""
    if not facts.ports_taken:
        return None
    text = f"could not listen for spans: {'; '.join(facts.ports_taken)}"
    return Doubt(
        "otlp_port", "warning", text, "stop what holds the port, or choose others with --otlp-grpc-port and --otlp-http-port (0: any free)"
    )


def span_coverage(facts: Facts) -> Doubt | None:
    """Layers of requests without spans are one block."""
    if not facts.spans:
        if not facts.ok:
            return None
        text = "no spans came in: everything behind the address is one layer"
        remedy = (
            "let the stack export OTLP to this machine (OTEL_EXPORTER_OTLP_ENDPOINT=http://HOST:4318) and honour the traceparent header"
        )
        return Doubt("no_spans", "note", text, remedy)
    if not facts.span_coverage < 0.95:
        return None
    text = f"only {_percent(facts.span_coverage)} of the requests have spans; the others count as one block"
    return Doubt(
        "span_coverage", "warning", text, "set the sampler of every hop to follow its parent (parentbased_always_on), or raise spans.grace"
    )


def spans_lost(facts: Facts) -> Doubt | None:
    """Spans the receiver had to turn away or could not keep."""
    if facts.span_write_error:
        return Doubt("spans_lost", "warning", f"spans could not be written: {facts.span_write_error}", "free the disk and run again")
    turned_away = sum(facts.rejected.values())
    if not turned_away:
        return None
    text = f"{turned_away} span exports were turned away ({_listed(facts.rejected)})"
    return Doubt("spans_lost", "warning", text, "see that the hops send OTLP in batches below 20 MiB")


def spans_missing(facts: Facts) -> Doubt | None:
    """A hop that tells of most requests but not of all."""
    missing = {service: number for service, number in facts.missing_by_service.items() if number}
    if not missing or not facts.spans:
        return None
    level: Level = "warning" if max(missing.values()) > 0.05 * facts.ok else "note"
    text = f"when the wait was over, requests without spans of a hop that serves: {_listed(missing)}"
    return Doubt("spans_missing", level, text, "raise spans.grace above the hops' batch delay (5 s by default), or look for sampling")


def spans_of_others(facts: Facts) -> Doubt | None:
    """Someone else exports to this receiver, or a hop starts traces of its own."""
    if not facts.other_spans:
        return None
    text = f"{facts.other_spans} spans of other traces came in that are nobody's here"
    return Doubt("spans_of_others", "note", text, "if a hop is missing below, see that it continues the incoming traceparent")


def joined_by_answer(facts: Facts) -> Doubt | None:
    """Evidence by another way than the trace: as good as the ids are."""
    if not facts.joined_by_answer:
        return None
    text = (
        f"the spans of {facts.joined_by_answer} of {facts.ok} requests came under traces of the server's own and were found by the id of the"
        " answer (source span~id); their clocks are held to the same bounds as all others"
    )
    return Doubt(
        "joined_by_answer", "note", text, "none needed; over a WebSocket target.ws_traceparent makes every turn a trace of its own"
    )


def join_refused(facts: Facts) -> Doubt | None:
    """Ids that do not say whose the spans are, or say what cannot be."""
    refused = sum(facts.join_refused.values())
    if not refused:
        return None
    level: Level = "warning" if refused > 0.05 * facts.ok else "note"
    text = f"spans tell of the answers to {refused} more requests and were not joined to them: {_listed(facts.join_refused)}"
    return Doubt("join_refused", level, text, "see that every answer has an id of its own and that the hops tell the one the client reads")


def residual(facts: Facts) -> Doubt | None:
    """Time inside hops that no layer claims."""
    share = facts.unattributed_share_p50
    if not share > 0.05:
        return None
    where = _and(facts.unattributed)
    if share > 0.25:
        text = f"the stack tells too little: {_percent(share)} of TTFT at p50 is inside {where} and no layer claims it"
    else:
        text = f"{_percent(share)} of TTFT at p50 is inside {where} and no layer claims it"
    return Doubt("residual", "warning", text, "add spans inside these hops, or read the other layers as lower bounds")


def clock_skew(facts: Facts) -> Doubt | None:
    """Clocks of several hosts were brought together by what causality allows."""
    if facts.clocks_inconsistent:
        text = f"no single offset fits the clock of {_and(facts.clocks_inconsistent)}: it stepped or drifts, or its stamps lie"
        return Doubt("clock_skew", "warning", text, "let NTP or PTP hold these clocks; times between these hops are not to be trusted")
    if not facts.clocks_corrected:
        return None
    offsets = ", ".join(f"{clock} {ms(offset_ns):+.2f} ms" for clock, offset_ns in facts.clocks_corrected.items())
    return Doubt(
        "clock_skew", "note", f"clocks differ and were corrected: {offsets}", "none needed; durations inside a hop are not touched"
    )


def clock_errors(facts: Facts) -> Doubt | None:
    """Stamps that do not say when the first token passed tie a clock to the client's by no more than the whole answer."""
    least_ns = max(NS_PER_MS, 0.05 * facts.ttft_p50_ns)
    loose = {clock: (low, high) for clock, (low, high) in facts.clock_errors.items() if high - low > least_ns}
    if not loose:
        return None
    told = ", ".join(f"{clock} by {ms(low_ns):+.2f} to {ms(high_ns):+.2f} ms" for clock, (low_ns, high_ns) in loose.items())
    text = f"clocks may be off from where they were put: {told}; by so much net.request may be too long, and what lies behind it too short"
    return Doubt("clock_errors", "note", text, "let NTP or PTP hold these clocks; the sum of all layers is exact all the same")


def conflicts(facts: Facts) -> Doubt | None:
    """Two kinds of evidence that disagree; the better one was used."""
    if not facts.conflicts or not facts.requests_with_layers:
        return None
    worst = max(facts.conflicts.values()) / facts.requests_with_layers
    text = f"sources disagree about {_listed(facts.conflicts)} (requests); the more direct one was used"
    return Doubt("conflicts", "warning" if worst > 0.05 else "note", text, "compare the two in the run folder before you act on that layer")


def buffering(facts: Facts) -> Doubt | None:
    """A proxy that holds a stream moves TTFT by the whole answer."""
    found = facts.buffering
    if found is None or not found.share >= 0.2:
        return None
    kept = f" for {_ms(found.held_ns)}" if found.held_ns > 0 else ""
    text = f"{found.hop} holds streams{kept} and lets them go at once, in {_percent(found.share)} of the answers long enough to tell"
    remedy = (
        "switch response buffering off there: HAProxy `option http-no-delay`, nginx `proxy_buffering off`, no compression of event streams"
    )
    return Doubt("buffering", "warning", text, remedy)


def stub_bound(facts: Facts) -> Doubt | None:
    """The stack in a box could not hold what it was told to play."""
    if facts.stages_died:
        return Doubt("stub_bound", "fatal", f"the stub did not last: {facts.stages_died}", "run it again; report it if it stays")
    bound = [
        f"{stage.stage} ({_ms(stage.timer_error_p99_ns)} off at p99, {_percent(stage.cpu_share)} of a core)"
        for stage in facts.stages
        if stage.timer_error_p99_ns > 0.05 * facts.ttft_p50_ns or stage.cpu_share > 0.80
    ]
    if not bound:
        return None
    text = f"the stub, not what it plays, was the limit: {_and(bound)}; its planned times were missed by more than 5 % of TTFT, or its CPU was full"
    return Doubt("stub_bound", "fatal", text, "lower the rate, ask for shorter answers, or give it more cores")


def laws_broken(facts: Facts) -> Doubt | None:
    """Little's law and the utilisation law are identities: a simulation that breaks them is wrong."""
    broken = [law for law in facts.laws if not law.holds]
    if not broken:
        return None
    text = f"the operational laws do not hold at {_and([law.layer for law in broken])}: what its requests say and its own integrals disagree by more than 1 %"
    return Doubt("laws", "fatal", text, "do not use this run; please report it with its run folder, it is a fault of the simulator")


def assumptions(facts: Facts) -> Doubt | None:
    """What stands for something that cannot be played."""
    if not facts.assumed:
        return None
    return Doubt("assumed", "note", "; ".join(facts.assumed), "give these layers service times of your own, or measure them live")


DOUBTS: tuple[Callable[[Facts], Doubt | None], ...] = (
    no_success,
    unstable,
    worker_died,
    failures,
    not_sent,
    stale,
    stub_bound,
    lateness,
    connection_wait,
    generator_cpu,
    starved,
    stolen,
    offered_load,
    offered_gaps,
    loop_lag,
    clock_step,
    partial,
    interrupted,
    small_sample,
    drifted,
    tasks_cut,
    buffering,
    undelayed,
    residual,
    unknown_spans,
    span_coverage,
    port_taken,
    spans_lost,
    clock_skew,
    clock_errors,
    conflicts,
    token_counts,
    reasoning,
    cap_held,
    intervals,
    stamped_by_user,
    spans_missing,
    spans_of_others,
    join_refused,
    joined_by_answer,
    stream_options,
)

OF_SIMULATIONS: tuple[Callable[[Facts], Doubt | None], ...] = (
    no_success,
    laws_broken,
    small_sample,
    drifted,
    tasks_cut,
    assumptions,
    cap_held,
)
"""Nothing was generated, stamped or received there: what can be wrong is the simulation itself, and what it was asked."""

_RANK: Mapping[Level, int] = {"fatal": 0, "warning": 1, "note": 2}


def doubts(facts: Facts) -> tuple[Doubt, ...]:
    """Every doubt these facts raise, the gravest first."""
    return tuple(sorted(_raised(facts), key=lambda doubt: _RANK[doubt.level]))


def _raised(facts: Facts) -> Iterator[Doubt]:
    for doubt in OF_SIMULATIONS if facts.is_simulated else DOUBTS:
        raised = doubt(facts)
        if raised is not None:
            yield raised


def _ms(value_ns: float) -> str:
    value = ms(value_ns)
    return "unknown" if math.isnan(value) else f"{value:.2f} ms" if value < 10 else f"{value:.0f} ms"


def _percent(share: float) -> str:
    return "unknown" if math.isnan(share) else f"{100 * share:.1f} %" if share < 0.1 else f"{100 * share:.0f} %"


def _listed(numbers: Mapping[str, int]) -> str:
    return ", ".join(f"{name} {number}" for name, number in numbers.items())


def _said(facts: Facts) -> str:
    return f"; the first: {facts.error_text}" if facts.error_text else ""


def _and(names: tuple[str, ...] | list[str]) -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"
