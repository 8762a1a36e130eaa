"""The decode pools and the colocated replicas on the calendar: the machines of `latprof.queues.batch` and `latprof.stub.models.engine`."""

from __future__ import annotations

from latprof.config import Decode
from latprof.errors import ConfigError
from latprof.queues.batch import BatchMachine
from latprof.stub.models.engine import UNLIMITED, Engine, Job
from latprof.stub.models.stages import Layer
from latprof.stub.virtual.calendar import Calendar
from latprof.stub.virtual.call import Call, Then
from latprof.stub.virtual.integrals import Integral, Reading
from latprof.stub.virtual.stations import delays
from latprof.stub.virtual.streams import Alarm, Streams

# How often the iterations are asked for where nobody waits for them.
_LOOKS = 1024


class VirtualDecode:
    """A decode pool. A call that comes goes on over ``streams`` once its last token is made, which ``left`` is told."""

    def __init__(self, calendar: Calendar, decode: Decode, first: Layer, speedup: float, streams: Streams, left: Then) -> None:
        self.integral = Integral(decode.slots)
        self._machine: BatchMachine[Call] = BatchMachine(decode.t1_ns / speedup, decode.per_sequence_ns / speedup, decode.slots)
        self._alarm = Alarm(calendar, self._wake)
        self._first = first
        self._delays_firsts = delays(first)
        self._streams, self._left = streams, left
        self._wakes = 0

    def arrive(self, now_ns: int, call: Call) -> None:
        """A call comes with its context."""
        call.since_ns = now_ns
        extra_ns = self._first.adjust_ns(0, call.key) if self._delays_firsts else 0
        self._machine.arrive(now_ns, call, call.output_tokens, extra_ns)
        self._look(now_ns)

    def close(self) -> None:
        """Hand on the last iterations."""
        self._take()
        self._streams.flush()

    def _look(self, now_ns: int) -> None:
        machine = self._machine
        running = machine.running
        self.integral.change(now_ns, running + machine.waiting, running)
        self._alarm.set(machine.next_ns)

    def _wake(self, now_ns: int, due_ns: int) -> None:
        if due_ns != self._alarm.due_ns:
            return  # it was moved
        self._alarm.due_ns = None
        outs = self._machine.advance(now_ns)
        self._wakes += 1
        if self._streams.keeps or self._wakes % _LOOKS == 0:
            self._take()
        for kind, call, at_ns, admitted_ns, nth in outs:
            if kind == "first":
                call.marks += (admitted_ns - call.since_ns, at_ns - admitted_ns)
                self._streams.first(call, at_ns, nth + 1, follows=True)
            else:
                self._left(now_ns, call)
                # A stream that was held back made its other tokens in its last iterations.
                self._streams.ended(call, at_ns, nth + 1, nth + 2 - call.output_tokens)
        self._look(now_ns)

    def _take(self) -> None:
        self._streams.log([(one.first_iteration, one.start_ns, one.step_ns, one.count) for one in self._machine.take_segments()])


class VirtualReplica:
    """A colocated replica: the layers engine.queue, prefill and decode.first of its calls are what it says of them.

    Its integrals are what left minus what came, summed up, as those of `latprof.stub.virtual.stations.VirtualStation`.
    """

    def __init__(self, calendar: Calendar, engine: Engine[Call], layers: tuple[Layer, Layer], streams: Streams, left: Then) -> None:
        self.servers: int | None = engine.limits.max_sequences
        self._engine = engine
        self._alarm = Alarm(calendar, self._wake)
        self._prefill, self._first = layers
        self._delays = any(map(delays, layers))
        self._is_limited = engine.limits.kv_blocks < UNLIMITED
        self._streams, self._left = streams, left
        self._late: set[Call] = set()  # their first token does not come with an iteration's end
        self._looks = 0
        self._present_ns = self._busy_ns = 0

    def arrive(self, now_ns: int, call: Call) -> None:
        """A call comes with its prompt.

        Raises:
            ConfigError: the replica's KV memory can never hold it.
        """
        call.since_ns = now_ns
        self._present_ns -= now_ns
        if self._is_limited and not self._engine.fits(call.prompt_tokens, call.output_tokens):
            raise ConfigError(
                f"stub.engine.kv_tokens: a request of {call.prompt_tokens} + {call.output_tokens} tokens does not fit into a replica's"
                " KV memory, and would wait for ever; give it more, or ask for less (workload)"
            )
        prefill_ns = first_ns = 0
        if self._delays:
            prefill_ns, first_ns = self._prefill.adjust_ns(0, call.key), self._first.adjust_ns(0, call.key)
            if prefill_ns or first_ns:
                self._late.add(call)
        self._engine.arrive(now_ns, Job(call, call.prompt_tokens, call.blocks, call.output_tokens, prefill_ns, first_ns, call.lone_blocks))
        self._looks += 1
        due_ns = self._engine.next_ns
        if self._streams.keeps or self._looks % _LOOKS == 0 or (due_ns is not None and due_ns <= now_ns):
            self._settle(now_ns)
        else:  # what it set off is heard of when the iteration under way is over
            self._alarm.set(due_ns)

    def read(self, now_ns: int) -> Reading:
        """The integrals up to now.

        Raises:
            RuntimeError: somebody is here.
        """
        present = self._engine.running + self._engine.waiting
        if present:
            raise RuntimeError(f"a replica is read at {now_ns} ns, when {present} calls are with it")
        return Reading(self._present_ns, self._busy_ns)

    def close(self) -> None:
        """Hand on the last iterations."""
        self._streams.log(self._engine.take_segments())
        self._streams.flush()

    def _wake(self, now_ns: int, due_ns: int) -> None:
        if due_ns == self._alarm.due_ns:  # else it was moved
            self._alarm.due_ns = None
            self._looks += 1
            self._settle(now_ns)

    def _settle(self, now_ns: int) -> None:
        """Take in what has happened up to now."""
        engine, streams, late = self._engine, self._streams, self._late
        happened = engine.advance_plain(now_ns)
        if streams.keeps or self._looks % _LOOKS == 0:
            streams.log(engine.take_segments())
        for kind, call, at_ns, cached_tokens, iteration in happened:
            if kind == "begun":
                self._busy_ns -= at_ns
                call.marks.append(at_ns - call.since_ns)
                call.since_ns, call.cached_tokens = at_ns, cached_tokens
            elif kind == "prefilled":
                call.marks += (at_ns - call.since_ns, 0, 0)  # and no kv.transfer
                call.since_ns = at_ns
            elif kind == "first":
                call.marks += (0, at_ns - call.since_ns)
                streams.first(call, at_ns, iteration, follows=call not in late)
            else:
                self._present_ns += at_ns
                self._busy_ns += at_ns
                self._left(now_ns, call)
                late.discard(call)
                streams.ended(call, at_ns, iteration)
        self._alarm.set(engine.next_ns)
