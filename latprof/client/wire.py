"""One HTTP/1.1 connection: a request out, a response in, a stamp on every read before anything looks at its bytes."""

from __future__ import annotations

import asyncio
import time
from typing import cast

from latprof.client.answer import Answer, Ending
from latprof.client.http1 import Ended, ResponseReader
from latprof.units import MISSING_NS


class Connection(asyncio.Protocol):
    """Carries one exchange at a time.

    The stamping seam is `received`: whoever reads the socket calls it with the bytes and their stamp. Here the event loop reads and
    `data_received` stamps; a reader that has the kernel's receive stamps would call it instead.
    """

    def __init__(self) -> None:
        self.made_ns = MISSING_NS
        self.is_reused = False
        self._loop = asyncio.get_running_loop()
        self._transport: asyncio.Transport | None = None
        self._reader: ResponseReader | None = None
        self._over: asyncio.Future[Ended] | None = None
        self._closed = False

    @property
    def is_open(self) -> bool:
        """Whether it can carry another exchange, as far as this side knows."""
        return not self._closed and self._transport is not None and not self._transport.is_closing()

    async def exchange(self, request: bytes, answer: Answer) -> Ended:
        """Send ``request`` and let ``answer`` take the response in. Cancelling closes the connection.

        Stamps ``send_ns`` unless an earlier connection already did, and ``written_ns``.
        """
        if self._transport is None or not self.is_open:
            return Ended(Ending.SILENT, time.monotonic_ns(), "(closed while idle)")
        reader = self._reader = ResponseReader(answer)
        self._over = self._loop.create_future()
        try:
            reader.previous_ns = time.monotonic_ns()
            if answer.attempt.send_ns == MISSING_NS:
                answer.attempt.send_ns = reader.previous_ns
            self._transport.write(request)
            if self._transport.get_write_buffer_size() == 0:
                self._written(time.monotonic_ns())
            ended = await self._over
        except BaseException:
            self.close()
            raise
        finally:
            self._reader = self._over = None
        self.is_reused = True
        if not reader.keep_alive:
            self.close()
        return ended

    def received(self, data: bytes, at_ns: int) -> None:
        """Bytes that arrived at ``at_ns``."""
        reader, over = self._reader, self._over
        if reader is None or over is None or reader.ended is not None:
            self.close()  # bytes nobody asked for: the connection is out of step
            if reader is not None:
                reader.keep_alive = False
            return
        try:
            reader.feed(data, at_ns)
        except Exception as error:  # noqa: BLE001 - a fault of latprof's own: it must reach the caller, not the loop's log
            if not over.done():
                over.set_exception(error)
            return
        self._settle(reader, over)

    def close(self) -> None:
        """Close at once; what was not sent is dropped."""
        self._closed = True
        if self._transport is not None:
            self._transport.abort()

    # --- the event loop calls these ------------------------------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:  # noqa: D102
        self.made_ns = time.monotonic_ns()
        self._transport = cast("asyncio.Transport", transport)
        # No write buffer: the loop then writes within write(), not at the end of its turn, and tells when the kernel took the last byte.
        self._transport.set_write_buffer_limits(high=0)

    def data_received(self, data: bytes) -> None:  # noqa: D102
        at_ns = time.monotonic_ns()
        self.received(data, at_ns)

    def resume_writing(self) -> None:  # noqa: D102
        self._written(time.monotonic_ns())

    def eof_received(self) -> None:  # noqa: D102 - None: the transport closes itself
        self._peer_closed(time.monotonic_ns(), "")

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: D102
        self._peer_closed(time.monotonic_ns(), f"({exc or 'connection lost'})")
        self._transport = None

    def _written(self, at_ns: int) -> None:
        reader = self._reader
        if reader is not None and reader.answer.attempt.written_ns == MISSING_NS:
            reader.answer.attempt.written_ns = at_ns
            if not reader.heard:
                reader.previous_ns = at_ns

    def _peer_closed(self, at_ns: int, text: str) -> None:
        self._closed = True
        reader, over = self._reader, self._over
        if reader is not None and over is not None and reader.ended is None:
            reader.close(at_ns, text)
            self._settle(reader, over)

    @staticmethod
    def _settle(reader: ResponseReader, over: asyncio.Future[Ended]) -> None:
        if reader.ended is not None and not over.done():
            over.set_result(reader.ended)
