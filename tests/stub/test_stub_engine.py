"""The colocated engine against a replay that knows nothing of macro-steps, and what must hold whatever it is asked."""

from __future__ import annotations

import random
import time
from collections import defaultdict
from dataclasses import replace

import pytest
from engine_replay import NEVER, Lru, Replay, Told
from hypothesis import given, settings
from hypothesis import strategies as st

from latprof.stub.models.costs import Coefficients, Costs, costs
from latprof.stub.models.engine import Engine, Happened, Job, Limits
from latprof.stub.models.prefill import PrefixCache
from latprof.stub.models.steps import Segment

PLAIN = Coefficients(t0_ns=9000, per_token_ns=70.3, per_pair_ns=0.37, t1_ns=5000, per_sequence_ns=211.7)
ROOFLINE = Coefficients(
    t0_ns=900, per_token_ns=70.3, per_pair_ns=0.37, t1_ns=700, per_stream_ns=900.1, weights_ns=3000.7, kv_token_ns=9.13, comm_ns=40.5
)
DENSE = Coefficients(t0_ns=4e6, per_token_ns=36_000, per_pair_ns=1.18, t1_ns=2e6, per_stream_ns=36_000, weights_ns=7.4e6, kv_token_ns=60)
MOE = replace(ROOFLINE, weights_ns=800.1, experts_ns=6000.9, experts_missed=1 - 4 / 32)


class Play:
    """An engine driven in virtual time, with a hostile habit: it also calls when nothing is due."""

    def __init__(self, own: Costs, limits: Limits, told: list[Told], idle_calls: int = 0) -> None:
        self.engine: Engine[int] = Engine(own, limits)
        self.out: list[Happened[int]] = []
        self.least_free = limits.kv_blocks
        self.segments: list[Segment] = []
        leaving = [(who.leaves_ns, 1, who) for who in told if who.leaves_ns != NEVER]
        calls = sorted([*((who.at_ns, 0, who) for who in told), *leaving], key=lambda call: call[:2])
        now_ns = 0
        while True:
            due_ns = self.engine.next_ns
            if calls and (due_ns is None or calls[0][0] <= due_ns):
                now_ns, what, who = calls.pop(0)
                if what == 0:
                    self.engine.arrive(now_ns, job_of(who))
                else:
                    self.engine.leave(now_ns, who.job)
            elif due_ns is None:
                break
            else:
                for part in range(1, idle_calls + 1):
                    self.out += self.engine.advance(now_ns + (due_ns - now_ns) * part // (idle_calls + 1))
                now_ns = due_ns
                self.out += self.engine.advance(now_ns)
            self.least_free = min(self.least_free, self.engine.free_blocks)
        self.segments = self.engine.take_segments()


def job_of(who: Told) -> Job[int]:
    return Job(who.job, who.prompt_tokens, who.blocks, who.output_tokens, who.prefill_extra_ns, who.first_extra_ns)


def ends_of(segments: list[Segment]) -> list[int]:
    ends, following = [], 0
    for first, start_ns, step_ns, count in segments:
        assert first == following
        following += count
        ends += [start_ns + step_ns * (nth + 1) for nth in range(count)]
    return ends


@st.composite
def workloads(draw: st.DrawFn, *, leaves: bool = False) -> list[Told]:
    told, at_ns = [], 0
    for job in range(draw(st.integers(1, 14))):
        at_ns += 2 * draw(st.sampled_from([0, 0, 1, 500, 5000, 40_000]))
        prompt = draw(st.integers(1, 90))
        family = draw(st.integers(0, 2))
        blocks = tuple(family * 1000 + nth for nth in range(prompt // 8))
        planted = [draw(st.sampled_from([0, 0, 0, 7001, 30_000])) for _ in range(2)]
        leaves_ns = at_ns + 1 + 2 * draw(st.integers(0, 40_000)) if leaves and draw(st.booleans()) else NEVER
        told.append(Told(job, at_ns, prompt, blocks, draw(st.integers(1, 40)), planted[0], planted[1], leaves_ns))
    return told


@st.composite
def limits(draw: st.DrawFn) -> Limits:
    return Limits(
        token_budget=draw(st.sampled_from([8, 33, 64, 1000])),
        max_sequences=draw(st.sampled_from([1, 3, 8])),
        kv_blocks=draw(st.sampled_from([17, 40, 1 << 40])),
        block_tokens=8,
        cache_blocks=draw(st.sampled_from([0, 3, 100])),
        accepted_tokens=draw(st.sampled_from([1.0, 1.0, 1.7, 3.0])),
    )


COSTS = st.sampled_from([PLAIN, ROOFLINE, MOE]).map(costs)


@settings(max_examples=300, deadline=None)
@given(COSTS, limits(), st.booleans().flatmap(lambda leaves: workloads(leaves=leaves)), st.integers(0, 2))
def test_macro_steps_tell_what_single_iterations_tell_to_the_nanosecond(
    own: Costs, held_at_once: Limits, told: list[Told], idle_calls: int
) -> None:
    play = Play(own, held_at_once, told, idle_calls)
    replay = Replay(own, held_at_once, told)
    seen: defaultdict[int, dict[str, int]] = defaultdict(dict)
    for happened in play.out:
        assert happened.kind not in seen[happened.job]
        seen[happened.job][happened.kind] = happened.at_ns
        if happened.kind != "begun":
            assert happened.cached_tokens == told[happened.job].cached_tokens
    for who in told:
        assert seen[who.job] == {kind: at_ns for kind, at_ns in who.happened.items() if kind != "computed"}, who.job
    assert [one.at_ns for one in play.out] == sorted(one.at_ns for one in play.out)
    assert replay.most_sequences <= held_at_once.max_sequences
    assert play.least_free == held_at_once.kv_blocks - replay.most_blocks >= 0
    assert (play.engine.running, play.engine.waiting, play.engine.free_blocks) == (0, 0, held_at_once.kv_blocks)
    segment_ends = ends_of(play.segments)
    assert len(segment_ends) == len(replay.ends_ns)
    # Inside a step that grows, the log is straight: an end strays by less than 1/256 of a step, and each piece ends exactly.
    for told_ns, true_ns in zip(segment_ends, replay.ends_ns, strict=True):
        assert abs(told_ns - true_ns) <= 2 + 0.004 * max(own.decode(8, 1 << 20)) / (1 << 30)
    ended = {one.job: one for one in play.out if one.kind == "ended"}
    joined = {one.job: one.iteration for one in play.out if one.kind == "first"}
    for job, end in ended.items():
        made = [play.engine.made(joined[job], over, told[job].output_tokens) for over in range(joined[job], end.iteration + 1)]
        assert made[-1] == told[job].output_tokens
        assert len(made) < 2 or made[-2] < told[job].output_tokens
        if told[job].output_tokens > 1:
            assert segment_ends[end.iteration - 1] == end.at_ns


def alone(limits: Limits, *jobs: Job[int], own: Costs = costs(PLAIN)) -> tuple[Engine[int], list[Happened[int]], int]:  # noqa: B008 - frozen
    """Everything that happens to requests that come at once, and how often the driver was called."""
    engine: Engine[int] = Engine(own, limits)
    for job in jobs:
        engine.arrive(0, job)
    out, calls = [], 0
    while engine.next_ns is not None:
        out += engine.advance(engine.next_ns)
        calls += 1
    return engine, out, calls


def test_cost_does_not_grow_with_tokens() -> None:
    limits_ = Limits(512, 8)
    for own in (costs(PLAIN), costs(ROOFLINE)):
        engines = [alone(limits_, Job(1, 300, (), tokens), Job(2, 300, (), 2 * tokens), own=own) for tokens in (100, 1_000_000)]
        assert engines[0][2] == engines[1][2] <= 6
        ended_ns = [out[-1].at_ns for _, out, _ in engines]
        assert ended_ns[1] > 5000 * ended_ns[0]


def test_a_prompt_of_400_000_tokens_takes_as_many_iterations_as_chunks() -> None:
    engine, out, _ = alone(Limits(8192, 8), Job(1, 400_000, (), 2))
    assert [one.iteration for one in out] == [0, 49, 49, 50]
    assert sum(count for *_, count in engine.take_segments()) == 50


def test_kv_is_given_in_order_even_to_who_would_fit_later_in_the_queue() -> None:
    limits_ = Limits(1000, 8, kv_blocks=10, block_tokens=10)
    _, out, _ = alone(limits_, Job(1, 50, (), 20), Job(2, 60, (), 30), Job(3, 5, (), 5))
    begun = {one.job: one.at_ns for one in out if one.kind == "begun"}
    ended = {one.job: one.at_ns for one in out if one.kind == "ended"}
    assert begun[1] < ended[1] == begun[2] <= begun[3]
    assert [job for job, _ in sorted(begun.items(), key=lambda one: one[1])] == [1, 2, 3]


def test_what_can_never_fit_is_refused() -> None:
    engine: Engine[int] = Engine(costs(PLAIN), Limits(100, 8, kv_blocks=10, block_tokens=10))
    assert engine.fits(60, 40)
    assert not engine.fits(60, 41)
    with pytest.raises(ValueError, match=r"60 \+ 41 tokens takes 11 KV blocks of 10 tokens, and the replica has 10"):
        engine.arrive(0, Job(1, 60, (), 41))
    with pytest.raises(ValueError, match="at least one token each way, got 0 and 1"):
        engine.arrive(0, Job(1, 0, (), 1))
    engine.arrive(0, Job(1, 5, (), 1))
    with pytest.raises(ValueError, match="request 1 is here already"):
        engine.arrive(0, Job(1, 5, (), 1))


def test_a_repeated_prompt_is_cheaper_by_its_blocks_but_never_free() -> None:
    limits_ = Limits(1000, 1, block_tokens=8, cache_blocks=100)
    blocks = tuple(range(4))
    _, out, _ = alone(limits_, Job(1, 32, blocks, 1), Job(2, 32, blocks, 1))
    assert [one.cached_tokens for one in out if one.kind == "prefilled"] == [0, 24]  # the last token is always computed


def test_a_speedup_of_decode_leaves_a_prompt_alone_as_long_as_it_was() -> None:
    fast = costs(ROOFLINE, decode_speedup=4)
    spans = []
    for own in (costs(ROOFLINE), fast):
        _, out, _ = alone(Limits(1000, 8), Job(1, 500, (), 50), own=own)
        at = {one.kind: one.at_ns for one in out}
        spans.append((at["prefilled"], at["ended"] - at["first"]))
    assert spans[0][0] == spans[1][0]
    assert spans[0][1] == pytest.approx(4 * spans[1][1], rel=1e-5)


@given(
    st.integers(0, 6),
    st.lists(st.tuples(st.booleans(), st.integers(0, 3), st.integers(0, 8), st.integers(0, 5)), max_size=30),
)
def test_the_cache_is_an_lru_whose_prompts_lose_their_tails_first(capacity: int, uses: list[tuple[bool, int, int, int]]) -> None:
    cache, plain = PrefixCache(capacity), Lru(capacity)
    for use, (is_match, family, length, lone) in enumerate(uses):
        blocks = tuple(family * 100 + nth for nth in range(length))
        if is_match:
            assert cache.match(blocks) == plain.match(blocks)
        else:
            cache.insert(blocks, lone)  # those that nobody asks for push others out as any do
            plain.touch((*blocks, *(1000 + 10 * use + nth for nth in range(lone))))
        assert len(cache) == len(plain.used) <= capacity
        # A block that is here has its whole beginning here.
        assert all(block >= 1000 or block % 100 == 0 or block - 1 in plain.used for block in plain.used)


# --- V22: decode and prompts share iterations --------------------------------------------------------------------------------------------


class RooflineReplay(Replay):
    """The same token by token, with the merged roofline written out once more, in floats, from the formulas."""

    k = 1.0

    def _length(self, chunks: list[tuple[Told, int]]) -> int:
        contexts = [who.prompt_tokens + who.decoded / 1024 for who in self.decoding]
        computed = sum(36_000.0 * n + 1.18 * (who.computed * n + n * n / 2) for who, n in chunks)
        read = 60.0 * sum(who.computed for who, _ in chunks)
        if not contexts:
            return round((4e6 + max(7.4e6 + read, computed)) * 2**30)
        streams = 36_000.0 * len(contexts) / self.k
        memory = (7.4e6 + 60.0 * sum(contexts)) / self.k + read
        start = max(4e6, 2e6 / self.k) if chunks else 2e6 / self.k
        return round((start + max(memory, computed + streams)) * 2**30)


def open_load(rate_per_s: float, requests: int, seed: int) -> list[Told]:
    draw = random.Random(seed)
    told, at_ns = [], 0.0
    for job in range(requests):
        at_ns += draw.expovariate(rate_per_s) * 1e9
        told.append(Told(job, int(at_ns), 200 + int(draw.expovariate(1 / 600)), (), 20 + int(draw.expovariate(1 / 150))))
    return told


def ttft_ms(times: list[tuple[int, int]]) -> float:
    return sum(first_ns - at_ns for at_ns, first_ns in times) / len(times) / 1e6


def test_v22_faster_decode_changes_the_ttft_of_a_shared_engine_by_what_an_exact_replay_says() -> None:
    own = Coefficients(t0_ns=4e6, per_token_ns=36_000, per_pair_ns=1.18, t1_ns=2e6, per_stream_ns=36_000, weights_ns=7.4e6, kv_token_ns=60)
    at_once = Limits(token_budget=512, max_sequences=64)
    modelled, replayed = {}, {}
    for k in (1.0, 4.0):
        told = open_load(12.0, 700, 22)
        RooflineReplay.k = k
        RooflineReplay(costs(own), at_once, told)
        replayed[k] = ttft_ms([(who.at_ns, who.happened["first"]) for who in told])
        play = Play(costs(own, decode_speedup=k), at_once, open_load(12.0, 700, 22))
        first_ns = {one.job: one.at_ns for one in play.out if one.kind == "first"}
        modelled[k] = ttft_ms([(who.at_ns, first_ns[who.job]) for who in told])
    change = replayed[4.0] - replayed[1.0]
    assert change < -5  # ms: prompts wait for iterations that decodes make shorter
    assert modelled[4.0] - modelled[1.0] == pytest.approx(change, rel=0.1)
    assert modelled == pytest.approx(replayed, rel=0.01)
    # With a budget of one prompt's size and nobody decoding, k changes nothing: the coupling is in the iterations.
    lonely = [Told(job, job * 10**10, 500, (), 1) for job in range(3)]
    plays = [Play(costs(own, decode_speedup=k), at_once, lonely).out for k in (1.0, 4.0)]
    assert plays[0] == plays[1]


def test_what_a_request_costs_is_printed(capsys: pytest.CaptureFixture[str]) -> None:
    """No figure is asserted: machines differ, and this one may be busy."""
    told = open_load(6.0, 3000, 1)
    begun_s = time.process_time()
    play = Play(costs(DENSE), Limits(8192, 256, block_tokens=128, cache_blocks=4096), told)
    us = (time.process_time() - begun_s) / len(told) * 1e6
    assert sum(one.kind == "ended" for one in play.out) == len(told)
    with capsys.disabled():
        print(f"\nthe colocated engine: {us:.0f} us of processor time per request of about 800 prompt and 170 output tokens")
