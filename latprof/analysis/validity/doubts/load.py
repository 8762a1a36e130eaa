"""The load that came must be the load that was asked for."""

from __future__ import annotations

from latprof.analysis.validity.doubts.doubt import Doubt
from latprof.analysis.validity.doubts.facts import UNKNOWN, Facts
from latprof.analysis.validity.doubts.words import percent

_ENOUGH_GAPS = 100
# Between so few requests one that goes 3 ms late makes another rate.
_FEW_REQUESTS = 20
# By so much the first and the last request of any phase may be late: that is told as lateness.
_SHIFTED_S = 0.05


def offered_load(facts: Facts) -> Doubt | None:
    """What was sent must be what was planned."""
    off = abs(facts.offered_per_s / facts.asked_per_s - 1) if facts.asked_per_s else UNKNOWN
    if not off > 0.005 or facts.sent < _FEW_REQUESTS or facts.interrupted or facts.partial:
        return None
    # A short burst is longer or shorter by the lateness of two requests, and that is told apart.
    if facts.offered_per_s and (facts.sent - 1) * abs(1 / facts.offered_per_s - 1 / facts.asked_per_s) < _SHIFTED_S:
        return None
    text = f"the load was {facts.offered_per_s:.4g}/s where the schedule has {facts.asked_per_s:.4g}/s ({percent(off)} off)"
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


def cap_held(facts: Facts) -> Doubt | None:
    """An open loop with a cap that binds is no longer open."""
    if not facts.cap_wait_share > 0.01:
        return None
    text = f"max_concurrency held {percent(facts.cap_wait_share)} of the requests back; that wait is in TTFT, as layer client.cap_wait"
    return Doubt("cap_held", "note", text, "raise load.max_concurrency to measure the rate that was asked for")
