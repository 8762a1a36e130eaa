"""Layers tile the window: exactly, without negatives, whatever the evidence looks like."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from latprof.layers.evidence import Evidence, Held, Hop, Leg, Piece
from latprof.layers.hops import Order
from latprof.layers.partition import Item, Partition, critical_path, partition
from latprof.layers.tree import CLIENT, HopNode, LegNode, nest
from latprof.units import MISSING_NS

START, SENT, FIRST = 1_000_000, 1_000_200, 1_100_000


def client() -> HopNode:
    pieces = [Piece(CLIENT, CLIENT, "client.lateness", START, START + 100, 0, 1, "client")]
    leg = Leg(CLIENT, CLIENT, SENT, FIRST, FIRST)
    return HopNode(Hop(CLIENT, CLIENT, START, FIRST, FIRST), pieces, [LegNode(leg)])


def tile(evidence: Evidence, order: Order | None = None) -> Partition:
    order = order or Order()
    root = client()
    held = nest(root, evidence, order, slack_ns=1_000)
    return partition(root, held, order)


def by_layer(done: Partition) -> dict[str, int]:
    sums: dict[str, int] = {}
    for segment in done.segments:
        sums[segment.layer] = sums.get(segment.layer, 0) + segment.end_ns - segment.start_ns
    return sums


def assert_tiles(done: Partition) -> None:
    cursor = START
    for segment in done.segments:
        assert segment.start_ns == cursor
        assert segment.end_ns > segment.start_ns
        cursor = segment.end_ns
    assert cursor == FIRST


def gateway(start: int, end: int, first: int = MISSING_NS, **extra: str) -> Hop:
    return Hop("gateway", "g", start, end, first, **extra)


def test_without_evidence_the_wire_is_one_merged_layer() -> None:
    done = tile(Evidence())
    assert_tiles(done)
    assert by_layer(done) == {"client.lateness": 100, "unattributed@client": 100, "net+server": FIRST - SENT}


def test_a_chain_of_hops_is_cut_at_every_boundary() -> None:
    evidence = Evidence(
        hops=(
            gateway(1_010_000, 1_500_000, 1_095_000, span_id="g"),
            Hop("router", "r", 1_025_000, 1_500_000, 1_085_000, span_id="r", parent_id="gl"),
        ),
        legs=(Leg("gateway", "g", 1_020_000, 1_500_000, 1_090_000, "gl"),),
        pieces=(
            Piece("gateway", "g", "gateway.auth", 1_010_000, 1_018_000, 3_000),
            Piece("gateway", "g", "proxy.hold", 1_090_000, 1_095_000, 0),
            Piece("router", "r", "router", 1_025_000, 1_085_000, 0),
        ),
    )
    done = tile(evidence)
    assert_tiles(done)
    assert by_layer(done) == {
        "client.lateness": 100,
        "unattributed@client": 100,
        "net.request": (1_010_000 - SENT) + 5_000,
        "gateway.auth": 8_000,
        "unattributed@gateway": 2_000,
        "router": 60_000,
        "net.response": 5_000 + 5_000,
        "proxy.hold": 5_000,
    }
    parts = {(s.layer, s.part): s.end_ns - s.start_ns for s in done.segments}
    assert parts["gateway.auth", "wait"] == 3_000
    assert parts["gateway.auth", "service"] == 5_000


def test_spans_are_clipped_to_the_first_token() -> None:
    done = tile(Evidence(hops=(gateway(1_050_000, 9_000_000),)))
    assert_tiles(done)
    assert by_layer(done)["unattributed@gateway"] == FIRST - 1_050_000


def test_a_sibling_link_still_nests_by_hop_order() -> None:
    # The gateway passed the incoming context on: the engine's span names the client as its parent.
    evidence = Evidence(
        hops=(
            gateway(1_010_000, 1_500_000, span_id="g", parent_id="client"),
            Hop("vllm", "v", 1_030_000, 1_400_000, 1_080_000, "engine.api", "v", "client"),
        ),
        legs=(Leg("gateway", "g", 1_020_000, 1_500_000, span_id="gl"),),
    )
    done = tile(evidence)
    assert_tiles(done)
    layers = by_layer(done)
    assert layers["engine.api"] == 50_000
    assert layers["unattributed@gateway"] == 10_000
    # The leg does not tell when the first token came in: the gateway's hold and the way back cannot be told apart.
    assert layers["proxy.hold+net.response"] == 20_000


def test_pools_of_one_rank_stay_beside_each_other() -> None:
    evidence = Evidence(
        hops=(
            Hop("router", "r", 1_010_000, 1_500_000, 1_098_000, span_id="r"),
            Hop("prefill", "p", 1_021_000, 1_060_000, span_id="p", parent_id="lp"),
            Hop("decode", "d", 1_063_000, 1_500_000, 1_090_000, span_id="d", parent_id="ld"),
        ),
        legs=(
            Leg("router", "r", 1_020_000, 1_061_000, span_id="lp"),
            Leg("router", "r", 1_062_000, 1_500_000, 1_092_000, "ld"),
        ),
        pieces=(
            Piece("prefill", "p", "prefill", 1_021_000, 1_060_000, 0),
            Piece("decode", "d", "decode.first", 1_063_000, 1_090_000, 7_000),
        ),
    )
    layers = by_layer(tile(evidence))
    assert layers["prefill"] == 39_000
    assert layers["decode.first"] == 27_000
    assert layers["unattributed@router"] == 10_000 + 1_000 + 6_000


def mesh(*more: Hop, parent: str = "e1l") -> dict[str, int]:
    """A proxy in front of a gateway, the same proxy beside it, and an engine; the gateway passes the context on that it got."""
    evidence = Evidence(
        hops=(
            Hop("envoy", "e1", 1_001_200, 1_150_000, owner="lb", span_id="e1", parent_id="c"),
            Hop("litellm", "l", 1_003_200, 1_149_000, span_id="l", parent_id="e1l"),
            Hop("envoy", "e2", 1_020_200, 1_145_000, owner="lb", span_id="e2", parent_id=parent),
            Hop("llamacpp", "p", 1_022_200, 1_140_000, 1_090_200, "engine.api", "p", "e2l"),
            *more,
        ),
        legs=(
            Leg("envoy", "e1", 1_002_200, 1_149_000, span_id="e1l"),
            Leg("litellm", "l", 1_019_200, 1_146_000, span_id="ll"),
            Leg("envoy", "e2", 1_021_200, 1_144_000, span_id="e2l"),
        ),
        pieces=(Piece("llamacpp", "p", "prefill", 1_030_200, 1_090_200, level=0),),
    )
    done = tile(evidence)
    assert_tiles(done)
    return by_layer(done)


def test_a_proxy_that_is_passed_again_lies_where_its_times_say() -> None:
    layers = mesh()
    assert layers["prefill"] == 60_000
    assert (layers["lb"], layers["engine.api"], layers["net.request"]) == (2_000, 8_000, 4_000)
    assert mesh(parent="ll") == layers  # and where its parent does
    assert "net+server" not in layers


def test_what_begins_after_an_inner_view_is_over_is_the_outer_ones() -> None:
    evidence = Evidence(
        hops=(
            Hop("envoy", "e1", 1_001_200, 1_150_000, owner="lb", span_id="e1", parent_id="c"),
            Hop("envoy", "e2", 1_020_200, 1_038_200, owner="lb", span_id="e2", parent_id="try1"),
            Hop("llamacpp", "p", 1_062_200, 1_140_000, 1_090_200, "engine.api", "p", "try2"),
        ),
        legs=(
            Leg("envoy", "e1", 1_002_200, 1_040_200, span_id="try1"),
            Leg("envoy", "e1", 1_060_200, 1_149_000, span_id="try2"),
            Leg("envoy", "e2", 1_021_200, 1_037_200, span_id="e2l"),
        ),
    )
    done = tile(evidence)
    assert_tiles(done)
    layers = by_layer(done)
    assert layers["lb"] == 1_000 + 2_000 + 20_000  # its own, the inner one's, and the wait before it asked again
    assert layers["net.request"] == 1_000 + 18_000 + 2_000


@pytest.mark.parametrize("parent", ["ll", "ll2"])
def test_two_views_that_one_caller_asked_side_by_side_do_not_nest(parent: str) -> None:
    # The slower one was called first, around the one that answered.
    evidence = Evidence(
        hops=(
            Hop("litellm", "l", 1_003_200, 1_149_000, span_id="l"),
            Hop("envoy", "e1", 1_020_200, 1_148_000, owner="lb", span_id="e1", parent_id="ll"),
            Hop("envoy", "e2", 1_030_200, 1_095_000, owner="lb", span_id="e2", parent_id=parent),
        ),
        legs=(
            Leg("litellm", "l", 1_019_200, 1_148_000, span_id="ll"),
            Leg("litellm", "l", 1_029_200, 1_096_000, span_id="ll2"),
            Leg("envoy", "e1", 1_021_200, 1_147_000, span_id="e1l"),
            Leg("envoy", "e2", 1_031_200, 1_094_000, span_id="e2l"),
        ),
    )
    root = client()
    nest(root, evidence, Order(("litellm", "envoy")), slack_ns=1_000)
    ((proxy,),) = (leg.hops for leg in root.legs)
    assert [node.hop.span_id for leg in proxy.legs for node in leg.hops] == ["e1", "e2"]  # beside each other


def test_parallel_work_off_the_path_is_listed_and_not_summed() -> None:
    evidence = Evidence(
        hops=(gateway(1_010_000, 1_500_000, 1_090_000),),
        pieces=(
            Piece("gateway", "g", "gateway.auth", 1_010_000, 1_040_000, 0),
            Piece("gateway", "g", "gateway.safety", 1_010_000, 1_080_000, 0),
        ),
    )
    done = tile(evidence)
    assert_tiles(done)
    assert by_layer(done)["gateway.safety"] == 70_000
    assert "gateway.auth" not in by_layer(done)
    assert done.hidden_ns == {"gateway.auth": 30_000}


def test_work_that_goes_on_after_the_token_takes_no_time_from_what_made_it() -> None:
    # A check that moderates the stream runs beside everything, and on after the first token.
    evidence = Evidence(
        hops=(
            gateway(1_005_000, 1_500_000, 1_099_000, span_id="g"),
            Hop("prefill", "p", 1_006_000, 1_096_000, span_id="p", parent_id="gl"),
        ),
        legs=(Leg("gateway", "g", 1_006_000, 1_500_000, 1_098_000, "gl"),),
        pieces=(
            Piece("gateway", "g", "gateway.safety", 1_005_000, 1_120_000, 0),
            Piece("prefill", "p", "prefill", 1_006_000, 1_096_000, 0),
        ),
    )
    done = tile(evidence)
    assert_tiles(done)
    assert by_layer(done)["prefill"] == 90_000
    assert by_layer(done)["gateway.safety"] == 2_000
    assert done.hidden_ns["gateway.safety"] == 92_000


def test_a_leg_that_did_not_hold_the_token_up_is_listed() -> None:
    evidence = Evidence(
        hops=(gateway(1_010_000, 1_500_000, 1_099_000),),
        legs=(Leg("gateway", "g", 1_012_000, 1_050_000, 1_040_000),),
        pieces=(Piece("gateway", "g", "gateway.safety", 1_010_000, 1_099_000, 0),),
    )
    done = tile(evidence)
    assert by_layer(done)["gateway.safety"] == 89_000
    assert done.hidden_ns == {"net+server": 28_000}


def test_a_length_of_the_way_in_lies_at_the_beginning_of_a_round_trip() -> None:
    done = tile(Evidence(held=(Held("haproxy", "lb", 50_000, "wait", "request"),)))
    assert_tiles(done)
    first = next(segment for segment in done.segments if segment.layer == "lb")
    assert (first.start_ns, first.end_ns) == (SENT, SENT + 50_000)
    assert done.overfull == []


def test_a_length_without_a_place_goes_to_the_end_of_its_gap() -> None:
    evidence = Evidence(
        hops=(Hop("litellm", "l", 1_010_000, 1_500_000),),
        legs=(Leg("litellm", "l", 1_030_000, 1_500_000),),
        held=(Held("llamacpp", "prefill", 20_000, "service", provenance="body"),),
    )
    done = tile(evidence)
    assert_tiles(done)
    assert done.segments[-1].layer == "prefill"
    assert done.segments[-1].start_ns == FIRST - 20_000
    assert by_layer(done)["net+engine"] == FIRST - 1_030_000 - 20_000


def test_a_length_larger_than_its_gap_is_capped_and_reported() -> None:
    done = tile(Evidence(held=(Held("llamacpp", "prefill", 10_000_000, "service", provenance="body"),)))
    assert_tiles(done)
    assert by_layer(done)["prefill"] == FIRST - SENT
    ((held, placed_ns),) = done.overfull
    assert (held.length_ns, placed_ns) == (10_000_000, FIRST - SENT)


def test_a_hop_without_spans_between_two_with_spans_names_the_gap() -> None:
    evidence = Evidence(
        hops=(Hop("envoy", "e", 1_040_000, 1_500_000, owner="lb"),),
        held=(Held("haproxy", "lb", 5_000, "service", "request"),),
    )
    layers = by_layer(tile(evidence))
    assert layers["net.request+lb"] == 1_040_000 - SENT - 5_000
    assert layers["lb"] == 5_000 + FIRST - 1_040_000


# --- whatever comes --------------------------------------------------------------------------------------------------------------------

stamps = st.integers(START - 300_000, FIRST + 300_000)
hop_names = st.sampled_from(["haproxy", "envoy", "litellm", "gateway", "router", "prefill", "decode", "vllm", "mystery"])
ids = st.sampled_from(["", "a", "b", "c", "d"])
layers = st.sampled_from(["gateway.auth", "gateway.safety", "router", "prefill", "engine.queue", "decode.first", "proxy.hold"])
first = st.one_of(st.just(MISSING_NS), stamps)
hops = st.builds(Hop, hop_names, st.just("x"), stamps, stamps, first, st.sampled_from(["", "lb", "engine.api"]), ids, ids)
legs = st.builds(Leg, hop_names, st.just("x"), stamps, stamps, first, ids)
pieces = st.builds(Piece, hop_names, st.just("x"), layers, stamps, stamps, st.integers(0, 500_000), st.integers(1, 3))
held = st.builds(
    Held, hop_names, layers, st.integers(-5, 10**9), st.just("service"), st.sampled_from(["request", "inside", "response"]), st.just(1_000)
)
evidence_of_any_kind = st.builds(
    lambda *told: Evidence(*map(tuple, told)),
    st.lists(hops, max_size=7),
    st.lists(legs, max_size=7),
    st.lists(pieces, max_size=9),
    st.lists(held, max_size=3),
)


@settings(max_examples=600, deadline=None)
@given(evidence_of_any_kind, st.sampled_from([(), ("decode", "prefill"), ("envoy", "haproxy", "vllm")]))
def test_any_evidence_tiles_the_window_exactly(evidence: Evidence, configured: tuple[str, ...]) -> None:
    # Reversed, overflowing, duplicated, zero-length, orphaned and cyclic spans are all in here.
    done = tile(evidence, Order(configured))
    assert_tiles(done)
    assert sum(by_layer(done).values()) == FIRST - START


@settings(max_examples=300, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 100), st.integers(0, 100)), max_size=8))
def test_the_critical_path_covers_whatever_an_item_covers(intervals: list[tuple[int, int]]) -> None:
    path = critical_path([Item(a, b, (a, b)) for a, b in intervals], 0, 100)
    assert path[0][0] == 0
    assert path[-1][1] == 100
    for (_, end, _), (start, _, _) in pairwise(path):
        assert end == start
    for instant in range(100):
        covered = any(a <= instant < b for a, b in intervals)
        owner = next(content for a, b, content in path if a <= instant < b)
        assert (owner is not None) == covered
        assert owner is None or owner[0] <= instant < owner[1]
