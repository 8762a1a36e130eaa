"""The colocated engine in real time: replicas that compute prompts and answers in shared iterations, behind one call of the stage decode."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Coroutine
from typing import Any

import orjson
from aiohttp import web

from latprof.stub.live import Hop, Visit
from latprof.stub.models.balance import Balancer
from latprof.stub.models.draws import bits
from latprof.stub.models.engine import Engine, Happened, Job, Kind
from latprof.stub.models.engines import replicas_of
from latprof.stub.models.stages import layer_of
from latprof.stub.pools import WORDS
from latprof.stub.serving import Routes, error_body
from latprof.units import MISSING_NS, NS_PER_MS

# A wake-up that comes later than this was held up by more than the timer: the process stood still, and so did the engine.
_STOOD_STILL_NS = 5 * NS_PER_MS


class _Stream:
    """One request: where its tokens go, when the engine did what in its own time, and when that was on this process's clock."""

    __slots__ = ("at_ns", "begun_ns", "cached_tokens", "joined", "made", "out", "prefilled_ns", "tokens")

    def __init__(self, tokens: int) -> None:
        self.tokens = tokens
        self.out: asyncio.Queue[int] = asyncio.Queue()  # how many it has made
        self.at_ns: dict[Kind, int] = {}
        self.begun_ns = self.prefilled_ns = MISSING_NS
        self.cached_tokens = 0
        self.joined = -1
        self.made = 0


class _Replica:
    """An engine in real time. Its own time stands still when the process does: ``_lag_ns`` is by how much in all."""

    def __init__(self, hop: Hop, engine: Engine[_Stream]) -> None:
        self.engine = engine
        self._hop = hop
        self._lag_ns = 0
        self._at_ns = 0  # the engine's time so far
        self._wakes_ns: int | None = None  # the engine's time of the next wake-up
        self._streaming: set[_Stream] = set()
        self._tasks: set[asyncio.Task[None]] = set()

    def arrive(self, now_ns: int, job: Job[_Stream]) -> None:
        """A request comes; its tokens come through its stream."""
        self._at_ns = max(self._at_ns, now_ns - self._lag_ns)
        self.engine.arrive(self._at_ns, job)
        self._schedule()

    def leave(self, stream: _Stream) -> None:
        """Its reader has gone, or it has ended."""
        self._streaming.discard(stream)
        self._at_ns = max(self._at_ns, time.monotonic_ns() - self._lag_ns)
        self.engine.leave(self._at_ns, stream)
        self._schedule()

    def _schedule(self) -> None:
        due_ns = self.engine.next_ns
        if self._streaming:
            boundary_ns, _ = self.engine.boundary_after(self._at_ns)
            due_ns = min((at_ns for at_ns in (due_ns, boundary_ns) if at_ns is not None), default=None)
        if due_ns is not None and (self._wakes_ns is None or due_ns < self._wakes_ns):
            self._wakes_ns = due_ns
            self._spawn(self._wake(due_ns))

    async def _wake(self, due_ns: int) -> None:
        late_ns = await self._hop.sleep_until(due_ns + self._lag_ns) - self._lag_ns - due_ns
        if self._wakes_ns != due_ns:
            return  # an earlier one was needed meanwhile, and has seen to it
        self._wakes_ns = None
        if late_ns >= _STOOD_STILL_NS:
            self._lag_ns += late_ns
        self._at_ns = max(self._at_ns, due_ns)
        for happened in self.engine.advance(self._at_ns):
            self._note(happened)
        self.engine.take_segments()  # every token is sent as it is made: nobody will ask which iteration it was
        _, over = self.engine.boundary_after(self._at_ns)
        for stream in self._streaming:
            made = self.engine.made(stream.joined, over, stream.tokens)
            if made > stream.made:
                stream.made = made
                stream.out.put_nowait(made)
        self._schedule()

    def _note(self, happened: Happened[_Stream]) -> None:
        stream = happened.job
        stream.at_ns[happened.kind] = happened.at_ns
        if happened.kind == "begun":
            stream.begun_ns = happened.at_ns + self._lag_ns
        elif happened.kind == "prefilled":
            stream.prefilled_ns = time.monotonic_ns()
        elif happened.kind == "first":
            stream.joined, stream.cached_tokens = happened.iteration, happened.cached_tokens
            self._streaming.add(stream)
        else:
            self._streaming.discard(stream)
            if stream.made < stream.tokens:
                stream.made = stream.tokens
                stream.out.put_nowait(stream.tokens)

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)  # the loop alone holds tasks weakly
        task.add_done_callback(self._tasks.discard)


def generate_routes(hop: Hop) -> Routes:
    """The engine's one call: a prompt in, a stream of tokens out."""
    engines: list[Engine[_Stream]] = replicas_of(hop.stub)
    replicas = [_Replica(hop, engine) for engine in engines]
    balancer = Balancer(hop.stub.router.policy, len(replicas), hop.stub.router.affinity_slack)
    prefill, first = (layer_of(hop.stub, "decode", name) for name in ("prefill", "decode.first"))
    hop.figures.gauge("running", 'layer="decode"', lambda: sum(engine.running for engine in engines))
    hop.figures.gauge("waiting", 'layer="engine.queue"', lambda: sum(engine.waiting for engine in engines))
    hop.figures.gauge("prefix_cache_queries_total", "", lambda: sum(engine.cache.queried_blocks for engine in engines))
    hop.figures.gauge("prefix_cache_hits_total", "", lambda: sum(engine.cache.hit_blocks for engine in engines))

    async def generate(request: web.BaseRequest) -> web.StreamResponse:
        visit = hop.visit(request.headers, "POST /generate")
        asked = orjson.loads(await request.read())
        stream = _Stream(asked["tokens"])
        extras_ns = (prefill.adjust_ns(0, visit.key), first.adjust_ns(0, visit.key))
        job = Job(stream, asked["prompt_tokens"], tuple(asked["blocks"]), stream.tokens, *extras_ns)
        response = web.StreamResponse(headers={"Content-Type": "application/jsonlines"})
        await response.prepare(request)
        if not engines[0].fits(job.prompt_tokens, job.output_tokens):
            return await _refuse(visit, response, job)
        chosen = balancer.pick(visit.start_ns, job.blocks, visit.key)
        balancer.begun(chosen)
        try:
            replicas[chosen].arrive(visit.start_ns, job)
            await _send(visit, response, stream, hop.stub.decode.stream_interval)
        finally:
            balancer.ended(chosen)
            replicas[chosen].leave(stream)
        end_ns = time.monotonic_ns()
        await response.write_eof(b'{"cached_tokens":%d}\n' % stream.cached_tokens)
        visit.end(200, end_ns)
        return response

    return {("POST", "/generate"): generate}


async def _refuse(visit: Visit, response: web.StreamResponse, job: Job[_Stream]) -> web.StreamResponse:
    text = f"{job.prompt_tokens} + {job.output_tokens} tokens are more than the engine's memory for KV holds"
    end_ns = time.monotonic_ns()
    await response.write_eof(orjson.dumps(error_body(400, text), option=orjson.OPT_APPEND_NEWLINE))
    visit.end(400, end_ns)
    return response


async def _send(visit: Visit, response: web.StreamResponse, stream: _Stream, interval: int) -> None:
    """The tokens as they are made, ``interval`` of them a chunk."""
    word = bits(visit.key, "words")
    sent = made = 0
    while sent < stream.tokens:
        made = max(made, await stream.out.get())
        if sent == 0:
            _tell(visit, stream)
        # The first token never waits for others.
        upto = made if made == stream.tokens else 1 + (made - 1) // interval * interval
        if sent == 0 and upto > 1:
            await response.write(_chunk(word, 0, 1))
            sent = 1
        if upto > sent:
            await response.write(_chunk(word, sent, upto))
            sent = upto


def _tell(visit: Visit, stream: _Stream) -> None:
    now_ns = visit.first_chunk_ns = time.monotonic_ns()
    visit.layer("engine.queue", visit.start_ns, stream.begun_ns - visit.start_ns, 0, 0)
    planned_ns = stream.at_ns["prefilled"] - stream.at_ns["begun"]
    visit.layer("prefill", stream.begun_ns, 0, stream.prefilled_ns - stream.begun_ns, planned_ns)
    planned_ns = stream.at_ns["first"] - stream.at_ns["prefilled"]
    visit.layer("decode.first", stream.prefilled_ns, 0, now_ns - stream.prefilled_ns, planned_ns, now_ns)


def _chunk(word: int, begin: int, end: int) -> bytes:
    return b'"%b"\n' % b"".join(WORDS[(word + nth) % len(WORDS)] for nth in range(begin, end))
