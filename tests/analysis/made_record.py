"""Runs whose every wait is known: a queueing network simulated by brute force, job by job, with nothing of what is tested in it."""

from __future__ import annotations

import heapq
import json
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from latprof.analysis.whatif.record import Record, record_of
from latprof.client.stamps import Attempt
from latprof.config import Decode
from latprof.layers.stored import LayersWriter, load_layers
from latprof.observations.columns import Chunks, IntArray, Requests
from latprof.observations.folder import Run
from latprof.observations.graph import STEPS_SCHEMA, load_steps
from latprof.stub.models.decode import DecodePool, Iteration
from latprof.units import NS_PER_MS, NS_PER_S

MS = NS_PER_MS
NAMES = ("net.request", "gateway.safety", "engine.queue", "prefill", "decode.first", "net.response", "decode", "stream")
_BASE_NS = 1000 * NS_PER_S


@dataclass(frozen=True)
class World:
    """A tandem of two stations and a decode pool, and who comes when. ``*_ns`` are columns of draws, one per request."""

    gateway_ns: IntArray
    prefill_ns: IntArray
    rest_ns: IntArray  # decode of one slot; with ``t1_ns`` the pool iterates instead
    tokens: IntArray
    gateway: int = 1
    prefill: int = 2
    slots: int = 64
    t1_ns: int = 0
    per_sequence_ns: int = 0
    arrivals_ns: IntArray | None = None  # open
    places: int | None = None  # closed: users that come back ``think_ns`` after their request, for ``turns`` turns, then a new user
    think_ns: IntArray | None = None
    turns: int = 1
    request_ns: int = 2 * MS
    response_ns: int = 1 * MS
    meta: dict[str, Any] = field(default_factory=dict)

    @property
    def n(self) -> int:
        return len(self.gateway_ns)


class _Server:
    """``servers`` servers, first come, first served, as a queue and a counter."""

    def __init__(self, at: Callable[[int, Callable[[], None]], None], servers: int) -> None:
        self._at, self._free, self._queue = at, servers, deque[Callable[[int], tuple[int, Callable[[int], None]]]]()

    def come(self, now_ns: int, begin: Callable[[int], tuple[int, Callable[[int], None]]]) -> None:
        self._queue.append(begin)
        self._next(now_ns)

    def _next(self, now_ns: int) -> None:
        while self._free and self._queue:
            self._free -= 1
            service_ns, then = self._queue.popleft()(now_ns)
            self._at(now_ns + service_ns, lambda at_ns=now_ns + service_ns, then=then: self._done(at_ns, then))  # type: ignore[misc]

    def _done(self, now_ns: int, then: Callable[[int], None]) -> None:
        self._free += 1
        then(now_ns)
        self._next(now_ns)


class Simulated:
    """One simulation: a row of cells (layers as in `NAMES`) and of stamps per request."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.wait_ns = np.zeros((world.n, len(NAMES)), np.int64)
        self.service_ns = np.zeros((world.n, len(NAMES)), np.int64)
        self.intended_ns = np.zeros(world.n, np.int64)
        self.first_ns = np.zeros(world.n, np.int64)
        self.last_ns = np.zeros(world.n, np.int64)
        self.order: list[int] = []
        self._heap: list[tuple[int, int, Callable[[], None]]] = []
        self._count = 0
        self._gateway, self._prefill = _Server(self._at, world.gateway), _Server(self._at, world.prefill)
        self._decode = _Server(self._at, world.slots)
        pool = {"slots": world.slots, "t1": f"{world.t1_ns}ns", "per_sequence_ns": world.per_sequence_ns}
        self._pool: DecodePool[int] = DecodePool(Decode.model_validate(pool))
        self._arrived = dict[int, int]()
        self._first = dict[int, int]()
        self._next_user = 0
        self._begin()
        while self._heap:
            heapq.heappop(self._heap)[2]()

    @property
    def ttft_ns(self) -> IntArray:
        return self.first_ns - self.intended_ns

    @property
    def e2el_ns(self) -> IntArray:
        return self.last_ns - self.intended_ns

    def _at(self, at_ns: int, what: Callable[[], None]) -> None:
        self._count += 1
        heapq.heappush(self._heap, (at_ns, self._count, what))

    def _begin(self) -> None:
        world = self.world
        if world.arrivals_ns is not None:
            for job, at_ns in enumerate(world.arrivals_ns.tolist()):
                self._at(_BASE_NS + at_ns, lambda job=job, at_ns=_BASE_NS + at_ns: self._come(at_ns, job))  # type: ignore[misc]
        for _ in range(world.places or 0):
            self._new_user(_BASE_NS)

    def _new_user(self, now_ns: int) -> None:
        user, self._next_user = self._next_user, self._next_user + 1
        if (user + 1) * self.world.turns <= self.world.n:
            self._at(now_ns, lambda: self._come(now_ns, user * self.world.turns))

    def _come(self, now_ns: int, job: int) -> None:
        self.intended_ns[job] = now_ns
        self.order.append(job)
        self.service_ns[job, 0] = self.world.request_ns
        arrived_ns = now_ns + self.world.request_ns
        self._at(arrived_ns, lambda: self._gateway.come(arrived_ns, lambda at_ns: self._at_gateway(at_ns, arrived_ns, job)))

    def _at_gateway(self, now_ns: int, arrived_ns: int, job: int) -> tuple[int, Callable[[int], None]]:
        service_ns = int(self.world.gateway_ns[job])
        self.wait_ns[job, 1], self.service_ns[job, 1] = now_ns - arrived_ns, service_ns
        return service_ns, lambda at_ns: self._prefill.come(at_ns, lambda begun_ns: self._at_prefill(begun_ns, at_ns, job))

    def _at_prefill(self, now_ns: int, arrived_ns: int, job: int) -> tuple[int, Callable[[int], None]]:
        service_ns = int(self.world.prefill_ns[job])
        self.wait_ns[job, 2], self.service_ns[job, 3] = now_ns - arrived_ns, service_ns
        return service_ns, lambda at_ns: self._to_decode(at_ns, job)

    def _to_decode(self, now_ns: int, job: int) -> None:
        if self.world.t1_ns:
            self._arrived[job] = now_ns
            self._iterate(self._pool.arrive(now_ns, job, int(self.world.tokens[job])))
        else:
            self._decode.come(now_ns, lambda begun_ns: self._in_slot(begun_ns, now_ns, job))

    def _in_slot(self, now_ns: int, arrived_ns: int, job: int) -> tuple[int, Callable[[int], None]]:
        length_ns = int(self.world.rest_ns[job])
        first_ns = length_ns // int(self.world.tokens[job])
        self.wait_ns[job, 4], self.service_ns[job, 4] = now_ns - arrived_ns, first_ns
        self._first[job] = now_ns + first_ns
        return length_ns, lambda at_ns: self._done(at_ns, job)

    def _iterate(self, iteration: Iteration | None) -> None:
        if iteration is not None:
            self._at(iteration.ends_ns, lambda: self._boundary(iteration.ends_ns))

    def _boundary(self, now_ns: int) -> None:
        boundary = self._pool.boundary(now_ns)
        for token in boundary.tokens:
            if token.nth == 0:
                self.wait_ns[token.job, 4] = token.admitted_ns - self._arrived[token.job]
                self.service_ns[token.job, 4] = now_ns - token.admitted_ns
                self._first[token.job] = now_ns
            if token.last:
                self._done(now_ns, token.job)
        self._iterate(boundary.next)

    def _done(self, now_ns: int, job: int) -> None:
        world = self.world
        here_ns = self._first[job] + world.response_ns
        self.service_ns[job, 5] = world.response_ns
        self.service_ns[job, 6] = max(0, now_ns - here_ns)
        self.first_ns[job], self.last_ns[job] = here_ns, max(now_ns, here_ns) + world.response_ns
        self.service_ns[job, 7] = world.response_ns
        end_ns = int(self.last_ns[job])
        if world.places is not None:
            if (job + 1) % world.turns == 0:
                self._new_user(end_ns)
            else:
                think_ns = 0 if world.think_ns is None else int(world.think_ns[job + 1])
                self._at(end_ns + think_ns, lambda: self._come(end_ns + think_ns, job + 1))


def draws(seed: int, mean_ms: float, n: int) -> IntArray:
    return np.maximum(1, np.rint(np.random.default_rng(seed).exponential(mean_ms * MS, n))).astype(np.int64)


def open_world(n: int = 1500, rate_per_s: float = 20.0, **others: Any) -> World:
    """Gateway 2 x 20 ms, prefill 2 x 70 ms (0.7 used at 20/s), decode 400 ms in 64 slots, exponential."""
    arrivals_ns = np.cumsum(np.rint(np.random.default_rng(1).exponential(NS_PER_S / rate_per_s, n))).astype(np.int64)
    tokens = 2 + np.random.default_rng(9).integers(0, 20, n)
    given: dict[str, Any] = {"gateway": 2, "arrivals_ns": arrivals_ns} | others
    return World(draws(2, 20, n), draws(3, 70, n), draws(4, 400, n), tokens, **given)


def closed_world(n: int = 2000, **others: Any) -> World:
    """Agents in a closed loop: 15 of them, gateway 1 x 15 ms, prefill 1 x 80 ms, 16 slots of 3 s, half a second between turns."""
    tokens = 100 + np.random.default_rng(9).integers(0, 100, n)
    given: dict[str, Any] = {"gateway": 1, "prefill": 1, "slots": 16, "places": 15, "think_ns": draws(5, 500, n), "turns": 10} | others
    return World(draws(2, 15, n), draws(3, 80, n), draws(4, 3000, n), tokens, **given)


# --- as a record --------------------------------------------------------------------------------------------------------------------------


def write_run(folder: Path, done: Simulated, **meta: Any) -> Path:
    world = done.world
    folder.mkdir(parents=True, exist_ok=True)
    came = sorted(done.order)
    pq.write_table(Requests.from_attempts([_attempt(done, job) for job in came]).to_arrow(), folder / "requests.parquet")
    none = np.empty(0, np.int64)
    pq.write_table(Chunks(none, none, none, none).to_arrow(), folder / "chunks.parquet")
    with LayersWriter(folder, NAMES, unsplit=("net.request", "net.response", "stream")) as writer:
        columns: dict[str, IntArray | Sequence[int]] = {"request": came}
        for column, name in enumerate(NAMES):
            wait_ns, service_ns = done.wait_ns[came, column], done.service_ns[came, column]
            columns |= {f"{name}:unsplit": wait_ns + service_ns, f"{name}:wait": wait_ns, f"{name}:service": service_ns}
        writer.write(columns)
    if world.turns > 1:
        _write_steps(folder, world)
    load = {"concurrency": world.places} if world.places else {"rate_per_s": 1.0}
    told = {
        "schema": "latprof.run/1",
        "status": "complete",
        "run_id": "0123456789abcdef",
        "config": {"load": load, "spans": {"hops": []}, "goodput": {}, "target": {"model": "m"}},
        "seed": 1,
        "anchor": {"monotonic_ns": 0, "unix_ns": 0, "bracket_ns": 0},
        "arrival_model": "closed loop" if world.places else "open loop",
        "planned": {"measured": len(came)},
        "stations": {"gateway.safety": world.gateway, "prefill": world.prefill, "decode": world.slots},
        "phases": [{"name": "measured", "start_ns": _BASE_NS, "end_ns": int(done.last_ns.max())}],
    }
    (folder / "run.json").write_text(json.dumps(told | world.meta | meta))
    return folder


def _attempt(done: Simulated, job: int) -> Attempt:
    world = done.world
    return Attempt(
        request=job,
        session=job // world.turns,
        turn=job % world.turns,
        attempt=0,
        phase="measured",
        trace_id=f"{job:032x}",
        span_id="",
        asked_prompt_tokens=8,
        asked_output_tokens=int(world.tokens[job]),
        intended_ns=int(done.intended_ns[job]),
        ready_ns=int(done.intended_ns[job]),
        start_ns=int(done.intended_ns[job]),
        send_ns=int(done.intended_ns[job]),
        first_token_ns=int(done.first_ns[job]),
        last_token_ns=int(done.last_ns[job]),
        end_ns=int(done.last_ns[job]),
        token_chunks=int(world.tokens[job]),
        output_tokens=int(world.tokens[job]),
        status=200,
    )


def _write_steps(folder: Path, world: World) -> None:
    rows = []
    for job in range(world.n - world.n % world.turns):
        turn = job % world.turns
        think_ns = 0 if turn == 0 or world.think_ns is None else int(world.think_ns[job])
        after = [turn - 1] if turn else []
        rows.append((job // world.turns, "measured", turn, "turn", turn, "", after, think_ns, None, None))
    columns = [pa.array(values, one.type) for values, one in zip(zip(*rows, strict=True), STEPS_SCHEMA, strict=True)]
    pq.write_table(pa.table(columns, schema=STEPS_SCHEMA), folder / "steps.parquet")


def record_in(folder: Path) -> Record:
    meta = json.loads((folder / "run.json").read_text())
    requests = Requests.from_arrow(pq.read_table(folder / "requests.parquet"))
    none = np.empty(0, np.int64)
    run = Run(folder, meta, requests, Chunks(none, none, none, none))
    return record_of(run, load_layers(folder, requests, "e2el"), load_steps(folder))


def recorded(tmp_path: Path, world: World, **meta: Any) -> Record:
    return record_in(write_run(tmp_path / "run", Simulated(world), **meta))


def faster(world: World, speed: float) -> World:
    """Decode ``speed`` times faster, everything else as drawn."""
    return replace(
        world,
        rest_ns=np.rint(world.rest_ns / speed).astype(np.int64),
        t1_ns=round(world.t1_ns / speed),
        per_sequence_ns=round(world.per_sequence_ns / speed),
    )
