"""One byte stream to a peer, read at the level of the socket, so that every read carries the stamp of its arrival.

    kernel's receive stamp (SO_TIMESTAMPNS, Linux)     immune to a late event loop, as long as one segment waits at a time
    stamp after recv                                   everywhere else, and for single reads that came without a stamp

When several segments wait, the kernel merges them and the whole read bears the last one's stamp: what came in it arrived somewhere in
(previous stamp, this stamp]. Under TLS the ciphertext is read and stamped in the same way, and decrypted through a memory BIO.
"""

from __future__ import annotations

import asyncio
import errno
import os
import socket
import ssl
import struct
import sys
import time
from collections.abc import Callable, Sequence

from latprof.client.readers import SHORT_GAP_NS, Readers
from latprof.clock import wall_offset_ns
from latprof.units import NS_PER_S

# A stream's reads are some hundred bytes long; a larger buffer costs at every read what it saves at the few that fill it.
_READ_BYTES = 16_384
# What sendmsg takes at once (IOV_MAX).
_MOST_PIECES = 1_024
# The socket module has no name for it before Python 3.14; the number is that of x86-64 and arm64.
SO_TIMESTAMPNS = 35
_STAMP = struct.Struct("qq")
_ANCILLARY_BYTES = socket.CMSG_SPACE(_STAMP.size) if hasattr(socket, "CMSG_SPACE") else 0
# The offset between the clocks is known this well: a stamp further in the future was made by another clock than ours.
_MOST_AHEAD_NS = 50_000
_RESAMPLE_S = 0.1
# The event loop was this late, or the clock was set back: worth the 2 µs of another look at it.
_WORTH_A_LOOK_NS = 5_000_000

OnRead = Callable[[bytes, int], None]
"""Bytes, and the stamp of the read that brought them."""
OnClosed = Callable[[int, str], None]
"""When the peer closed, and why; no reason for an orderly end."""
OnWritten = Callable[[int], None]
"""When the kernel had taken the last byte of a `Wire.send`."""


class StampClock:
    """Turns the kernel's receive stamps (CLOCK_REALTIME) into this process's monotonic ns. One per event loop; `close` it.

    The offset is sampled ten times a second. Slewing moves both clocks alike; after a step of the realtime clock stamps that contradict the
    monotonic clock are not used until the next sample. (That there was one is told by `latprof.client.health`.)
    """

    def __init__(self, loop: asyncio.AbstractEventLoop | None = None) -> None:
        self.offset_ns = wall_offset_ns()
        # Stamping is switched on in the kernel when the first socket asks for it, some packets late: this one keeps it on.
        self._keeper = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.has_kernel = ask_for_stamps(self._keeper)
        self._loop = loop or asyncio.get_running_loop()
        # A read that is stamped by its reader must not be put off.
        self.readers = Readers(self._loop, may_be_lazy=self.has_kernel)
        self._handle = self._loop.call_later(_RESAMPLE_S, self._resample)

    def close(self) -> None:
        """Stop sampling."""
        self._handle.cancel()
        self._keeper.close()
        self.readers.close()

    def look_again(self) -> int:
        """Sample the offset now; by how much it has changed."""
        offset_ns = wall_offset_ns()
        moved_ns = offset_ns - self.offset_ns
        self.offset_ns = offset_ns
        return moved_ns

    def _resample(self) -> None:
        self.look_again()
        self.readers.review()
        self._handle = self._loop.call_later(_RESAMPLE_S, self._resample)


def ask_for_stamps(sock: socket.socket) -> bool:
    """Ask the kernel to stamp what ``sock`` receives; whether it will. To be asked before connecting."""
    if sys.platform != "linux":
        return False
    try:
        sock.setsockopt(socket.SOL_SOCKET, SO_TIMESTAMPNS, 1)
    except OSError:
        return False
    return True


class Wire:
    """A connected socket in the hands of the event loop.

    ``on_read``, ``on_closed`` and ``on_written`` can be exchanged at any time by whoever uses the stream at the moment. ``reads`` and
    ``user_stamps`` count the reads, and those among them that had no kernel stamp.
    """

    __slots__ = (
        "_clock",
        "_fd",
        "_last_ns",
        "_loop",
        "_readers",
        "_receive",
        "_sock",
        "_tls",
        "_unsent",
        "is_open",
        "on_closed",
        "on_read",
        "on_written",
        "reads",
        "user_stamps",
    )

    def __init__(self, sock: socket.socket, clock: StampClock) -> None:
        self.on_read: OnRead = _ignore_read
        self.on_closed: OnClosed = _ignore_closed
        self.on_written: OnWritten = _ignore_written
        self.is_open = True
        self.reads = 0
        self.user_stamps = 0
        self._clock = clock
        self._sock = sock
        self._receive = sock.recvmsg
        self._fd = sock.fileno()
        self._last_ns = 0
        self._tls: _Tls | None = None
        self._unsent: list[memoryview] = []
        self._loop = asyncio.get_running_loop()
        self._readers = clock.readers
        self._readers.add(self._fd, self._on_readable)

    def fileno(self) -> int:
        """The socket's descriptor, for whoever asks the kernel how much waits in it."""
        return self._fd

    def send(self, pieces: Sequence[bytes]) -> None:
        """Write ``pieces`` as far as the kernel takes them now, the rest as it can; ``on_written`` tells when the last byte is gone."""
        if self._tls is not None:
            pieces = self._tls.encrypt(pieces)
        if self._unsent:
            self._unsent += [memoryview(piece) for piece in pieces]
            return
        try:
            sent = self._sock.send(pieces[0]) if len(pieces) == 1 else self._sock.sendmsg(pieces[:_MOST_PIECES])
        except (BlockingIOError, InterruptedError):
            sent = 0
        except OSError as error:
            self._lose(_why(error))
            return
        if len(pieces) == 1 and sent == len(pieces[0]):  # nearly every request
            self.on_written(time.monotonic_ns())
            return
        self._unsent = [memoryview(piece) for piece in pieces]
        self._took(sent)

    def close(self) -> None:
        """Close at once; what was not sent is dropped, and nobody is told."""
        if self.is_open:
            self.is_open = False
            self._readers.remove(self._fd)
            if self._unsent:
                self._loop.remove_writer(self._fd)
            self._sock.close()
            self.on_read, self.on_closed, self.on_written = _ignore_read, _ignore_closed, _ignore_written

    async def start_tls(self, context: ssl.SSLContext, server_name: str | None) -> int:
        """Shake hands as a client; the stamp of the read that completed it.

        Raises:
            OSError: the peer refused (ssl.SSLError), or closed.
        """
        tls = _Tls(context, server_name)
        done: asyncio.Future[int] = self._loop.create_future()

        def go_on(data: bytes, at_ns: int) -> None:
            if done.done():
                return
            try:
                is_done = tls.shake(data)
            except OSError as error:
                self._flush(tls)
                done.set_exception(error)
                return
            self._flush(tls)
            if is_done:
                done.set_result(at_ns)

        def gone(_: int, text: str) -> None:
            if not done.done():
                done.set_exception(ConnectionResetError(errno.ECONNRESET, text or "the peer closed the connection"))

        self.on_read, self.on_closed = go_on, gone
        go_on(b"", time.monotonic_ns())
        at_ns = await done
        self._tls = tls
        self.on_read, self.on_closed = _ignore_read, _ignore_closed
        return at_ns

    # --- the event loop calls these ------------------------------------------------------------------------------------------------------

    def _on_readable(self) -> None:
        try:
            data, ancillary, _, _ = self._receive(_READ_BYTES, _ANCILLARY_BYTES)
        except (BlockingIOError, InterruptedError):
            return
        except OSError as error:
            self._lose(_why(error))
            return
        now_ns = at_ns = time.monotonic_ns()
        self.reads += 1
        if ancillary:
            seconds, nanoseconds = _STAMP.unpack(ancillary[0][2])
            at_ns = seconds * NS_PER_S + nanoseconds - self._clock.offset_ns
            if not self._last_ns <= at_ns <= now_ns or now_ns - at_ns > _WORTH_A_LOOK_NS:
                at_ns = self._settled(at_ns, now_ns)
            readers = self._readers
            readers.reads += 1
            if at_ns - self._last_ns < SHORT_GAP_NS:
                readers.short_gaps += 1
        else:
            self.user_stamps += 1
        self._last_ns = at_ns
        if not data:
            self._lose("", at_ns)
        elif self._tls is None:
            self.on_read(data, at_ns)
        else:
            self._decrypted(self._tls, data, at_ns)

    def _settled(self, at_ns: int, now_ns: int) -> int:
        """A kernel stamp that is old, or contradicts the monotonic clock: with the offset as it is now it is used, rounded within its error, or not."""
        at_ns -= self._clock.look_again()
        if self._last_ns <= at_ns <= now_ns:
            return at_ns
        if now_ns < at_ns <= now_ns + _MOST_AHEAD_NS:
            return now_ns
        if self._last_ns - _MOST_AHEAD_NS <= at_ns < self._last_ns:
            return self._last_ns
        self.user_stamps += 1
        return now_ns

    def _decrypted(self, tls: _Tls, data: bytes, at_ns: int) -> None:
        try:
            plain, is_over = tls.decrypt(data)
        except OSError as error:
            self._lose(_why(error), at_ns)
            return
        self._flush(tls)
        if plain:
            self.on_read(plain, at_ns)
        if is_over and self.is_open:
            self._lose("", at_ns)

    def _on_writable(self) -> None:
        try:
            sent = self._sock.sendmsg(self._unsent[:_MOST_PIECES])
        except (BlockingIOError, InterruptedError):
            return
        except OSError as error:
            self._lose(_why(error))
            return
        self._took(sent)

    def _took(self, sent: int) -> None:
        """The kernel took ``sent`` bytes of what is left."""
        unsent, whole = self._unsent, 0
        while whole < len(unsent) and sent >= len(unsent[whole]):
            sent -= len(unsent[whole])
            whole += 1
        if whole < len(unsent):
            unsent[whole] = unsent[whole][sent:]
            self._unsent = unsent[whole:]
            self._loop.add_writer(self._fd, self._on_writable)
            return
        self._unsent = []
        self._loop.remove_writer(self._fd)
        self.on_written(time.monotonic_ns())

    def _flush(self, tls: _Tls) -> None:
        """What TLS itself has to say: handshake messages, alerts, key updates."""
        if (pending := tls.pending()) and self.is_open:
            on_written, self.on_written = self.on_written, _ignore_written
            shaken, self._tls = self._tls, None
            self.send([pending])
            self._tls, self.on_written = shaken, on_written

    def _lose(self, text: str, at_ns: int | None = None) -> None:
        on_closed = self.on_closed
        self.close()
        on_closed(time.monotonic_ns() if at_ns is None else at_ns, text)


class _Tls:
    """One side of TLS over bytes: no socket."""

    def __init__(self, context: ssl.SSLContext, server_name: str | None) -> None:
        self._in, self._out = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._session = context.wrap_bio(self._in, self._out, server_hostname=server_name)

    def shake(self, data: bytes) -> bool:
        """Take in ``data``; whether the handshake is done."""
        if data:
            self._in.write(data)
        try:
            self._session.do_handshake()
        except ssl.SSLWantReadError:
            return False
        return True

    def encrypt(self, pieces: Sequence[bytes]) -> list[bytes]:
        for piece in pieces:
            if piece:
                self._session.write(piece)
        return [self._out.read()]

    def decrypt(self, data: bytes) -> tuple[bytes, bool]:
        """The plain text that ``data`` completes, and whether the peer said that it is over."""
        self._in.write(data)
        session, plain = self._session, list[bytes]()
        try:
            while part := session.read(_READ_BYTES):
                plain.append(part)
                # Nothing more to come out: to hear that from `read` costs an exception, 2.4 µs instead of 0.2.
                if not (self._in.pending or session.pending()):
                    return part if len(plain) == 1 else b"".join(plain), False
            return b"".join(plain), True
        except ssl.SSLWantReadError:
            return plain[0] if len(plain) == 1 else b"".join(plain), False
        except (ssl.SSLZeroReturnError, ssl.SSLEOFError):
            return b"".join(plain), True

    def pending(self) -> bytes:
        return self._out.read() if self._out.pending else b""


def _ignore_read(data: bytes, at_ns: int) -> None:
    pass


def _ignore_closed(at_ns: int, text: str) -> None:
    pass


def _ignore_written(at_ns: int) -> None:
    pass


def _why(error: OSError) -> str:
    said = error.strerror or str(error) or type(error).__name__
    return f"({os.strerror(error.errno) if error.errno and not isinstance(error, ssl.SSLError) else said})"
