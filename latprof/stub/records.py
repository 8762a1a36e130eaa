"""What a stage writes down: its truth file, and finished spans for the scribe. Both leave the event loop's way at once."""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import orjson

_FLUSH_S = 0.5


class TruthFile:
    """JSON lines of what really happened, one per layer and request, on disk within half a second and at the latest at ``close``."""

    def __init__(self, path: Path, loop: asyncio.AbstractEventLoop) -> None:
        self._fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
        self._lines: list[bytes] = []
        self._loop = loop
        self._next = loop.call_later(_FLUSH_S, self._flush_again)

    def write(self, line: dict[str, Any]) -> None:
        """Take down one line."""
        self._lines.append(orjson.dumps(line, option=orjson.OPT_APPEND_NEWLINE))

    def close(self) -> None:
        """Flush and give the file back."""
        self._next.cancel()
        self._flush()
        os.close(self._fd)

    def _flush_again(self) -> None:
        self._flush()
        self._next = self._loop.call_later(_FLUSH_S, self._flush_again)

    def _flush(self) -> None:
        rest = b"".join(self._lines)
        self._lines.clear()
        while rest:
            rest = rest[os.write(self._fd, rest) :]


class SpanPipe:
    """Finished requests on their way to the scribe, which makes spans of them in a process of its own.

    Encoding OTLP here would hold the interpreter lock for milliseconds per batch, and every planted time with it.
    """

    def __init__(self, transport: asyncio.WriteTransport, closing: _Closing) -> None:
        self._transport, self._closing = transport, closing

    @classmethod
    async def over(cls, write_fd: int) -> SpanPipe:
        """Over the writing end of a pipe; what the pipe cannot take yet waits in memory."""
        pipe = os.fdopen(write_fd, "wb", buffering=0)
        transport, closing = await asyncio.get_running_loop().connect_write_pipe(_Closing, pipe)
        return cls(transport, closing)

    def write(self, spans: Sequence[dict[str, Any]]) -> None:
        """Send one request's spans of this stage."""
        self._transport.write(orjson.dumps(spans, option=orjson.OPT_APPEND_NEWLINE))

    async def close(self, patience_s: float = 1.0) -> None:
        """Send what is left and close; give up after ``patience_s``."""
        self._transport.close()
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._closing.done.wait(), patience_s)


class _Closing(asyncio.BaseProtocol):
    """Tells when everything was written and the pipe is closed."""

    def __init__(self) -> None:
        self.done = asyncio.Event()

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002
        self.done.set()
