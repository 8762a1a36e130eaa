"""Drives one phase of the plan: lets sessions go when they should, follows their turns, writes every attempt down.

open loop     intended = T0 + offset --timer--> ready --place under the cap--> start --transport--> end
closed loop   intended = when a place became free (the first ones: T0)
next turn     intended = last end among the turns and tools it comes after + think time
              an answer it continues came only now: its body is written in the think time, until `built`
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field, replace
from typing import Any, TypeVar

from latprof.client.course import Course, Due, has_branches, only_turn_ns
from latprof.client.feed import Feed, Ready
from latprof.client.health import Health, HealthSampler, collector_off
from latprof.client.places import Places
from latprof.client.stamps import Attempt, ChunkLog, ErrorClass
from latprof.client.trace_ids import TraceIds
from latprof.client.transport import Ask, Encode, Transport
from latprof.clock import SPIN_NS, Now, Timer, precise_timer
from latprof.schedule.plan import Phase
from latprof.units import MISSING_NS, NS_PER_MS, NS_PER_S
from latprof.workload.sessions import NO_ANSWERS, turn_of

Note = Callable[[Attempt], None]
"""Told of an attempt: the recorder."""

T = TypeVar("T")

_RETRIED = frozenset({ErrorClass.CONNECT, ErrorClass.SERVER, ErrorClass.RATE_LIMITED})


@dataclass(frozen=True, slots=True)
class Rules:
    """What holds for every phase of a run.

    ``run_id`` (16 hex) begins every trace id. ``timeout_ns`` is also how long after the end of a phase with a duration the last requests may
    take. ``retry_wait_ns`` doubles with every further retry. ``drain_ns`` is what requests in flight get once the run is told to stop.
    """

    run_id: str
    seed: int
    timeout_ns: int
    retries: int = 0
    retry_wait_ns: int = 500 * NS_PER_MS
    drain_ns: int = 2 * NS_PER_S


@dataclass(slots=True)
class Counters:
    """Where a run stands, for a progress line; changed as it goes.

    ``sent`` = ``done`` + ``failed`` + ``in_flight``, save for attempts interrupted while they waited for a place: those are in ``failed`` alone.
    """

    sent: int = 0
    done: int = 0
    failed: int = 0
    in_flight: int = 0
    tokens: int = 0
    last_error: str = ErrorClass.NONE

    def add(self, attempt: Attempt) -> None:
        """Count an attempt that is over."""
        if attempt.succeeded:
            self.done += 1
        else:
            self.failed += 1
            self.last_error = attempt.error_class
        if attempt.output_tokens != MISSING_NS:
            self.tokens += attempt.output_tokens


@dataclass(frozen=True, slots=True)
class Driven:
    """One phase as it was driven: its T0 (offsets count from it), its end, the first request number not used, and the generator's health.

    ``stale_retries`` counts its requests that were sent again because a kept connection had died under them.
    """

    start_ns: int
    end_ns: int
    next_request: int
    interrupted: bool
    health: Health
    stale_retries: int = 0


async def drive(
    phase: Phase,
    transport: Transport,
    feed: Feed,
    encode: Encode,
    chunks: ChunkLog,
    rules: Rules,
    *,
    start_ns: int | None = None,
    numbers: tuple[int, int] = (0, 1),
    on_begin: Note = lambda _: None,
    on_end: Note = lambda _: None,
    counters: Counters | None = None,
    stop: asyncio.Event | None = None,
    now: Now = time.monotonic_ns,
    timer: Timer | None = None,
    sampler: HealthSampler | None = None,
) -> Driven:
    """Drive ``phase`` to its end: every session of ``feed`` gone and answered, its duration over, or ``stop`` set.

    ``encode`` writes the turns that could not be made ready before the run. ``start_ns`` is T0 (now, unless given: workers share one);
    ``numbers`` the first request number and the step to the next one. ``on_begin`` is called with every attempt when it is ready to go,
    ``on_end`` when it is over; a request that fails is an attempt like any other. Once ``stop`` is set nothing more is sent, and what is in
    flight after ``rules.drain_ns`` ends as interrupted. A session whose turn failed (after its retries) goes no further: what it has in
    flight ends, nothing else of it begins. In a phase with a duration no turn is begun whose intended start lies past it.

    Of ``phase`` its planned sessions are not looked at: they come from ``feed``. ``sampler`` watches the generator meanwhile, and the sockets it
    was given.
    """
    notes = (on_begin, on_end, counters if counters is not None else Counters())
    own_timer = precise_timer(spin_ns=SPIN_NS) if timer is None else timer
    try:
        with collector_off(), sampler or HealthSampler() as sampled:
            t0_ns = now() if start_ns is None else start_ns
            driving = _Driving(phase, transport, feed, encode, chunks, rules, notes, own_timer, now, t0_ns, numbers)
            interrupted = await driving.run(stop if stop is not None else asyncio.Event())
            health = sampled.health()
            # Sends meet stalls that no tick does: what held the timer up is written down beside what held the ticks up.
            stalls = tuple(sorted({*health.stalls, *own_timer.stalls}))
            return Driven(t0_ns, now(), driving.next_request, interrupted, replace(health, stalls=stalls))
    finally:
        if timer is None:
            own_timer.close()


@dataclass(slots=True)
class _Going:
    """One session on its way. ``branches`` are the tasks of a session that has several at once."""

    ready: Ready
    course: Course
    answers: dict[int, str] = field(default_factory=dict)
    branches: set[asyncio.Task[None]] = field(default_factory=set)
    is_over: bool = False


class _Driving:
    """The state of one `drive`: one task that lets sessions go, and one per session (open loop) or per place (closed loop)."""

    def __init__(
        self,
        phase: Phase,
        transport: Transport,
        feed: Feed,
        encode: Encode,
        chunks: ChunkLog,
        rules: Rules,
        notes: tuple[Note, Note, Counters],
        timer: Timer,
        now: Now,
        start_ns: int,
        numbers: tuple[int, int],
    ) -> None:
        self.next_request, self._request_step = numbers
        self._phase = phase
        self._transport = transport
        self._feed = feed
        self._encode = encode
        self._chunks = chunks
        self._rules = rules
        self._on_begin, self._on_end, self._counters = notes
        self._timer = timer
        self._now = now
        self._start_ns = start_ns
        self._end_ns = None if phase.duration_ns is None else start_ns + phase.duration_ns
        self._places = Places(phase.max_concurrency, now)
        self._trace_ids = TraceIds(rules.run_id, rules.seed)
        self._stopping = False
        self._tasks: set[asyncio.Task[Any]] = set()
        # Tasks that wait for a start, a place, a next turn or a retry: they end at once when told to stop; what is in flight may finish.
        self._waiting: set[asyncio.Task[Any] | None] = set()
        self._fault: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    async def run(self, stop: asyncio.Event) -> bool:
        """Drive the phase; True when ``stop`` ended it."""
        self._spawn(self._closed_loop() if self._phase.loop == "closed" else self._open_loop())
        everything: asyncio.Future[Any] = asyncio.create_task(self._until_done())
        stopped: asyncio.Future[Any] = asyncio.create_task(stop.wait())
        limit_s = None if self._end_ns is None else (self._end_ns + self._rules.timeout_ns - self._now()) / NS_PER_S
        try:
            await asyncio.wait({everything, stopped, self._fault}, timeout=limit_s, return_when=asyncio.FIRST_COMPLETED)
            if not everything.done() and not self._fault.done():
                await self._wind_down(everything)
            if self._fault.done():
                self._fault.result()
            return stopped.done()
        finally:
            self._stopping = True
            stopped.cancel()
            for task in list(self._tasks):
                task.cancel()
            await everything

    async def _wind_down(self, everything: asyncio.Future[Any]) -> None:
        """Send nothing more; give what is in flight its time."""
        self._stopping = True
        self._cut_short(self._waiting)
        await asyncio.wait({everything, self._fault}, timeout=self._rules.drain_ns / NS_PER_S, return_when=asyncio.FIRST_COMPLETED)

    # --- sessions ------------------------------------------------------------------------------------------------------------------------

    async def _open_loop(self) -> None:
        while (ready := await self._wait(self._feed.next())) is not None:
            intended_ns = self._start_ns + (ready.offset_ns if ready.offset_ns is not None else 0)
            await self._wait(self._timer.sleep_until(intended_ns))
            self._spawn(self._session(ready, intended_ns, self._now()))

    async def _closed_loop(self) -> None:
        if self._start_ns > self._now():
            await self._wait(self._timer.sleep_until(self._start_ns))
        for _ in range(self._phase.concurrency or 0):
            self._spawn(self._place())

    async def _place(self) -> None:
        """One place of a closed loop: a session after the other."""
        free_ns = self._start_ns
        task = asyncio.current_task()
        while not (self._stopping or self._is_past(free_ns)):
            self._waiting.add(task)
            ready = await self._feed.next()
            self._waiting.discard(task)
            if ready is None:
                return
            now_ns = self._now()
            free_ns = await self._session(ready, free_ns, now_ns)
            if free_ns > now_ns and free_ns > self._now():  # it ended with a tool
                await self._wait(self._timer.sleep_until(free_ns))

    async def _session(self, ready: Ready, start_ns: int, ready_ns: int) -> int:
        """A session from its intended start; when it ended."""
        only_ns = only_turn_ns(ready.session, start_ns)
        if only_ns is not None:
            return (await self._turn(ready, None, 0, only_ns, ready_ns)).end_ns
        going = _Going(ready, Course(ready.session, start_ns))
        due = going.course.begin()
        if not has_branches(ready.session.steps):
            await self._branch(going, due[0], ready_ns)
        else:
            self._branch_out(going, due)
            while going.branches:
                await asyncio.wait(going.branches)
        return going.course.end_ns

    async def _branch(self, going: _Going, due: Due, ready_ns: int) -> None:
        """Turn after turn until nothing more is due here; ``ready_ns`` is when the driver woke for the first."""
        following = [due]
        while following and not (self._stopping or going.is_over or self._is_past(following[0].at_ns)):
            due, *others = following
            self._branch_out(going, others)
            attempt = await self._turn(going.ready, going, due.step, due.at_ns, ready_ns)
            following = going.course.ended(due.step, attempt.end_ns)
            if not attempt.succeeded:
                self._give_up(going)
            ready_ns = self._now()

    def _branch_out(self, going: _Going, due: list[Due]) -> None:
        for one in due:
            task = self._spawn(self._branch(going, one, self._now()))
            going.branches.add(task)
            task.add_done_callback(going.branches.discard)

    def _give_up(self, going: _Going) -> None:
        """Begin nothing more of this session; what is in flight ends by itself."""
        going.is_over = True
        self._cut_short(self._waiting & going.branches)

    async def _turn(self, ready: Ready, going: _Going | None, step: int, due_ns: int, ready_ns: int) -> Attempt:
        """One turn with its retries; the last attempt. ``going`` is None for a turn that is the whole session."""
        ask = ready.asks[step]
        built_ns = MISSING_NS
        if ask is None:
            ask = self._encode(ready.session, step, going.answers if going is not None else NO_ANSWERS)
            built_ns = ready_ns = self._now()
        if due_ns > ready_ns:
            await self._wait(self._timer.sleep_until(due_ns))
            ready_ns = self._now()
        number = 0
        while True:
            attempt = self._new_attempt(ready, step, number, due_ns, built_ns, ready_ns)
            answer = await self._attempt(attempt, ask)
            if attempt.error_class not in _RETRIED or number >= self._rules.retries or self._stopping or (going and going.is_over):
                break
            await self._wait(self._timer.sleep_until(attempt.end_ns + self._rules.retry_wait_ns * 2**number))
            ready_ns = self._now()
            number += 1
        if ask.keeps_answer and going is not None:
            going.answers[step] = answer
        return attempt

    # --- attempts ------------------------------------------------------------------------------------------------------------------------

    def _new_attempt(self, ready: Ready, step: int, number: int, intended_ns: int, built_ns: int, ready_ns: int) -> Attempt:
        request = self.next_request
        self.next_request += self._request_step
        session, turn = ready.session.session, turn_of(ready.session, step)
        trace_id, span_id = self._trace_ids(session, step, number)
        prompt_tokens, output_tokens = turn.prompt_tokens, turn.output_tokens
        # By position: by name it costs a third more.
        return Attempt(
            request, session, step, number, ready.phase, trace_id, span_id, prompt_tokens, output_tokens, intended_ns, built_ns, ready_ns
        )

    async def _attempt(self, attempt: Attempt, ask: Ask) -> str:
        """Wait for a place, send, give the place back; the attempt has an end whatever happens. The answer's text where it is kept."""
        counters = self._counters
        self._on_begin(attempt)
        try:
            if self._places.try_take():
                attempt.start_ns = attempt.ready_ns
            else:
                attempt.start_ns = await self._wait(self._places.take())
            try:
                if self._stopping:
                    return ""
                counters.sent += 1
                counters.in_flight += 1
                try:
                    return await self._transport.send(ask, attempt, self._chunks)
                finally:
                    counters.in_flight -= 1
            finally:
                self._places.give_back()
        finally:
            if attempt.end_ns == MISSING_NS:
                attempt.end_ns = self._now()
                attempt.error_class = ErrorClass.INTERRUPTED
                attempt.error_text = "the run ended before this request was sent"
            counters.add(attempt)
            self._on_end(attempt)

    # --- tasks ---------------------------------------------------------------------------------------------------------------------------

    def _is_past(self, at_ns: int) -> bool:
        return self._end_ns is not None and at_ns >= self._end_ns

    async def _wait(self, waiting: Coroutine[Any, Any, T]) -> T:
        """Await something that may be cut short when the run is told to stop."""
        task = asyncio.current_task()
        self._waiting.add(task)
        try:
            return await waiting
        finally:
            self._waiting.discard(task)

    @staticmethod
    def _cut_short(tasks: set[asyncio.Task[Any] | None]) -> None:
        for task in tasks:
            if task is not None:
                task.cancel()

    def _spawn(self, coroutine: Coroutine[Any, Any, T]) -> asyncio.Task[T]:
        task = asyncio.create_task(coroutine)
        self._tasks.add(task)
        task.add_done_callback(self._on_done)
        return task

    def _on_done(self, task: asyncio.Task[Any]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (fault := task.exception()) is not None and not self._fault.done():
            self._fault.set_exception(fault)

    async def _until_done(self) -> None:
        """Done when no task is left: each may have started others meanwhile."""
        while self._tasks:
            await asyncio.wait(self._tasks)
