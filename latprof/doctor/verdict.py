"""From what was measured to lines a person can act on. Pure.

Limits: a run at low load is as good as these figures, so they are held against what a TTFT of some 100 ms and gaps of some ms between chunks need.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from latprof.analysis.validity.doubts import Level
from latprof.doctor.host import Limits
from latprof.doctor.measure import Error, Floor
from latprof.units import NS_PER_MS

# A stamp off by more than this shows in a percentile of ITL; by more than the other it spoils one of TTFT.
_STAMP_WARNING_NS, _STAMP_FATAL_NS = NS_PER_MS, 5 * NS_PER_MS
_TIMER_WARNING_NS, _TIMER_FATAL_NS = NS_PER_MS, 10 * NS_PER_MS
# Sockets of a run: target.max_connections, and what else a process holds.
_FILES, _PORTS = 4_096 + 256, 8_192
_REQUESTS_PER_S = 2_000
_SLOW_CLOCKS = {"hpet", "acpi_pm", "jiffies"}


@dataclass(frozen=True, slots=True)
class Finding:
    """One line. ``level`` is empty where all is well; ``remedy`` says what to do where it is not."""

    name: str
    text: str
    level: Level | None = None
    remedy: str = ""


def findings(floor: Floor, limits: Limits) -> tuple[Finding, ...]:
    """Every line, in the order of the report."""
    return (*_instrument(floor), *_speed(floor), *_machine(floor, limits))


def is_fit(found: tuple[Finding, ...]) -> bool:
    """Whether nothing here makes every run untrustworthy."""
    return not any(finding.level == "fatal" for finding in found)


# --- lines --------------------------------------------------------------------------------------------------------------------------------

_OWN_CORES = "stop what else runs here, or give latprof cores (taskset) or a machine of its own"


def _instrument(floor: Floor) -> Iterator[Finding]:
    user = f"in user space {_error(floor.user_stamp)}"
    if floor.kernel_stamp is None:
        stamp = floor.user_stamp
        text = f"taken after reading, {_error(stamp)} off; the kernel does not stamp here"
        yield Finding(
            "stamps", text, _level(stamp.p99_ns, _STAMP_WARNING_NS, _STAMP_FATAL_NS) or "note", f"on Linux it would; {_OWN_CORES}"
        )
    else:
        stamp = floor.kernel_stamp
        text = f"by the kernel, {_error(stamp)} off (send to stamp, {stamp.n} chunks); {user}"
        yield _judged("stamps", text, stamp.p99_ns, _STAMP_WARNING_NS, _STAMP_FATAL_NS)
    bare = f"; a bare timerfd {_error(floor.bare_timer)}" if floor.bare_timer is not None else ""
    yield _judged("timer", f"{_error(floor.timer)} off{bare}", floor.timer.p99_ns, _TIMER_WARNING_NS, _TIMER_FATAL_NS)
    lag_ns = floor.health.loop_lag_p99_ns
    text = f"{_ms(lag_ns)} late at p99 under 32 streams; {100 * floor.interval_share:.2g} % of the chunks came in company"
    yield _judged("event loop", text, lag_ns, 5 * NS_PER_MS, 20 * NS_PER_MS)


def _speed(floor: Floor) -> Iterator[Finding]:
    requests, chunks = floor.requests, floor.chunks
    least = "at least " if min(requests.cpu_share, chunks.cpu_share) < 0.8 else ""
    text = (
        f"one worker does {least}{requests.per_s:,.0f} short requests/s and {chunks.per_s:,.0f} chunks/s; plan with half of that for each"
    )
    slow = requests.per_s < _REQUESTS_PER_S
    yield Finding("speed", text, "warning" if slow else None, f"{_OWN_CORES}; or more workers (--workers)" if slow else "")


def _machine(floor: Floor, limits: Limits) -> Iterator[Finding]:
    yield _cores(floor, limits)
    if limits.load_1m is not None:
        busy = limits.load_1m > 0.5 * limits.cores
        text = f"load average {limits.load_1m:g} on {_number(limits.cores, 'core')} in the last minute"
        yield Finding("load", text, "warning" if busy else None, _OWN_CORES if busy else "")
    if limits.open_files is not None:
        few = limits.open_files < _FILES
        text = f"{limits.open_files:,} open files, {_number(limits.ephemeral_ports, 'ephemeral port')}"
        yield Finding("limits", text, "warning" if few else None, "ulimit -n 65536, or lower target.max_connections" if few else "")
    if limits.ephemeral_ports is not None and limits.ephemeral_ports < _PORTS:
        text = f"{_number(limits.ephemeral_ports, 'ephemeral port')}: a fresh connection per request uses one for a minute"
        yield Finding("ports", text, "warning", "sysctl net.ipv4.ip_local_port_range='15000 64999', or --connection reuse")
    if limits.clock_source in _SLOW_CLOCKS:
        yield Finding(
            "clock", f"the kernel reads time from {limits.clock_source}, a µs or more each", "warning", "boot with clocksource=tsc"
        )
    if limits.governor not in {None, "performance"}:
        text = f"the CPU's clock follows its load (governor {limits.governor}): the first requests after a pause are slower"
        yield Finding("governor", text, "note", "cpupower frequency-set -g performance")
    collected = f"a full collection takes {_ms(floor.gc_full_ns)}; none runs while a phase is driven"
    yield Finding("garbage", collected)


def _cores(floor: Floor, limits: Limits) -> Finding:
    virtual = ", virtual" if limits.is_virtual else ""
    starved = floor.health.starved_share
    waited = f"; ready but without a core {100 * starved:.2g} % of the time" if starved is not None else ""
    quota = f", a quota of {limits.quota_cores:g}" if limits.quota_cores is not None else ""
    text = f"{_number(limits.cores, 'core')}{virtual}{quota}{waited}"
    if starved is not None and starved > 0.2:
        return Finding("cores", text, "warning", _OWN_CORES)
    if limits.cores < 2:
        return Finding("cores", text, "warning", "give it a second core: the span receiver, and a local target, take time from the worker")
    if limits.quota_cores is not None and limits.quota_cores < 2:
        return Finding(
            "cores", text, "warning", "raise the container's CPU limit: a quota stops every process of it for tens of ms at a time"
        )
    return Finding("cores", text)


def _judged(name: str, text: str, value_ns: float, warning_ns: float, fatal_ns: float) -> Finding:
    level = _level(value_ns, warning_ns, fatal_ns)
    return Finding(name, text, level, _OWN_CORES if level else "")


def _level(value_ns: float, warning_ns: float, fatal_ns: float) -> Level | None:
    return "fatal" if value_ns > fatal_ns else "warning" if value_ns > warning_ns else None


def _error(error: Error) -> str:
    return f"{_ms(error.p50_ns)} at p50 and {_ms(error.p99_ns)} at p99"


def _ms(value_ns: float) -> str:
    value = value_ns / NS_PER_MS
    return f"{value:.3f} ms" if value < 1 else f"{value:.1f} ms"


def _number(number: int | None, noun: str) -> str:
    return f"unknown {noun}s" if number is None else f"{number:,} {noun}{'' if number == 1 else 's'}"
