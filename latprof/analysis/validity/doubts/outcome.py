"""What became of the requests: how many succeeded, and whether the run came to its end."""

from __future__ import annotations

from latprof.analysis.validity.doubts.doubt import Doubt, Level
from latprof.analysis.validity.doubts.facts import Facts
from latprof.analysis.validity.doubts.words import counted, percent


def no_success(facts: Facts) -> Doubt | None:
    """Nothing to measure."""
    if facts.ok:
        return None
    if facts.interrupted and not facts.failed:
        return Doubt(
            "no_success", "fatal", "no request was made: the run was ended before its load began", "run it again, and let the load begin"
        )
    what = (
        f"not one of {facts.failed} requests succeeded ({counted(facts.errors)}{_said(facts)})" if facts.failed else "no request was made"
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
    text = f"{facts.failed} of {rows} requests failed ({percent(share)}): {counted(facts.errors)}{_said(facts)}; {left_out}"
    return Doubt("failures", level, text, "lower the rate, or look at the server's log for these errors")


def not_sent(facts: Facts) -> Doubt | None:
    """A session that fails takes its other turns along: what was measured is a lighter load than the one asked for."""
    missing = 0 if facts.planned is None or facts.interrupted or facts.partial else facts.planned - facts.sent
    share = missing / facts.planned if facts.planned else 0.0
    if share <= 0.01 or not facts.failed:
        return None
    text = (
        f"{missing} of {facts.planned} planned requests ({percent(share)}) were not sent, because their session had failed before:"
        f" {counted(facts.errors)}{_said(facts)}"
    )
    return Doubt("not_sent", "fatal" if share > 0.05 else "warning", text, "find out why turns fail; fewer turns are another load")


def stale(facts: Facts) -> Doubt | None:
    """Sent again because a kept connection was dead: part of what the users of such a server would see."""
    share = facts.stale_retries / facts.sent if facts.sent else 0.0
    if not share:
        return None
    text = (
        f"{facts.stale_retries} requests ({percent(share)}) met a kept connection that the server had closed, and were sent again on a new one;"
        " the time that took is in net.upload"
    )
    remedy = "raise the server's keep-alive timeout, or take --connection fresh to measure without kept connections"
    return Doubt("stale_connections", "warning" if share > 0.01 else "note", text, remedy)


def worker_died(facts: Facts) -> Doubt | None:
    """Its share of the load was not sent."""
    if not facts.worker_deaths:
        return None
    text = f"a worker process died, and the load ended with it: {'; '.join(facts.worker_deaths)}"
    return Doubt("worker_died", "fatal", text, "look at worker.w*.log in the run folder and the kernel's log (memory?), and run it again")


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


def _said(facts: Facts) -> str:
    return f"; the first: {facts.error_text}" if facts.error_text else ""
