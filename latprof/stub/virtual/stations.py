"""Layers that serve one request after the other: first-come stations on the calendar.

arrive -> station -> finish -> then          every layer of the gateway, the router, kv.transfer, and the prefill pool
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from functools import partial
from heapq import heappush

from latprof.config import Prefill
from latprof.queues.station import Begun
from latprof.stub.models.draws import Key, sampler
from latprof.stub.models.prefill import PrefillPool, Prompt
from latprof.stub.models.stages import Layer
from latprof.stub.virtual.calendar import Calendar
from latprof.stub.virtual.call import Call, Then
from latprof.stub.virtual.integrals import Integral

ServiceOf = Callable[[Call], int]
_NOBODY = Key(0, -1, 0)


class VirtualStation:
    """``servers`` servers, first come first served; a call's service is ``service_ns(call)``.

    `latprof.queues.station.Station` with its driver in one: most of a call's events are here, and the two apart cost twice as much.
    """

    def __init__(self, calendar: Calendar, servers: int, service_ns: ServiceOf, then: Then) -> None:
        self.integral = Integral(servers)
        self._change = self.integral.change
        self._at_end = self._finish  # a bound method is made anew each time it is looked up
        self._heap, self._order = calendar.heap, calendar.order
        self._servers, self._service_ns, self._then = servers, service_ns, then
        self._waiting: deque[tuple[int, int, Call]] = deque()  # came, service, who
        self._present = self._busy = 0

    def arrive(self, now_ns: int, call: Call) -> None:
        """A call comes."""
        self._present = present = self._present + 1
        service_ns = self._service_ns(call)
        if self._busy < self._servers:
            self._busy += 1
            call.marks += (0, service_ns)
            heappush(self._heap, (now_ns + service_ns, self._order(), self._at_end, call))
        else:
            self._waiting.append((now_ns, service_ns, call))
        self._change(now_ns, present, self._busy)

    def _finish(self, now_ns: int, call: Call) -> None:
        self._present = present = self._present - 1
        if self._waiting:
            came_ns, service_ns, following = self._waiting.popleft()
            following.marks += (now_ns - came_ns, service_ns)
            heappush(self._heap, (now_ns + service_ns, self._order(), self._at_end, following))
        else:
            self._busy -= 1
        self._change(now_ns, present, self._busy)
        self._then(now_ns, call)


class VirtualPrefill:
    """The prefill pool: its service follows from tokens, and from what its prefix cache knows when service begins."""

    def __init__(self, calendar: Calendar, pool: Prefill, layer: Layer, then: Then) -> None:
        self.integral = Integral(pool.workers)
        self._pool: PrefillPool[Call] = PrefillPool(pool)
        self._at = calendar.at
        self._layer = layer
        self._is_plain = layer.plant_ns == 0 and layer.speedup == 1 and not layer.stalls
        self._then = then
        self._present = 0

    def arrive(self, now_ns: int, call: Call) -> None:
        """A call comes with its prompt."""
        adjust_ns = _as_it_is if self._is_plain else partial(self._layer.adjust_ns, key=call.key)
        prompt = Prompt(call, call.prompt_tokens, call.blocks, adjust_ns)
        begun = self._pool.arrive(now_ns, prompt)
        self._present += 1
        self.integral.change(now_ns, self._present, self._pool.station.running)
        if begun is not None:
            self._begin(begun)

    def _begin(self, begun: Begun[Prompt[Call]]) -> None:
        prompt, arrived_ns, started_ns, ends_ns = begun
        prompt.job.marks += (started_ns - arrived_ns, ends_ns - started_ns)
        self._at(ends_ns, self._finish, prompt)

    def _finish(self, now_ns: int, prompt: Prompt[Call]) -> None:
        call = prompt.job
        call.cached_tokens, following = self._pool.finish(now_ns, prompt)
        self._present -= 1
        self.integral.change(now_ns, self._present, self._pool.station.running)
        if following is not None:
            self._begin(following)
        self._then(now_ns, call)


def chain(calendar: Calendar, layers: Sequence[tuple[str, int, ServiceOf]], then: Then) -> tuple[Then, dict[str, VirtualStation]]:
    """Stations one after the other: where a call enters the first of them, and every one by its layer's name."""
    stations: dict[str, VirtualStation] = {}
    for name, servers, of_call in reversed(layers):
        stations[name] = VirtualStation(calendar, servers, of_call, then)
        then = stations[name].arrive
    return then, dict(reversed(stations.items()))


def delays(layer: Layer) -> bool:
    """Whether something is planted into the layer, beside what it does by itself."""
    return bool(layer.plant_ns or layer.stalls)


def service_of(layer: Layer) -> ServiceOf:
    """A call's service time in ``layer``; what never changes is found once."""
    law = layer.law
    if law.dist == "constant" and not layer.stalls:
        always_ns = layer.adjust_ns(law.mean_ns, _NOBODY)
        return lambda _: always_ns
    if layer.speedup == 1 and not delays(layer):
        drawn_ns = sampler(law, layer.name)
        return lambda call: drawn_ns(call.key)
    return lambda call: layer.service_ns(call.key)


def _as_it_is(own_ns: int) -> int:
    return own_ns
