"""The stack in a box, live and in virtual time: whether it was what it was told to be."""

from __future__ import annotations

from latprof.analysis.validity.doubts.doubt import Doubt
from latprof.analysis.validity.doubts.facts import Facts
from latprof.analysis.validity.doubts.words import all_of, in_ms, percent


def stub_bound(facts: Facts) -> Doubt | None:
    """The stack in a box could not hold what it was told to play."""
    if facts.stages_died:
        return Doubt("stub_bound", "fatal", f"the stub did not last: {facts.stages_died}", "run it again; report it if it stays")
    bound = [
        f"{stage.stage} ({in_ms(stage.timer_error_p99_ns)} off at p99, {percent(stage.cpu_share)} of a core)"
        for stage in facts.stages
        if stage.timer_error_p99_ns > 0.05 * facts.ttft_p50_ns or stage.cpu_share > 0.80
    ]
    if not bound:
        return None
    text = f"the stub, not what it plays, was the limit: {all_of(bound)}; its planned times were missed by more than 5 % of TTFT, or its CPU was full"
    return Doubt("stub_bound", "fatal", text, "lower the rate, ask for shorter answers, or give it more cores")


def laws_broken(facts: Facts) -> Doubt | None:
    """Little's law and the utilisation law are identities: a simulation that breaks them is wrong."""
    broken = [law for law in facts.laws if not law.holds]
    if not broken:
        return None
    text = f"the operational laws do not hold at {all_of([law.layer for law in broken])}: what its requests say and its own integrals disagree by more than 1 %"
    return Doubt("laws", "fatal", text, "do not use this run; please report it with its run folder, it is a fault of the simulator")


def assumptions(facts: Facts) -> Doubt | None:
    """What stands for something that cannot be played."""
    if not facts.assumed:
        return None
    return Doubt("assumed", "note", "; ".join(facts.assumed), "give these layers service times of your own, or measure them live")
