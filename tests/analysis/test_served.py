"""Services of several targets: each is to tell of the requests to its own."""

from made_requests import attempt, requests

from latprof.analysis.validity.served import missing_by_service
from latprof.spans.span import Span, SpanKind
from latprof.spans.store import Spans

OK = requests(*(attempt(row, target="current" if row < 6 else "canary") for row in range(10)))


def told(service: str, rows: range, kind: SpanKind = SpanKind.SERVER, parent: str = "0" * 15 + "1") -> list[Span]:
    resource = {"service.name": service}
    return [Span(f"{row:032x}", f"{row:015x}{int(kind)}", parent, "s", kind, 0, 1, resource=resource) for row in rows]


def test_a_service_of_one_target_misses_nothing_of_the_other() -> None:
    spans = Spans.of([*told("gateway-a", range(6)), *told("gateway-b", range(6, 10)), *told("edge", range(10))])
    assert missing_by_service(OK, spans, {"gateway-a": 4, "gateway-b": 6, "edge": 0}) == {"gateway-a": 0, "gateway-b": 0, "edge": 0}


def test_what_it_misses_of_its_own_is_told() -> None:
    spans = Spans.of(
        [*told("gateway-a", range(4)), *told("edge", range(8), SpanKind.INTERNAL, ""), *told("edge", range(10), SpanKind.CLIENT)]
    )
    assert missing_by_service(OK, spans, {"gateway-a": 6, "edge": 2}) == {"gateway-a": 2, "edge": 2}


def test_of_one_target_the_receiver_is_believed() -> None:
    assert missing_by_service(requests(attempt(0)), Spans.of([]), {"gateway": 3}) == {"gateway": 3}
    assert missing_by_service(OK, Spans.of([]), {"gateway": 0}) == {"gateway": 0}
