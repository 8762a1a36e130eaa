"""The transport over real sockets, against a peer that says what it is told to."""

from __future__ import annotations

import asyncio
import json
import socket
import ssl
import subprocess
import time
from pathlib import Path

import pytest
from scripted_peer import (
    ANSWER,
    CHUNKED,
    DONE,
    HEAD,
    RUN_ID,
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

from latprof.client.endpoint import resolve_endpoint
from latprof.client.stamps import ChunkLog, ErrorClass
from latprof.client.transport import ask_for
from latprof.config import Target
from latprof.errors import UsageError
from latprof.units import MISSING_NS, NS_PER_S
from latprof.workload.sessions import Session, Turn


async def test_a_turn_goes_out_and_its_stamps_come_in_order() -> None:
    log = ChunkLog()
    spaced: Script = [step for part in ANSWER for step in (part, Do.PAUSE)]
    async with scripted(spaced) as peer, client(peer.url, {"KEY": "k-123456"}, api_key_env="KEY", headers={"x-team": "a"}) as transport:
        attempt = await send_one(transport, log)
    assert attempt.succeeded, attempt.error_text
    order = [
        attempt.start_ns,
        attempt.connect_start_ns,
        attempt.connect_end_ns,
        attempt.send_ns,
        attempt.written_ns,
        attempt.headers_ns,
        attempt.first_byte_ns,
        attempt.first_event_ns,
        attempt.before_first_token_ns,
        attempt.first_token_ns,
        attempt.last_token_ns,
        attempt.end_ns,
    ]
    assert MISSING_NS not in order
    assert order == sorted(order)
    assert attempt.first_event_ns < attempt.first_token_ns < attempt.last_token_ns < attempt.end_ns
    assert (attempt.dns_start_ns, attempt.dns_end_ns, attempt.tls_end_ns) == (MISSING_NS,) * 3
    assert len(log.at_ns) == 6
    head, body = peer.requests[0].split(b"\r\n\r\n")
    lines = head.decode().split("\r\n")
    assert lines[0] == "POST /v1/chat/completions HTTP/1.1"
    assert f"traceparent: 00-{attempt.trace_id}-{attempt.span_id}-01" in lines
    assert attempt.trace_id.startswith(RUN_ID)
    assert {"tracestate: latprof=5.0", "authorization: Bearer k-123456", "x-team: a", "accept: text/event-stream"} <= set(lines)
    assert json.loads(body)["messages"][0]["content"] == TURN.prompt


async def test_a_kept_connection_has_no_connect_stamps() -> None:
    async with scripted(ANSWER) as peer, client(peer.url) as transport:
        first, second = await send_one(transport), await send_one(transport)
        assert peer.connections == 1
    assert first.connect_end_ns != MISSING_NS
    assert second.succeeded
    assert (second.connect_start_ns, second.connect_end_ns) == (MISSING_NS, MISSING_NS)


async def test_a_name_is_resolved_with_stamps_of_its_own() -> None:
    async with scripted(ANSWER) as peer, client(f"http://localhost:{peer.port}") as transport:
        attempt = await send_one(transport)
    assert attempt.succeeded, attempt.error_text  # ::1 is refused first where localhost has both
    assert attempt.start_ns <= attempt.dns_start_ns <= attempt.dns_end_ns <= attempt.connect_start_ns


@pytest.mark.skipif(not socket.has_ipv6, reason="no IPv6")
async def test_an_ipv6_literal() -> None:
    try:
        async with scripted(ANSWER, host="::1") as peer, client(f"http://[::1]:{peer.port}/v1") as transport:
            attempt = await send_one(transport)
            assert b"host: [::1]:%d" % peer.port in peer.requests[0]
    except OSError as error:
        pytest.skip(f"no IPv6 loopback: {error}")
    assert attempt.succeeded


@pytest.mark.parametrize("end", [Do.CLOSE, Do.RESET])
async def test_a_stale_connection_is_retried_once_on_a_fresh_one(end: Do) -> None:
    # The second request reaches a peer that closes instead of answering, as one does whose idle time-out ran out.
    async with scripted(ANSWER, [end], ANSWER) as peer, client(peer.url) as transport:
        first, second = await send_one(transport), await send_one(transport)
        assert transport.stale_retries == 1
        assert len(peer.requests) == 3
    assert first.succeeded
    assert second.succeeded, second.error_text
    assert second.send_ns <= second.connect_start_ns <= second.connect_end_ns <= second.written_ns <= second.headers_ns


async def test_a_fresh_connection_that_dies_is_not_retried() -> None:
    async with scripted([Do.CLOSE]) as peer, client(peer.url) as transport:
        attempt = await send_one(transport)
        assert len(peer.requests) == 1
    assert attempt.error_class == ErrorClass.DISCONNECTED
    assert attempt.end_ns != MISSING_NS


async def test_a_connection_closed_while_idle_is_not_taken() -> None:
    async with scripted([*ANSWER, Do.CLOSE], ANSWER) as peer, client(peer.url) as transport:
        await send_one(transport)
        await asyncio.sleep(0.02)
        second = await send_one(transport)
        assert (peer.connections, transport.stale_retries) == (2, 0)
    assert second.connect_end_ns != MISSING_NS


async def test_a_connection_is_not_reused_after_connection_close() -> None:
    closing: Script = [CHUNKED[:-2] + b"connection: close\r\n\r\n", *ANSWER[1:]]
    async with scripted(closing) as peer, client(peer.url) as transport:
        assert (await send_one(transport)).succeeded
        assert (await send_one(transport)).succeeded
        assert peer.connections == 2


@pytest.mark.parametrize(
    ("script", "error_class", "status"),
    [
        (plain("401 Unauthorized", b"wrong key: Bearer k-123456, k-123456"), ErrorClass.AUTH, 401),
        (plain("404 Not Found", b"no such model"), ErrorClass.NOT_FOUND, 404),
        (plain("429 Too Many Requests", b"slow down"), ErrorClass.RATE_LIMITED, 429),
        (plain("500 Internal Server Error", b"trace k-123456"), ErrorClass.SERVER, 500),
        (plain("200 OK", b'{"choices":[]}'), ErrorClass.NOT_SSE, 200),
        ([CHUNKED, chunk(TWO)[:40], Do.PAUSE, Do.CLOSE], ErrorClass.TRUNCATED, 200),
        ([CHUNKED, chunk(TWO), Do.PAUSE, Do.RESET], ErrorClass.TRUNCATED, 200),
        ([CHUNKED, chunk(TWO), chunk(b"data: nonsense k-123456\n\n"), chunk(DONE), TAIL], ErrorClass.MALFORMED, 200),
        ([CHUNKED, chunk(b'data: {"error":{"message":"k-123456 broke"}}\n\n'), chunk(DONE), TAIL], ErrorClass.ERROR_EVENT, 200),
        ([CHUNKED, chunk(DONE), TAIL], ErrorClass.NO_TOKENS, 200),
        ([CHUNKED, chunk(DONE), Do.HANG], ErrorClass.NO_TOKENS, 200),
        ([b"\x15\x03\x01 k-123456"], ErrorClass.MALFORMED, MISSING_NS),
    ],
)
async def test_failures_are_rows_of_their_class_without_secrets(script: Script, error_class: ErrorClass, status: int) -> None:
    async with scripted(script) as peer, client(peer.url, {"KEY": "k-123456"}, api_key_env="KEY") as transport:
        attempt = await send_one(transport)
    assert (attempt.error_class, attempt.status) == (error_class, status)
    assert "k-123456" not in repr(attempt)
    assert attempt.end_ns != MISSING_NS


async def test_a_refused_connection() -> None:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        port = sock.getsockname()[1]
    async with client(f"http://127.0.0.1:{port}") as transport:
        attempt = await send_one(transport)
    assert attempt.error_class == ErrorClass.CONNECT
    assert f"127.0.0.1:{port}" in attempt.error_text
    assert "refused" in attempt.error_text.lower()
    assert (attempt.connect_end_ns, attempt.send_ns) == (MISSING_NS, MISSING_NS)


async def test_a_name_that_does_not_resolve() -> None:
    async with client("http://no-such-host.invalid") as transport:
        attempt = await send_one(transport)
    assert attempt.error_class == ErrorClass.DNS
    assert "no-such-host.invalid" in attempt.error_text
    assert attempt.connect_start_ns == MISSING_NS


async def test_a_server_that_never_answers_times_out() -> None:
    async with scripted([Do.HANG]) as peer, client(peer.url, timeout="50ms") as transport:
        attempt = await send_one(transport)
    assert attempt.error_class == ErrorClass.TIMEOUT
    assert "within 0.05 s" in attempt.error_text
    assert "nothing came back" in attempt.error_text
    assert attempt.written_ns != MISSING_NS
    assert attempt.end_ns - attempt.start_ns >= 45_000_000


async def test_a_stream_that_stalls_times_out_with_what_came() -> None:
    async with scripted([CHUNKED, chunk(TWO), Do.HANG]) as peer, client(peer.url, timeout="80ms") as transport:
        attempt = await send_one(transport)
    assert attempt.error_class == ErrorClass.TIMEOUT
    assert "1 token-bearing chunks came" in attempt.error_text
    assert (attempt.output_tokens, attempt.tokens_source) == (1, "chunks")


async def test_a_stream_that_is_done_but_never_closed_is_whole() -> None:
    async with scripted([HEAD + b"\r\n", TWO, DONE, Do.HANG]) as peer, client(peer.url, timeout="80ms") as transport:
        attempt = await send_one(transport)
    assert attempt.succeeded
    assert attempt.end_ns - attempt.last_token_ns < 60_000_000


async def test_cancelling_ends_the_attempt_and_closes_the_connection() -> None:
    async with scripted([CHUNKED, chunk(TWO), Do.HANG]) as peer, client(peer.url) as transport:
        attempt = new_attempt()
        task = asyncio.create_task(transport.send(ask_for(Session(0, (TURN,)), 0, (b"{}",)), attempt, ChunkLog()))
        await asyncio.wait({task}, timeout=0.1)
        assert attempt.first_token_ns != MISSING_NS
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
    assert attempt.error_class == ErrorClass.INTERRUPTED
    assert attempt.end_ns != MISSING_NS


async def test_connections_are_limited() -> None:
    spaced: Script = [Do.PAUSE, *ANSWER]
    async with scripted(spaced) as peer, client(peer.url, max_connections=2) as transport:
        attempts = await asyncio.gather(*(send_one(transport) for _ in range(8)))
        assert peer.most_in_flight == 2
        assert peer.connections == 2
    assert all(attempt.succeeded for attempt in attempts)


async def test_a_large_body_is_written_when_the_peer_has_taken_it() -> None:
    # A peer that reads late: its buffers (a few MiB at most) fill, and the last byte leaves only after it starts to read.
    began_ns: list[int] = []

    async def late(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await asyncio.sleep(0.15)
        began_ns.append(time.monotonic_ns())
        taken = b""
        while b"END" not in taken[-100:]:
            taken = taken[-100:] + await reader.read(1 << 16)
        writer.write(b"".join(part for part in ANSWER if isinstance(part, bytes)))
        writer.close()

    server = await asyncio.start_server(late, "127.0.0.1", 0)
    async with server, client(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}") as transport:
        attempt = await send_one(transport, turn=Turn("x" * (24 << 20) + "END", 1, 1))
    assert attempt.succeeded, attempt.error_text
    assert attempt.send_ns < began_ns[0] < attempt.written_ns
    assert attempt.before_first_token_ns == attempt.written_ns


# --- TLS ------------------------------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tls")
    subject = ["-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1"]
    key = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-keyout", f"{folder}/key.pem"]
    subprocess.run(["openssl", "req", "-x509", *key, *subject, "-days", "2", "-out", f"{folder}/cert.pem"], check=True, capture_output=True)
    return folder


def server_context(folder: Path) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(folder / "cert.pem", folder / "key.pem")
    context.set_alpn_protocols(["h2", "http/1.1"])
    return context


async def test_tls_has_its_own_stamp(certificate: Path) -> None:
    async with (
        scripted(ANSWER, tls=server_context(certificate)) as peer,
        client(f"https://127.0.0.1:{peer.port}", ca_file=str(certificate / "cert.pem")) as transport,
    ):
        first, second = await send_one(transport), await send_one(transport)
    assert first.succeeded, first.error_text
    assert first.connect_end_ns <= first.tls_end_ns <= first.send_ns <= first.written_ns
    assert second.succeeded
    assert second.tls_end_ns == MISSING_NS


async def test_an_unknown_authority_is_a_tls_failure_that_says_what_to_do(certificate: Path) -> None:
    async with scripted(ANSWER, tls=server_context(certificate)) as peer:
        async with client(f"https://127.0.0.1:{peer.port}") as transport:
            attempt = await send_one(transport)
        assert attempt.error_class == ErrorClass.TLS
        assert "target.ca_file" in attempt.error_text
        async with client(f"https://127.0.0.1:{peer.port}", tls_verify=False) as transport:
            assert (await send_one(transport)).succeeded


async def test_tls_to_a_plain_server_is_a_tls_failure() -> None:
    async def plain_server(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(100)
        writer.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")
        writer.close()

    server = await asyncio.start_server(plain_server, "127.0.0.1", 0)
    async with server, client(f"https://127.0.0.1:{server.sockets[0].getsockname()[1]}") as transport:
        attempt = await send_one(transport)
    assert attempt.error_class == ErrorClass.TLS


async def test_a_handshake_that_never_ends_times_out() -> None:
    # The peer takes the client's hello for the beginning of a request, and waits for its end.
    async with scripted([Do.HANG]) as peer, client(f"https://127.0.0.1:{peer.port}", connect_timeout="50ms") as transport:
        attempt = await send_one(transport)
    assert attempt.error_class == ErrorClass.TIMEOUT
    assert "no TLS handshake" in attempt.error_text
    assert "target.connect_timeout" in attempt.error_text


async def test_a_ca_file_that_cannot_be_read_is_a_usage_error(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"target\.ca_file"):
        resolve_endpoint(Target(ca_file=tmp_path / "none.pem"), "https://h", {})


async def test_an_extra_body_that_is_not_json_is_a_usage_error() -> None:
    with pytest.raises(UsageError, match="--extra-body"):
        resolve_endpoint(Target(extra_body={"x": {1, 2}}), "http://h", {})


async def test_timeouts_are_counted_from_the_start_not_from_the_send() -> None:
    async with scripted([Do.HANG]) as peer, client(peer.url, timeout="1s") as transport:
        attempt = new_attempt()
        loop = asyncio.get_running_loop()
        began = loop.time()
        attempt.start_ns = time.monotonic_ns() - NS_PER_S + 50_000_000
        await transport.send(ask_for(Session(0, (TURN,)), 0, (b"{}",)), attempt, ChunkLog())
        assert loop.time() - began < 0.6
    assert attempt.error_class == ErrorClass.TIMEOUT
