"""The injecting hop of a run, as its folder tells of it: its spans among those of the stack, and its place among the hops."""

from __future__ import annotations

from latprof.clock import WallAnchor
from latprof.layers.placing import Place, place_of
from latprof.layers.sources.injected import HOPS, name_at_address
from latprof.layers.sources.injected import with_injected as told
from latprof.observations.folder import Run
from latprof.observations.injected import load_injected
from latprof.spans.store import Spans


def with_injected(spans: Spans, observed: Run) -> Spans:
    """The spans of a run with what the hop did to its requests among them; ``spans`` themselves where there was none."""
    injected, inject = load_injected(observed.folder), observed.meta.get("inject")
    if injected is None or inject is None:
        return spans
    hop = name_at_address(inject["before"]) if inject.get("listen") else HOPS[inject["before"]]
    return told(spans, injected, observed.requests, WallAnchor(**observed.meta["anchor"]), hop)


def place_in(observed: Run, spans: Spans) -> Place | None:
    """Where the hop stood among those that ``spans`` (its own among them) tell of; None where the run itself put it there, or there was none."""
    inject = observed.meta.get("inject")
    if inject is None or not inject.get("listen"):
        return None
    configured = tuple(observed.meta["config"]["spans"]["hops"])
    return place_of(name_at_address(inject["before"]), inject["before"], observed.requests, spans, configured)
