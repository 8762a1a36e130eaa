"""Answers the doctor's requests in a process of its own: ``python -m latprof.doctor.responder`` prints its port and ends with its input.

    ?answer=short     one token at once
    ?answer=flood     thousands of tokens as fast as they are taken
    ?answer=paced     a token every 10 ms, whose text is the monotonic time at which it was sent: the clock of both processes

It is no HTTP server: a request is what ends with a brace, as every body here does, and comes in one piece, as on loopback it does.
"""

from __future__ import annotations

import asyncio
import socket
import sys
import time
from collections import deque

PACED_TOKENS, PACED_GAP_S = 100, 0.01
FLOOD_TOKENS = 4_000
_TOKENS_PER_SEND = 50
DIGITS = 19
"""Of a monotonic time in ns, leading zeros kept."""


def _chunk(event: bytes) -> bytes:
    event = b"data: " + event + b"\n\n"
    return b"%x\r\n%b\r\n" % (len(event), event)


def _token(text: bytes) -> bytes:
    return _chunk(b'{"id":"doctor","choices":[{"index":0,"delta":{"content":"%b"},"finish_reason":null}]}' % text)


_HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
_END = (
    _chunk(b'{"id":"doctor","choices":[{"index":0,"delta":{},"finish_reason":"stop"}]}')
    + _chunk(b'{"id":"doctor","choices":[],"usage":{"prompt_tokens":1,"completion_tokens":1}}')
    + _chunk(b"[DONE]")
    + b"0\r\n\r\n"
)
_SHORT = _HEAD + _token(b"token") + _END
_MANY = _token(b"token") * _TOKENS_PER_SEND


class _Peer:
    """One connection. Written at the level of the socket, so that a token's time is that of its ``send``."""

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock
        self._loop = asyncio.get_running_loop()
        self._unsent: deque[bytes] = deque()
        self._asked = b""
        sock.setblocking(False)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._loop.add_reader(sock.fileno(), self._on_readable)

    def _on_readable(self) -> None:
        try:
            data = self._sock.recv(65_536)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if not data:
            self._close()
            return
        self._asked += data
        if self._asked.endswith(b"}"):
            asked, self._asked = self._asked, b""
            line = asked.partition(b"\r\n")[0]
            if b"answer=paced" in line:
                self._send(_HEAD)
                self._loop.call_later(PACED_GAP_S, self._pace, PACED_TOKENS, self._loop.time() + PACED_GAP_S)
            elif b"answer=flood" in line:
                self._send(_HEAD, *[_MANY] * (FLOOD_TOKENS // _TOKENS_PER_SEND), _END)
            else:
                self._send(_SHORT)

    def _pace(self, left: int, at_s: float) -> None:
        if not left:
            self._send(_END)
            return
        self._send(_token(b"%0*d" % (DIGITS, time.monotonic_ns())))
        self._loop.call_at(at_s + PACED_GAP_S, self._pace, left - 1, at_s + PACED_GAP_S)

    def _send(self, *pieces: bytes) -> None:
        was_idle = not self._unsent
        self._unsent += pieces
        if was_idle:
            self._on_writable()

    def _on_writable(self) -> None:
        try:
            while self._unsent:
                sent = self._sock.send(self._unsent[0])
                if sent < len(self._unsent[0]):
                    self._unsent[0] = self._unsent[0][sent:]
                    break
                self._unsent.popleft()
        except BlockingIOError:
            pass
        except OSError:
            self._close()
            return
        if self._unsent:
            self._loop.add_writer(self._sock.fileno(), self._on_writable)
        else:
            self._loop.remove_writer(self._sock.fileno())

    def _close(self) -> None:
        if self._sock.fileno() >= 0:
            self._loop.remove_reader(self._sock.fileno())
            self._loop.remove_writer(self._sock.fileno())
            self._sock.close()
        self._unsent.clear()


async def serve() -> None:
    """Accept until standard input ends."""
    loop = asyncio.get_running_loop()
    with socket.create_server(("127.0.0.1", 0), backlog=512) as listener:
        listener.setblocking(False)
        print(listener.getsockname()[1], flush=True)
        accepting = asyncio.create_task(_accept(loop, listener))
        await loop.run_in_executor(None, sys.stdin.buffer.read)
        accepting.cancel()


async def _accept(loop: asyncio.AbstractEventLoop, listener: socket.socket) -> None:
    while True:
        sock, _ = await loop.sock_accept(listener)
        _Peer(sock)


def main() -> None:
    """Serve."""
    import uvloop

    uvloop.run(serve())


if __name__ == "__main__":
    main()
