"""Drives one phase of the plan: lets sessions go when they should, follows their turns, writes every attempt down.

open loop     intended = T0 + offset --timer--> ready --place under the cap--> start --transport--> end
closed loop   intended = when a place became free (the first ones: T0)
next turn     intended = end of the turn before + think time
"""

from __future__ import annotations

import asyncio
import itertools
import time
from collections.abc import Callable, Coroutine, Iterable, Iterator
from dataclasses import dataclass
from typing import Any, TypeVar

from latprof.client.health import Health, HealthSampler, collector_off
from latprof.client.places import Places
from latprof.client.stamps import Attempt, ChunkLog, ErrorClass
from latprof.client.trace_ids import trace_ids
from latprof.client.transport import Ask, Encode, Transport
from latprof.clock import Timer, precise_timer
from latprof.schedule.plan import OnDemand, Phase, Planned
from latprof.units import MISSING_NS, NS_PER_MS, NS_PER_S
from latprof.workload.sessions import Session

Prepared = Iterable[tuple[Planned, tuple[Ask, ...]]]
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


@dataclass(frozen=True, slots=True)
class Driven:
    """One phase as it was driven: its T0 (offsets count from it), its end, the first request number not used, and the generator's health."""

    start_ns: int
    end_ns: int
    next_request: int
    interrupted: bool
    health: Health


async def drive(
    phase: Phase,
    transport: Transport,
    encode: Encode,
    chunks: ChunkLog,
    rules: Rules,
    *,
    first_request: int = 0,
    on_begin: Note = lambda _: None,
    on_end: Note = lambda _: None,
    counters: Counters | None = None,
    stop: asyncio.Event | None = None,
) -> Driven:
    """Drive ``phase`` to its end: every planned session gone and answered, its duration over, or ``stop`` set.

    ``on_begin`` is called with every attempt when it is ready to go, ``on_end`` when it is over; a request that fails is an attempt like
    any other. Once ``stop`` is set nothing more is sent, and what is in flight after ``rules.drain_ns`` ends as interrupted. A session whose
    turn failed (after its retries) goes no further. In a phase with a duration no turn is begun whose intended start lies past it.
    """
    prepared = _prepared(phase, encode)
    numbers = itertools.count(first_request)
    recorder = _Recorder(on_begin, on_end, counters if counters is not None else Counters())
    timer = precise_timer()
    try:
        with collector_off(), HealthSampler() as sampler:
            driving = _Driving(phase, transport, chunks, rules, recorder, timer, numbers)
            interrupted = await driving.run(prepared, stop if stop is not None else asyncio.Event())
            return Driven(driving.start_ns, time.monotonic_ns(), next(numbers), interrupted, sampler.health())
    finally:
        timer.close()


def _prepared(phase: Phase, encode: Encode) -> Prepared:
    """Every session with its requests ready for the wire.

    Where the duration alone ends a closed loop they are made one by one when a place is free (0.1 ms for a prompt of 256 tokens): that time
    counts as lateness, since the place was free.
    """
    made = ((planned, _asks(planned.session, encode)) for planned in phase.planned)
    is_endless = isinstance(phase.planned, OnDemand) and phase.planned.limit is None
    return made if is_endless else list(made)


def _asks(session: Session, encode: Encode) -> tuple[Ask, ...]:
    return tuple(encode(session, index) for index in range(len(session.turns)))


@dataclass(frozen=True, slots=True)
class _Recorder:
    """Who is told of attempts."""

    on_begin: Note
    on_end: Note
    counters: Counters

    def sending(self) -> None:
        self.counters.sent += 1
        self.counters.in_flight += 1

    def sent(self) -> None:
        self.counters.in_flight -= 1

    def ended(self, attempt: Attempt) -> None:
        if attempt.succeeded:
            self.counters.done += 1
        else:
            self.counters.failed += 1
            self.counters.last_error = attempt.error_class
        if attempt.output_tokens != MISSING_NS:
            self.counters.tokens += attempt.output_tokens
        self.on_end(attempt)


class _Driving:
    """The state of one `drive`: one task that lets sessions go, and one per session (open loop) or per place (closed loop)."""

    def __init__(
        self,
        phase: Phase,
        transport: Transport,
        chunks: ChunkLog,
        rules: Rules,
        recorder: _Recorder,
        timer: Timer,
        numbers: Iterator[int],
    ) -> None:
        self.start_ns = MISSING_NS
        self._phase = phase
        self._transport = transport
        self._chunks = chunks
        self._rules = rules
        self._recorder = recorder
        self._timer = timer
        self._numbers = numbers
        self._places = Places(phase.max_concurrency, time.monotonic_ns)
        self._stopping = False
        self._tasks: set[asyncio.Task[int | None]] = set()
        # Tasks that wait for a start, a place, a next turn or a retry: they end at once when told to stop; what is in flight may finish.
        self._waiting: set[asyncio.Task[Any] | None] = set()
        self._fault: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    async def run(self, prepared: Prepared, stop: asyncio.Event) -> bool:
        """Drive the phase; True when ``stop`` ended it."""
        self.start_ns = time.monotonic_ns()
        self._spawn(self._closed_loop(prepared) if self._phase.loop == "closed" else self._open_loop(prepared))
        everything: asyncio.Future[Any] = asyncio.create_task(self._until_done())
        stopped: asyncio.Future[Any] = asyncio.create_task(stop.wait())
        limit_s = None if self._phase.duration_ns is None else (self._phase.duration_ns + self._rules.timeout_ns) / NS_PER_S
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
        for task in self._waiting:
            if task is not None:
                task.cancel()
        await asyncio.wait({everything, self._fault}, timeout=self._rules.drain_ns / NS_PER_S, return_when=asyncio.FIRST_COMPLETED)

    # --- sessions ------------------------------------------------------------------------------------------------------------------------

    async def _open_loop(self, prepared: Prepared) -> None:
        for planned, of_session in prepared:
            intended_ns = self.start_ns + (planned.offset_ns if planned.offset_ns is not None else 0)
            await self._wait(self._timer.sleep_until(intended_ns))
            self._spawn(self._session(planned.session, of_session, intended_ns, time.monotonic_ns()))

    async def _closed_loop(self, prepared: Prepared) -> None:
        sessions = ((planned.session, of_session) for planned, of_session in prepared)
        for _ in range(self._phase.concurrency or 0):
            self._spawn(self._place(sessions))

    async def _place(self, sessions: Iterator[tuple[Session, tuple[Ask, ...]]]) -> None:
        """One place of a closed loop: a session after the other. The iterator is shared by all places."""
        free_ns = self.start_ns
        while not self._stopping and not self._is_past(time.monotonic_ns()):
            following = next(sessions, None)
            if following is None:
                return
            free_ns = await self._session(*following, free_ns, time.monotonic_ns())

    async def _session(self, session: Session, asks: tuple[Ask, ...], intended_ns: int, ready_ns: int) -> int:
        """The turns of a session in order; when its last one ended."""
        end_ns = ready_ns
        for index, turn in enumerate(session.turns):
            if index > 0:
                intended_ns = end_ns + turn.think_ns
                if self._stopping or self._is_past(intended_ns):
                    break
                await self._wait(self._timer.sleep_until(intended_ns))
                ready_ns = time.monotonic_ns()
            attempt = await self._turn(session, index, asks[index], intended_ns, ready_ns)
            end_ns = attempt.end_ns
            if not attempt.succeeded:
                break
        return end_ns

    async def _turn(self, session: Session, index: int, ask: Ask, intended_ns: int, ready_ns: int) -> Attempt:
        """One turn with its retries; the last attempt."""
        for number in itertools.count():
            attempt = self._new_attempt(session, index, number)
            attempt.intended_ns, attempt.ready_ns = intended_ns, ready_ns
            await self._attempt(attempt, ask)
            if attempt.error_class not in _RETRIED or number >= self._rules.retries or self._stopping:
                break
            await self._wait(self._timer.sleep_until(attempt.end_ns + self._rules.retry_wait_ns * 2**number))
            ready_ns = time.monotonic_ns()
        return attempt

    # --- attempts ------------------------------------------------------------------------------------------------------------------------

    def _new_attempt(self, session: Session, index: int, number: int) -> Attempt:
        request = next(self._numbers)
        trace_id, span_id = trace_ids(self._rules.run_id, self._rules.seed, request, number)
        turn = session.turns[index]
        return Attempt(
            request=request,
            session=session.session,
            turn=index,
            attempt=number,
            phase=self._phase.name,
            trace_id=trace_id,
            span_id=span_id,
            asked_prompt_tokens=turn.prompt_tokens,
            asked_output_tokens=turn.output_tokens,
        )

    async def _attempt(self, attempt: Attempt, ask: Ask) -> None:
        """Wait for a place, send, give the place back; the attempt has an end whatever happens."""
        self._recorder.on_begin(attempt)
        try:
            if self._places.try_take():
                attempt.start_ns = attempt.ready_ns
            else:
                attempt.start_ns = await self._wait(self._places.take())
            try:
                await self._send(attempt, ask)
            finally:
                self._places.give_back()
        finally:
            if attempt.end_ns == MISSING_NS:
                attempt.end_ns = time.monotonic_ns()
                attempt.error_class = ErrorClass.INTERRUPTED
                attempt.error_text = "the run ended before this request was sent"
            self._recorder.ended(attempt)

    async def _send(self, attempt: Attempt, ask: Ask) -> None:
        if self._stopping:
            return
        self._recorder.sending()
        try:
            await self._transport.send(ask, attempt, self._chunks)
        finally:
            self._recorder.sent()

    # --- tasks ---------------------------------------------------------------------------------------------------------------------------

    def _is_past(self, at_ns: int) -> bool:
        return self._phase.duration_ns is not None and at_ns >= self.start_ns + self._phase.duration_ns

    async def _wait(self, waiting: Coroutine[Any, Any, T]) -> T:
        """Await something that may be cut short when the run is told to stop."""
        task = asyncio.current_task()
        self._waiting.add(task)
        try:
            return await waiting
        finally:
            self._waiting.discard(task)

    def _spawn(self, coroutine: Coroutine[Any, Any, int | None]) -> None:
        task = asyncio.create_task(coroutine)
        self._tasks.add(task)
        task.add_done_callback(self._on_done)

    def _on_done(self, task: asyncio.Task[int | None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (fault := task.exception()) is not None and not self._fault.done():
            self._fault.set_exception(fault)

    async def _until_done(self) -> None:
        """Done when no task is left: each may have started others meanwhile."""
        while self._tasks:
            await asyncio.wait(self._tasks)
