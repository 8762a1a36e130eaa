"""Stations that are passed in one go against the same stations event by event: equal waits, services and integrals, whoever overtakes whom."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from virtual_queues import one_turn, stack

from latprof.queues.station import Station
from latprof.stub.virtual.calendar import Calendar
from latprof.stub.virtual.call import Call, VirtualPhase
from latprof.stub.virtual.clients import Clients
from latprof.stub.virtual.engines import ENGINE, colocated
from latprof.stub.virtual.integrals import Integral, Reading
from latprof.stub.virtual.stations import VirtualStation, chain

Told = tuple[int, int | tuple[int, ...]]
"""Servers, and a service: always the same, or one for each customer."""


class Customer:
    """As much of a call as a station asks for."""

    def __init__(self, number: int) -> None:
        self.number = number
        self.marks: list[int] = []


def one_by_one(told: Sequence[Told], came_ns: Sequence[int]) -> tuple[list[list[int]], list[tuple[int, int]], list[Reading]]:
    """Every arrival and every end of service is an event: marks by customer, (when, who) left, and the integrals.

    Not two customers may come to a station at once: who goes first then is a matter of the order in which events were written down.
    """
    calendar = Calendar()
    stations = [Station[Customer](servers) for servers, _ in told]
    integrals = [Integral(servers) for servers, _ in told]
    left: list[tuple[int, int]] = []
    came: set[tuple[int, int]] = set()

    def look(now_ns: int, at: int) -> None:
        integrals[at].change(now_ns, stations[at].running + stations[at].waiting, stations[at].running)

    def begin(at: int, begun: Any) -> None:
        begun.job.marks += (begun.started_ns - begun.arrived_ns, begun.ends_ns - begun.started_ns)
        calendar.at(begun.ends_ns, finish, (at, begun.job))

    def arrive(now_ns: int, what: tuple[int, Customer]) -> None:
        at, customer = what
        assume((at, now_ns) not in came)
        came.add((at, now_ns))
        if at == len(told):
            left.append((now_ns, customer.number))
            return
        service = told[at][1]
        begun = stations[at].arrive(now_ns, customer, service if isinstance(service, int) else service[customer.number])
        if begun is not None:
            begin(at, begun)
        look(now_ns, at)

    def finish(now_ns: int, what: tuple[int, Customer]) -> None:
        at, customer = what
        following = stations[at].finish(now_ns)
        if following is not None:
            begin(at, following)
        look(now_ns, at)
        arrive(now_ns, (at + 1, customer))

    customers = [Customer(number) for number in range(len(came_ns))]
    for customer, at_ns in zip(customers, came_ns, strict=True):
        calendar.at(at_ns, arrive, (0, customer))
    end_ns = calendar.run()
    return [customer.marks for customer in customers], left, [integral.read(end_ns) for integral in integrals]


def in_rows(told: Sequence[Told], came_ns: Sequence[int]) -> tuple[list[list[int]], list[tuple[int, int]], list[Reading], int]:
    """The same through `chain`; and how many events were left."""
    calendar = Calendar()
    left: list[tuple[int, int]] = []

    def service(told: int | tuple[int, ...]) -> Any:
        return told if isinstance(told, int) else lambda customer: told[customer.number]

    layers = [(str(at), servers, service(times)) for at, (servers, times) in enumerate(told)]
    enter, stations = chain(calendar, layers, lambda now_ns, customer: left.append((now_ns, customer.number)))
    customers: list[Any] = [Customer(number) for number in range(len(came_ns))]
    for customer, at_ns in zip(customers, came_ns, strict=True):
        calendar.at(at_ns, enter, customer)
    end_ns = calendar.run()
    events = calendar.order() - len(customers)
    return [customer.marks for customer in customers], left, [station.read(end_ns) for station in stations.values()], events


@given(st.data())
def test_a_row_of_stations_is_what_its_stations_are_one_by_one(data: st.DataObject) -> None:
    gaps_ns = data.draw(st.lists(st.integers(1, 40).map(lambda gap: gap * 1009), min_size=1, max_size=25))
    came_ns = [sum(gaps_ns[: number + 1]) for number in range(len(gaps_ns))]
    # Primes as units, so that few meet by chance.
    times = st.integers(1, 50)
    served = st.one_of(times.map(lambda n: n * 7919), st.lists(times.map(lambda n: n * 6007), min_size=len(came_ns), max_size=len(came_ns)))
    told = data.draw(
        st.lists(st.tuples(st.integers(1, 3), served.map(lambda one: one if isinstance(one, int) else tuple(one))), max_size=5)
    )
    wanted = one_by_one(told, came_ns)
    assert in_rows(told, came_ns)[:3] == wanted


def test_only_where_somebody_can_overtake_is_an_event() -> None:
    varied = tuple(range(10, 20))
    told: list[Told] = [(4, 5), (4, varied), (4, 5), (1, varied), (4, varied)]
    *_, events = in_rows(told, range(0, 1000, 100))
    assert events == 10 * 2


def test_a_station_is_not_read_while_somebody_is_there() -> None:
    station = VirtualStation(1, 100)
    station.serve(0, Customer(0))  # type: ignore[arg-type]
    with pytest.raises(RuntimeError, match="leaves at 100 ns"):
        station.read(99)
    assert station.read(100) == Reading(100, 100)


def test_neither_a_replica_nor_the_stack_is_read_while_a_call_is_there() -> None:
    calendar = Calendar()
    stub = stack(engine={"mode": "colocated"}, decode={"t1": "1ms"})
    clients = Clients(calendar, stub.seed, [VirtualPhase([one_turn(0, 0, output_tokens=3)])], lambda _: None)
    engine = colocated(calendar, stub, lambda at_ns, call: calendar.at(at_ns, clients.answered, call), lambda _pool, _segments: None)
    replica = engine.integrals[ENGINE][0]

    def sent(now_ns: int, call: Call) -> None:
        engine.arrive(now_ns, call)
        for one in (replica, clients):
            with pytest.raises(RuntimeError, match="when 1 calls are"):
                one.read(now_ns)

    clients.start(sent)
    end_ns = calendar.run()
    assert end_ns == 2_000_000
    assert replica.read(end_ns) == clients.read(end_ns) == Reading(end_ns, end_ns)
