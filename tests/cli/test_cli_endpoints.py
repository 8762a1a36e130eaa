"""Endpoints that misbehave: a failed row of its class, or one clear message; the exit code of the design, and never a traceback."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest
from command import Ended, contents, short_run
from endpoint import ANSWER, CLOSE, CUT, ERROR_EVENT, HEAD, NEVER, NO_USAGE, Asked, Steps, always, chunk, in_turn, plain, serving

from latprof.observations.columns import Requests
from latprof.observations.folder import load

pytestmark = pytest.mark.live

JSON_ANSWER = b'{"id":"r1","choices":[{"message":{"role":"assistant","content":"no stream today"}}]}'
# (what the endpoint does, class of the row, status, a part of the row's text), in the order in which the one run below meets them
MISBEHAVIOURS: dict[str, tuple[Steps, str, int | None, str]] = {
    "429": (plain("429 Too Many Requests", b'{"error":{"message":"slow down"}}'), "rate_limited", 429, "slow down"),
    "500": (plain("500 Internal Server Error", b"the engine\nis on fire"), "server", 500, "the engine is on fire"),
    "JSON instead of SSE": (plain("200 OK", JSON_ANSWER), "not_sse", 200, "wanted an event stream, got: " + JSON_ANSWER.decode()),
    "cut in mid-token": (CUT, "truncated", 200, "cut in mid-event"),
    "error event": (ERROR_EVENT, "error_event", 200, "engine lost its worker"),
    "malformed event": ([HEAD, chunk(b"data: {oops\n\n"), CLOSE], "malformed", 200, "not a JSON object"),
    "closed before an answer": ([CLOSE], "disconnected", None, "closed the connection before it answered"),
    "400": (plain("400 Bad Request", b'{"error":{"message":"max_tokens"}}'), "bad_request", 400, "max_tokens"),
    "no answer": (NEVER, "timeout", None, "no complete answer within 1 s (target.timeout); nothing came back"),
}


@pytest.fixture(scope="module")
def misled(tmp_path_factory: pytest.TempPathFactory) -> Ended:
    """One run that meets every misbehaviour once: its first request is answered, one request goes at a time."""

    async def run() -> Ended:
        async with serving(in_turn(ANSWER, *(steps for steps, *_ in MISBEHAVIOURS.values()))) as endpoint:
            flags = ("--num-prompts", str(len(MISBEHAVIOURS)), "--timeout", "1s", "--set", "load.rate_per_s=null", "--concurrency", "1")
            return await short_run(tmp_path_factory.mktemp("misled"), "--url", endpoint.url, *flags)

    return asyncio.run(run())


@pytest.fixture(scope="module")
def rows(misled: Ended) -> Requests:
    return load(misled.folder).requests


@pytest.mark.parametrize("kind", MISBEHAVIOURS)
def test_a_failed_request_is_a_row_of_its_class(misled: Ended, rows: Requests, kind: str) -> None:
    _, error_class, status, text = MISBEHAVIOURS[kind]
    row = list(MISBEHAVIOURS).index(kind)
    assert rows.error_class[row] == error_class
    assert text in rows.error_text[row]
    assert status is None or rows.status[row] == status
    assert misled.summary["counts"]["errors"][error_class] == 1


def test_a_run_without_one_success_is_not_valid(misled: Ended) -> None:
    assert misled.code == 4
    assert misled.summary["valid"] is False
    assert misled.summary["counts"] | {"errors": {}} == {
        "planned": 9,
        "sent": 9,
        "ok": 0,
        "failed": 9,
        "warmup": 0,
        "retries": 0,
        "errors": {},
        "with_spans_share": None,
        "joined_by_answer": 0,
    }
    assert misled.doubts["no_success"] == "fatal"
    assert "not one of 9 requests succeeded" in " ".join(misled.out.split())
    assert misled.summary["layers"] == {}


async def test_an_endpoint_that_never_answers(tmp_path: Path) -> None:
    async with serving(always(NEVER)) as endpoint:
        ended = await short_run(tmp_path, "--url", endpoint.url, "--timeout", "500ms")
    assert ended.code == 4
    assert ended.summary["counts"]["errors"] == {"timeout": 3}


async def test_a_refused_key(tmp_path: Path) -> None:
    async with serving(always(plain("401 Unauthorized", b'{"error":{"message":"Incorrect API key provided"}}'))) as endpoint:
        ended = await short_run(tmp_path, "--url", endpoint.url)
        assert len(endpoint.asked) == 1
    assert (ended.code, ended.out) == (4, "")
    assert f"{endpoint.url}/v1/chat/completions answered 401; no key was sent: name the variable that holds it with --api-key" in ended.err
    assert "Incorrect API key provided" in ended.err
    assert len(ended.err.splitlines()) == 1
    assert not contents(tmp_path), "the same command must work again once the key is right"


async def test_a_model_nobody_knows(tmp_path: Path) -> None:
    async with serving(always(plain("404 Not Found", b'{"error":{"message":"The model does not exist"}}'))) as endpoint:
        ended = await short_run(tmp_path, "--url", endpoint.url, "--model", "gpt-99")
        assert len(endpoint.asked) == 1
    assert (ended.code, ended.out) == (4, "")
    assert "answered 404 for model 'gpt-99'; check --model, and the path of --url. It said: " in ended.err
    assert "The model does not exist" in ended.err


async def test_refused_stream_options_are_left_out_and_said(tmp_path: Path) -> None:
    def picky(asked: Asked) -> Steps:
        return plain("400 Bad Request", b"unknown field: stream_options") if b"stream_options" in asked.body else NO_USAGE

    async with serving(picky) as endpoint:
        ended = await short_run(tmp_path, "--url", endpoint.url)
        assert [b"stream_options" in asked.body for asked in endpoint.asked] == [True, False, False, False, False]
    assert ended.succeeded(), ended.said
    assert ended.summary["counts"]["ok"] == 3
    assert ended.doubts["stream_options"] == "note"
    assert "the server refuses stream_options; they were left out" in " ".join(ended.out.split())


async def test_taken_default_ports_cost_the_spans_not_the_run(tmp_path: Path) -> None:
    with contextlib.ExitStack() as held:
        for port in (4317, 4318):
            with contextlib.suppress(OSError):  # someone else holds it: just as well
                held.enter_context(socket.create_server(("127.0.0.1", port)))
        async with serving(always(ANSWER)) as endpoint:
            ended = await short_run(tmp_path, "--url", endpoint.url, ports=False)
    assert ended.succeeded(), ended.said
    assert ended.doubts["otlp_port"] == "warning"
    shown = " ".join(ended.out.split())
    assert "--otlp-grpc-port 4317: 127.0.0.1:4317 is in use by another process" in shown
    assert "--otlp-http-port 4318: 127.0.0.1:4318 is in use by another process" in shown


def test_a_run_with_a_url_needs_nothing_of_the_stack_in_a_box(tmp_path: Path) -> None:
    (tmp_path / "sitecustomize.py").write_text(
        "import sys\n"
        "class Without:\n"
        "    def find_spec(self, name, path=None, target=None):\n"
        "        if name.startswith(('latprof.stub', 'latprof.queues')):\n"
        "            raise ImportError(f'{name} is not there')\n"
        "sys.meta_path.insert(0, Without())\n"
    )
    without = {"PYTHONPATH": str(tmp_path)}
    control = subprocess.run(
        [sys.executable, "-c", "import latprof.stub"], env={**os.environ, **without}, stderr=subprocess.PIPE, check=False
    )
    assert b"latprof.stub is not there" in control.stderr

    async def run() -> Ended:
        async with serving(always(ANSWER)) as endpoint:
            return await short_run(tmp_path, "--url", endpoint.url, environment=without)

    ended = asyncio.run(run())
    assert ended.succeeded(), ended.said
    assert ended.summary["counts"]["ok"] == 3


async def test_no_usage_is_a_warning_and_the_summary_on_standard_output_is_json_alone(tmp_path: Path) -> None:
    async with serving(always(NO_USAGE)) as endpoint:
        ended = await short_run(tmp_path, "--url", endpoint.url, "--json", "-")
    ended.json_file.write_text(ended.out)
    assert ended.summary["schema"] == "latprof.summary/1"
    assert ended.succeeded(), ended.said
    assert ended.doubts["token_counts"] == "warning"
    assert ended.summary["tokens_source"] == {"chunks": 3}
    assert "TTFT budget in ms" in ended.err
    assert "not from usage but counted by chunks" in " ".join(ended.err.split())


async def test_a_dry_run_sends_nothing(tmp_path: Path) -> None:
    async with serving(always(ANSWER)) as endpoint:
        ended = await short_run(tmp_path, "--url", f"{endpoint.url}/v1?api-key=hidden", "--dry-run")
        assert not endpoint.asked
    assert (ended.code, ended.out) == (0, "")
    assert ended.err.startswith(f"plan for {endpoint.url}/v1?api-key=[redacted]: measured 3 requests at once; in all 3 requests")
    assert not contents(tmp_path)
