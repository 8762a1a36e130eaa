"""Arrival times and lateness are those that can be computed by hand: exact in virtual time, and within bounds on a live loop."""

from __future__ import annotations

import asyncio
import itertools
import time
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field, replace
from typing import Any

import pytest

from latprof.client.driver import Driven, Rules, drive
from latprof.client.feed import feed_of
from latprof.client.stamps import Attempt, ChunkLog, ErrorClass
from latprof.client.transport import Ask, ask_for
from latprof.clock import Now, precise_timer
from latprof.schedule.plan import Phase, Planned
from latprof.testing import VirtualTime, run_virtual
from latprof.units import MISSING_NS, NS_PER_MS, NS_PER_S
from latprof.workload.sessions import NO_ANSWERS, Answers, Session, Step, Tool, Turn, chain, messages

MS = NS_PER_MS
RULES = Rules("00112233aabbccdd", seed=1, timeout_ns=3600 * NS_PER_S)
SERVICE_NS = 5 * MS
# A live loop on a busy machine may be this late; what the tests tell apart is farther from each other.
SLACK_NS = 150 * MS

Sleep = Callable[[int], Coroutine[Any, Any, None]]


@dataclass
class Server:
    """Answers after `SERVICE_NS`; what begins in, or reaches into, its freeze [from, to) is begun again when that ends."""

    now: Now
    sleep_until: Sleep
    t0_ns: int
    freeze_ns: tuple[int, int] = (0, 0)
    failing: frozenset[tuple[int, int]] = frozenset()
    service_ns: dict[int, int] = field(default_factory=dict)
    in_flight: int = 0
    most_in_flight: int = 0
    bodies: dict[tuple[int, int], bytes] = field(default_factory=dict)

    async def send(self, ask: Ask, attempt: Attempt, chunks: ChunkLog) -> str:  # noqa: ARG002
        self.in_flight += 1
        self.most_in_flight = max(self.most_in_flight, self.in_flight)
        self.bodies[ask.session, ask.turn] = b"".join(ask.body)
        attempt.send_ns = self.now()
        try:
            await self.sleep_until(self.answered_ns(attempt.send_ns, ask.turn))
        finally:
            self.in_flight -= 1
        attempt.end_ns = self.now()
        if (ask.session, ask.turn) in self.failing:
            attempt.error_class = ErrorClass.TIMEOUT
        return f"answer {ask.session}.{ask.turn}" if ask.keeps_answer else ""

    def answered_ns(self, sent_ns: int, turn: int = 0) -> int:
        service_ns = self.service_ns.get(turn, SERVICE_NS)
        from_ns, to_ns = (self.t0_ns + edge_ns for edge_ns in self.freeze_ns)
        return (to_ns if sent_ns < to_ns and sent_ns + service_ns > from_ns else sent_ns) + service_ns


def encode(of: Session, step: int, answers: Answers = NO_ANSWERS) -> Ask:
    return ask_for(of, step, tuple(f"{role}: {text};".encode() for role, text in messages(of, step, answers)))


def conversation(number: int, turns: int = 1, think_ns: int = 0) -> Session:
    return chain(number, tuple(Turn(f"{number}.{index}", 8, 4, think_ns if index else 0, answer="ok") for index in range(turns)))


def open_loop(offsets_ns: list[int], session: Callable[[int], Session] = conversation, **more: Any) -> Phase:
    planned = tuple(Planned(session(number), offset_ns) for number, offset_ns in enumerate(offsets_ns))
    return Phase("measured", planned, "constant", rate_per_s=100, **more)


@dataclass
class Done:
    """A drive as it went; times count from T0."""

    server: Server
    driven: Driven
    attempts: list[Attempt]

    def column(self, name: str) -> list[int]:
        return [getattr(attempt, name) - self.driven.start_ns for attempt in self.attempts]

    def by_turn(self, name: str = "intended_ns") -> dict[tuple[int, int], int]:
        return {(a.session, a.turn): getattr(a, name) - self.driven.start_ns for a in self.attempts}


async def _driven(phase: Phase, now: Now, timer: Any, encoder: Any, **server: Any) -> Done:
    start_ns = now() + 20 * MS
    answering = Server(now, timer.sleep_until, start_ns, **server)
    attempts: list[Attempt] = []
    feed = feed_of(phase, encoder)
    driven = await drive(
        phase, answering, feed, encoder, ChunkLog(), RULES, start_ns=start_ns, on_begin=attempts.append, now=now, timer=timer
    )
    assert driven.start_ns == start_ns
    return Done(answering, driven, attempts)


def virtually(phase: Phase, encoder: Any = encode, **server: Any) -> Done:
    async def main(virtual: VirtualTime) -> Done:
        return await _driven(phase, virtual, virtual, encoder, **server)

    return run_virtual(main)


def farthest(these: list[int], those: list[int]) -> int:
    return max(abs(one - other) for one, other in zip(these, those, strict=True))


async def within_slack(off_ns: Callable[[], Coroutine[Any, Any, int]], tries: int = 6) -> None:
    """A machine that stood still gets another try; what is wrong stays wrong."""
    tried: list[int] = []
    while not tried or (tried[-1] >= SLACK_NS and len(tried) < tries):
        tried.append(await off_ns())
    assert tried[-1] < SLACK_NS, tried


async def live(phase: Phase, **server: Any) -> Done:
    timer = precise_timer()
    try:
        return await _driven(phase, time.monotonic_ns, timer, encode, **server)
    finally:
        timer.close()


def first_come(offsets_ns: list[int], freeze_ns: tuple[int, int], cap: int) -> tuple[list[int], list[int]]:
    """Starts and ends by hand: request i begins when it is due and request i - cap has ended (all take equally long, so they end in order)."""
    starts: list[int] = []
    ends: list[int] = []
    for index, offset_ns in enumerate(offsets_ns):
        starts.append(max(offset_ns, ends[index - cap]) if index >= cap else offset_ns)
        begun_ns = freeze_ns[1] if starts[-1] < freeze_ns[1] and starts[-1] + SERVICE_NS > freeze_ns[0] else starts[-1]
        ends.append(begun_ns + SERVICE_NS)
    return starts, ends


EVERY_10_MS = [index * 10 * MS for index in range(300)]
FREEZE_NS = (1_000 * MS, 2_000 * MS)


# --- coordinated omission -----------------------------------------------------------------------------------------------------------------


def test_an_open_loop_sends_into_a_freeze_as_if_nothing_were() -> None:
    done = virtually(open_loop(EVERY_10_MS), freeze_ns=FREEZE_NS)
    assert done.column("intended_ns") == done.column("ready_ns") == done.column("start_ns") == EVERY_10_MS
    waited = [end - begin for begin, end in zip(done.column("intended_ns"), done.column("end_ns"), strict=True)]
    assert waited == [FREEZE_NS[1] - at + SERVICE_NS if FREEZE_NS[0] <= at < FREEZE_NS[1] else SERVICE_NS for at in EVERY_10_MS]
    assert done.server.most_in_flight == 101  # all of the freeze, and the one that comes as it ends


@pytest.mark.parametrize("cap", [1, 4, 50])
def test_under_a_cap_the_wait_for_a_place_is_lateness(cap: int) -> None:
    done = virtually(open_loop(EVERY_10_MS, max_concurrency=cap), freeze_ns=FREEZE_NS)
    starts, ends = first_come(EVERY_10_MS, FREEZE_NS, cap)
    assert done.column("intended_ns") == done.column("ready_ns") == EVERY_10_MS
    assert done.column("start_ns") == starts
    assert done.column("end_ns") == ends
    assert max(start - at for start, at in zip(starts, EVERY_10_MS, strict=True)) == 1_000 * MS + SERVICE_NS - cap * 10 * MS
    assert done.server.most_in_flight == cap


def test_a_closed_loop_hides_a_freeze_and_its_intended_starts_say_so() -> None:
    phase = Phase("measured", tuple(Planned(conversation(number), None) for number in range(60)), "closed", concurrency=3)
    done = virtually(phase, freeze_ns=(50 * MS, 1_050 * MS))
    before = [5 * MS * (number // 3) for number in range(30)]
    after = [1_050 * MS + 5 * MS * (number // 3) for number in range(3, 30)]
    assert done.column("intended_ns") == [*before, *[50 * MS] * 3, *after]
    assert done.column("start_ns") == done.column("intended_ns")


async def test_a_cap_under_a_freeze_on_a_live_loop() -> None:
    offsets_ns, freeze_ns = [index * 10 * MS for index in range(40)], (100 * MS, 300 * MS)
    starts, ends = first_come(offsets_ns, freeze_ns, 4)

    async def off_ns() -> int:
        done = await live(open_loop(offsets_ns, max_concurrency=4), freeze_ns=freeze_ns)
        assert done.column("intended_ns") == offsets_ns
        assert done.server.most_in_flight == 4
        return max(farthest(done.column("start_ns"), starts), farthest(done.column("end_ns"), ends))

    await within_slack(off_ns)


# --- partly open --------------------------------------------------------------------------------------------------------------------------


def test_partly_open_sessions_start_by_the_schedule_and_go_on_by_the_answers() -> None:
    def session(number: int) -> Session:
        return conversation(number, turns=3, think_ns=30 * MS)

    done = virtually(open_loop(EVERY_10_MS, session), freeze_ns=FREEZE_NS)
    expected = {}
    for number, at_ns in enumerate(EVERY_10_MS):
        for turn in range(3):
            expected[number, turn] = at_ns
            begun_ns = FREEZE_NS[1] if at_ns < FREEZE_NS[1] and at_ns + SERVICE_NS > FREEZE_NS[0] else at_ns
            at_ns = begun_ns + SERVICE_NS + 30 * MS  # noqa: PLW2901
    assert done.by_turn() == expected
    assert done.by_turn("start_ns") == expected


async def test_partly_open_sessions_on_a_live_loop() -> None:
    def session(number: int) -> Session:
        return conversation(number, turns=3, think_ns=30 * MS)

    async def off_ns() -> int:
        done = await live(open_loop([0, 10 * MS, 20 * MS], session))
        ends, due = done.by_turn("end_ns"), done.by_turn()
        assert all(at == ends[number, turn - 1] + 30 * MS for (number, turn), at in due.items() if turn)
        return farthest(
            [at for _, at in sorted(due.items())], [number * 10 * MS + turn * 35 * MS for number in range(3) for turn in range(3)]
        )

    await within_slack(off_ns)


# --- graphs -------------------------------------------------------------------------------------------------------------------------------


def turn(after: tuple[int, ...] = (), context: int = -1, **more: Any) -> Turn:
    return Turn("p", 8, 4, after=after, context=context, **{"answer": "ok", **more})


# 0 turn ── 1 tool 40 ms ──┐              5 at 100 ms at the earliest
#    ├───── 2 tool 10 ms ── 3 turn ── 4 turn (joins 1 and 3) ── 5 turn
#    └───── 6 turn (fork, its own context) ── 7 tool 500 ms
GRAPH: tuple[Step, ...] = (
    turn(),
    Tool("search", 40 * MS, (0,)),
    Tool("read", 10 * MS, (0,)),
    turn((2,), 0, think_ns=MS),
    turn((1, 3), 3, think_ns=2 * MS),
    turn((4,), 4, at_ns=100 * MS),
    turn((0,), 0),
    Tool("write", 500 * MS, (6,)),
)
GRAPH_DUE = {0: 0, 3: 16 * MS, 6: 5 * MS, 4: 47 * MS, 5: 100 * MS}


def test_branches_tools_and_joins_keep_their_times() -> None:
    done = virtually(open_loop([0, 3 * MS], lambda number: Session(number, GRAPH)))
    assert done.by_turn() == {(number, step): number * 3 * MS + at for number in range(2) for step, at in GRAPH_DUE.items()}
    assert done.by_turn("start_ns") == done.by_turn()


def test_a_place_is_held_until_every_branch_and_tool_has_ended() -> None:
    planned = tuple(Planned(Session(number, GRAPH), None) for number in range(2))
    done = virtually(Phase("measured", planned, "closed", concurrency=1))
    assert done.by_turn()[1, 0] == 510 * MS
    assert {step: at - 510 * MS for (number, step), at in done.by_turn().items() if number} == GRAPH_DUE


def test_a_join_waits_for_the_slowest_branch() -> None:
    steps = (turn(), turn((0,), 0), turn((0,), 0), turn((1, 2), 1))
    done = virtually(open_loop([0], lambda number: Session(number, steps)), service_ns={1: 70 * MS})
    assert done.by_turn() == {(0, 0): 0, (0, 1): 5 * MS, (0, 2): 5 * MS, (0, 3): 75 * MS}


def test_sessions_may_begin_with_a_tool_a_think_time_or_in_several_places() -> None:
    steps = (Tool("fetch", 7 * MS), turn((0,), think_ns=MS), turn(think_ns=2 * MS), turn(at_ns=30 * MS))
    done = virtually(open_loop([4 * MS], lambda number: Session(number, steps)))
    assert done.by_turn() == {(0, 1): 12 * MS, (0, 2): 6 * MS, (0, 3): 34 * MS}


def test_a_session_whose_turn_failed_begins_nothing_more_and_ends_what_is_in_flight() -> None:
    steps = (turn(), turn((0,), 0), turn((0,), 0), turn((0,), 0, think_ns=1_000 * MS), turn((1,), 1), turn((2,), 2))
    done = virtually(open_loop([0], lambda number: Session(number, steps)), service_ns={2: 50 * MS}, failing=frozenset({(0, 1)}))
    assert set(done.by_turn()) == {(0, 0), (0, 1), (0, 2)}
    assert done.by_turn("end_ns")[0, 2] == 55 * MS
    assert done.driven.end_ns - done.driven.start_ns == 55 * MS


def test_no_turn_of_a_branch_begins_after_the_phase() -> None:
    done = virtually(open_loop([0], lambda number: Session(number, GRAPH), duration_ns=40 * MS))
    assert set(done.by_turn()) == {(0, 0), (0, 3), (0, 6)}


# --- real answers -------------------------------------------------------------------------------------------------------------------------


def test_real_answers_feed_later_turns() -> None:
    steps = (turn(answer=None), turn((0,), 0), turn((1,), 1, answer=None), turn((2,), 2), turn((0,), 0))
    done = virtually(open_loop([0], lambda number: Session(number, steps)))
    assert done.server.bodies[0, 3] == b"user: p;assistant: answer 0.0;user: p;assistant: ok;user: p;assistant: answer 0.2;user: p;"
    assert done.server.bodies[0, 4] == b"user: p;assistant: answer 0.0;user: p;"
    assert [a.built_ns == MISSING_NS for a in done.attempts] == [a.turn == 0 for a in done.attempts]


@pytest.mark.parametrize(("think_ms", "spilled_ms"), [(10, 0), (1, 2), (0, 3)])
def test_a_body_is_written_in_the_think_time_and_what_spills_is_stamped(think_ms: int, spilled_ms: int) -> None:
    session = chain(0, (turn(answer=None), turn(think_ns=think_ms * MS)))

    async def main(virtual: VirtualTime) -> Done:
        def slow(of: Session, step: int, answers: Answers = NO_ANSWERS) -> Ask:
            virtual.now_ns += 3 * MS if answers else 0
            return encode(of, step, answers)

        return await _driven(open_loop([0], lambda _: session), virtual, virtual, slow)

    first, second = run_virtual(main).attempts
    assert second.intended_ns == first.end_ns + think_ms * MS
    assert second.built_ns == first.end_ns + 3 * MS
    assert second.ready_ns == second.start_ns == second.intended_ns + spilled_ms * MS


def test_what_can_be_written_before_the_run_is() -> None:
    session = chain(0, (turn(answer=None), turn(), turn()))
    mixed = Session(0, (*session.steps, replace(turn((2,)), prompt="alone")))
    calls = itertools.count()
    written: list[tuple[int, int]] = []

    def counted(of: Session, step: int, answers: Answers = NO_ANSWERS) -> Ask:
        written.append((next(calls), step))
        return encode(of, step, answers)

    virtually(open_loop([0], lambda _: mixed), counted)
    assert [step for _, step in written] == [0, 3, 1, 2]


# --- virtual time itself ------------------------------------------------------------------------------------------------------------------


def test_virtual_time_passes_only_while_everybody_waits() -> None:
    async def main(virtual: VirtualTime) -> list[tuple[str, int]]:
        begun_ns, woken = virtual(), list[tuple[str, int]]()

        async def sleeper(name: str, for_ns: int) -> None:
            await virtual.sleep(for_ns)
            woken.append((name, virtual() - begun_ns))

        await asyncio.gather(sleeper("b", 2 * NS_PER_S), sleeper("a", 3_600 * NS_PER_S + 1), sleeper("c", 2 * NS_PER_S))
        await asyncio.sleep(0.5)
        woken.append(("loop", virtual() - begun_ns))
        return woken

    hour_ns = 3_600 * NS_PER_S
    (b, c, a, loop) = run_virtual(main)
    assert [b, c, a] == [("b", 2 * NS_PER_S), ("c", 2 * NS_PER_S), ("a", hour_ns + 1)]
    assert loop[1] == pytest.approx(hour_ns + NS_PER_S // 2, abs=1_000)


def test_virtual_time_says_when_nobody_will_ever_wake() -> None:
    async def main(virtual: VirtualTime) -> None:  # noqa: ARG001
        await asyncio.get_running_loop().create_future()

    with pytest.raises(RuntimeError, match="everybody waits"):
        run_virtual(main)
