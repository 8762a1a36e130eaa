"""Chunks on their way back: every hop is a server of its own for each stream, one chunk after the other.

    out(0) = in(0) + first hold          out(n) = max(in(n), out(n-1)) + hold          (Lindley's recursion)

Chunks come and go in pieces, runs of equal gaps, so that a stream costs as many steps as its batch changed, not as it has tokens.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from latprof.config import Stage, Stub
from latprof.stub.models.draws import Key
from latprof.stub.models.stages import HOLD, Layer, layer_of
from latprof.stub.virtual.call import NO_POOL, Call, Then

Piece = tuple[int, int, int]
"""(start ns, step ns, count): chunk i of them at start + step * i."""

_ON_THE_WAY: tuple[Stage, ...] = ("router", "gateway")


def held(pieces: Sequence[Piece], first_hold_ns: int, hold_ns: int) -> list[Piece]:
    """``pieces`` behind a hop that keeps the first chunk for ``first_hold_ns`` and every later one for ``hold_ns``."""
    (start_ns, step_ns, count), *later = pieces
    free_ns = start_ns + first_hold_ns
    out: list[Piece] = []
    _add(out, free_ns, 0, 1)
    for start, step, number in ((start_ns + step_ns, step_ns, count - 1), *later):
        free_ns = _pass(out, free_ns, (start, step, number), hold_ns)
    return out


def _pass(out: list[Piece], free_ns: int, piece: Piece, hold_ns: int) -> int:
    """One piece through a hop that is free at ``free_ns``; when it is free again."""
    start_ns, step_ns, left = piece
    while left > 0:
        if start_ns <= free_ns:  # behind: one after the other until the stream is caught up with
            gains_ns = step_ns - hold_ns
            number = left if gains_ns <= 0 else min(left, (free_ns - start_ns) // gains_ns + 1)
            _add(out, free_ns + hold_ns, hold_ns, number)
            free_ns += number * hold_ns
        else:
            number = left if step_ns >= hold_ns else 1
            _add(out, start_ns + hold_ns, step_ns, number)
            free_ns = start_ns + (number - 1) * step_ns + hold_ns
        start_ns += number * step_ns
        left -= number
    return free_ns


def held_each(pieces: Sequence[Piece], hold_ns: Callable[[int], int]) -> list[Piece]:
    """`held` where every chunk has a hold of its own: ``hold_ns(nth)``."""
    out: list[Piece] = []
    free_ns = nth = 0
    for start_ns, step_ns, count in pieces:
        for i in range(count):
            in_ns = start_ns + i * step_ns
            free_ns = (in_ns if nth == 0 else max(in_ns, free_ns)) + hold_ns(nth)
            _add(out, free_ns, 0, 1)
            nth += 1
    return out


def _add(out: list[Piece], start_ns: int, step_ns: int, count: int) -> None:
    """Put a piece behind the others; what goes on at the same pace is one piece with its neighbour."""
    if count <= 0:
        return
    if out:
        start, step, before = out[-1]
        gap_ns = start_ns - (start + (before - 1) * step)
        if (before == 1 or gap_ns == step) and (count == 1 or gap_ns == step_ns):
            out[-1] = (start, gap_ns, before + count)
            return
    out.append((start_ns, step_ns, count))


class WayBack:
    """The return path of the whole stack: the router's hold, then the gateway's.

    ``shortest_step_ns`` is the shortest iteration of any pool. ``only_shifts``: no chunk ever waits for the one before it and all are kept for the
    same time, so that a stream comes out as it went in, later by a constant.
    """

    def __init__(self, stub: Stub, shortest_step_ns: int, then: Then) -> None:
        self._hops: list[tuple[Stage, Layer]] = [(stage, layer_of(stub, stage, HOLD)) for stage in _ON_THE_WAY]
        self._then = then
        layers = [layer for _, layer in self._hops]
        self._is_constant = all(layer.law.dist == "constant" for layer in layers)
        later_ns = [round(layer.law.mean_ns / layer.speedup) for layer in layers] if self._is_constant else []
        alike = not any(layer.plant_ns or layer.stalls for layer in layers)
        self.only_shifts = self._is_constant and alike and all(hold_ns <= shortest_step_ns for hold_ns in later_ns)
        self._shift_ns = sum(later_ns)
        self._later_ns = later_ns

    def shift(self, call: Call) -> None:
        """A call whose tokens the engine made as its pool's iterations say, where the path only shifts."""
        call.first_token_ns = call.engine_first_ns + self._shift_ns
        call.last_token_ns = call.engine_last_ns + self._shift_ns
        call.marks += (0, self._shift_ns)
        self._then(call.last_token_ns, call)

    def hold(self, call: Call, pieces: list[Piece]) -> None:
        """A call whose tokens the engine made at ``pieces``."""
        for index, (stage, layer) in enumerate(self._hops):
            if self._is_constant:
                pieces = held(pieces, layer.hold_ns(call.key, stage, 0), self._later_ns[index])
            else:
                pieces = held_each(pieces, _holds(layer, stage, call.key))
        start_ns, step_ns, count = pieces[-1]
        call.first_token_ns, call.last_token_ns = pieces[0][0], start_ns + step_ns * (count - 1)
        call.marks += (0, call.first_token_ns - call.engine_first_ns)
        call.pool, call.own = NO_POOL, pieces
        self._then(call.last_token_ns, call)


def _holds(layer: Layer, stage: Stage, key: Key) -> Callable[[int], int]:
    has_later = layer.law.dist != "constant" or layer.law.mean_ns > 0
    return lambda nth: layer.hold_ns(key, stage, nth) if nth == 0 or has_later else 0
