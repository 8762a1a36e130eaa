"""Which requests a service has not told of, where not every service serves every request: several targets, each with a stack of its own."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping

import orjson
import pyarrow.compute as pc

from latprof.observations.columns import Requests
from latprof.spans.span import SpanKind
from latprof.spans.store import Spans


def missing_by_service(ok: Requests, spans: Spans, received: Mapping[str, int]) -> Mapping[str, int]:
    """By service the requests of ``ok`` that it has not told of; ``received`` is what the receiver says of all of them together.

    A service is to tell of the requests to every target of which it has told of any.
    """
    targets = {str(name) for name in ok.target}
    if len(targets) < 2 or not any(received.values()):
        return received
    by_target = {name: set(ok.trace_id[ok.target == name].tolist()) for name in sorted(targets)}
    missing: dict[str, int] = dict.fromkeys(received, 0)
    for service, traces in _served(spans).items():
        served = [mine for mine in by_target.values() if mine & traces]
        missing[service] = sum(len(mine - traces) for mine in served)
    return missing


def _served(spans: Spans) -> Mapping[str, set[str]]:
    """Service -> the traces of which it has sent a SERVER span or a root."""
    table = spans.table.select(["trace_id", "parent_id", "kind", "resource"])
    table = table.filter(pc.or_(pc.equal(table["kind"], int(SpanKind.SERVER)), pc.equal(table["parent_id"], "")))
    found: defaultdict[str, set[str]] = defaultdict(set)
    resources = table["resource"].cast("string")
    for resource in pc.unique(resources).to_pylist():
        service = str(orjson.loads(resource).get("service.name", ""))
        found[service].update(table["trace_id"].filter(pc.equal(resources, resource)).to_pylist())
    return found
