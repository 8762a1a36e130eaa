"""A server that does next to nothing but write down when requests came: the truth about the load that was offered.

    python -m harness.arrival_log LOG      prints its port; on SIGTERM writes LOG: a row (session, monotonic ns) of int64 per request, and leaves

Any POST is answered 50 ms later with a chat stream of one token. The stamp is the kernel's, of the packet that completed the request: a server that
is held up does not make an arrival late.
"""

from __future__ import annotations

import asyncio
import contextlib
import re
import signal
import socket
import struct
import subprocess
import sys
from array import array
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import numpy.typing as npt
import uvloop

from latprof.clock import wall_anchor
from latprof.units import NS_PER_S

_TAKES_S = 0.05
_DELTA = b'data: {"id":"a","choices":[{"index":0,"delta":{"content":"x"},"finish_reason":"stop"}]}\n\n'
_USAGE = b'data: {"id":"a","choices":[],"usage":{"prompt_tokens":1,"completion_tokens":1}}\n\n'
_BODY = _DELTA + _USAGE + b"data: [DONE]\n\n"
_ANSWER = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ncontent-length: %d\r\n\r\n" % len(_BODY) + _BODY
_LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE)
_SESSION = re.compile(rb"\r\ntracestate: latprof=(\d+)")
_SO_TIMESTAMPNS = 35
_READ_BYTES = 65_536


class _Connection:
    def __init__(self, sock: socket.socket, log: array[int]) -> None:
        sock.setblocking(False)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._socket = sock
        self._log = log
        self._held = b""
        self._loop = asyncio.get_running_loop()
        self._loop.add_reader(sock, self._on_readable)

    def _on_readable(self) -> None:
        try:
            data, ancillary, _, _ = self._socket.recvmsg(_READ_BYTES, 64)
        except OSError:
            data, ancillary = b"", []
        if not data:
            self._loop.remove_reader(self._socket)
            self._socket.close()
            return
        self._held += data
        while (end := self._held.find(b"\r\n\r\n")) >= 0:
            head = self._held[: end + 2]
            length = _LENGTH.search(head)
            whole = end + 4 + (int(length[1]) if length else 0)
            if len(self._held) < whole:
                return
            self._held = self._held[whole:]
            session = _SESSION.search(head)
            seconds, ns = struct.unpack("qq", ancillary[0][2])
            self._log.extend((int(session[1]) if session else -1, seconds * NS_PER_S + ns))
            self._loop.call_later(_TAKES_S, self._answer)

    def _answer(self) -> None:
        with contextlib.suppress(OSError):  # it left meanwhile
            self._socket.send(_ANSWER)


async def _serve(log: array[int]) -> None:
    loop = asyncio.get_running_loop()
    stop = asyncio.Event()
    loop.add_signal_handler(signal.SIGTERM, stop.set)
    listening = socket.create_server(("127.0.0.1", 0), backlog=1024)
    listening.setblocking(False)
    listening.setsockopt(socket.SOL_SOCKET, _SO_TIMESTAMPNS, 1)  # inherited: a request may be there before its connection is accepted
    loop.add_reader(listening, lambda: _Connection(listening.accept()[0], log))
    print(listening.getsockname()[1], flush=True)
    await stop.wait()
    loop.remove_reader(listening)
    listening.close()


@contextlib.contextmanager
def logging_server(path: Path) -> Iterator[str]:
    """The server in a process of its own for the length of a ``with``; its URL. The log is there afterwards."""
    process = subprocess.Popen([sys.executable, "-m", "harness.arrival_log", str(path)], stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        yield f"http://127.0.0.1:{int(process.stdout.readline())}"
    finally:
        process.terminate()
        process.communicate(timeout=30)


def read_log(path: Path) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """(session, monotonic ns) of every request, each of shape (n,), in order of arrival."""
    rows = np.frombuffer(path.read_bytes(), np.int64).reshape(-1, 2)
    return rows[:, 0], rows[:, 1]


def main() -> None:
    """Serve until told to end, then write the log."""
    arrivals = array("q")
    uvloop.run(_serve(arrivals))
    rows = np.array(arrivals, np.int64).reshape(-1, 2)
    rows[:, 1] += wall_anchor().to_monotonic(0)
    Path(sys.argv[1]).write_bytes(rows.tobytes())


if __name__ == "__main__":
    main()
