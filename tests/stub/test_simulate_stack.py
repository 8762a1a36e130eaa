"""The simulated stack piece by piece: the way back, sessions, prefix cache, plants, and what is refused."""

from __future__ import annotations

import random
from collections import defaultdict
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from virtual_queues import MEAN_NS, mark_ns, one_turn, play, poisson, stack

from latprof.client.course import Course
from latprof.errors import ConfigError
from latprof.stub.models.decode import DecodePool
from latprof.stub.models.draws import Key
from latprof.stub.models.engine import Engine
from latprof.stub.models.engines import replicas_of
from latprof.stub.models.stages import layer_of
from latprof.stub.simulate import check_faults
from latprof.stub.virtual.back import Piece, held, held_each
from latprof.stub.virtual.call import Call, VirtualPhase, VirtualSession, VirtualTool, VirtualTurn
from latprof.stub.virtual.streams import every
from latprof.workload.sessions import NO_CONTEXT, Session, Tool, Turn

MS = 1_000_000


def stamps(pieces: list[Piece]) -> list[int]:
    return [start + step * i for start, step, count in pieces for i in range(count)]


@st.composite
def streams(draw: st.DrawFn) -> list[Piece]:
    """Pieces in order of time."""
    pieces: list[Piece] = []
    now = draw(st.integers(0, 50))
    for _ in range(draw(st.integers(1, 6))):
        step, count = draw(st.integers(0, 30)), draw(st.integers(1, 9))
        pieces.append((now, step, count))
        now += step * (count - 1) + draw(st.integers(0, 40))
    return pieces


@settings(max_examples=400, deadline=None)
@given(streams(), st.integers(0, 60), st.integers(0, 40))
def test_a_hop_is_a_server_of_chunks(pieces: list[Piece], first_ns: int, hold_ns: int) -> None:
    came = stamps(pieces)
    out = [came[0] + first_ns]
    for at_ns in came[1:]:
        out.append(max(at_ns, out[-1]) + hold_ns)
    assert stamps(held(pieces, first_ns, hold_ns)) == out
    assert stamps(held_each(pieces, lambda nth: first_ns if nth == 0 else hold_ns)) == out


@settings(max_examples=300, deadline=None)
@given(streams(), st.integers(2, 7))
def test_tokens_sent_together_leave_every_so_many(pieces: list[Piece], interval: int) -> None:
    came = stamps(pieces)
    kept = [at for nth, at in enumerate(came, start=1) if nth % interval == 0 or nth == len(came)]
    assert stamps(every(pieces, interval)) == kept


def test_a_slow_hop_limits_a_streams_rate() -> None:
    """0.3 ms a chunk cannot pass more than 3333 tokens a second, however fast they are made."""
    stub = stack(gateway={"per_chunk": "0.3ms"}, decode={"t1": "0.1ms"})
    (call,) = play(stub, VirtualPhase([one_turn(0, 0, output_tokens=1000)])).calls
    assert call.last_token_ns - call.first_token_ns == pytest.approx(999 * 0.3 * MS, rel=1e-6)
    assert call.engine_last_ns - call.engine_first_ns == 999 * 0.1 * MS


def test_random_holds_are_those_of_the_live_relay() -> None:
    """Draws keyed alike: chunk by chunk as `latprof.stub.relay` holds them, the router first."""
    law = {"dist": "exponential", "mean": "2ms"}
    stub = stack(gateway={"per_chunk": law}, router={"per_chunk": law, "route": "0ms"}, decode={"t1": "1ms"})
    (call,) = play(stub, VirtualPhase([one_turn(5, 0, output_tokens=20)])).calls
    at_ns = [call.engine_first_ns + i * MS for i in range(20)]
    for stage in ("router", "gateway"):
        layer = layer_of(stub, stage, "proxy.hold")
        free_ns = 0
        for nth in range(20):
            free_ns = max(at_ns[nth], free_ns) + layer.hold_ns(Key(stub.seed, 5, 0), stage, nth)
            at_ns[nth] = free_ns
    assert call.own is not None
    assert stamps(call.own) == at_ns


# --- decode -------------------------------------------------------------------------------------------------------------------------------


def stepped(stub: Any, arrivals: list[tuple[int, int, int]]) -> dict[int, list[int]]:
    """The token stamps that the live pool would give to (job, when, tokens), iteration by iteration; arrivals before a boundary of their instant."""
    pool: DecodePool[int] = DecodePool(stub.decode)
    tokens: dict[int, list[int]] = defaultdict(list)
    iteration = None
    waiting = sorted(arrivals, key=lambda one: one[1])
    while waiting or iteration is not None:
        if waiting and (iteration is None or waiting[0][1] <= iteration.ends_ns):
            job, at_ns, number = waiting.pop(0)
            iteration = pool.arrive(at_ns, job, number) or iteration
        else:
            assert iteration is not None
            boundary = pool.boundary(iteration.ends_ns)
            for token in boundary.tokens:
                tokens[token.job].append(iteration.ends_ns)
            iteration = boundary.next
    return tokens


def told(played: Any, call: Call) -> list[int]:
    """A call's token stamps at the engine, from the segments of its pool."""
    ends = {first + i: start + step * (i + 1) for first, start, step, count in played.segments[call.pool] for i in range(count)}
    return [call.engine_first_ns, *(ends[i] for i in range(call.joined, call.ended))]


def test_tokens_come_when_the_live_pool_would_make_them() -> None:
    rng = random.Random(4)
    stub = stack(decode={"t1": "7ms", "per_sequence_ns": 450_000, "slots": 5})
    arrivals = [(job, rng.randrange(3_000 * MS), rng.randrange(1, 40)) for job in range(120)]
    sessions = [one_turn(job, at_ns, output_tokens=tokens) for job, at_ns, tokens in sorted(arrivals, key=lambda one: one[1])]
    played = play(stub, VirtualPhase(sessions))
    wanted = stepped(stub, arrivals)
    assert {call.key.session: told(played, call) for call in played.calls} == wanted


# --- sessions -----------------------------------------------------------------------------------------------------------------------------


@st.composite
def graphs(draw: st.DrawFn) -> tuple[Turn | Tool, ...]:
    steps: list[Turn | Tool] = []
    for number in range(draw(st.integers(1, 7))):
        after = tuple(draw(st.sets(st.integers(0, number - 1), max_size=3))) if number else ()
        turns = [i for i, step in enumerate(steps) if isinstance(step, Turn)]
        if number and draw(st.booleans()):
            steps.append(Tool("t", draw(st.integers(0, 40)) * MS, after))
        else:
            context = draw(st.sampled_from([NO_CONTEXT, *turns]))
            at_ns = draw(st.one_of(st.none(), st.integers(0, 100).map(lambda ms: ms * MS)))
            steps.append(Turn("", 1, 1, draw(st.integers(0, 30)) * MS, after, context, at_ns=at_ns))
    return tuple(steps)


def virtual(number: int, offset_ns: int | None, steps: tuple[Turn | Tool, ...]) -> VirtualSession:
    told_steps = tuple(
        VirtualTool(step.takes_ns, step.after)
        if isinstance(step, Tool)
        else VirtualTurn(1, (), 1, step.think_ns, step.after if step.context < 0 else (*step.after, step.context), step.at_ns)
        for step in steps
    )
    return VirtualSession(number, offset_ns, told_steps)


@settings(max_examples=60, deadline=None)
@given(st.lists(graphs(), min_size=1, max_size=4))
def test_turns_are_due_when_the_live_client_would_send_them(sessions: list[tuple[Turn | Tool, ...]]) -> None:
    offsets_ns = [10 * MS * i for i in range(len(sessions))]
    stub = stack(gateway={"safety": {"service": {"dist": "exponential", "mean": "20ms"}, "workers": 2}})
    played = play(
        stub, VirtualPhase([virtual(i, offset, steps) for i, (offset, steps) in enumerate(zip(offsets_ns, sessions, strict=True))])
    )
    for number, steps in enumerate(sessions):
        course = Course(Session(number, steps), offsets_ns[number])
        ended = sorted((call.last_token_ns, call.step) for call in played.calls if call.key.session == number)
        due = dict(course.begin())
        for end_ns, step in ended:
            due.update(course.ended(step, end_ns))
        assert {call.step: call.intended_ns for call in played.calls if call.key.session == number} == due


def test_places_are_handed_on_in_order() -> None:
    stub = stack(gateway={"safety": "100ms"})
    sessions = [one_turn(i, i * 10 * MS) for i in range(6)]
    calls = sorted(play(stub, VirtualPhase(sessions, max_concurrency=2)).calls, key=lambda call: call.number)
    starts = [call.start_ns // MS for call in calls]
    assert starts == [0, 10, 100, 110, 200, 210]
    assert [call.intended_ns // MS for call in calls] == [0, 10, 20, 30, 40, 50]


def test_a_closed_loop_keeps_its_places_full_until_its_end() -> None:
    stub = stack(gateway={"safety": "100ms"})
    session = (VirtualTurn(1, (), 1), VirtualTool(50 * MS, (0,)))
    sessions = [VirtualSession(i, None, session) for i in range(1000)]
    calls = play(stub, VirtualPhase(sessions, concurrency=3, duration_ns=1000 * MS)).calls
    # 150 ms a round in three places: rounds begin at 0, 150, ... 900 ms (and a nanosecond of decoding each)
    assert len(calls) == 21
    assert max(call.intended_ns for call in calls) < 1000 * MS


def test_a_phase_begins_when_the_one_before_is_answered() -> None:
    stub = stack(gateway={"safety": "100ms"})
    phases = [VirtualPhase([one_turn(i, i * MS) for i in range(3)]), VirtualPhase([one_turn(9, 5 * MS)])]
    calls = {call.key.session: call for call in play(stub, *phases).calls}
    assert calls[9].intended_ns == calls[2].last_token_ns + 5 * MS


# --- plants, caches, replicas -------------------------------------------------------------------------------------------------------------


def test_a_shared_beginning_is_computed_once() -> None:
    stub = stack(prefill={"per_token_ns": 10_000, "cache_block_tokens": 100, "cache_blocks": 50, "workers": 1})
    turn = VirtualTurn(1000, tuple(range(10)), 1)
    calls = play(stub, VirtualPhase([VirtualSession(i, i * MEAN_NS * 100, (turn,)) for i in range(2)])).calls
    # The last token is always computed, so the last block cannot come from the cache.
    assert [call.cached_tokens for call in calls] == [0, 900]
    assert mark_ns(calls, "prefill", 1).tolist() == [10 * MS, MS]


@pytest.mark.parametrize(("layer", "marked"), [("gateway.auth", "gateway.auth"), ("router", "router"), ("prefill", "prefill"), ("kv.transfer", "kv.transfer"), ("decode.first", "decode.first"), ("proxy.hold", "proxy.hold")])  # fmt: skip
def test_a_plant_is_its_layers_own_time_and_nobody_elses(layer: str, marked: str) -> None:
    base, planted = (
        play(stack(decode={"t1": "3ms"}, plant=plant), VirtualPhase(poisson(1, 50, seed=1, output_tokens=5))).calls
        for plant in ({}, {layer: "40ms"})
    )
    moved = [second.first_token_ns - first.first_token_ns for first, second in zip(base, planted, strict=True)]
    assert set(moved) == {40 * MS}
    assert (mark_ns(planted, marked, 1) - mark_ns(base, marked, 1)).tolist() == [40 * MS] * 50


def test_a_colocated_plant_keeps_nobody_else() -> None:
    engine = {"mode": "colocated"}
    for layer in ("prefill", "decode.first"):
        stub = stack(engine=engine, prefill={"t0": "5ms"}, decode={"t1": "3ms"}, plant={layer: "40ms"})
        (call,) = play(stub, VirtualPhase([one_turn(0, 0, 10, 5)])).calls
        assert call.first_token_ns - call.start_ns == 45 * MS
        assert mark_ns([call], layer, 1)[0] == (45 if layer == "prefill" else 40) * MS
        assert call.own is not None
        assert stamps(call.own) == [45 * MS, *(48 * MS + 3 * MS * i for i in range(4))]


def test_replicas_share_the_load_as_their_balancer_says() -> None:
    stub = stack(prefill={"t0": "100ms", "workers": 1, "replicas": 4}, router={"route": "0ms", "policy": "round_robin"})
    calls = play(stub, VirtualPhase([one_turn(i, 0) for i in range(8)])).calls
    assert sorted(mark_ns(calls, "prefill", 0) // MS) == [0, 0, 0, 0, 100, 100, 100, 100]


def test_speed_ups_share_every_draw() -> None:
    stub = {"gateway": {"safety": {"service": {"dist": "lognormal", "mean": "10ms", "cv": 1}}}}
    slow, fast = (play(stack(**stub, speedup={"gateway.safety": k}), VirtualPhase(poisson(1, 200, seed=1))).calls for k in (1, 4))
    assert mark_ns(fast, "gateway.safety", 1) == pytest.approx(mark_ns(slow, "gateway.safety", 1) / 4, abs=1)


@pytest.mark.parametrize("kind", ["freeze", "status", "truncate", "drop", "silent", "buffer"])
def test_what_cannot_be_played_is_refused_by_name(kind: str) -> None:
    stub = stack(faults=[{"stage": "gateway", "kind": kind, "for": "1s"}])
    with pytest.raises(ConfigError, match=rf"stub\.faults\.0: {kind} cannot be simulated"):
        check_faults(stub)


def test_a_stall_hits_its_share() -> None:
    fault = {"stage": "gateway", "kind": "stall", "layer": "gateway.safety", "share": 0.1, "for": "150ms"}
    calls = play(stack(faults=[fault]), VirtualPhase(poisson(1, 3_000, seed=1))).calls
    services = mark_ns(calls, "gateway.safety", 1)
    assert set(services) == {0, 150 * MS}
    assert (services > 0).mean() == pytest.approx(0.1, abs=0.02)


def test_a_request_that_never_fits_is_told() -> None:
    stub = stack(engine={"mode": "colocated", "kv_tokens": 1000})
    with pytest.raises(ConfigError, match=r"2000 \+ 5 tokens does not fit"):
        play(stub, VirtualPhase([one_turn(0, 0, 2000, 5)]))


# --- the gateway's tokens, the transfer, several tokens at once -----------------------------------------------------------------------------


def conversation(turns: int) -> VirtualSession:
    """100 tokens, then 50 more each turn."""
    steps = tuple(VirtualTurn(100 + 50 * i, (), 1, before=(i - 1,) if i else (), context=i - 1) for i in range(turns))
    return VirtualSession(0, 0, steps)


@pytest.mark.parametrize(("kept", "tokens"), [(0, [100, 150, 200, 250]), (1, [100, 50, 50, 50]), (8, [100, 50, 50, 50])])
def test_a_known_conversation_is_tokenized_from_there_on(kept: int, tokens: list[int]) -> None:
    gateway = {"tokenize": "real", "tokenize_model": {"t0": "1ms", "per_token_ns": 1e6}, "token_cache": kept}
    calls = play(stack(gateway=gateway), VirtualPhase([conversation(4)])).calls
    assert mark_ns(calls, "gateway.tokenize", 1).tolist() == [(1 + n) * MS for n in tokens]


@pytest.mark.parametrize(("layers", "waited_ms"), [(1, 21.0), (10, 3.0), (2, 11.0)])
def test_a_transfer_hides_behind_the_prefill_layer_by_layer(layers: int, waited_ms: float) -> None:
    decode = {"kv_transfer": "1ms", "kv_per_token_ns": 20_000, "kv_overlap_layers": layers}
    (call,) = play(stack(prefill={"per_token_ns": 100_000}, decode=decode), VirtualPhase([one_turn(0, 0, 1000)])).calls
    assert mark_ns([call], "kv.transfer", 1)[0] == waited_ms * MS


@pytest.mark.parametrize(("accepted", "interval"), [(1.0, 1), (1.0, 4), (2.5, 1), (2.5, 4), (1.7, 3)])
def test_chunks_of_a_replica_are_those_that_the_live_one_writes(accepted: float, interval: int) -> None:
    stub = stack(
        engine={"mode": "colocated", "accepted_tokens": accepted}, prefill={"t0": "5ms"}, decode={"t1": "3ms", "stream_interval": interval}
    )
    (call,) = play(stub, VirtualPhase([one_turn(0, 0, 10, 40)])).calls
    engines: list[Engine[int]] = replicas_of(stub)
    iteration = sent = 0
    wanted: list[int] = []
    while sent < 40:
        made = engines[0].made(0, iteration, 40)
        upto = made if made == 40 else 1 + (made - 1) // interval * interval
        if upto > sent:
            wanted.append(5 * MS + iteration * 3 * MS)
            sent = upto
        iteration += 1
    assert call.chunks == len(wanted)
    if interval > 1:
        assert call.own is not None
        assert stamps(call.own) == wanted
    assert (call.first_token_ns, call.last_token_ns) == (wanted[0], wanted[-1])
