from __future__ import annotations

import asyncio
import json
import pickle
from collections import Counter

import pytest
from websocket_peer import Events, Heard, Script, answer, error, socket_client, socket_peer, take_turn

from latprof.client.stamps import ChunkLog, ErrorClass
from latprof.client.websocket import FrameEncoder
from latprof.units import MISSING_NS
from latprof.workload.sessions import Session, Turn, chain

WORDS = "a new message of some length " * 3


def conversation(session: int = 5, turns: int = 3, answer: str | None = "as planned") -> Session:
    return chain(session, tuple(Turn(f"s{session} t{number} {WORDS}", 20, 2, answer=answer) for number in range(turns)))


async def test_twenty_turns_send_only_what_is_new_after_the_first() -> None:
    session = conversation(turns=20)
    async with socket_peer() as peer, socket_client(peer.url) as transport:
        attempts = [(await take_turn(transport, session, step))[0] for step in range(20)]
    assert [attempt.error_class for attempt in attempts] == [""] * 20
    assert len(peer.handshakes) == 1
    assert [heard.previous for heard in peer.heard] == [None, *(f"resp_{number}" for number in range(19))]
    assert all(heard.texts == [session.turns[number].prompt] for number, heard in enumerate(peer.heard))
    # The bytes are those of one message, however long the conversation has grown.
    sizes = [heard.size for heard in peer.heard]
    assert max(sizes[1:]) - min(sizes[1:]) <= 4
    assert sizes[0] < sizes[1] < sizes[0] + 60
    whole = [len(b"".join(transport.encoder()(session, step).body)) for step in range(20)]
    assert whole[19] > 10 * sizes[19]
    assert all("metadata" not in heard.message for heard in peer.heard)


async def test_the_stamps_of_a_turn() -> None:
    chunks = ChunkLog()
    async with socket_peer() as peer, socket_client(peer.url) as transport:
        first, text = await take_turn(transport, conversation(answer=None), 0, chunks)
        second, _ = await take_turn(transport, conversation(answer=None), 1, chunks, {0: text})
    assert text == "Hi there"
    opened = first.connect_start_ns, first.connect_end_ns, first.send_ns, first.written_ns, first.first_byte_ns, first.first_event_ns
    assert MISSING_NS not in opened
    assert list(opened) == sorted(opened)
    assert first.first_event_ns <= first.first_token_ns <= first.last_token_ns <= first.end_ns
    assert first.before_first_token_ns >= first.send_ns
    assert (second.connect_start_ns, second.connect_end_ns, second.tls_end_ns) == (MISSING_NS,) * 3
    assert second.first_byte_ns > second.send_ns
    for attempt in (first, second):
        assert (attempt.status, attempt.headers_ns, attempt.token_chunks, attempt.tokens_source) == (200, MISSING_NS, 2, "usage")
        assert (attempt.prompt_tokens, attempt.output_tokens, attempt.cached_tokens) == (9, 2, 4)
        assert 1 <= attempt.reads <= 4
    assert [first.response_id, second.response_id] == ["resp_0", "resp_1"]
    assert Counter(chunks.request) == {0: 4, 1: 4}
    assert [code for code in chunks.channel if code] == [1] * 4


async def test_the_handshake_says_who_asks() -> None:
    async with socket_peer() as peer, socket_client(peer.url, {"KEY": "k-12345"}, api_key_env="KEY", headers={"X-Team": "a"}) as transport:
        await take_turn(transport, conversation(), 0)
    (handshake,) = peer.handshakes
    assert (handshake[":path"], handshake["authorization"], handshake["x-team"]) == ("/v1/responses", "Bearer k-12345", "a")
    assert "sec-websocket-extensions" not in handshake  # a compressed stream would be stamped by the compressor's blocks


async def test_trace_context_rides_in_the_metadata_where_it_is_wanted() -> None:
    extra = {"metadata": {"team": "a"}, "stream": True, "store": False}
    async with socket_peer() as peer, socket_client(peer.url, ws_traceparent=True, extra_body=extra) as transport:
        attempts = [(await take_turn(transport, conversation(), step))[0] for step in range(2)]
    for number, (heard, attempt) in enumerate(zip(peer.heard, attempts, strict=True)):
        context = {"traceparent": f"00-{attempt.trace_id}-{attempt.span_id}-01", "tracestate": f"latprof=5.{number}"}
        assert heard.message["metadata"] == {"team": "a", **context}
        assert heard.message["store"] is False
        assert "stream" not in heard.message


def once(when: int, events: Events) -> Script:
    return lambda number, _heard: events if number == when else None


RECOVERIES: dict[str, tuple[Events, int, int, int]] = {
    # what the second turn is told, then: messages sent, connections opened, reconnects counted
    "forgotten": ([error("previous_response_not_found")], 4, 1, 0),
    "its time is over": ([error("websocket_connection_limit_reached")], 4, 2, 1),
    "its time is over, and it closes": ([error("websocket_connection_limit_reached", None), "CLOSE"], 4, 2, 1),
    "lost": (["RESET"], 4, 2, 1),
    "closed": (["CLOSE"], 4, 2, 1),
}


@pytest.mark.parametrize(("events", "messages", "connections", "reconnects"), RECOVERIES.values(), ids=RECOVERIES)
async def test_what_was_lost_is_sent_whole_again(events: Events, messages: int, connections: int, reconnects: int) -> None:
    session = conversation()
    async with socket_peer(once(1, events)) as peer, socket_client(peer.url) as transport:
        attempts = [(await take_turn(transport, session, step))[0] for step in range(3)]
        assert (transport.reconnects, transport.forgotten) == (reconnects, 1 - reconnects)
    assert [attempt.error_class for attempt in attempts] == [""] * 3
    assert (len(peer.heard), len(peer.handshakes)) == (messages, connections)
    whole = [session.turns[0].prompt, "as planned", session.turns[1].prompt]
    assert [heard.texts for heard in peer.heard[1:3]] == [[session.turns[1].prompt], whole]
    assert [heard.previous for heard in peer.heard] == [None, "resp_0", None, "resp_2"]
    # The detour is the turn's: it was sent when it was first sent.
    assert attempts[1].send_ns < attempts[1].written_ns <= attempts[1].first_token_ns
    assert (attempts[1].connect_start_ns != MISSING_NS) == (connections == 2)
    assert attempts[1].response_id == "resp_2"


async def test_a_connection_that_dies_while_idle_is_opened_anew_with_the_whole_input() -> None:
    for end in ("CLOSE", "RESET", error("websocket_connection_limit_reached")):
        events: Events = [*answer(0, {}), end]
        async with socket_peer(once(0, events)) as peer, socket_client(peer.url) as transport:
            await take_turn(transport, conversation(), 0)
            await asyncio.sleep(0.05)
            attempt, _ = await take_turn(transport, conversation(), 1)
        assert attempt.succeeded
        assert attempt.connect_start_ns != MISSING_NS
        assert len(peer.heard[1].texts) == 3


FAILURES: dict[str, tuple[Events, ErrorClass, int, str]] = {
    "rate limited": ([error("rate_limit_exceeded", 429)], ErrorClass.RATE_LIMITED, 429, "it is rate_limit_exceeded"),
    "refused": ([error("missing_required_parameter")], ErrorClass.BAD_REQUEST, 400, "missing_required"),
    "no status": ([error("server_error", None)], ErrorClass.ERROR_EVENT, 200, "it is server_error"),
    "failed": (
        [*answer(0, {})[:2], {"type": "response.failed", "response": {"id": "r", "error": {"message": "it broke"}}}],
        ErrorClass.ERROR_EVENT,
        200,
        "it broke",
    ),
    "cut": ([*answer(0, {})[:2], "RESET"], ErrorClass.TRUNCATED, 200, "after 2 events"),
    "silent": (["CLOSE"], ErrorClass.DISCONNECTED, MISSING_NS, "before it answered"),
    "no JSON": (["{oops", *answer(0, {})], ErrorClass.MALFORMED, 200, "{oops"),
    "no tokens": (answer(0, {}, ()), ErrorClass.NO_TOKENS, 200, "none of its 2 events"),
    "too late": ([*answer(0, {})[:2], 5.0], ErrorClass.TIMEOUT, 200, "1 token-bearing chunks came"),
    "nothing": ([5.0], ErrorClass.TIMEOUT, MISSING_NS, "nothing came back"),
}


@pytest.mark.parametrize(("events", "error_class", "status", "text"), FAILURES.values(), ids=FAILURES)
async def test_a_turn_that_fails_is_a_row(events: Events, error_class: ErrorClass, status: int, text: str) -> None:
    async with socket_peer(once(0, events)) as peer, socket_client(peer.url, timeout="0.4s") as transport:
        attempt, _ = await take_turn(transport, conversation(), 0)
        assert (attempt.error_class, attempt.status) == (error_class, status)
        assert text in attempt.error_text
        assert attempt.end_ns != MISSING_NS
        again, _ = await take_turn(transport, conversation(6), 0)
        assert again.succeeded
        await asyncio.sleep(0.05)
        assert peer.open_now == 1  # the failed turn's connection is not kept


async def test_losing_again_and_again_fails_in_the_end() -> None:
    def script(number: int, _: Heard) -> Events | None:
        return [error("websocket_connection_limit_reached")] if number else None

    async with socket_peer(script) as peer, socket_client(peer.url) as transport:
        await take_turn(transport, conversation(), 0)
        attempt, _ = await take_turn(transport, conversation(), 1)
    assert not attempt.succeeded
    assert len(peer.heard) == 5


@pytest.mark.parametrize(
    ("status", "error_class"),
    [
        (401, ErrorClass.AUTH),
        (404, ErrorClass.NOT_FOUND),
        (429, ErrorClass.RATE_LIMITED),
        (503, ErrorClass.SERVER),
        (200, ErrorClass.NOT_SSE),
    ],
)
async def test_a_refused_handshake_ends_the_turn_as_an_answer_would(status: int, error_class: ErrorClass) -> None:
    async with socket_peer(refuse=(status, b'{"error": "not today"}')) as peer, socket_client(peer.url) as transport:
        attempt, _ = await take_turn(transport, conversation(), 0)
    assert attempt.error_class == error_class
    assert "not today" in attempt.error_text
    assert attempt.send_ns == MISSING_NS


async def test_a_peer_that_is_no_http_server() -> None:
    async def rude(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"SSH-2.0-OpenSSH\r\n")
        writer.close()

    server = await asyncio.start_server(rude, "127.0.0.1", 0)
    async with server, socket_client(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}") as transport:
        attempt, _ = await take_turn(transport, conversation(), 0)
    assert attempt.error_class == ErrorClass.DISCONNECTED
    async with socket_client("http://127.0.0.1:1") as transport:
        attempt, _ = await take_turn(transport, conversation(), 0)
    assert attempt.error_class == ErrorClass.CONNECT


async def test_every_session_has_a_connection_of_its_own_until_its_last_turn() -> None:
    async with socket_peer() as peer, socket_client(peer.url) as transport:
        await asyncio.gather(*(take_turn(transport, conversation(number, 2), 0) for number in range(4)))
        assert len({heard.connection for heard in peer.heard}) == 4
        assert len(transport.sockets()) == 0
        await asyncio.gather(*(take_turn(transport, conversation(number, 2), 1) for number in range(4)))
        await asyncio.sleep(0.05)
        assert peer.open_now == 0
    assert len(peer.handshakes) == 4
    assert not [heard for heard in peer.heard if "stream_id" in heard.message]


async def test_sessions_share_a_connection_by_stream_id() -> None:
    def slow(number: int, heard: Heard) -> Events:
        lane = {"stream_id": heard.message["stream_id"]}
        first, *rest = answer(number, lane)
        return [0.02, first, 0.02, *rest]

    async with socket_peer(slow) as peer, socket_client(peer.url, ws_streams=4) as transport:
        for step in range(3):
            turns = await asyncio.gather(*(take_turn(transport, conversation(number), step) for number in range(8)))
            assert [attempt.error_class for attempt, _ in turns] == [""] * 8
            if step == 0:
                assert sum(attempt.connect_start_ns != MISSING_NS for attempt, _ in turns) == 2
    assert len(peer.handshakes) == 2
    for session in range(8):
        heard = peer.from_session(session)
        # One lane each, the whole conversation through, and nobody goes on from another's response.
        assert len({(one.connection, one.message["stream_id"]) for one in heard}) == 1
        assert [one.previous for one in heard[1:]] == [f"resp_{peer.heard.index(one)}" for one in heard[:-1]]
    lanes = {(heard.connection, heard.message["stream_id"]) for heard in peer.heard}
    assert len(lanes) == 8


async def test_a_shared_connection_outlives_its_sessions_and_a_turn_that_was_given_up() -> None:
    def hang(number: int, heard: Heard) -> Events | None:
        return [0.3, *answer(0, {"stream_id": heard.message["stream_id"]})] if number == 0 else None

    async with socket_peer(hang) as peer, socket_client(peer.url, ws_streams=2, timeout="0.15s") as transport:
        late, other = await asyncio.gather(take_turn(transport, conversation(1, 1), 0), take_turn(transport, conversation(2, 1), 0))
        assert (late[0].error_class, other[0].error_class) == ("timeout", "")
        for session in (3, 4, 5):
            attempt, _ = await take_turn(transport, conversation(session, 1), 0)
            assert attempt.succeeded
            assert attempt.token_chunks == 2  # none of the late turn's
            await asyncio.sleep(0.1)
    assert len(peer.handshakes) == 1


async def test_branches_of_a_session_run_side_by_side_on_lanes_of_its_connection() -> None:
    root = Turn("s5 root", 2, 2, answer="yes")
    branches = tuple(Turn(f"s5 branch {number}", 2, 2, after=(0,), context=0, answer="done") for number in range(3))
    session = Session(5, (root, *branches))
    async with (
        socket_peer(lambda number, heard: [0.05, *answer(number, {k: v for k, v in heard.message.items() if k == "stream_id"})]) as peer,
        socket_client(peer.url) as transport,
    ):
        await take_turn(transport, session, 0)
        turns = await asyncio.gather(*(take_turn(transport, session, step) for step in (1, 2, 3)))
    assert [attempt.error_class for attempt, _ in turns] == [""] * 3
    assert len(peer.handshakes) == 1
    assert [heard.previous for heard in peer.heard] == [None, "resp_0", "resp_0", "resp_0"]
    assert [heard.message.get("stream_id") for heard in peer.heard] == [None, None, "s1", "s2"]
    sent = sorted(attempt.send_ns for attempt, _ in turns)
    assert sent[-1] < min(attempt.first_token_ns for attempt, _ in turns)


async def test_a_cancelled_turn_ends_as_interrupted_and_closes_its_connection() -> None:
    async with socket_peer(once(0, [5.0])) as peer, socket_client(peer.url) as transport:
        task = asyncio.create_task(take_turn(transport, conversation(), 0))
        while not peer.heard:  # noqa: ASYNC110 - the peer tells nobody
            await asyncio.sleep(0.01)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await asyncio.sleep(0.05)
        assert peer.open_now == 0


def test_the_encoder_travels() -> None:
    async def encoder() -> FrameEncoder:
        async with socket_client("http://127.0.0.1:1") as transport:
            made = transport.encoder()
            assert isinstance(made, FrameEncoder)
            return made

    encode = asyncio.run(encoder())
    again = pickle.loads(pickle.dumps(encode))  # noqa: S301 - our own bytes
    first, second = encode(conversation(), 1), again(conversation(), 1)
    assert first == second
    assert [json.loads(b"".join(body))["type"] for body in (first.body, first.new_body)] == ["response.create"] * 2
