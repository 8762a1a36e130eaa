"""What a worker notices about itself: late ticks, collections, unread bytes, a clock that jumps, a core it does not get."""

from __future__ import annotations

import asyncio
import dataclasses
import gc
import multiprocessing
import os
import socket
import sys
import threading
import time
from multiprocessing.synchronize import Semaphore

import pytest

from latprof.client import health
from latprof.client.health import Health, HealthSampler, worst
from latprof.units import MISSING_NS, NS_PER_MS, NS_PER_S

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="the kernel's own figures are Linux's")


async def test_every_tick_of_a_stall_counts_and_the_stall_is_dated() -> None:
    with HealthSampler() as sampler:
        await asyncio.sleep(0.1)
        began_ns = time.monotonic_ns()
        time.sleep(0.1)  # noqa: ASYNC251 - that is the point
        await asyncio.sleep(0.1)
        found = sampler.health()
    of_stall = [(due_ns, late_ns) for due_ns, late_ns in found.stalls if began_ns <= due_ns <= began_ns + 100 * NS_PER_MS]
    assert 4 <= len(of_stall) <= 5, "a tick every 20 ms"
    for due_ns, late_ns in of_stall:
        assert due_ns + late_ns >= began_ns + 100 * NS_PER_MS
    assert found.loop_lag_max_ns >= 75 * NS_PER_MS
    assert found.loop_lag_p50_ns < 20 * NS_PER_MS


async def test_a_quiet_loop_is_seen_as_one() -> None:
    with HealthSampler() as sampler:
        await asyncio.sleep(0.5)
        found = sampler.health()
    assert 0 <= found.loop_lag_p50_ns < 5 * NS_PER_MS
    assert found.clock_steps == 0
    assert found.cpu_share < 0.5


async def test_collections_are_counted_with_their_length() -> None:
    with HealthSampler() as sampler:
        gc.collect()
        gc.collect()
        found = sampler.health()
    assert found.gc_pauses == 2
    assert 0 < found.gc_pause_max_ns < NS_PER_S
    gc.collect()
    assert sampler.health().gc_pauses == 2, "nothing is counted outside"


async def test_unread_bytes_are_seen_and_closed_sockets_are_nothing() -> None:
    near, far = socket.socketpair()
    gone = os.dup(near.fileno())
    os.close(gone)
    with near, far, HealthSampler(lambda: [near.fileno(), gone]) as sampler:
        far.send(b"x" * 777)
        await asyncio.sleep(0.1)
        found = sampler.health()
    assert found.receive_queue_max_bytes == 777
    assert found.waiting_sockets_share == 0.5


async def test_a_jump_of_the_wall_clock_is_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    offsets_ns = iter([0, 300_000, 5 * NS_PER_MS, 5 * NS_PER_MS])
    monkeypatch.setattr(health, "wall_offset_ns", lambda: next(offsets_ns, 5 * NS_PER_MS))
    with HealthSampler() as sampler:
        await asyncio.sleep(0.9)
        found = sampler.health()
    assert found.clock_steps == 1


def _spin(core: int, spinning: Semaphore, until_s: float) -> None:
    os.sched_setaffinity(0, {core})
    spinning.release()
    while time.monotonic() < until_s:
        pass


def test_a_core_that_others_have_is_seen_as_starvation() -> None:
    """Two busy neighbours on the only core: a thread that wants to run gets a third of it."""
    core = min(os.sched_getaffinity(0))
    spawned = multiprocessing.get_context("spawn")
    spinning, until_s = spawned.Semaphore(0), time.monotonic() + 60
    neighbours = [spawned.Process(target=_spin, args=(core, spinning, until_s)) for _ in range(2)]
    found: list[Health] = []

    async def work() -> None:
        os.sched_setaffinity(0, {core})  # of this thread alone
        with HealthSampler() as sampler:
            end_s = time.monotonic() + 0.8
            while time.monotonic() < end_s:
                time.sleep(0)  # noqa: ASYNC251
            found.append(sampler.health())

    for neighbour in neighbours:
        neighbour.start()
    try:
        assert all(spinning.acquire(timeout=60) for _ in neighbours)
        thread = threading.Thread(target=lambda: asyncio.run(work()))
        thread.start()
        thread.join()
    finally:
        for neighbour in neighbours:
            neighbour.kill()
            neighbour.join()
    assert found[0].starved_share is not None
    assert found[0].starved_share > 0.3


def test_what_a_host_takes_is_a_share_of_what_was_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    told = iter([(1_000, 50), (1_900, 150), (1_000, 50), (1_010, 55), None, (1_090, 60)])
    monkeypatch.setattr(health, "processor_ticks", lambda: next(told))
    assert [asyncio.run(_watched()).stolen_share for _ in range(3)] == [0.1, None, None]


async def _watched() -> Health:
    with HealthSampler() as sampler:
        await asyncio.sleep(0.001)
        return sampler.health()


def test_the_kernel_counts_what_is_used() -> None:
    before = health.processor_ticks()
    end_ns = time.process_time_ns() + NS_PER_S // 4
    while time.process_time_ns() < end_ns:
        pass
    after = health.processor_ticks()
    assert before is not None
    assert after is not None
    assert after[0] - before[0] >= 15
    assert after[1] >= before[1]


def test_the_worst_of_several_workers() -> None:
    one = Health(1, 5, 9, 0.2, 3, stalls=((1, 2),), starved_share=None, gc_pauses=1)
    other = dataclasses.replace(one, loop_lag_p99_ns=4, cpu_share=0.9, starved_share=0.1, loop_lag_p50_ns=MISSING_NS)
    found = worst([one, other])
    assert (found["loop_lag_p50_ns"], found["loop_lag_p99_ns"], found["cpu_share"]) == (1, 5, 0.9)
    assert (found["involuntary_switches"], found["gc_pauses"], found["stalls"], found["starved_share"]) == (6, 2, 2, 0.1)
    assert worst([]) == {}
