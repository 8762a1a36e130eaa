"""Places under a concurrency cap, given out in the order they were asked for."""

from __future__ import annotations

import asyncio
from collections import deque

from latprof.clock import Now


class Places:
    """``limit`` places, or no limit at all."""

    def __init__(self, limit: int | None, now: Now) -> None:
        self._limit = limit
        self._now = now
        self._taken = 0
        self._waiting: deque[asyncio.Future[int]] = deque()

    def try_take(self) -> bool:
        """Take a place if one is free at once."""
        if self._limit is not None and self._taken >= self._limit:
            return False
        self._taken += 1
        return True

    async def take(self) -> int:
        """Wait for a place; the stamp of the moment it was handed over."""
        place: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        self._waiting.append(place)
        try:
            return await place
        except asyncio.CancelledError:
            if place.done() and not place.cancelled():
                self.give_back()  # it was handed over in the same turn of the loop
            raise

    def give_back(self) -> None:
        """Hand the place to the one who has waited longest; it never becomes free in between, so nobody overtakes."""
        while self._waiting:
            place = self._waiting.popleft()
            if not place.done():
                place.set_result(self._now())
                return
        self._taken -= 1
