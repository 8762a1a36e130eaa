"""The instrument must not be what is measured: what sends the load, its clock and its stamps."""

from __future__ import annotations

from latprof.analysis.validity.doubts.doubt import Doubt, Level
from latprof.analysis.validity.doubts.facts import Facts
from latprof.analysis.validity.doubts.words import in_ms, percent
from latprof.units import NS_PER_MS


def lateness(facts: Facts) -> Doubt | None:
    """The generator must not be what is measured."""
    late_ns, ttft_ns = facts.lateness_p99_ns, facts.ttft_p50_ns
    if not late_ns > max(NS_PER_MS, 0.01 * ttft_ns):
        return None
    busy = facts.loop_lag_p99_ns > 2 * NS_PER_MS or facts.cpu_share > 0.5
    cause = "the generator's machine is busy" if busy else "more came at one instant than can be sent at once"
    text = f"requests went late: {in_ms(late_ns)} at p99 against a TTFT of {in_ms(ttft_ns)} at p50; {cause}"
    remedy = "lower the rate, or run latprof on a machine (or cores) of its own; lateness is counted in TTFT, as layer client.lateness"
    return Doubt("lateness", "fatal" if late_ns > 0.10 * ttft_ns else "warning", text, remedy)


def connection_wait(facts: Facts) -> Doubt | None:
    """The pool must not be a queue."""
    wait_ns = facts.connection_wait_p99_ns
    if not wait_ns > max(5 * NS_PER_MS, 0.02 * facts.ttft_p50_ns):
        return None
    text = f"requests waited {in_ms(wait_ns)} at p99 for a connection or their own building; that wait is in TTFT, as layer client.build"
    level: Level = "fatal" if wait_ns > 0.5 * facts.ttft_p50_ns else "warning"
    return Doubt("connection_wait", level, text, "raise target.max_connections, or lower the rate")


def generator_cpu(facts: Facts) -> Doubt | None:
    """A generator near one core queues its own events."""
    if not facts.cpu_share > 0.80:
        return None
    text = f"a worker used {percent(facts.cpu_share)} of a core; above 80 % it measures its own queue"
    return Doubt("generator_cpu", "fatal" if facts.cpu_share > 0.90 else "warning", text, "add a worker (--workers), or lower the rate")


def starved(facts: Facts) -> Doubt | None:
    """A generator that waits for a core measures that wait."""
    if not (facts.starved_share > 0.2 and facts.lateness_p99_ns > NS_PER_MS):
        return None
    text = (
        f"other processes had the generator's cores: a worker was ready to run for {percent(facts.starved_share)} of the time and had to wait,"
        f" and requests went {in_ms(facts.lateness_p99_ns)} late at p99"
    )
    level: Level = "fatal" if facts.starved_share + max(0.0, facts.cpu_share) > 0.9 else "warning"
    return Doubt("starved", level, text, "run latprof on a machine (or cores) of its own; latprof doctor shows what this one can do")


def stolen(facts: Facts) -> Doubt | None:
    """A virtual machine that has to wait for its processors is late with everything; by how much, lateness and lag say."""
    if not facts.stolen_share > 0.05:
        return None
    text = (
        f"this virtual machine was refused {percent(facts.stolen_share)} of the processor time it asked for (steal): its host gave it to others,"
        " and whatever ran here was late for it now and then"
    )
    remedy = (
        "run it again, or on a machine with processors of its own; where there is none, compare in turns (latprof compare --interleave)"
    )
    return Doubt("stolen", "warning", text, remedy)


def loop_lag(facts: Facts) -> Doubt | None:
    """A loop that lags sends late and reads late. With stamps of the kernel what it read is still dated right; its own stamps are not."""
    lag_ns, ttft_ns = facts.loop_lag_p99_ns, facts.ttft_p50_ns
    if not lag_ns > max(5 * NS_PER_MS, 0.02 * ttft_ns):
        return None
    by_kernel = facts.stamps == "kernel"
    effect = "requests went late by as much, and chunks were read together" if by_kernel else "stamps may be late by as much"
    text = f"the client's event loop lagged by {in_ms(lag_ns)} at p99; {effect}"
    distorts = lag_ns > 0.25 * ttft_ns or (facts.stamps == "user" and lag_ns > facts.itl_p50_ns)
    remedy = "lower the rate, add a worker (--workers), or give latprof cores of its own"
    return Doubt("loop_lag", "fatal" if distorts else "warning", text, remedy)


def clock_step(facts: Facts) -> Doubt | None:
    """Spans of other hosts are placed by the wall clock, and the kernel stamps by it."""
    if not facts.clock_steps:
        return None
    text = (
        f"this machine's wall clock jumped {facts.clock_steps} time{'s' if facts.clock_steps > 1 else ''} by more than 1 ms during the run;"
        " around each jump arrivals may be dated wrong by up to as much"
    )
    return Doubt("clock_step", "warning", text, "let the clock be slewed, not stepped (chrony without makestep), and run it again")


def intervals(facts: Facts) -> Doubt | None:
    """Chunks that were read together have one stamp between them."""
    if not facts.interval_share > 0.05:
        return None
    text = f"{percent(facts.interval_share)} of the chunks came several to a read: when each of them arrived is only known to an interval"
    return Doubt("intervals", "note", text, "read ITL with care; it is the stack that sends in lumps, unless the event loop lags as well")


def stamped_by_user(facts: Facts) -> Doubt | None:
    """Without the kernel's stamps a late loop dates what it reads late."""
    if facts.stamps != "user":
        return None
    text = "arrivals are stamped when this process reads them, not by the kernel: late by the event loop's lag"
    return Doubt("user_stamps", "note", text, "none needed at low load; on Linux over TCP the kernel stamps")
