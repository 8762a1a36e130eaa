"""Time that passes only when everybody waits: what takes an hour by the clock is run in milliseconds, and exact to the ns.

run_virtual(main)      an event loop, a clock and a timer that all tell the same made-up time
"""

from __future__ import annotations

import asyncio
import heapq
import selectors
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

from latprof.units import MISSING_NS, NS_PER_S

T = TypeVar("T")


class VirtualTime:
    """A clock (call it for its ns) and a timer. Time stands still while anything is left to do, then jumps to the next sleeper.

    It begins at an odd instant, so that nothing passes for right only because it counts from zero.
    """

    def __init__(self, begin_ns: int = 1_000_000_007) -> None:
        self.now_ns = begin_ns
        self.stalls: list[tuple[int, int]] = []  # as a timer has; it is never late
        self._sleepers: list[tuple[int, int, asyncio.Future[None]]] = []
        self._order = 0  # ties wake in the order they were asked for

    def __call__(self) -> int:  # noqa: D102
        return self.now_ns

    async def sleep_until(self, at_ns: int) -> None:
        """Return at ``at_ns`` exactly; after one turn of the loop when that is past."""
        if at_ns <= self.now_ns:
            await asyncio.sleep(0)
            return
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._order += 1
        heapq.heappush(self._sleepers, (at_ns, self._order, future))
        await future

    async def sleep(self, for_ns: int) -> None:
        """Return ``for_ns`` later, exactly."""
        await self.sleep_until(self.now_ns + for_ns)

    def close(self) -> None:
        """Nothing to give back."""

    def jump(self, timeout_s: float | None) -> None:
        """On to the first sleeper, or by ``timeout_s`` if that is less.

        Raises:
            RuntimeError: nobody will ever wake.
        """
        while self._sleepers and self._sleepers[0][2].done():
            heapq.heappop(self._sleepers)  # cancelled
        by_timeout_ns = None if timeout_s is None else self.now_ns + max(1, -int(-timeout_s * NS_PER_S // 1))
        if not self._sleepers and by_timeout_ns is None:
            raise RuntimeError("everybody waits, and for nothing that will happen")
        first_ns = self._sleepers[0][0] if self._sleepers else MISSING_NS
        if by_timeout_ns is not None and (first_ns == MISSING_NS or by_timeout_ns < first_ns):
            self.now_ns = by_timeout_ns
            return
        self.now_ns = first_ns
        heapq.heappop(self._sleepers)[2].set_result(None)  # one at a time: what it sets off at this instant goes first


class _Jumping(selectors.SelectSelector):
    """Waits for nothing: where the loop would sleep, time jumps instead."""

    def __init__(self, time: VirtualTime) -> None:
        super().__init__()
        self._time = time

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        ready = super().select(0)
        if not ready and (timeout is None or timeout > 0):
            self._time.jump(timeout)
        return ready


class _VirtualLoop(asyncio.SelectorEventLoop):
    def __init__(self, time: VirtualTime) -> None:
        self._virtual = time
        super().__init__(_Jumping(time))

    def time(self) -> float:
        return self._virtual.now_ns / NS_PER_S


def run_virtual(main: Callable[[VirtualTime], Coroutine[Any, Any, T]]) -> T:
    """Run ``main`` to its end; ``asyncio.sleep`` and timeouts keep the same time, to the ns as far as a float of seconds can."""
    time = VirtualTime()
    with asyncio.Runner(loop_factory=lambda: _VirtualLoop(time)) as runner:
        return runner.run(main(time))
