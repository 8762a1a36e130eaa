"""A record as something that can be replayed: which layers are stations, which only pass time, and what the decode pool is.

held       a recorded time, taken as a whole: the network, the client, everything whose wait and service were not told apart
service    served without ever queuing
station    served by so many first-come servers; its waits come out of the replay
wait       waits that come out of something else (engine.queue: of prefill; client.cap_wait: of the cap)
decode     the pool: boundary waits, first iterations, the rest of the answer
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final, Literal

import numpy as np

from latprof.analysis.whatif.decode_fit import UNLIMITED, Decode, Stamps, fit_decode
from latprof.analysis.whatif.record import Record
from latprof.analysis.whatif.servers_fit import fit_servers
from latprof.layers.call import AFTER_FIRST_TOKEN, DECODE, STREAM, UNTOLD
from latprof.layers.table import IntArray, Layers
from latprof.layers.vocabulary import UNATTRIBUTED, WAIT_ONLY

Kind = Literal["held", "service", "station", "wait", "decode"]

FIRST: Final = "decode.first"
QUEUE, PREFILL, CAP = "engine.queue", "prefill", "client.cap_wait"
_BACK = frozenset({"detokenize", "proxy.hold", "net.response", "client.parse"})
_BEFORE_CAP = frozenset({"client.lateness", "client.retry"})
_OUTSIDE = ("client.", "net.", UNATTRIBUTED)
# A layer counts as told apart when no more of it than this is not.
_UNTOLD_SHARE = 0.01


@dataclass(frozen=True, slots=True)
class Part:
    """What a layer is in the replay. ``servers`` of a station; ``why`` says where that is from, or why the layer is held."""

    name: str
    kind: Kind
    servers: int = 0
    why: str = ""


@dataclass(frozen=True, eq=False)
class Model:
    """The record, ready to be replayed and changed.

    ``work_ns`` (n, L) is the service of every cell, or the whole of it where the layer is held; ``passes`` (n, L) whether the request passes the
    layer at all. Columns as in ``record.call``. ``decode`` are the models of the pool that may fit, the likelier first.
    """

    record: Record
    parts: tuple[Part, ...]
    work_ns: IntArray
    passes: np.ndarray[tuple[int, ...], np.dtype[np.bool_]]
    decode: tuple[Decode, ...]
    cap: int | None

    @property
    def names(self) -> tuple[str, ...]:
        """The layers of the call in path order."""
        return self.record.call.names

    def part(self, name: str) -> Part:
        """The part of that name."""
        return self.parts[self.names.index(name)]

    @property
    def has_told_decode(self) -> bool:
        """Whether the time after the first token is told apart from its way back."""
        return UNTOLD not in self.names

    def before(self) -> tuple[int, ...]:
        """Columns before the decode pool in the order they are passed. Nobody knows where inside a hop its unattributed time lies: first."""
        mine = [i for i, name in enumerate(self.names) if name not in AFTER_FIRST_TOKEN and name != FIRST and i not in self.back()]
        return tuple(sorted(mine, key=self._rank))

    def _rank(self, column: int) -> tuple[int, int]:
        name = self.names[column]
        group = 0 if name in _BEFORE_CAP else 1 if name == CAP else 2 if name.startswith(UNATTRIBUTED) else 3
        return (group, column)

    def back(self) -> tuple[int, ...]:
        """Columns between the engine's first token and the client's; none where the engine does not tell when it was done."""
        if not self.has_told_decode:
            return ()
        return tuple(i for i, name in enumerate(self.names) if set(name.split("+")) <= _BACK)


def model_of(record: Record) -> Model:
    """Find out what every layer is.

    Layers with a number of servers in ``record.stations`` are stations; of the others the number is fitted to their recorded waits.
    """
    call = record.call
    unsplit_ns = call.total_ns - call.wait_ns - call.service_ns
    draft = Model(record, tuple(Part(name, "held") for name in call.names), call.total_ns, call.present, (), record.load.cap)
    parts = tuple(_part(draft, unsplit_ns, column) for column in range(len(call.names)))
    served = np.array([part.kind in {"station", "service"} for part in parts])
    work_ns = np.where(served, call.service_ns + unsplit_ns, call.total_ns)
    # A request that has not even a wait in a layer does not queue there: a cache answered, or another path was taken.
    passes = call.present | (call.total_ns > 0)
    model = replace(draft, parts=parts, work_ns=work_ns, passes=passes)
    return replace(model, decode=_decode(model))


def _part(draft: Model, unsplit_ns: IntArray, column: int) -> Part:
    call, name = draft.record.call, draft.names[column]
    if name in AFTER_FIRST_TOKEN or name == FIRST:
        return Part(name, "decode")
    if name == QUEUE and PREFILL in draft.names:
        prefill = draft.names.index(PREFILL)
        if _is_told(call, unsplit_ns, prefill):
            return Part(name, "wait", why=f"the queue of {PREFILL}")
    if name == CAP and draft.cap is not None:
        return Part(name, "wait", why="the run's max_concurrency")
    if name in WAIT_ONLY or name.startswith(_OUTSIDE):
        return Part(name, "held", why="the client's own" if name.startswith("client.") else "as it was recorded")
    if not _is_told(call, unsplit_ns, column):
        return Part(name, "held", why="wait and service are not told apart")
    return _served(draft, name, column)


def _served(draft: Model, name: str, column: int) -> Part:
    """A layer whose service is known: with servers that were told or found."""
    call = draft.record.call
    if column in draft.back():
        return Part(name, "held", why="it lies on the way back")
    told = draft.record.stations.get(name)
    if told is not None:
        return Part(name, "station", told, "run.json")
    rows = call.present[:, column]
    wait_ns = call.wait_ns[:, column]
    if name == PREFILL and QUEUE in draft.names:
        wait_ns = wait_ns + call.wait_ns[:, draft.names.index(QUEUE)]
    before = draft.before()
    earlier = [other for other in before[: before.index(column)] if not (name == PREFILL and draft.names[other] == QUEUE)]
    arrived_ns = draft.record.intended_ns + call.total_ns[:, earlier].sum(axis=1)
    found = fit_servers(arrived_ns[rows], wait_ns[rows], call.service_ns[rows, column])
    if found.servers is None:
        return Part(name, "held", why=found.text)
    return Part(name, "station", found.servers, found.text) if found.servers else Part(name, "service", why=found.text)


def _is_told(call: Layers, unsplit_ns: IntArray, column: int) -> bool:
    whole_ns = int(call.total_ns[:, column].sum())
    return whole_ns > 0 and int(call.service_ns[:, column].sum()) > 0 and int(unsplit_ns[:, column].sum()) <= _UNTOLD_SHARE * whole_ns


def _decode(model: Model) -> tuple[Decode, ...]:
    record, names = model.record, model.names
    call = record.call

    def column(name: str, table: IntArray) -> IntArray:
        return table[:, names.index(name)] if name in names else np.zeros(len(record), np.int64)

    before_ns = call.total_ns[:, model.before()].sum(axis=1)
    first_ns = record.intended_ns + before_ns + column(FIRST, call.total_ns)
    back_ns = call.total_ns[:, model.back()].sum(axis=1)
    after_ns = column(DECODE, call.total_ns) + column(UNTOLD, call.total_ns)
    # Done before its first token was with the client: how long before, nothing tells, and the replay needs to know only that it was.
    last_ns = np.where(after_ns > 0, first_ns + back_ns + after_ns, first_ns)
    service_ns = column(FIRST, call.service_ns)
    stamps = Stamps(
        admitted_ns=first_ns - service_ns,
        first_ns=first_ns,
        last_ns=last_ns,
        first_service_ns=service_ns,
        tokens=record.tokens,
        makes_first=FIRST in names,
    )
    return fit_decode(stamps, record.stations.get(DECODE, UNLIMITED))


def held(model: Model, columns: Sequence[str] | None = None) -> Mapping[str, str]:
    """The layers that no replay can make queue, and why; those without any time are left out."""
    time_ns = dict(zip(model.names, model.record.call.total_ns.sum(axis=0).tolist(), strict=True))
    wanted = model.names if columns is None else columns
    return {part.name: part.why for part in model.parts if part.kind == "held" and time_ns[part.name] > 0 and part.name in wanted} | (
        {STREAM: "as it was recorded"} if time_ns.get(STREAM, 0) > 0 else {}
    )
