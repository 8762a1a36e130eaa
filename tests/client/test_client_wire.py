"""The socket level: kernel stamps, large writes, TLS in any split, Unix sockets, proxies, client certificates, connection modes."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from scripted_peer import (
    ANSWER,
    CHUNKED,
    DONE,
    FOUR,
    STOP,
    TAIL,
    TURN,
    TWO,
    Do,
    Script,
    chunk,
    client,
    new_attempt,
    plain,
    scripted,
    send_one,
)

from latprof.client.stamps import ChunkLog, ErrorClass
from latprof.client.wire import SO_TIMESTAMPNS, StampClock, Wire, ask_for_stamps
from latprof.errors import UsageError
from latprof.units import MISSING_NS, NS_PER_MS
from latprof.workload.sessions import chain

linux = pytest.mark.skipif(sys.platform != "linux", reason="kernel receive stamps are asked for on Linux")


@contextlib.asynccontextmanager
async def wires() -> AsyncIterator[tuple[Wire, socket.socket, StampClock]]:
    """A wire and the plain socket at its other end."""
    clock = StampClock()
    with socket.create_server(("127.0.0.1", 0)) as server:
        near = socket.socket()
        ask_for_stamps(near)
        near.connect(server.getsockname())
        far, _ = server.accept()
    near.setblocking(False)
    wire = Wire(near, clock)
    try:
        yield wire, far, clock
    finally:
        wire.close()
        far.close()
        clock.close()


async def eventually(holds: Callable[[], bool]) -> None:
    async with asyncio.timeout(5):
        while not holds():  # noqa: ASYNC110 - what is waited for happens in the kernel
            await asyncio.sleep(0.001)


@dataclass
class Heard:
    reads: list[tuple[bytes, int]] = field(default_factory=list)
    closed: list[tuple[int, str]] = field(default_factory=list)

    def listen(self, wire: Wire) -> None:
        wire.on_read = lambda data, at_ns: self.reads.append((data, at_ns))
        wire.on_closed = lambda at_ns, text: self.closed.append((at_ns, text))

    async def until(self, number: int) -> None:
        await eventually(lambda: len(self.reads) >= number)


@linux
async def test_a_late_loop_does_not_make_a_stamp_late() -> None:
    async with wires() as (wire, far, clock):
        heard = Heard()
        heard.listen(wire)
        far.sendall(b"wakes the kernel's stamping")
        await heard.until(1)
        sent_ns = time.monotonic_ns()
        far.sendall(b"token")
        time.sleep(0.05)  # noqa: ASYNC251 - the event loop is late on purpose
        await heard.until(2)
    assert clock.has_kernel
    assert wire.user_stamps <= 1, "the first read may come before the kernel stamps"
    _, at_ns = heard.reads[1]
    assert -NS_PER_MS < at_ns - sent_ns < 40 * NS_PER_MS, "stamped when it arrived, not when it was read"


async def test_without_kernel_stamps_the_read_is_stamped_and_counted() -> None:
    async with wires() as (wire, far, _):
        wire._sock.setsockopt(socket.SOL_SOCKET, SO_TIMESTAMPNS, 0)
        heard = Heard()
        heard.listen(wire)
        before_ns = time.monotonic_ns()
        far.sendall(b"x")
        await heard.until(1)
    assert wire.reads == wire.user_stamps == 1
    assert before_ns <= heard.reads[0][1] <= time.monotonic_ns()


@linux
@pytest.mark.parametrize("step_ns", [-3_000 * NS_PER_MS, -30 * NS_PER_MS, 30 * NS_PER_MS, 3_000 * NS_PER_MS])
async def test_a_clock_that_was_set_dates_nothing_wrong(step_ns: int) -> None:
    async with wires() as (wire, far, clock):
        heard = Heard()
        heard.listen(wire)
        far.sendall(b"a")
        await heard.until(1)
        await asyncio.sleep(0.05)  # so long that a stamp too early by the smaller step would still come after the last one
        clock.offset_ns += step_ns
        began_ns = time.monotonic_ns()
        far.sendall(b"b")
        await heard.until(2)
        assert began_ns - NS_PER_MS <= heard.reads[1][1] <= time.monotonic_ns()


async def test_a_large_write_in_many_pieces_arrives_whole_and_says_when() -> None:
    async with wires() as (wire, far, _):
        written: list[int] = []
        wire.on_written = written.append
        pieces = [bytes([index % 251]) * (1 + index * 7 % 5000) for index in range(3000)]
        wire.send(pieces)
        wire.send([b"and this after it"])
        assert written == []
        got = bytearray()
        far.setblocking(False)
        async with asyncio.timeout(10):
            while len(got) < sum(map(len, pieces)) + 17:
                with contextlib.suppress(BlockingIOError):
                    got += far.recv(1 << 20)
                await asyncio.sleep(0)
        await asyncio.sleep(0.01)
    assert bytes(got) == b"".join(pieces) + b"and this after it"
    assert len(written) == 1


async def test_the_peer_s_end_is_told_once_with_its_reason() -> None:
    async with wires() as (wire, far, _):
        heard = Heard()
        heard.listen(wire)
        far.sendall(b"last words")
        far.close()
        await eventually(lambda: bool(heard.closed))
    assert [data for data, _ in heard.reads] == [b"last words"]
    assert [text for _, text in heard.closed] == [""]
    assert not wire.is_open


# --- attempts ----------------------------------------------------------------------------------------------------------------------------


@linux
async def test_an_attempt_says_how_its_reads_were_stamped() -> None:
    slow: Script = [CHUNKED, Do.PAUSE, chunk(TWO), Do.PAUSE, chunk(FOUR), Do.PAUSE, chunk(STOP) + chunk(DONE) + TAIL]
    async with scripted(slow) as peer, client(peer.url) as transport:
        await send_one(transport)
        attempt = await send_one(transport)
    assert attempt.succeeded
    assert attempt.reads >= 4
    assert attempt.user_stamps == 0


async def test_one_read_with_two_tokens_gives_both_its_stamp() -> None:
    chunks = ChunkLog()
    async with scripted([CHUNKED + chunk(TWO) + chunk(FOUR) + chunk(STOP) + chunk(DONE) + TAIL]) as peer, client(peer.url) as transport:
        attempt = await send_one(transport, chunks)
    assert len(set(chunks.at_ns)) == 1
    assert attempt.before_first_token_ns == attempt.written_ns < attempt.first_token_ns


async def test_a_connection_that_dies_after_thinking_is_a_failure_not_a_stale_one() -> None:
    thinks: Script = [Do.THINK, Do.CLOSE]
    async with scripted(ANSWER, thinks, ANSWER) as peer, client(peer.url) as transport:
        assert (await send_one(transport)).succeeded
        attempt = await send_one(transport)
        assert transport.stale_retries == 0
    assert attempt.error_class == ErrorClass.DISCONNECTED
    assert len(peer.requests) == 2


async def test_a_timeout_holds_also_after_a_slow_second_dial() -> None:
    async with (
        scripted(ANSWER, [Do.CLOSE], [Do.HANG]) as peer,
        proxy(pause_s=0.12) as (port, _),
        client(peer.url, proxy=f"http://127.0.0.1:{port}", timeout="600ms") as transport,
        asyncio.timeout(5),
    ):
        assert (await send_one(transport)).succeeded
        attempt = await send_one(transport)
        assert transport.stale_retries == 1
    assert attempt.error_class == ErrorClass.TIMEOUT


async def test_a_message_that_never_ends_frees_its_place_soon_after_the_end_mark() -> None:
    unended: Script = [CHUNKED, chunk(TWO), chunk(STOP), chunk(DONE), Do.HANG]
    async with scripted(unended, ANSWER) as peer, client(peer.url, max_connections=1) as transport:
        began_ns = time.monotonic_ns()
        first, second = await send_one(transport), await send_one(transport)
        assert time.monotonic_ns() - began_ns < 5_000 * NS_PER_MS
    assert first.succeeded
    assert second.succeeded


async def test_a_session_that_fails_leaves_no_connection() -> None:
    async with scripted(plain("429 Too Many Requests", b"{}")) as peer, client(peer.url, connection="session") as transport:
        session = chain(1, (TURN, TURN))
        attempt = new_attempt()
        await transport.send(transport.encoder()(session, 0), attempt, ChunkLog())
        assert list(transport._pool.idle()) == []
    assert attempt.error_class == ErrorClass.RATE_LIMITED


async def test_secrets_of_the_body_and_the_query_are_never_shown() -> None:
    body = {"user_token": "hunter2hunter2", "metadata": {"api_key": ["zzTopSecret9"]}, "n": 1}
    echo = plain("422 Unprocessable", b'{"input": "hunter2hunter2", "also": "zzTopSecret9"}')
    async with scripted(echo) as peer, client(f"{peer.url}/v1?api-key=qqSecretKey", extra_body=body) as transport:
        attempt = await send_one(transport)
        shown = attempt.error_text + repr(transport.endpoint)
    assert not [secret for secret in ("hunter2hunter2", "zzTopSecret9", "qqSecretKey") if secret in shown]


# --- ways to connect ---------------------------------------------------------------------------------------------------------------------


async def test_a_unix_socket(tmp_path: Path) -> None:
    path = tmp_path / "s"
    async with scripted(ANSWER, unix=path) as peer, client("http://staging.example/v1", unix_socket=str(path)) as transport:
        attempt = await send_one(transport)
    assert attempt.succeeded, attempt.error_text
    assert attempt.dns_start_ns == MISSING_NS
    assert attempt.connect_end_ns != MISSING_NS
    assert b"host: staging.example\r\n" in peer.requests[0]


async def test_a_unix_socket_that_nobody_listens_on(tmp_path: Path) -> None:
    async with client("http://h", unix_socket=str(tmp_path / "none")) as transport:
        attempt = await send_one(transport)
    assert attempt.error_class == ErrorClass.CONNECT
    assert str(tmp_path / "none") in attempt.error_text


@contextlib.asynccontextmanager
async def proxy(status: bytes = b"200 OK", pause_s: float = 0) -> AsyncIterator[tuple[int, list[bytes]]]:
    """An HTTP proxy that tunnels; its port, and the heads it was sent."""
    heads: list[bytes] = []
    tasks: set[asyncio.Task[None]] = set()

    async def pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError, asyncio.CancelledError):
            while data := await reader.read(65536):
                writer.write(data)
                await writer.drain()
        writer.close()

    async def on_connection(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        heads.append(head := await reader.readuntil(b"\r\n\r\n"))
        await asyncio.sleep(pause_s)
        writer.write(b"HTTP/1.1 " + status + b"\r\n\r\n")
        if not status.startswith(b"2"):
            writer.close()
            return
        host, port = head.split()[1].decode().rsplit(":", 1)
        inner = await asyncio.open_connection(host, int(port))
        tasks.update({asyncio.create_task(pump(reader, inner[1])), asyncio.create_task(pump(inner[0], writer))})

    server = await asyncio.start_server(on_connection, "127.0.0.1", 0)
    try:
        yield server.sockets[0].getsockname()[1], heads
    finally:
        server.close()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def test_a_proxy_is_asked_to_connect_and_its_password_is_kept_secret() -> None:
    async with scripted(ANSWER) as peer, proxy() as (port, heads):
        secret = {"PROXY_PAIR": "user:opensesame"}
        async with client(peer.url, secret, proxy=f"http://127.0.0.1:{port}", proxy_auth_env="PROXY_PAIR") as transport:
            attempt = await send_one(transport)
            assert "dXNlcjpvcGVuc2VzYW1l" not in repr(transport.endpoint)
    assert attempt.succeeded, attempt.error_text
    assert heads[0].startswith(b"CONNECT 127.0.0.1:%d HTTP/1.1\r\n" % peer.port)
    assert b"Proxy-Authorization: Basic dXNlcjpvcGVuc2VzYW1l\r\n" in heads[0]
    assert b"Proxy-Authorization" not in peer.requests[0]
    assert attempt.connect_start_ns < attempt.connect_end_ns <= attempt.send_ns


async def test_a_proxy_that_refuses_is_named() -> None:
    async with (
        proxy(b"407 Proxy Authentication Required") as (port, _),
        client("http://h:1", proxy=f"http://127.0.0.1:{port}") as transport,
    ):
        attempt = await send_one(transport)
    assert attempt.error_class == ErrorClass.CONNECT
    assert "opened no tunnel to h:1" in attempt.error_text
    assert "407" in attempt.error_text


@pytest.mark.parametrize(
    ("proxy_url", "said"),
    [("https://p:1", "https one"), ("http://user:secretpass@p:1", "must not hold credentials"), ("p:3128", "must be such as")],
)
async def test_a_proxy_that_cannot_be_used_is_a_usage_error(proxy_url: str, said: str) -> None:
    with pytest.raises(UsageError, match=said) as caught:
        async with client("http://h", proxy=proxy_url):
            pass
    assert "secretpass" not in str(caught.value)


@pytest.mark.parametrize(("mode", "connections"), [("reuse", 1), ("fresh", 4), ("session", 2)])
async def test_who_may_use_a_connection_again(mode: str, connections: int) -> None:
    """Two sessions of two turns each, one after the other."""
    async with scripted(ANSWER) as peer, client(peer.url, connection=mode) as transport:
        encode = transport.encoder()
        for number in (1, 2):
            session = chain(number, (TURN, TURN.__class__("And 3 + 3?", 8, 4)))
            for step in (0, 1):
                attempt = new_attempt()
                attempt.session = number
                await transport.send(encode(session, step, {0: "4"}), attempt, ChunkLog())
                assert attempt.succeeded, attempt.error_text
        assert peer.connections == connections


def certify(folder: Path, name: str) -> tuple[Path, Path]:
    """A self-signed certificate and its key."""
    cert, key = folder / f"{name}.pem", folder / f"{name}.key"
    words = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "1"]
    words += ["-keyout", str(key), "-out", str(cert), "-subj", f"/CN={name}", "-addext", "subjectAltName=IP:127.0.0.1"]
    subprocess.run(words, check=True, capture_output=True)
    return cert, key


async def test_a_client_certificate_is_shown_where_it_is_asked_for(tmp_path: Path) -> None:
    cert, key = certify(tmp_path, "server")
    own_cert, own_key = certify(tmp_path, "client")
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=str(own_cert))
    context.load_cert_chain(cert, key)
    context.verify_mode = ssl.CERT_REQUIRED
    async with scripted(ANSWER, tls=context) as peer:
        url = f"https://127.0.0.1:{peer.port}"
        async with client(url, ca_file=str(cert), client_cert=str(own_cert), client_key=str(own_key)) as transport:
            attempt = await send_one(transport)
        async with client(url, ca_file=str(cert)) as transport:
            refused = await send_one(transport)
    assert attempt.succeeded, attempt.error_text
    assert not refused.succeeded


async def test_a_client_key_without_its_certificate_is_a_usage_error(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"target\.client_key needs target\.client_cert"):
        async with client("https://h", client_key=str(tmp_path / "key")):
            pass
