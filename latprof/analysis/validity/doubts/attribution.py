"""Whether the layers are what they seem: time that nobody claims, clocks and sources that disagree, hops that hold or are passed by."""

from __future__ import annotations

from latprof.analysis.validity.doubts.doubt import Doubt
from latprof.analysis.validity.doubts.facts import Facts
from latprof.analysis.validity.doubts.words import all_of, counted, in_ms, percent
from latprof.units import NS_PER_MS, ms


def residual(facts: Facts) -> Doubt | None:
    """Time inside hops that no layer claims."""
    share = facts.unattributed_share_p50
    if not share > 0.05:
        return None
    at = "in the mean" if "p50" in facts.refused else "at p50"
    text = f"{percent(share)} of TTFT {at} is inside {all_of(facts.unattributed)} and no layer claims it"
    if share > 0.25:
        text = f"the stack tells too little: {text}"
    return Doubt("residual", "warning", text, "add spans inside these hops, or read the other layers as lower bounds")


def clock_skew(facts: Facts) -> Doubt | None:
    """Clocks of several hosts were brought together by what causality allows."""
    if facts.clocks_inconsistent:
        text = f"no single offset fits the clock of {all_of(facts.clocks_inconsistent)}: it stepped or drifts, or its stamps lie"
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
    text = f"sources disagree about {counted(facts.conflicts)} (requests); the more direct one was used"
    return Doubt("conflicts", "warning" if worst > 0.05 else "note", text, "compare the two in the run folder before you act on that layer")


def buffering(facts: Facts) -> Doubt | None:
    """A proxy that holds a stream moves TTFT by the whole answer."""
    found = facts.buffering
    if found is None or not found.share >= 0.2:
        return None
    kept = f" for {in_ms(found.held_ns)}" if found.held_ns > 0 else ""
    text = f"{found.hop} holds streams{kept} and lets them go at once, in {percent(found.share)} of the answers long enough to tell"
    remedy = (
        "switch response buffering off there: HAProxy `option http-no-delay`, nginx `proxy_buffering off`, no compression of event streams"
    )
    return Doubt("buffering", "warning", text, remedy)


def undelayed(facts: Facts) -> Doubt | None:
    """A delay that never reached a request says nothing of it."""
    every = facts.delayed + facts.undelayed
    share = facts.undelayed / every if every else 0.0
    if share <= 0.01:
        return None
    what = "there is no slope" if not facts.delayed else "slopes are of the others"
    text = f"{facts.undelayed} of {every} requests ({percent(share)}) did not pass the injecting hop as requests of this run: {what}"
    remedy = "let the gateway have no upstream but the hop (inject.listen), hand the header traceparent on, and answer nothing from a cache"
    return Doubt("undelayed", "warning" if facts.delayed else "fatal", text, remedy)
