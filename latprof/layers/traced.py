"""Integers that know how they came about, so that what was computed of one request can be computed of all that go the same way.

    of one request      first = max(a, b)            a = 7, b = 5    ->  7, because a > b
    of all with a > b   first = a                                        a column, without asking again

Whatever is computed with `Traced` integers in sums, differences and comparisons comes out as sums of the request's own numbers, together with the
comparisons that decided it (`Guards`). Where these fall out alike, so does everything else. Anything else that is done with one raises `Untraceable`:
what cannot be followed must not be taken for what can.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields, is_dataclass, replace
from typing import Any, Final, NoReturn

import numpy as np

from latprof.observations.columns import BoolArray, IntArray

Form = tuple[tuple[int, int], ...]
"""A sum: (number of a column, how often it is in it), in order; `ONE` stands for a constant."""

ONE: Final = -1
Compare = Callable[[Any, Any], Any]


class Untraceable(Exception):  # noqa: N818 - it is no error: what cannot be followed is computed one by one
    """Something was done with a traced value that is not followed."""


@dataclass(slots=True)
class Guards:
    """The comparisons that decided: (left, how, right, outcome)."""

    asked: dict[tuple[Form, Compare, Form], bool] = field(default_factory=dict)

    def hold(self, columns: IntArray, rows: IntArray) -> IntArray:
        """Those of ``rows`` of ``columns``, shape (c, n), of which every comparison falls out as it did."""
        for (left, how, right), outcome in self.asked.items():
            kept: BoolArray = how(summed(left, columns, rows), summed(right, columns, rows)) == outcome
            if not kept.all():
                rows = rows[kept] if kept.ndim else rows[:0]
        return rows


class Traced(int):  # noqa: PLW1641 - hashing one is refused below
    """An integer that is a sum of columns in a request, followed through sums, differences and comparisons."""

    form: Form
    guards: Guards

    def __add__(self, other: int) -> Traced:
        return _traced(int.__add__(self, _whole(other)), self, other, 1)

    __radd__ = __add__

    def __sub__(self, other: int) -> Traced:
        return _traced(int.__sub__(self, _whole(other)), self, other, -1)

    def __rsub__(self, other: int) -> Traced:
        return -self + other

    def __mul__(self, other: int) -> Traced:
        if isinstance(other, Traced):
            raise Untraceable("the product of two numbers of a request is no sum of them")
        times = _whole(other)
        return traced(int.__mul__(self, times), tuple((column, number * times) for column, number in self.form if times), self.guards)

    __rmul__ = __mul__

    def __neg__(self) -> Traced:
        return traced(int.__neg__(self), tuple((column, -times) for column, times in self.form), self.guards)

    def __abs__(self) -> Traced:
        return -self if self < 0 else self

    def __bool__(self) -> bool:
        return self != 0

    def __eq__(self, other: object) -> bool:
        return isinstance(other, int) and _compared(self, operator.eq, other, int.__eq__(self, other))

    def __ne__(self, other: object) -> bool:
        return not self == other

    def __lt__(self, other: int) -> bool:
        return _compared(self, operator.lt, other, int.__lt__(self, _whole(other)))

    def __le__(self, other: int) -> bool:
        return _compared(self, operator.le, other, int.__le__(self, _whole(other)))

    def __gt__(self, other: int) -> bool:
        return _compared(self, operator.gt, other, int.__gt__(self, _whole(other)))

    def __ge__(self, other: int) -> bool:
        return _compared(self, operator.ge, other, int.__ge__(self, _whole(other)))


class Named(str):
    """A name that stands for another in every request, such as a span's id: told apart from others, and nothing else."""

    __slots__ = ()


class Unread(str):
    """A text that is another one in every request: it can be handed on, and not be looked at (but by ``float`` and the like, which ask nobody)."""

    __slots__ = ()


def _refused(name: str) -> Callable[..., NoReturn]:
    def refuse(*_: object, **__: object) -> NoReturn:
        raise Untraceable(f"{name} is not the same in every request")

    return refuse


_HARMLESS: Final = {
    "__new__", "__init__", "__init_subclass__", "__subclasshook__", "__class__", "__doc__", "__dir__", "__getattribute__", "__setattr__",
    "__delattr__", "__getnewargs__", "__getstate__", "__reduce__", "__reduce_ex__", "__repr__", "__sizeof__", "__slots__", "__module__",
}  # fmt: skip


def _refuse(kind: type, followed: set[str]) -> None:
    """Let ``kind`` do nothing but what is ``followed``."""
    for name in set(dir(kind)) - followed - _HARMLESS:
        setattr(kind, name, _refused(name))


_refuse(Traced, set(vars(Traced)) - {"__hash__"})
_refuse(Named, {"__eq__", "__ne__", "__hash__", "__len__"})
_refuse(Unread, set())


def traced(value: int, form: Form, guards: Guards) -> Traced:
    """``value``, which is ``form``; what it is compared with is written down in ``guards``."""
    made = int.__new__(Traced, value)
    made.form, made.guards = form, guards
    return made


def form_of(value: int) -> Form:
    """What ``value`` is a sum of; of a plain integer, itself."""
    return value.form if isinstance(value, Traced) else ((ONE, int(value)),) if value else ()


def summed(form: Form, columns: IntArray, rows: IntArray) -> IntArray:
    """A form of some ``rows`` of ``columns``, shape (c, n); shape () of a constant."""
    total: Any = np.int64(0)
    for column, times in form:
        total = total + (times if column == ONE else columns[column, rows] * times if times != 1 else columns[column, rows])
    return np.asarray(total, np.int64)


def _traced(value: int, one: Traced, other: int, sign: int) -> Traced:
    form = dict(one.form)
    for column, times in form_of(other):
        form[column] = form.get(column, 0) + sign * times
    return traced(value, tuple(sorted((column, times) for column, times in form.items() if times)), one.guards)


def _compared(one: Traced, how: Compare, other: int, outcome: bool) -> bool:
    left, right = one.form, form_of(other)
    if left != right:  # what is the same sum compares alike in every request
        one.guards.asked[left, how, right] = outcome
    return outcome


def _whole(other: int) -> int:
    if not isinstance(other, int):
        raise Untraceable(f"a traced integer meets {type(other).__name__}")
    return other


def settled(told: Any, column: IntArray) -> Any:
    """``told`` (plain values, dataclasses and collections of such) of the request whose numbers are ``column``, shape (c,)."""
    if isinstance(told, Traced):
        return sum(times if at == ONE else int(column[at]) * times for at, times in told.form)
    if is_dataclass(told) and not isinstance(told, type):
        return replace(told, **{one.name: settled(getattr(told, one.name), column) for one in fields(told)})
    if isinstance(told, Mapping):
        return {name: settled(one, column) for name, one in told.items()}
    return type(told)(settled(one, column) for one in told) if isinstance(told, tuple | list) else told
