"""What-if changes: read from the command line's words, and laid over a model.

--speedup decode=8          divides          --layer gateway.safety=-50%    takes half of it away      --servers prefill=4
                                             --layer router=+2ms            adds
                                             --layer prefill=12ms           sets
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from latprof.analysis.whatif.decode_fit import Decode
from latprof.analysis.whatif.model import CAP, FIRST, PREFILL, QUEUE, Model, Part
from latprof.errors import UsageError
from latprof.layers.call import DECODE, STREAM, UNTOLD
from latprof.layers.table import IntArray
from latprof.layers.vocabulary import belongs_to
from latprof.units import NS_PER_S, duration_ns

How = Literal["scale", "add", "set", "servers"]

_PERCENT = re.compile(r"(?P<sign>[+-])(?P<value>\d+(?:\.\d+)?)%")
_POOL = (DECODE, UNTOLD)
# Beyond these nobody means it, and ns would not fit into 64 bits.
_SMALLEST, _LARGEST = 1e-6, 1e6
_LONGEST_NS = 24 * 3600 * NS_PER_S
# Changes of one layer add up, and so do services in a queue.
_LONGEST_SERVICE_NS = 30 * _LONGEST_NS
_MOST_SERVERS = 1 << 30
_MOST_DIGITS = 10


@dataclass(frozen=True, slots=True)
class Change:
    """One change of one layer, or of all children of a prefix. ``amount`` is a factor, ns, or a number of servers."""

    layer: str
    how: How
    amount: float
    text: str

    @property
    def speeds(self) -> bool:
        """Whether service changes; else the number of servers."""
        return self.how != "servers"


def read_changes(speedup: Iterable[str], layer: Iterable[str], servers: Iterable[str]) -> tuple[Change, ...]:
    """Read what ``--speedup``, ``--layer`` and ``--servers`` were given, in that order.

    Raises:
        UsageError: one of them cannot be read.
    """
    return (
        *(_speedup(*_split("--speedup", text, "decode=8")) for text in speedup),
        *(_layer(*_split("--layer", text, "gateway.safety=-50%")) for text in layer),
        *(_servers(*_split("--servers", text, "prefill=4")) for text in servers),
    )


def _split(flag: str, text: str, example: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not equals or not name.strip() or not value.strip():
        raise UsageError(f"{flag} wants LAYER=VALUE such as {example}, got {text!r}")
    return name.strip(), value.strip()


def _speedup(name: str, value: str) -> Change:
    try:
        factor = float(value.removesuffix("x"))
    except ValueError:
        factor = 0.0
    if not _SMALLEST <= factor <= _LARGEST:
        raise UsageError(
            f"--speedup {name}: wants a number above 0, from {_SMALLEST:g} to {_LARGEST:g}, that its service is divided by, got {value!r}"
        )
    return Change(name, "scale", 1 / factor, f"{name} {factor:g}x faster")


def _layer(name: str, value: str) -> Change:
    percent = _PERCENT.fullmatch(value)
    if percent is not None:
        part = float(percent["value"]) / 100 * (-1 if percent["sign"] == "-" else 1)
        if part < -1:
            raise UsageError(f"--layer {name}: no more than -100% can be taken away, got {value}")
        if part > _LARGEST:
            raise UsageError(f"--layer {name}: wants a percentage from -100% to +{100 * _LARGEST:.0f}%, got {value}")
        return Change(name, "scale", 1 + part, f"{name} {value}")
    try:
        length_ns = duration_ns(value.lstrip("+-"))
    except ValueError:
        length_ns = -1
    except OverflowError:
        length_ns = _LONGEST_NS + 1
    if length_ns < 0 or not re.search(r"[a-zµ]$", value):
        raise UsageError(f"--layer {name}: wants -50%, +2ms (adds) or 12ms (sets), got {value!r}")
    if length_ns > _LONGEST_NS:
        raise UsageError(f"--layer {name}: wants a length of at most a day, {_LONGEST_NS // NS_PER_S}s, got {value}")
    if value[0] in "+-":
        return Change(name, "add", -length_ns if value[0] == "-" else length_ns, f"{name} {value}")
    return Change(name, "set", length_ns, f"{name} = {value}")


def _servers(name: str, value: str) -> Change:
    # Counted first: Python refuses to read a number of some thousand digits.
    if not value.isdecimal() or len(value) > _MOST_DIGITS or not 1 <= int(value) <= _MOST_SERVERS:
        raise UsageError(f"--servers {name}: wants a whole number from 1 up to {_MOST_SERVERS}, got {value!r}")
    return Change(name, "servers", int(value), f"{name} with {int(value)} servers")


# --- laid over a model --------------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class Scenario:
    """A model after changes, with the one model of its decode pool that is used."""

    model: Model
    decode: Decode

    @property
    def parts(self) -> tuple[Part, ...]:
        """The layers as changed."""
        return self.model.parts


def changed(scenario: Scenario, changes: Sequence[Change]) -> Scenario:
    """``scenario`` with ``changes`` laid over it, one after the other.

    Raises:
        UsageError: a change names a layer that is not there, or asks of it what it cannot do.
    """
    for change in changes:
        scenario = _with(scenario, change)
    return scenario


def _with(scenario: Scenario, change: Change) -> Scenario:
    columns = _columns(scenario.model, change)
    pool = [column for column in columns if scenario.parts[column].kind == "decode" and scenario.model.names[column] != STREAM]
    if pool:
        return replace(scenario, decode=_pooled(scenario, change))
    return replace(scenario, model=_worked(scenario.model, change, columns))


def _columns(model: Model, change: Change) -> list[int]:
    """The columns a change names.

    Raises:
        UsageError: none, none that can be changed, or several where one is wanted.
    """
    names = model.names
    named = [column for column, name in enumerate(names) if belongs_to(name, change.layer)]
    if change.layer == DECODE and UNTOLD in names:
        named = [*named, names.index(UNTOLD)]
    if not named:
        raise UsageError(_unknown(model, change.layer))
    work = [column for column in named if not _only_waits(model, column)]
    if not work:
        raise UsageError(_only_waiting(model.parts[named[0]]))
    if change.layer == DECODE:
        return work
    if change.how in {"add", "set", "servers"} and len(work) > 1:
        children = ", ".join(names[column] for column in work)
        raise UsageError(f"{change.text}: {change.layer} stands for {children}; name one of them, or scale all with a percentage")
    return work


def _only_waits(model: Model, column: int) -> bool:
    part = model.parts[column]
    return part.kind == "wait" or part.name.startswith("client.")


def _only_waiting(part: Part) -> str:
    if part.name == QUEUE:
        return f"{QUEUE} is nothing but waiting for {PREFILL}: change {PREFILL}, or its servers (--servers {PREFILL}=N)"
    if part.name == CAP:
        return f"{CAP} is nothing but waiting for a place under the run's max_concurrency: change the layers behind it"
    return f"{part.name} belongs to the client that measured, not to the stack: no change of it is a prediction; name another layer"


def _unknown(model: Model, layer: str) -> str:
    names = [name for name in model.names if model.work_ns[:, model.names.index(name)].any()]
    inside = [name for name in names if any(belongs_to(part, layer) for part in name.split("+"))]
    if inside:
        return f"{layer} is not told apart in this run: its time is in {inside[0]}; name that, it can be changed as a whole"
    prefixes = {name.split(".")[0] for name in names if "." in name and "@" not in name}
    near = difflib.get_close_matches(layer, [*names, *sorted(prefixes)], n=1, cutoff=0.5)
    hint = f"did you mean {near[0]}? " if near else ""
    return f"{layer}: the run has no such layer; {hint}it has {', '.join(names)}"


def _worked(model: Model, change: Change, columns: Sequence[int]) -> Model:
    if change.how == "servers":
        part = model.parts[columns[0]]
        if part.kind != "station":
            why = part.why or "it never queued"
            raise UsageError(f"--servers {part.name}: the run tells of no queue before it ({why}), so servers change nothing that is known")
        parts = tuple(replace(one, servers=int(change.amount), why="asked") if one is part else one for one in model.parts)
        return replace(model, parts=parts)
    work_ns = model.work_ns.copy()
    for column in columns:
        mine = model.passes[:, column]
        work_ns[mine, column] = _changed_ns(work_ns[mine, column], change)
    return replace(model, work_ns=work_ns)


def _changed_ns(work_ns: IntArray, change: Change) -> IntArray:
    if change.how == "scale":
        scaled_ns = np.rint(work_ns * change.amount)
        if scaled_ns.max(initial=0) > _LONGEST_SERVICE_NS:
            raise UsageError(f"{change.text}: a request would be served for more than 30 days; change it less")
        return np.asarray(scaled_ns, np.int64)
    if change.how == "add":
        return np.asarray(np.maximum(work_ns + round(change.amount), 0), np.int64)
    return np.full_like(work_ns, round(change.amount))


def _pooled(scenario: Scenario, change: Change) -> Decode:
    """A change of the decode pool. Lengths are those of an iteration, which is the time per token of a stream."""
    decode = scenario.decode
    if change.layer == FIRST:
        if change.how == "add" and change.amount >= 0:
            return replace(decode, first_added_ns=decode.first_added_ns + change.amount)
        raise UsageError(f"{change.text}: {FIRST} is an iteration of the decode pool; change decode, or add a delay with +5ms")
    if change.how == "scale":
        if not 0 <= decode.scale * change.amount <= 10 * _LARGEST:
            raise UsageError(
                f"{change.text}: with the other changes decode would be more than {10 * _LARGEST:g} times slower; change it less"
            )
        return decode.scaled(change.amount)
    if change.how == "servers":
        return replace(decode, slots=int(change.amount))
    if change.how == "add":
        return replace(decode, added_ns=decode.added_ns + change.amount)
    return replace(decode, scale=0.0, added_ns=change.amount)
