"""Which faults hit a request, and when a stage stands still. Stalls are part of their layer's service: see ``stages``."""

from __future__ import annotations

from dataclasses import dataclass, field

from latprof.config import Fault, Stage, Stub
from latprof.stub.models.draws import Key, hits
from latprof.stub.models.stages import planted_faults

ANSWER_KINDS = ("status", "truncate", "malformed", "error", "drop", "silent", "buffer")
WARMUP_SESSION_BASE = 1 << 30
"""Sessions numbered from here warm the stack up (the plan's convention): no freeze is timed from them, no timer error recorded."""


def is_warmup(key: Key) -> bool:
    """Whether the request only warms the stack up."""
    return key.session >= WARMUP_SESSION_BASE


def answer_fault(stub: Stub, key: Key) -> Fault | None:
    """What goes wrong with the gateway's answer to this request: the first listed fault that hits it, or None."""
    for purpose, fault in planted_faults(stub, "gateway", *ANSWER_KINDS):
        if hits(key, purpose, fault.share):
            return fault
    return None


@dataclass(slots=True)
class Freezes:
    """The times a stage stands still, counted from its first measured request."""

    faults: tuple[Fault, ...]
    begun: bool = field(default=False, init=False)

    @classmethod
    def of(cls, stub: Stub, stage: Stage) -> Freezes:
        """Those planted in ``stage``."""
        return cls(tuple(fault for _, fault in planted_faults(stub, stage, "freeze")))

    def on_request(self, now_ns: int, key: Key) -> tuple[tuple[int, int], ...]:
        """(when, how long) in ns of every freeze that this request sets off: all at the first measured one, none later."""
        if self.begun or is_warmup(key):
            return ()
        self.begun = True
        return tuple((now_ns + fault.at_ns, fault.for_ns) for fault in self.faults)
