"""One HTTP/1.1 connection: a request out, a response in, one exchange at a time."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence

from latprof.client.answer import Answer, Ending
from latprof.client.http1 import Ended, ResponseReader
from latprof.client.wire import Wire
from latprof.units import MISSING_NS


class Connection:
    """A `Wire` that speaks HTTP/1.1."""

    __slots__ = ("_over", "_reader", "_wire", "deadline_ns", "is_reused")

    def __init__(self, wire: Wire) -> None:
        self.is_reused = False
        self.deadline_ns = 0
        self._wire = wire
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

    async def exchange(self, request: Sequence[bytes], answer: Answer, deadline_ns: int) -> Ended:
        """Send ``request`` and let ``answer`` take the response in. Cancelling closes the connection; so does `give_up`.

        Stamps ``send_ns`` unless an earlier connection already did, and ``written_ns``; counts the reads, and those without a kernel stamp.

        Raises:
            TimeoutError: `give_up` was called.
        """
        wire, attempt = self._wire, answer.attempt
        if not wire.is_open:
            return Ended(Ending.SILENT, time.monotonic_ns(), "(closed while idle)")
        over = self._over = asyncio.get_running_loop().create_future()
        reader = self._reader = ResponseReader(answer, time.monotonic_ns(), self._ended, self._faulted)
        wire.on_read = reader.feed
        self.deadline_ns = deadline_ns
        reads, user_stamps = wire.reads, wire.user_stamps
        try:
            if attempt.send_ns == MISSING_NS:
                attempt.send_ns = answer.previous_ns
            wire.send(request)
            ended = await over
        except BaseException:
            wire.close()
            raise
        finally:
            self._reader = self._over = None
            attempt.reads += wire.reads - reads
            attempt.user_stamps += wire.user_stamps - user_stamps
        self.is_reused = True
        if not reader.keep_alive:
            wire.close()
        return ended

    def give_up(self) -> None:
        """End the exchange that is going on with a TimeoutError."""
        if self._over is not None and not self._over.done():
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
