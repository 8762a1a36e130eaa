"""The engine: live drivers of the prefill pool and of the decode pool."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Coroutine
from functools import partial
from typing import Any, NamedTuple

import orjson
from aiohttp import web

from latprof.queues.station import Begun
from latprof.stub.live import Hop, LiveStation, Visit
from latprof.stub.models.balance import Balancer
from latprof.stub.models.costs import kv_transfer_ns
from latprof.stub.models.decode import DecodePool, Held, Iteration, Token
from latprof.stub.models.draws import bits
from latprof.stub.models.prefill import PrefillPool, Prompt
from latprof.stub.models.stages import layer_of, speedup_of
from latprof.stub.serving import JSON, Routes, respond
from latprof.units import NS_PER_MS

_WORDS = (
    "the of and to in is that it was for on are as with at be this have from or one had by word but not what all were we when your can said"
    " there use an each which she do how their if will up other about out many then them these so some who would make like now into time"
)
WORDS = tuple(f" {word}".encode() for word in _WORDS.split())
"""What the stack in a box says: one plain word behind a blank per token, in a fixed order from a drawn beginning."""

# A timer that comes later than this was held up by more than the timer.
_STOOD_STILL_NS = 5 * NS_PER_MS


def prefill_routes(hop: Hop) -> Routes:
    """The prefill pool's one call: it answers when the prompt is computed."""
    layer = layer_of(hop.stub, "prefill", "prefill")
    pools: list[PrefillPool[asyncio.Future[Begun[Any]]]] = [PrefillPool(hop.stub.prefill) for _ in range(hop.stub.prefill.replicas)]
    balancer = Balancer(hop.stub.router.policy, len(pools), hop.stub.router.affinity_slack)
    hop.figures.gauge("running", 'layer="prefill"', lambda: sum(pool.station.running for pool in pools))
    hop.figures.gauge("waiting", 'layer="engine.queue"', lambda: sum(pool.station.waiting for pool in pools))
    hop.figures.gauge("prefix_cache_queries_total", "", lambda: sum(pool.cache.queried_blocks for pool in pools))
    hop.figures.gauge("prefix_cache_hits_total", "", lambda: sum(pool.cache.hit_blocks for pool in pools))

    async def prefill(request: web.BaseRequest) -> web.StreamResponse:
        visit = hop.visit(request.headers, "POST /prefill")
        asked = orjson.loads(await request.read())
        seat: asyncio.Future[Begun[Any]] = asyncio.get_running_loop().create_future()
        prompt = Prompt(seat, asked["prompt_tokens"], tuple(asked["blocks"]), partial(layer.adjust_ns, key=visit.key))
        chosen = balancer.pick(visit.start_ns, prompt.blocks, visit.key)
        balancer.begun(chosen)
        pool = pools[chosen]
        begun = pool.arrive(visit.start_ns, prompt) or await seat
        wait_ns = begun.started_ns - begun.arrived_ns
        visit.layer("engine.queue", begun.arrived_ns, wait_ns, 0, 0)
        ended_ns = await hop.sleep_until(begun.ends_ns, visit.key)
        cached_tokens, following = pool.finish(ended_ns, prompt)
        if following is not None:
            following.job.job.set_result(following)
        balancer.ended(chosen)
        visit.layer("prefill", begun.started_ns, 0, ended_ns - begun.started_ns, begun.ends_ns - begun.started_ns)
        end_ns = time.monotonic_ns()  # before the write: the caller must not see the end before it is stamped
        told = {"cached_tokens": cached_tokens, "service_ns": begun.ends_ns - begun.started_ns}
        response = await respond(request, 200, orjson.dumps(told), JSON)
        visit.end(200, end_ns)
        return response

    return {("POST", "/prefill"): prefill}


class _Out(NamedTuple):
    """A token for its stream's handler, and the planned length of what made it."""

    token: Token[Any]
    planned_ns: int


class _Stream:
    """One answer being made: where its tokens go, and what is planted before the first."""

    def __init__(self, extra_ns: int) -> None:
        self.extra_ns = extra_ns
        self.out: asyncio.Queue[_Out] = asyncio.Queue()


class _Decoding:
    """The decode pool in real time: one task iterates while there is anything to iterate over."""

    def __init__(self, hop: Hop) -> None:
        self._pool: DecodePool[_Stream] = DecodePool(hop.stub.decode, speedup_of(hop.stub, "decode"))
        self._hop = hop
        self._tasks: set[asyncio.Task[None]] = set()
        self._arrived_ns = 0  # the last that came
        self.leave = self._pool.leave

    @property
    def running(self) -> int:
        """Slots taken."""
        return self._pool.running

    @property
    def waiting(self) -> int:
        """Streams that wait for a slot or for the boundary."""
        return self._pool.waiting

    def start(self, stream: _Stream, now_ns: int, tokens: int) -> None:
        """A stream asks for its tokens; they come through ``stream.out``."""
        self._arrived_ns = max(self._arrived_ns, now_ns)
        self._go_on(self._pool.arrive(now_ns, stream, tokens, stream.extra_ns))

    def _go_on(self, iteration: Iteration | None) -> None:
        if iteration is not None:
            self._spawn(self._iterate(iteration))

    async def _iterate(self, iteration: Iteration | None) -> None:
        while iteration is not None:
            now_ns = await self._hop.sleep_until(iteration.ends_ns)
            length_ns = iteration.ends_ns - iteration.started_ns
            boundary = self._pool.boundary(self._ended_ns(iteration, now_ns))
            # The newest streams first: the others are in mid-answer, and each write takes tens of microseconds.
            for token in reversed(boundary.tokens):
                token.job.out.put_nowait(_Out(token, length_ns))
            for held in boundary.held:
                self._spawn(self._hold(held, length_ns))
            iteration = boundary.next

    def _ended_ns(self, iteration: Iteration, now_ns: int) -> int:
        """When the iteration was over: as planned, for an engine does not wait for the timer of this process.

        At thousands of tokens a second the timer's 0.1 ms would else slow every iteration by a third. But a process that really stood still
        stood still, and who came meanwhile joins no iteration that began before.
        """
        if now_ns - iteration.ends_ns >= _STOOD_STILL_NS:
            return now_ns
        return min(now_ns, max(iteration.ends_ns, self._arrived_ns))

    async def _hold(self, held: Held[_Stream], iteration_ns: int) -> None:
        now_ns = await self._hop.sleep_until(held.due_ns)
        token, iteration = self._pool.release(now_ns, held.job)
        if token is not None:
            held.job.out.put_nowait(_Out(token, iteration_ns + held.job.extra_ns))
        self._go_on(iteration)

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)  # the loop alone holds tasks weakly
        task.add_done_callback(self._tasks.discard)


def decode_routes(hop: Hop) -> Routes:
    """The decode pool's one call: a stream of tokens."""
    transfer = LiveStation(hop, layer_of(hop.stub, "decode", "kv.transfer"))
    first = layer_of(hop.stub, "decode", "decode.first")
    pools = [_Decoding(hop) for _ in range(hop.stub.decode.replicas)]
    balancer = Balancer(hop.stub.router.policy, len(pools), hop.stub.router.affinity_slack)
    hop.figures.gauge("running", 'layer="decode"', lambda: sum(pool.running for pool in pools))
    hop.figures.gauge("waiting", 'layer="decode"', lambda: sum(pool.waiting for pool in pools))

    async def decode(request: web.BaseRequest) -> web.StreamResponse:
        visit = hop.visit(request.headers, "POST /decode")
        response = web.StreamResponse(headers={"Content-Type": "application/jsonlines"})

        async def accept() -> int:
            tokens: int = orjson.loads(await request.read())["tokens"]
            await response.prepare(request)
            return tokens

        arrived_ns, tokens = await transfer.serve(visit, visit.start_ns, accept, await moving_ns(request))
        stream = _Stream(first.adjust_ns(0, visit.key))
        chosen = balancer.pick(arrived_ns, (), visit.key)
        balancer.begun(chosen)
        pools[chosen].start(stream, arrived_ns, tokens)
        try:
            await send(visit, response, stream, arrived_ns)
        finally:
            balancer.ended(chosen)
            pools[chosen].leave(stream)
        end_ns = time.monotonic_ns()
        await response.write_eof(b"{}\n")
        visit.end(200, end_ns)
        return response

    async def moving_ns(request: web.BaseRequest) -> int:
        """What the prompt's KV adds to the transfer; the body is read ahead of it only where it matters."""
        if not hop.stub.decode.kv_per_token_ns:
            return 0
        asked = orjson.loads(await request.read())
        return kv_transfer_ns(
            asked["prompt_tokens"], hop.stub.decode.kv_per_token_ns, hop.stub.decode.kv_overlap_layers, asked["prefill_ns"]
        )

    async def send(visit: Visit, response: web.StreamResponse, stream: _Stream, arrived_ns: int) -> None:
        word = bits(visit.key, "words")
        interval = hop.stub.decode.stream_interval
        kept: list[bytes] = []
        last = False
        while not last:
            token, planned_ns = await stream.out.get()
            if token.nth == 0:
                now_ns = visit.first_chunk_ns = time.monotonic_ns()
                wait_ns = token.admitted_ns - arrived_ns
                visit.layer("decode.first", arrived_ns, wait_ns, now_ns - token.admitted_ns, planned_ns, now_ns)
            kept.append(WORDS[(word + token.nth) % len(WORDS)])
            last = token.last
            # The first token never waits for others.
            if last or token.nth % interval == 0:
                await response.write(b'"%b"\n' % b"".join(kept))
                kept.clear()

    return {("POST", "/decode"): decode}
