"""The stack in a box in virtual time: sessions in, answered calls out, to the nanosecond and the same from the same seed.

    clients -> gateway.* -> router -> [engine.queue, prefill] -> kv.transfer -> [decode.first, decode] -> proxy.hold -> clients
                                   -> [engine.queue, prefill, decode.first, decode]  where prompts and answers share replicas

The models are those of the live stack, and so are the draws, keyed by (seed, session, turn, layer). Between the stages lies no network, and nobody
hangs up.
"""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Final

from latprof.config import Stub
from latprof.errors import ConfigError
from latprof.stub.filling import filled
from latprof.stub.models.stages import GATEWAY_LAYERS, HOLD, check
from latprof.stub.virtual.calendar import Calendar
from latprof.stub.virtual.call import Call, VirtualPhase
from latprof.stub.virtual.clients import Clients, Driven
from latprof.stub.virtual.engines import ENGINE, colocated, disaggregated, station_of
from latprof.stub.virtual.integrals import Integrated, Reading, total
from latprof.stub.virtual.stations import chain
from latprof.stub.virtual.streams import Segments

__all__ = ["CALLS", "ENGINE", "MARKED", "Passed", "Simulated", "check_faults", "simulate"]

CALLS: Final = "calls"
"""The whole stack as a station: every call from its start to its last token."""

MARKED: Final = (*GATEWAY_LAYERS, "router", "prefill", "kv.transfer", "decode.first", HOLD)
"""The layers of a call's marks, wait and service each; the wait before `prefill` is the layer `engine.queue`."""


@dataclass(frozen=True, slots=True)
class Passed:
    """One station over one phase: its servers (None: not a number), and its integrals."""

    servers: int | None
    present_ns: int
    busy_ns: int


@dataclass(frozen=True, slots=True)
class Simulated:
    """What became of the phases: when each was driven, how many turns its sessions had, and per phase what every station's integrals say."""

    driven: tuple[Driven, ...]
    turns: tuple[int, ...]
    stations: tuple[dict[str, Passed], ...]


def simulate(stub: Stub, phases: Sequence[VirtualPhase], on_call: Callable[[Call], None], on_iterations: Segments) -> Simulated:
    """Drive ``phases`` through the stack. ``on_call`` is told of every call when its last token is at the client.

    Raises:
        ConfigError: the configuration names what the stack has not, or what cannot be played in virtual time.
    """
    check(stub)
    check_faults(stub)
    with _collector_off():
        return _Stack(filled(stub), phases, on_call, on_iterations).run()


def check_faults(stub: Stub) -> None:
    """Refuse what only a live stack can play.

    Raises:
        ConfigError: with the path of the fault.
    """
    for index, fault in enumerate(stub.faults):
        if fault.kind != "stall":
            raise ConfigError(
                f"stub.faults.{index}: {fault.kind} cannot be simulated, in virtual time a fault can only be a stall; drop it, or measure it live"
                " with latprof run"
            )


class _Stack:
    """Everything of one simulation. Calls enter at the gateway, the router hands them to ``engine``."""

    def __init__(self, stub: Stub, phases: Sequence[VirtualPhase], on_call: Callable[[Call], None], on_iterations: Segments) -> None:
        self._calendar = calendar = Calendar()
        self._on_call = on_call
        self._clients = Clients(calendar, stub.seed, phases, self._mark)
        made = colocated if stub.engine.mode == "colocated" else disaggregated
        self._engine = made(calendar, stub, self._out, on_iterations)
        front = [station_of(stub, "gateway", name) for name in GATEWAY_LAYERS] + [station_of(stub, "router", "router")]
        self._front, stations = chain(calendar, front, self._accept)
        self._integrals: dict[str, Sequence[Integrated]] = {
            **{name: [station] for name, station in stations.items()},
            **self._engine.integrals,
            CALLS: [self._clients],
        }
        self._marks: list[dict[str, Reading]] = []

    def run(self) -> Simulated:
        self._clients.start(self._front)
        self._calendar.run()
        self._engine.close()
        begun_and_over = zip(self._marks[::2], self._marks[1::2], strict=True)
        return Simulated(
            tuple(self._clients.driven),
            tuple(self._clients.turns),
            tuple({name: self._passed(name, begun[name], over[name]) for name in begun} for begun, over in begun_and_over),
        )

    def _accept(self, now_ns: int, call: Call) -> None:
        """The router has accepted the call and sends the headers."""
        call.accepted_ns = now_ns
        self._engine.arrive(now_ns, call)

    def _out(self, at_ns: int, call: Call) -> None:
        """The call's last token will be at the client at ``at_ns``."""
        if at_ns == self._calendar.now_ns:
            self._answered(at_ns, call)
        else:
            self._calendar.at(at_ns, self._answered, call)

    def _answered(self, now_ns: int, call: Call) -> None:
        self._on_call(call)
        self._clients.answered(now_ns, call)

    def _mark(self, now_ns: int) -> None:
        """A phase begins or is over."""
        self._marks.append({name: total(integral.read(now_ns) for integral in of) for name, of in self._integrals.items()})

    def _passed(self, name: str, begun: Reading, over: Reading) -> Passed:
        servers = [integral.servers for integral in self._integrals[name]]
        known = sum(one for one in servers if one is not None) or None
        return Passed(known, over.present_ns - begun.present_ns, over.busy_ns - begun.busy_ns)


@contextmanager
def _collector_off() -> Iterator[None]:
    """Nothing here makes cycles, and looking for some in a million calls takes as long as the simulation."""
    was_on = gc.isenabled()
    gc.collect()
    gc.freeze()
    gc.disable()
    try:
        yield
    finally:
        gc.unfreeze()
        if was_on:
            gc.enable()
