"""One colocated replica, iteration by iteration: decodes and prompts share every pass over the model.

    |-- iteration --|-- iteration --|-- iteration --|     budget C tokens each
    decodes 1 each, then the prompt under way, then waiting prompts in order, as many tokens as the budget leaves

The iteration that computes a prompt's last token makes the answer's first. A stretch without prompts is one step up to the next change
of who is in the batch, so that cost does not grow with tokens. Time is kept in ticks (2^-30 ns): sums over a stretch are exact integers.
"""

from __future__ import annotations

from collections.abc import Hashable
from heapq import heappop, heappush
from typing import Generic, TypeVar

from latprof.stub.models.batch import Prompts, Streams
from latprof.stub.models.costs import KV_UNITS, TICK_BITS, Costs
from latprof.stub.models.jobs import UNLIMITED, Happened, Job, Kind, Limits, Plain, Present
from latprof.stub.models.prefill import PrefixCache
from latprof.stub.models.steps import Segment, Step, iterations_until, segments_of

__all__ = ["UNLIMITED", "Engine", "Happened", "Job", "Kind", "Limits", "Segment"]

J = TypeVar("J", bound=Hashable)


class Engine(Generic[J]):
    """A replica. Times passed in never go back; a driver reads ``next_ns`` again after every call.

    An arrival at the very instant of a boundary joins the iteration that begins then, whichever call comes first.

    Raises:
        ValueError: limits under which nothing could ever go on.
    """

    def __init__(self, costs: Costs, limits: Limits) -> None:
        if not 1 <= limits.max_sequences <= limits.token_budget:
            raise ValueError(f"max_sequences must be from 1 to the token budget of {limits.token_budget}, got {limits.max_sequences}")
        if limits.accepted_tokens < 1:
            raise ValueError(f"an iteration makes at least one token per stream, got {limits.accepted_tokens:g}")
        self.limits = limits
        self.next_ns: int | None = None
        """When ``advance`` should be called if nobody arrives or leaves before; None while there is nothing to do."""
        self._costs = costs
        self._present: dict[J, Present[J]] = {}
        self._prompts: Prompts[J] = Prompts(limits)
        self._streams: Streams[J] = Streams(limits.accepted_tokens)
        self._held: list[tuple[int, int, bool, Present[J]]] = []  # (due ns, order, its first token comes next, who)
        self._order = 0
        self._joining: list[Present[J]] = []  # decode from the next boundary on
        self._leaving: list[Present[J]] = []  # are no more from the next boundary on
        self._out: list[Plain[J]] = []
        self._untold = False  # something was due that a driver who came or left for another reason has not heard of
        self._log: list[Step] = []  # steps that are over, until they are taken
        self._done = 0  # iterations
        # The present step: `_count` iterations from tick `_start` to tick `_end`. `_count` 0 means idle: that has no end.
        self._start = self._base = self._growth = self._count = self._end = 0
        self._end_ns = UNLIMITED

    @property
    def cache(self) -> PrefixCache:
        """The replica's prefix cache."""
        return self._prompts.cache

    @property
    def running(self) -> int:
        """Requests that have begun and are not over."""
        return self._prompts.sequences

    @property
    def waiting(self) -> int:
        """Requests that wait for the scheduler."""
        return len(self._prompts.waiting)

    @property
    def free_blocks(self) -> int:
        """KV blocks that nobody has taken."""
        return self._prompts.free

    def fits(self, prompt_tokens: int, output_tokens: int) -> bool:
        """Whether such a request can ever be admitted: its KV is no larger than the replica's whole memory for it."""
        return -(-(prompt_tokens + output_tokens) // self.limits.block_tokens) <= self.limits.kv_blocks

    def arrive(self, now_ns: int, job: Job[J]) -> None:
        """A request comes. What it sets off is told by the next ``advance``.

        Raises:
            ValueError: it can never fit, or has no tokens to read or to make, or is here already.
        """
        prompts = self._prompts
        came = Present(job, prompts.blocks_of(job))
        if came.reserved > self.limits.kv_blocks or job.prompt_tokens < 1 or job.output_tokens < 1 or job.job in self._present:
            raise ValueError(self._unfit(came))
        self._catch_up(now_ns)
        self._present[job.job] = came
        prompts.waiting.append(came)
        if len(prompts.waiting) == 1 and prompts.has_place(came):
            self._interrupt(now_ns)
        self._note_next()

    def advance(self, now_ns: int) -> list[Happened[J]]:
        """Everything that is due up to and including ``now_ns``, in order of time."""
        return list(map(Happened._make, self.advance_plain(now_ns)))

    def advance_plain(self, now_ns: int) -> list[Plain[J]]:
        """`advance` with plain tuples."""
        self._run(now_ns)
        out, self._out = self._out, []
        self._untold = False
        self._note_next()
        return out

    def leave(self, now_ns: int, job: J) -> None:
        """Its reader has gone: at the next boundary it gives its place back, and nothing more is heard of it. Unknown jobs are ignored."""
        self._catch_up(now_ns)
        gone = self._present.pop(job, None)
        if gone is None:
            self._note_next()
            return
        gone.gone = True
        if gone.computed >= 0:
            self._leaving.append(gone)
        else:
            self._prompts.waiting.remove(gone)
        if not self._count:
            self._drop_leaving()
        self._interrupt(now_ns)
        self._note_next()

    def take_segments(self) -> list[Segment]:
        """The iterations that are over since last asked, as runs of equal steps; each run's total is exact."""
        taken, self._log = self._log, []
        return segments_of(taken)

    def boundary_after(self, now_ns: int) -> tuple[int | None, int]:
        """For a driver that sends every token: when the iteration under way just after ``now_ns`` ends (None: nothing runs), and how many are over."""
        if not self._count:
            return None, self._done
        nth = min(self._count, iterations_until(self._base, self._growth, ((now_ns + 1) << TICK_BITS) - self._start))
        end = self._start + nth * self._base + self._growth * (nth * (nth - 1) // 2)
        return end >> TICK_BITS, self._done + nth - 1

    def made(self, joined: int, iterations: int, output_tokens: int) -> int:
        """How many tokens a stream has made once ``iterations`` are over; ``joined`` is the ``iteration`` of its ``first``."""
        return min(output_tokens, 1 + max(0, iterations - joined) * self._streams.accepted // KV_UNITS)

    # --- the course of time --------------------------------------------------------------------------------------------------------------

    def _run(self, now_ns: int) -> None:
        """Up to and including ``now_ns``. What is held until a boundary's instant goes before the boundary."""
        held = self._held
        while self._end_ns <= now_ns or (held and held[0][0] <= now_ns):
            if held and held[0][0] <= self._end_ns:
                self._release(held[0][0])
            else:
                self._finish_step()

    def _catch_up(self, now_ns: int) -> None:
        """Before somebody comes or goes: what is due happens first."""
        if self._end_ns <= now_ns or (self._held and self._held[0][0] <= now_ns):
            self._run(now_ns)
            self._untold = bool(self._out)

    def _note_next(self) -> None:
        due_ns = self._end_ns
        if self._untold:
            due_ns = self._out[0][2]
        elif self._held:
            due_ns = min(self._held[0][0], due_ns)
        self.next_ns = None if due_ns == UNLIMITED else due_ns

    def _interrupt(self, now_ns: int) -> None:
        """Somebody came or went: the present step ends with the iteration under way, or is planned again if no time has passed in it."""
        if not self._count:
            self._start = max(self._start, now_ns << TICK_BITS)
            self._begin()
        elif now_ns <= self._start >> TICK_BITS:
            self._plan()
        else:
            self._end_with_iteration_at(now_ns)

    def _end_with_iteration_at(self, now_ns: int) -> None:
        if self._count > 1:
            self._cut(min(self._count, iterations_until(self._base, self._growth, (now_ns << TICK_BITS) - self._start)))

    def _cut(self, count: int) -> None:
        self._count = count
        self._end = self._start + count * self._base
        if self._growth:
            self._end += self._growth * (count * (count - 1) // 2)
        self._end_ns = self._end >> TICK_BITS

    def _finish_step(self) -> None:
        count, now_ns = self._count, self._end_ns
        self._log.append((self._done, self._start, self._base, self._growth, count))
        self._start = self._end
        self._done = done = self._done + count
        if self._streams.next_end <= done:
            for who in self._streams.ended(done):
                self._over(now_ns, who)
        if self._prompts.tokens:
            for who in self._prompts.computed():
                who.joined = done
                if who.asked.prefill_extra_ns > 0:
                    self._hold(now_ns + who.asked.prefill_extra_ns, who, prefilled=False)
                else:
                    self._prefilled(now_ns, who)
        if self._leaving:
            self._drop_leaving()
        self._begin()

    def _prefilled(self, now_ns: int, who: Present[J]) -> None:
        """Its prompt is computed and let go."""
        asked = who.asked
        self._out.append(("prefilled", asked.job, now_ns, who.cached, who.joined))
        if asked.first_extra_ns > 0:
            self._hold(now_ns + asked.first_extra_ns, who, prefilled=True)
        else:
            self._first(now_ns, who)

    def _first(self, now_ns: int, who: Present[J]) -> None:
        """Its first token is out; it decodes from the next boundary on."""
        self._out.append(("first", who.asked.job, now_ns, who.cached, who.joined))
        if who.asked.output_tokens == 1:
            self._over(now_ns, who)
        else:
            self._joining.append(who)

    def _over(self, now_ns: int, who: Present[J]) -> None:
        """Its last token is out."""
        self._out.append(("ended", who.asked.job, now_ns, who.cached, self._done if who.streams else who.joined))
        del self._present[who.asked.job]
        self._give_back(who)

    def _give_back(self, who: Present[J]) -> None:
        self._prompts.give_back(who)
        if who.streams:
            self._streams.leave(who)

    def _drop_leaving(self) -> None:
        for who in self._leaving:
            self._give_back(who)
        self._leaving.clear()

    # --- what is planted to be late ------------------------------------------------------------------------------------------------------

    def _hold(self, due_ns: int, who: Present[J], *, prefilled: bool) -> None:
        self._order += 1
        heappush(self._held, (due_ns, self._order, prefilled, who))

    def _release(self, due_ns: int) -> None:
        """Everything held until ``due_ns``; whose first token goes out decodes from the next boundary on, or now if nothing runs."""
        self._end_with_iteration_at(due_ns)
        while self._held and self._held[0][0] == due_ns:
            _, _, prefilled, who = heappop(self._held)
            if who.gone:
                continue
            if prefilled or who.asked.first_extra_ns == 0:
                who.joined, computed = self._done + self._count, who.joined
                if not prefilled:
                    self._out.append(("prefilled", who.asked.job, due_ns, who.cached, computed))
                self._first(due_ns, who)
            else:
                self._prefilled(due_ns, who)
        if not self._count:
            self._start = max(self._start, due_ns << TICK_BITS)
            self._begin()

    # --- the next iteration --------------------------------------------------------------------------------------------------------------

    def _begin(self) -> None:
        """A boundary: whose first token is out decodes from now on."""
        if self._joining:
            for who in self._joining:
                if not who.gone:
                    self._streams.join(who)
            self._joining.clear()
        self._plan()

    def _plan(self) -> None:
        """What the iterations from here on do, up to the next boundary at which that can change."""
        prompts, streams, growth = self._prompts, self._streams, 0
        if prompts.waiting or prompts.partial is not None:
            for who in prompts.admit(streams.count):
                self._out.append(("begun", who.asked.job, self._start >> TICK_BITS, who.cached, self._done))
        if prompts.tokens:
            base = self._costs.mixed(streams.count, streams.kv(self._done), prompts.tokens, prompts.pairs2, prompts.context)
            count = 1
        elif streams.count:
            base, compute = self._costs.decode(streams.count, streams.kv(self._done))
            growth = self._costs.kv * streams.accepted * streams.count
            count = streams.next_end - self._done
            if base < compute:  # bound by compute until the contexts have grown
                if growth:
                    count = min(count, -((compute - base) // -growth))
                base, growth = compute, 0
            if self._leaving:
                count = 1
        else:
            self._count, self._end_ns = 0, UNLIMITED
            return
        self._base, self._growth = base or 1, growth
        self._cut(count)

    def _unfit(self, came: Present[J]) -> str:
        job = came.asked
        if job.job in self._present:
            return f"request {job.job!r} is here already"
        if job.prompt_tokens < 1 or job.output_tokens < 1:
            return f"a request has at least one token each way, got {job.prompt_tokens} and {job.output_tokens}"
        return (
            f"a request of {job.prompt_tokens} + {job.output_tokens} tokens takes {came.reserved} KV blocks"
            f" of {self.limits.block_tokens} tokens, and the replica has {self.limits.kv_blocks}: it would wait for ever"
        )
