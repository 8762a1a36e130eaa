"""What the stack told: spans that came, did not come, were somebody else's, or said nothing."""

from __future__ import annotations

from latprof.analysis.validity.doubts.doubt import Doubt, Level
from latprof.analysis.validity.doubts.facts import Facts
from latprof.analysis.validity.doubts.words import counted, percent


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
    text = f"only {percent(facts.span_coverage)} of the requests have spans; the others count as one block"
    return Doubt(
        "span_coverage", "warning", text, "set the sampler of every hop to follow its parent (parentbased_always_on), or raise spans.grace"
    )


def unknown_spans(facts: Facts) -> Doubt | None:
    """Spans that no source understands explain nothing."""
    if not facts.spans or facts.hops or not facts.requests_with_layers:
        return None
    services = f" from {', '.join(facts.services)}" if facts.services else ""
    text = f"{facts.spans} spans came in{services}, and no source understands them: everything behind the address is one row"
    return Doubt("unknown_spans", "warning", text, "docs/layers.md lists the stacks whose spans become layers")


def port_taken(facts: Facts) -> Doubt | None:
    """The run went on without these spans."""
    if not facts.ports_taken:
        return None
    text = f"could not listen for spans: {'; '.join(facts.ports_taken)}"
    return Doubt(
        "otlp_port", "warning", text, "stop what holds the port, or choose others with --otlp-grpc-port and --otlp-http-port (0: any free)"
    )


def spans_lost(facts: Facts) -> Doubt | None:
    """Spans the receiver had to turn away or could not keep."""
    if facts.span_write_error:
        return Doubt("spans_lost", "warning", f"spans could not be written: {facts.span_write_error}", "free the disk and run again")
    turned_away = sum(facts.rejected.values())
    if not turned_away:
        return None
    text = f"{turned_away} span exports were turned away ({counted(facts.rejected)})"
    return Doubt("spans_lost", "warning", text, "see that the hops send OTLP in batches below 20 MiB")


def spans_missing(facts: Facts) -> Doubt | None:
    """A hop that tells of most requests but not of all."""
    missing = {service: number for service, number in facts.missing_by_service.items() if number}
    if not missing or not facts.spans:
        return None
    level: Level = "warning" if max(missing.values()) > 0.05 * facts.ok else "note"
    text = f"when the wait was over, requests without spans of a hop that serves: {counted(missing)}"
    return Doubt("spans_missing", level, text, "raise spans.grace above the hops' batch delay (5 s by default), or look for sampling")


def spans_of_others(facts: Facts) -> Doubt | None:
    """Someone else exports to this receiver, or a hop starts traces of its own."""
    if not facts.other_spans:
        return None
    text = f"{facts.other_spans} spans of other traces came in that are nobody's here"
    return Doubt("spans_of_others", "note", text, "if a hop is missing below, see that it continues the incoming traceparent")


def join_refused(facts: Facts) -> Doubt | None:
    """Ids that do not say whose the spans are, or say what cannot be."""
    refused = sum(facts.join_refused.values())
    if not refused:
        return None
    level: Level = "warning" if refused > 0.05 * facts.ok else "note"
    text = f"spans tell of the answers to {refused} more requests and were not joined to them: {counted(facts.join_refused)}"
    return Doubt("join_refused", level, text, "see that every answer has an id of its own and that the hops tell the one the client reads")


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
