"""Keys are sent, and appear nowhere else: not on the terminal, not in the run folder, not in the summary, whoever echoes them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from command import Ended, contents, short_run
from endpoint import DONE, FINISH, FIRST_TOKEN_S, HEAD, USAGE, Asked, Steps, chunk, event, plain, serving, token

pytestmark = pytest.mark.live

# None of them looks like a key: what hides them must know them.
BEARER = "plainwords0bearer1value"
HEADER = "plainwords0header1value"
COOKIE = "plainwords0cookie1value"
QUERY = "plainwords0query%2Fvalue"
SECRETS = (BEARER, HEADER, COOKIE, QUERY, QUERY.replace("%2F", "/"))
FLAGS = ("--api-key-env", "LATPROF_TEST_KEY", "-H", f"X-Api-Key: {HEADER}", "-H", f"Cookie: session={COOKIE}; theme=dark")


async def run_against(tmp_path: Path, *echoes: int) -> tuple[Ended, list[Asked]]:
    """A run whose endpoint echoes everything it was sent: as an error of each status in turn, in an error event (0), in a good answer (200)."""

    def script(asked: Asked) -> Steps:
        status = echoes[min(asked.number, len(echoes) - 1)]
        echo = " | ".join([asked.head.replace("\r\n", " ; "), *SECRETS])
        headers = f"x-request-id: {BEARER}\r\nserver-timing: auth;desc={HEADER}\r\nx-haproxy-echo: {QUERY} {COOKIE}\r\n"
        if status >= 400:
            return plain(f"{status} Refused", echo.encode(), headers)
        head = HEAD.replace(b"\r\n\r\n", f"\r\n{headers}\r\n".encode())
        if status == 0:
            return [head, token("one"), event('{"error":{"message":"' + echo.replace('"', "") + '"}}'), DONE]
        timings = chunk(b'data: {"id":"r1","choices":[],"timings":{"prompt_ms":1.5,"note":"%b"}}\n\n' % BEARER.encode())
        return [head, FIRST_TOKEN_S, token("one", response_id=f"chatcmpl-{BEARER}"), timings, FINISH, USAGE, DONE]

    async with serving(script) as endpoint:
        url = f"{endpoint.url}/v1?api-version=2&key={QUERY}"
        ended = await short_run(tmp_path, "--url", url, *FLAGS, environment={"LATPROF_TEST_KEY": BEARER})
        return ended, endpoint.asked


def written(folder: Path) -> Iterator[tuple[Path, str]]:
    """Every file as text; Parquet, which is compressed, as the values in it and in its metadata."""
    for path in contents(folder):
        if path.suffix == ".parquet":
            table = pq.read_table(path)
            yield path, f"{table.to_pylist()} {table.schema.metadata}"
        elif path.is_file():
            yield path, path.read_text(errors="replace")


def test_the_reader_of_files_sees_into_parquet(tmp_path: Path) -> None:
    import pyarrow as pa

    pq.write_table(pa.table({"a": [[{"b": BEARER}]]}), tmp_path / "x.parquet", compression="zstd")
    assert [BEARER in text for _, text in written(tmp_path)] == [True]


@pytest.mark.parametrize(
    ("echoes", "code", "errors"),
    [
        ((200,), 0, {}),
        ((200, 500, 401, 0), 4, {"server": 1, "auth": 1, "error_event": 1}),
        ((500,), 4, {"server": 3}),  # the request that tries the endpoint out fails too: the run goes on
        ((401,), 4, None),
    ],
    ids=["good answers", "good first, then errors", "500 from the first on", "401 from the first on"],
)
async def test_no_key_is_ever_written(tmp_path: Path, echoes: tuple[int, ...], code: int, errors: dict[str, int] | None) -> None:
    ended, asked = await run_against(tmp_path, *echoes)
    # They were sent, and the run was what it should be.
    for sent in (
        f"authorization: Bearer {BEARER}",
        f"X-Api-Key: {HEADER}",
        f"Cookie: session={COOKIE}",
        f"?api-version=2&key={QUERY} HTTP",
    ):
        assert all(sent.lower() in one.head.lower() for one in asked)
    assert ended.code == code or (code == 0 and ended.succeeded())
    assert errors is None or ended.summary["counts"]["errors"] == errors
    # And they are nowhere.
    shown = {"stdout": ended.out, "stderr": ended.err, **{str(path.relative_to(tmp_path)): text for path, text in written(tmp_path)}}
    assert errors is None or {"run/run.json", "run/requests.parquet", "run.json"} <= shown.keys()
    leaks = [(where, secret) for where, text in shown.items() for secret in SECRETS if secret in text]
    assert not leaks
    assert "[redacted]" in "".join(shown.values())
