"""The injecting hop among the hops of a stack: nested where it stands, its delay a layer, the sum exact."""

from __future__ import annotations

import numpy as np
import pytest

from latprof.client.stamps import Attempt
from latprof.clock import WallAnchor
from latprof.layers.build import build_layers
from latprof.layers.sources.injected import HOPS, with_injected
from latprof.layers.table import Layers
from latprof.observations.columns import Requests
from latprof.observations.injected import Injected
from latprof.spans.span import Span, SpanEvent, SpanKind
from latprof.spans.store import Spans
from latprof.units import NS_PER_MS

MS = NS_PER_MS
TRACE, CLIENT = "ab" * 16, "cd" * 8
ANCHOR = WallAnchor(0, 0, 0)


def us(value: float) -> int:
    return round(value * 1_000)


def span(stage: str, name: str, kind: SpanKind, begun_us: float, ended_us: float, first_us: float | None = None, parent: str = "") -> Span:
    layer: dict[str, str | int | float | bool] = {"latprof.layer": name, "latprof.wait_ns": 0} if kind == SpanKind.INTERNAL else {}
    events = () if first_us is None else (SpanEvent("first_chunk", us(first_us)),)
    resource = {"service.name": f"latprof-stub-{stage}", "host.name": "here"}
    own = f"{abs(hash((stage, name, kind))) & (1 << 63) - 1:016x}"
    return Span(TRACE, own, parent, name, kind, us(begun_us), us(ended_us), layer, events, resource, "latprof.stub")


def stack(prefill: tuple[float, float], decode: tuple[float, float], legs: tuple[tuple[float, float], tuple[float, float]]) -> list[Span]:
    """A router that calls prefill, then decode; both as seen by themselves, and the router's legs to them. Times in us."""
    return [
        span("router", "POST /route", SpanKind.SERVER, 1_000, 60_000, 50_000, CLIENT),
        span("router", "router", SpanKind.INTERNAL, 1_000, 2_000),
        span("router", "call prefill", SpanKind.CLIENT, *legs[0]),
        span("router", "call decode", SpanKind.CLIENT, *legs[1], 50_000),
        span("prefill", "POST /prefill", SpanKind.SERVER, *prefill),
        span("prefill", "prefill", SpanKind.INTERNAL, *prefill),
        span("decode", "POST /decode", SpanKind.SERVER, *decode, 49_000),
        span("decode", "decode.first", SpanKind.INTERNAL, decode[0], 49_000),
    ]


def layers(spans: list[Span], before: str, received_us: float, forwarded_us: float) -> Layers:
    attempt = Attempt(0, 0, 0, 0, "measured", TRACE, CLIENT, 8, 2)
    for name, at_us in (("intended_ns", 0), ("ready_ns", 0), ("start_ns", 0), ("send_ns", 100), ("written_ns", 200)):
        setattr(attempt, name, us(at_us))
    attempt.first_token_ns, attempt.last_token_ns, attempt.end_ns = us(51_000), us(60_000), us(61_000)
    requests = Requests.from_attempts([attempt])
    parent = CLIENT if before == "gateway" else "ef" * 8
    one = (np.array([us(received_us)]), np.array([us(forwarded_us)]))
    texts = (np.array([TRACE], object), np.array([parent], object))
    ended = {"gateway": 60_500, "prefill": 30_050, "decode": 59_400}[before]
    injected = Injected(*texts, np.zeros(1, np.int64), one[1] - one[0], *one, one[1], np.array([us(ended)]))
    return build_layers(requests, with_injected(Spans.of(spans), injected, requests, ANCHOR, HOPS[before]), ANCHOR).ttft


def told(table: Layers) -> dict[str, float]:
    assert table.total_ns.sum() == us(51_000)
    return {name: total / MS for name, total in zip(table.names, table.total_ns[0].tolist(), strict=True) if total}


def test_in_front_of_everything() -> None:
    found = told(layers(stack((12_000, 30_000), (31_000, 59_000), ((2_000, 30_100), (30_100, 59_500))), "gateway", 300, 900))
    assert found["injected"] == 0.6
    assert found["prefill"] == 18
    assert found["decode.first"] == 18
    assert found["net.response"] == pytest.approx(0.1 + 1 + 1)  # of prefill's leg, of decode's, and to the client through the hop
    assert "proxy.hold+net.response" not in found


@pytest.mark.parametrize(("gap_us", "name"), [(100, "decode"), (900, "decode")])
def test_before_prefill_the_call_that_follows_is_not_taken_for_its_own(gap_us: float, name: str) -> None:
    """Decode is called right after the hop before prefill has ended: it is the router's call, however near."""
    legs = ((2_000, 30_100), (30_100, 59_500))
    found = layers(stack((12_000, 30_000), (30_100 + gap_us, 59_000), legs), "prefill", 2_200, 11_800)
    assert told(found)["injected"] == 9.6
    assert told(found)["prefill"] == 18
    assert told(found)["decode.first"] == pytest.approx(49 - 30.1 - gap_us / 1000)
    assert HOPS["prefill"] in found.hops
    assert name in found.hops


def test_before_decode() -> None:
    found = told(layers(stack((12_000, 30_000), (41_000, 59_000), ((2_000, 30_100), (30_100, 59_500))), "decode", 30_500, 40_500))
    assert found["injected"] == 10
    assert found["decode.first"] == 8
    assert found["prefill"] == 18
