"""Who reads which socket, and how soon.

    eagerly    the event loop wakes for every segment: what is done about it is done at once
    lazily     all sockets are looked at once a millisecond, and what waits is read in one go

Stamped by the kernel, an arrival does not care when it is read, as long as no second segment of the same stream has come by then. Under load that
leaves a choice: waking 40 000 times a second for one segment each costs 1.5 times as much as looking a thousand times (13 against 8.6 µs a read of a
loop that does nothing else). So reading turns lazy when there is much to read and each stream pauses for several looks, and eager again when not.
"""

from __future__ import annotations

import asyncio
import select
import sys
from collections.abc import Callable

_LOOK_S = 0.001
SHORT_GAP_NS = 2_000_000
"""Two looks: a stream that comes faster than this is not to be read lazily."""

# Of one review, which comes every 0.1 s: 10 000 reads a second make reading lazy, 5 000 keep it so.
_MANY, _FEW = 1_000, 500
_MOST_SHORT = 0.05
# Read at a time; between two such batches the event loop can let a request go.
_BATCH = 16


class Readers:
    """The sockets of one event loop that are read. ``reads`` and ``short_gaps`` are counted up by who reads, and reviewed ten times a second."""

    def __init__(self, loop: asyncio.AbstractEventLoop, *, may_be_lazy: bool) -> None:
        self.reads = 0
        self.short_gaps = 0
        self._loop = loop
        self._may_be_lazy = may_be_lazy
        self._callbacks: dict[int, Callable[[], None]] = {}
        self._look: asyncio.TimerHandle | None = None
        self._epoll = select.epoll() if sys.platform == "linux" else None
        if self._epoll is not None:
            loop.add_reader(self._epoll.fileno(), self._on_ready)

    @property
    def is_lazy(self) -> bool:
        """Whether sockets are looked at once a millisecond."""
        return self._look is not None

    def add(self, descriptor: int, on_readable: Callable[[], None]) -> None:
        """Call ``on_readable`` whenever there is something to read, the end of the stream included."""
        if self._epoll is None:
            self._loop.add_reader(descriptor, on_readable)
            return
        self._callbacks[descriptor] = on_readable
        self._epoll.register(descriptor, select.EPOLLIN)

    def remove(self, descriptor: int) -> None:
        """No more, before the socket is closed."""
        if self._epoll is None:
            self._loop.remove_reader(descriptor)
            return
        del self._callbacks[descriptor]
        self._epoll.unregister(descriptor)

    def review(self) -> None:
        """Choose for the next tenth of a second by what came in the last."""
        is_much = self.reads >= (_FEW if self.is_lazy else _MANY)
        lazy = self._may_be_lazy and is_much and self.short_gaps <= _MOST_SHORT * self.reads
        self.reads = self.short_gaps = 0
        if lazy != self.is_lazy and self._epoll is not None:
            self._turn_lazy(self._epoll) if lazy else self._turn_eager(self._epoll)

    def close(self) -> None:
        """Give the descriptor back."""
        if self._epoll is not None:
            self._turn_eager(self._epoll)
            self._loop.remove_reader(self._epoll.fileno())
            self._epoll.close()
            self._epoll = None

    def _turn_lazy(self, epoll: select.epoll) -> None:
        self._loop.remove_reader(epoll.fileno())
        self._look = self._loop.call_later(_LOOK_S, self._on_look)

    def _turn_eager(self, epoll: select.epoll) -> None:
        if self._look is not None:
            self._look.cancel()
            self._look = None
            self._loop.add_reader(epoll.fileno(), self._on_ready)

    def _on_look(self) -> None:
        self._look = self._loop.call_later(_LOOK_S, self._on_look)
        self._on_ready()

    def _on_ready(self) -> None:
        if self._epoll is None:
            return
        ready = self._epoll.poll(0, _BATCH)
        callbacks = self._callbacks
        for descriptor, _ in ready:
            on_readable = callbacks.get(descriptor)
            if on_readable is not None:  # else it was closed by what came before it in this batch
                on_readable()
        if len(ready) == _BATCH and self._look is not None:
            self._loop.call_soon(self._on_ready)
