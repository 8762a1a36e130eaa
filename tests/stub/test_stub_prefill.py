from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from latprof.config import Prefill
from latprof.queues.events import EventHeap
from latprof.queues.station import Begun
from latprof.stub.models.prefill import PrefillPool, PrefixCache, Prompt, block_hashes, prefill_ns

POOL = Prefill.model_validate(
    {"workers": 2, "t0": "10ms", "per_token_ns": 1000, "per_token_pair_ns": 2, "cache_block_tokens": 4, "cache_blocks": 8}
)


def own(service_ns: int) -> int:
    return service_ns


def prompt(job: int, tokens: list[int]) -> Prompt[int]:
    return Prompt(job, len(tokens), block_hashes(tokens, POOL.cache_block_tokens), own)


def test_the_formula() -> None:
    # t0 + a*n + b*(m*n + n^2/2), by hand for n = 10, m = 4
    assert prefill_ns(POOL, 10, 4) == 10_000_000 + 10_000 + 2 * (40 + 50)


def test_computing_in_two_parts_costs_the_same_but_for_the_second_start() -> None:
    assert prefill_ns(POOL, 6, 0) + prefill_ns(POOL, 4, 6) == prefill_ns(POOL, 10, 0) + POOL.t0_ns


@given(st.lists(st.integers(0, 3), max_size=40), st.lists(st.integers(0, 3), max_size=40))
def test_two_prompts_share_exactly_the_blocks_of_their_common_beginning(left: list[int], right: list[int]) -> None:
    common = 0
    while common < min(len(left), len(right)) and left[common] == right[common]:
        common += 1
    pairs = zip(block_hashes(left, 4), block_hashes(right, 4), strict=False)
    assert [a == b for a, b in pairs] == [index < common // 4 for index in range(min(len(left), len(right)) // 4)]


def test_the_least_recently_used_block_goes_first_and_a_prompt_loses_its_tail() -> None:
    cache = PrefixCache(4)
    cache.insert((1, 2, 3))
    cache.insert((10, 11))
    assert len(cache) == 4
    assert cache.match((1, 2, 3)) == 2
    assert cache.match((10, 11)) == 2
    cache.insert((20, 21, 22))
    assert cache.match((10, 11)) == 1  # used last, so its head has stayed
    assert cache.match((1,)) == 0
    assert (cache.queried_blocks, cache.hit_blocks) == (8, 5)


def test_a_cache_of_nothing_keeps_nothing() -> None:
    cache = PrefixCache(0)
    cache.insert((1, 2))
    assert cache.match((1, 2)) == 0


def test_a_repeated_prompt_is_cheaper_by_its_blocks_but_never_free() -> None:
    pool: PrefillPool[int] = PrefillPool(POOL)
    tokens = list(range(8))
    first = pool.arrive(0, prompt(1, tokens))
    assert first is not None
    assert pool.finish(first.ends_ns, first.job) == (0, None)
    again = pool.arrive(first.ends_ns, prompt(2, tokens))
    assert again is not None
    # Both blocks are there, yet the last token has to be computed: one block counts.
    assert again.ends_ns - again.started_ns == prefill_ns(POOL, 4, 4)
    assert pool.finish(again.ends_ns, again.job)[0] == 4


def test_the_cache_is_asked_when_service_begins_not_on_arrival() -> None:
    pool: PrefillPool[int] = PrefillPool(POOL.model_copy(update={"workers": 1}))
    first = pool.arrive(0, prompt(1, list(range(9))))
    assert first is not None
    assert pool.arrive(1, prompt(2, list(range(9)))) is None
    _, second = pool.finish(first.ends_ns, first.job)
    assert second is not None
    assert second.ends_ns - second.started_ns == prefill_ns(POOL, 1, 8)


@given(st.lists(st.tuples(st.integers(0, 10_000_000), st.lists(st.integers(0, 1), min_size=1, max_size=30)), min_size=1, max_size=25))
def test_prompts_are_served_once_in_order_by_at_most_the_workers(arrivals: list[tuple[int, list[int]]]) -> None:
    pool: PrefillPool[int] = PrefillPool(POOL)
    heap: EventHeap[tuple[str, Prompt[int]]] = EventHeap()
    now_ns = 0
    for job, (gap_ns, tokens) in enumerate(arrivals):
        now_ns += gap_ns
        heap.push(now_ns, ("arrive", prompt(job, tokens)))
    began: list[Begun[Prompt[int]]] = []
    while heap:
        now_ns, (what, about) = heap.pop()
        begun = pool.arrive(now_ns, about) if what == "arrive" else pool.finish(now_ns, about)[1]
        if begun is not None:
            began.append(begun)
            heap.push(begun.ends_ns, ("finish", begun.job))
        assert pool.station.running <= POOL.workers
    assert [begun.job.job for begun in began] == list(range(len(arrivals)))
    assert all(begun.arrived_ns <= begun.started_ns < begun.ends_ns for begun in began)
