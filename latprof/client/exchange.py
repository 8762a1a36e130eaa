"""One HTTP/1.1 connection: a request out, a response in, one exchange at a time."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence

from latprof.client.answer import Answer, Ending
from latprof.client.heads import Heads
from latprof.client.http1 import Ended, ResponseReader
from latprof.client.wire import Wire
from latprof.units import MISSING_NS, NS_PER_MS

# An end mark and the end of its message come in one segment, or in the next.
_UNENDED_NS = 250 * NS_PER_MS


class Connection:
    """A `Wire` that speaks HTTP/1.1; ``heads`` are those seen before at the same endpoint."""

    __slots__ = ("_heads", "_loop", "_over", "_reader", "_reads", "_user_stamps", "_wire", "deadline_ns", "is_reused")

    def __init__(self, wire: Wire, heads: Heads) -> None:
        self.is_reused = False
        self.deadline_ns = 0
        self._wire = wire
        self._heads = heads
        self._loop = asyncio.get_running_loop()
        self._reads = self._user_stamps = 0
        self._reader: ResponseReader | None = None
        self._over: asyncio.Future[Ended] | None = None
        wire.on_read, wire.on_closed, wire.on_written = self._unasked, self._peer_closed, self._written

    @property
    def is_open(self) -> bool:
        """Whether it can carry another exchange, as far as this side knows."""
        return self._wire.is_open

    def fileno(self) -> int:
        """The socket's descriptor."""
        return self._wire.fileno()

    def begin(self, request: Sequence[bytes], answer: Answer, deadline_ns: int) -> asyncio.Future[Ended]:
        """Send ``request`` and let ``answer`` take the response in; done when that is over. To be followed by `settle`, whatever happens.

        Stamps ``send_ns`` unless an earlier connection already did, and ``written_ns``. The future raises TimeoutError after `look` has found its time over.
        """
        wire, attempt = self._wire, answer.attempt
        over = self._over = self._loop.create_future()
        self.deadline_ns = deadline_ns
        now_ns = time.monotonic_ns()
        if not wire.is_open:
            over.set_result(Ended(Ending.SILENT, now_ns, "(closed while idle)"))
            return over
        reader = self._reader = ResponseReader(answer, now_ns, self._ended, self._faulted, self._heads)
        self._reads, self._user_stamps = wire.reads, wire.user_stamps
        wire.on_read = reader.feed
        if attempt.send_ns == MISSING_NS:
            attempt.send_ns = now_ns
        wire.send(request)
        return over

    def settle(self) -> None:
        """The exchange is over, or given up: the connection is closed unless it can carry another one. Counts the reads it took."""
        wire, reader = self._wire, self._reader
        if reader is not None:
            attempt = reader.answer.attempt
            attempt.reads += wire.reads - self._reads
            attempt.user_stamps += wire.user_stamps - self._user_stamps
            if not reader.keep_alive:
                wire.close()
            self._reader = self._over = None
            self.is_reused = True

    def look(self, now_ns: int) -> None:
        """End the exchange that is going on with a TimeoutError when its time is over: past its deadline, or a while after the stream's end mark.

        A server that has said all and does not end its message must not hold a place until the timeout.
        """
        reader = self._reader
        if reader is not None and reader.answer.is_done and now_ns - reader.answer.at_ns > _UNENDED_NS:
            self.deadline_ns = now_ns
        if now_ns >= self.deadline_ns and self._over is not None and not self._over.done():
            self._over.set_exception(TimeoutError())

    def close(self) -> None:
        """Close at once."""
        self._wire.close()

    # --- the wire calls these ------------------------------------------------------------------------------------------------------------

    def _ended(self, ended: Ended) -> None:
        self._wire.on_read = self._unasked
        if self._over is not None and not self._over.done():
            self._over.set_result(ended)

    def _faulted(self, error: Exception) -> None:
        """An error of latprof's own must reach the caller, not the loop's log."""
        if self._over is not None and not self._over.done():
            self._over.set_exception(error)

    def _unasked(self, data: bytes, at_ns: int) -> None:  # noqa: ARG002
        """Bytes nobody asked for: the connection is out of step."""
        self._wire.close()
        if self._reader is not None:
            self._reader.keep_alive = False

    def _written(self, at_ns: int) -> None:
        reader = self._reader
        if reader is not None and reader.answer.attempt.written_ns == MISSING_NS:
            reader.answer.attempt.written_ns = at_ns
            if not reader.heard:
                reader.answer.previous_ns = at_ns

    def _peer_closed(self, at_ns: int, text: str) -> None:
        if self._reader is not None and self._reader.ended is None:
            self._reader.close(at_ns, text)
