"""The injecting hop on real sockets: what it does to a request, and all that it must not do."""

from __future__ import annotations

import asyncio
import os
import signal
import ssl
import subprocess
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hop_peer import OK, RUN_ID, answers_ok, ask, hop_before, order, read_request, serving

from latprof.client.tls import TlsFiles
from latprof.errors import UsageError
from latprof.inject.order import Counts, Upstream
from latprof.inject.running import HopStartError, listen, start
from latprof.observations.injected import compact_injected, load_injected, rows_of
from latprof.schedule.delays import Delays
from latprof.units import MISSING_NS, NS_PER_MS, NS_PER_S

MS = NS_PER_MS


async def connected(port: int) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    return await asyncio.open_connection("127.0.0.1", port)


async def test_requests_on_one_connection_are_delayed_as_drawn_and_written_down(tmp_path: Path) -> None:
    seen_ns: list[int] = []

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while (await read_request(reader))[0]:
            seen_ns.append(time.monotonic_ns())
            writer.write(OK)

    sent_ns, number = [], 24
    async with hop_before(handle, tmp_path, 0, 10, 30) as hop:
        reader, writer = await connected(hop.port)
        for n in range(number):
            sent_ns.append(time.monotonic_ns())
            writer.write(ask(n))
            assert await reader.readexactly(len(OK)) == OK
        writer.close()
    made = load_injected(tmp_path)
    assert made is not None
    design = Delays((0, 10 * MS, 30 * MS), 60 * NS_PER_S, "request", 1)
    traces = [f"{RUN_ID}{n:016x}" for n in range(number)]
    assert made.trace_id.tolist() == traces
    assert made.parent_id.tolist() == [f"{n + 1:016x}" for n in range(number)]
    assert made.delay_ns.tolist() == [design.of(trace, 0) for trace in traces]
    assert set(made.delay_ns.tolist()) == {0, 10 * MS, 30 * MS}
    # Never sooner than drawn, by whoever's clock; how much later is the machine's.
    assert (made.forwarded_ns - made.received_ns >= made.delay_ns - MS).all()
    assert (np.array(seen_ns) - np.array(sent_ns) >= made.delay_ns - MS).all()
    assert (made.received_ns >= sent_ns).all()
    assert (made.first_byte_ns >= made.forwarded_ns).all()
    assert (made.ended_ns >= made.first_byte_ns).all()
    compact_injected(tmp_path)
    again = load_injected(tmp_path)
    assert again is not None
    assert again.delay_ns.tolist() == made.delay_ns.tolist()
    assert rows_of(again, np.array([traces[3], "f" * 32, traces[0]], object)).tolist() == [3, -1, 0]


async def test_an_answer_streams_through_unbuffered(tmp_path: Path) -> None:
    """The next event is sent only when the client has the one before: whoever buffers hangs here."""
    got = asyncio.Event()

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_request(reader)
        writer.write(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n")
        for n in range(20):
            writer.write(b"9\r\ndata: %03d\r\n" % n)
            await writer.drain()
            await got.wait()
            got.clear()
        writer.write(b"0\r\n\r\n")
        await reader.read()

    async with asyncio.timeout(20), hop_before(handle, tmp_path, 0, 1) as hop:
        reader, writer = await connected(hop.port)
        writer.write(ask())
        await reader.readuntil(b"\r\n\r\n")
        for n in range(20):
            assert await reader.readexactly(14) == b"9\r\ndata: %03d\r\n" % n
            got.set()
        assert await reader.readexactly(5) == b"0\r\n\r\n"
        writer.close()


async def test_big_bodies_pass_whole_both_ways(tmp_path: Path) -> None:
    body, answer = os.urandom(9_000_000), os.urandom(7_000_000)

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        assert (await read_request(reader))[1] == body
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n" % len(answer) + answer)
        await writer.drain()
        await reader.read()

    async with asyncio.timeout(60), hop_before(handle, tmp_path, 0, 5) as hop:
        reader, writer = await connected(hop.port)
        writer.write(ask(1, body))
        await reader.readuntil(b"\r\n\r\n")
        assert await reader.readexactly(len(answer)) == answer
        writer.close()


async def test_requests_of_somebody_else_pass_untouched_and_leave_no_row(tmp_path: Path) -> None:
    heads: list[bytes] = []

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while (head := (await read_request(reader))[0]) != b"":
            heads.append(head)
            writer.write(OK)

    other, bare = ask(run_id="f" * 16), b"GET /v1/models HTTP/1.1\r\nhost: somewhere\r\n\r\n"
    async with hop_before(handle, tmp_path, 400, 500) as hop:
        reader, writer = await connected(hop.port)
        begun = time.monotonic()
        for text in (other, bare):
            writer.write(text)
            await reader.readexactly(len(OK))
        assert time.monotonic() - begun < 0.8  # not one delay was taken
        writer.close()
    assert heads == [other[:-2], bare]
    made = load_injected(tmp_path)
    assert made is not None
    assert len(made) == 0


async def test_a_gateway_is_waited_for_at_the_address_that_was_asked_for(tmp_path: Path) -> None:
    """The upstream reads its own address, and both kinds of requests are counted."""
    heads: list[bytes] = []

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while (head := (await read_request(reader))[0]) != b"":
            heads.append(head)
            writer.write(OK)

    with listen("127.0.0.1", 0) as listening:
        asked = listening.getsockname()[1]
        async with asyncio.timeout(60), serving(handle) as port, await start(order(tmp_path, port, 0, 1), listening) as hop:
            assert hop.port == asked
            with pytest.raises(
                UsageError, match=rf"inject\.listen \(--inject-listen\) 127\.0\.0\.1:{asked}: cannot be listened at \(Address"
            ):
                listen("127.0.0.1", asked)
            reader, writer = await connected(hop.port)
            named = b"host: 127.0.0.1:%d" % asked
            for text in (ask(1), ask(2, run_id="f" * 16), ask(3).replace(b"host: somewhere", named)):
                writer.write(text)
                await reader.readexactly(len(OK))
            assert await hop.counts() == Counts(own=2, others=1)
            writer.close()
    assert [head.split(b"\r\n")[1] for head in heads] == [b"host: somewhere", b"host: somewhere", b"host: 127.0.0.1:%d" % port]
    made = load_injected(tmp_path)
    assert made is not None
    assert len(made) == 2


async def test_an_upstream_may_be_https(tmp_path: Path) -> None:
    key = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-keyout", f"{tmp_path}/key.pem"]
    made = ["openssl", "req", "-x509", *key, "-subj", "/CN=here", "-addext", "subjectAltName=IP:127.0.0.1", "-out", f"{tmp_path}/cert.pem"]
    subprocess.run(made, check=True, capture_output=True)  # noqa: ASYNC221 - nothing else goes on
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(tmp_path / "cert.pem", tmp_path / "key.pem")
    server = await asyncio.start_server(answers_ok, "127.0.0.1", 0, ssl=tls)
    port = server.sockets[0].getsockname()[1]
    asked = replace(order(tmp_path, port, 0, 1), upstream=Upstream("127.0.0.1", port, tls=TlsFiles(f"{tmp_path}/cert.pem")))
    async with asyncio.timeout(60), server, await start(asked) as hop:
        reader, writer = await connected(hop.port)
        writer.write(ask(1))
        assert await reader.readexactly(len(OK)) == OK
        writer.close()


async def test_connections_do_not_wait_for_each_other(tmp_path: Path) -> None:
    async with asyncio.timeout(30), hop_before(answers_ok, tmp_path, 300, 301) as hop:

        async def one(n: int) -> None:
            reader, writer = await connected(hop.port)
            writer.write(ask(n))
            await reader.readexactly(len(OK))
            writer.close()

        begun = time.monotonic()
        await asyncio.gather(*(one(n) for n in range(40)))
        assert time.monotonic() - begun < 40 * 0.3 / 2


async def test_a_client_that_goes_while_it_is_delayed_is_not_asked_for(tmp_path: Path) -> None:
    came: list[bytes] = []
    closed = asyncio.Event()

    async def handle(reader: asyncio.StreamReader, _: asyncio.StreamWriter) -> None:
        came.append(await reader.read())
        closed.set()

    async with asyncio.timeout(20), hop_before(handle, tmp_path, 300, 301) as hop:
        _, writer = await connected(hop.port)
        writer.write(ask())
        await writer.drain()
        await asyncio.sleep(0.05)
        writer.close()
        await closed.wait()
    assert came == [b""]
    made = load_injected(tmp_path)
    assert made is not None
    assert made.first_byte_ns.tolist() == [MISSING_NS]


async def test_a_client_that_goes_in_mid_answer_closes_the_upstream_too(tmp_path: Path) -> None:
    closed = asyncio.Event()

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_request(reader)
        writer.write(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nhello\r\n")
        await reader.read()
        closed.set()

    async with asyncio.timeout(20), hop_before(handle, tmp_path, 0, 1) as hop:
        reader, writer = await connected(hop.port)
        writer.write(ask())
        await reader.readuntil(b"hello\r\n")
        writer.close()
        await closed.wait()


async def test_an_upstream_that_goes_in_mid_answer_closes_the_client_after_what_it_said(tmp_path: Path) -> None:
    said = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nhello\r\n"

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_request(reader)
        writer.write(said)
        await writer.drain()

    async with asyncio.timeout(20), hop_before(handle, tmp_path, 0, 1) as hop:
        reader, writer = await connected(hop.port)
        writer.write(ask())
        assert await reader.read(1 << 20) + await reader.read() == said
        writer.close()


async def test_an_upstream_that_is_not_there_is_said_in_words(tmp_path: Path) -> None:
    async with serving(answers_ok) as port:
        pass
    async with asyncio.timeout(20), await start(order(tmp_path, port, 0, 1)) as hop:
        reader, writer = await connected(hop.port)
        writer.write(ask())
        told = await reader.readuntil(b"\r\n\r\n")
        assert told.startswith(b"HTTP/1.1 502 ")
        assert b"has no connection to 127.0.0.1:%d" % port in await reader.readuntil(b"null}}")
        writer.close()


async def test_what_is_no_http_is_refused(tmp_path: Path) -> None:
    async with asyncio.timeout(20), hop_before(answers_ok, tmp_path, 0, 1) as hop:
        reader, writer = await connected(hop.port)
        writer.write(b"POST / HTTP/1.1\r\ntransfer-encoding: chunked\r\n\r\nzz\r\n")
        assert (await reader.readuntil(b"\r\n")).startswith(b"HTTP/1.1 502 ")
        writer.close()


async def test_blocks_share_one_delay(tmp_path: Path) -> None:
    async with hop_before(answers_ok, tmp_path, 0, 7, per="block") as hop:
        reader, writer = await connected(hop.port)
        for n in range(12):
            writer.write(ask(n))
            await reader.readexactly(len(OK))
        writer.close()
    made = load_injected(tmp_path)
    assert made is not None
    assert len(set(made.delay_ns.tolist())) == 1
    assert made.block.tolist() == [0] * 12


async def test_a_hop_that_is_killed_is_noticed_and_what_was_flushed_stays(tmp_path: Path) -> None:
    async with asyncio.timeout(30), hop_before(answers_ok, tmp_path, 0, 1) as hop:
        reader, writer = await connected(hop.port)
        for n in range(3):
            writer.write(ask(n))
            await reader.readexactly(len(OK))
        while (flushed := load_injected(tmp_path)) is None or len(flushed) < 2:  # noqa: ASYNC110 - another process writes it
            await asyncio.sleep(0.1)
        assert hop.died() == ""
        os.kill(hop._process.pid, signal.SIGKILL)
        await hop._process.wait()
        assert "ended with -9" in hop.died()
        writer.close()
    made = load_injected(tmp_path)
    assert made is not None
    assert len(made) == 2  # the third was not known to be over


async def test_a_hop_that_cannot_write_says_so(tmp_path: Path) -> None:
    with pytest.raises(HopStartError, match=r"inject\.arrows: cannot be created"):
        await start(order(tmp_path / "gone", 1, 0, 1))
