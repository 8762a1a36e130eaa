"""Worker processes over real sockets: the same load on any number of them, and what is left when one of them, or the parent, goes."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import sys
import time
from collections.abc import AsyncIterator, Sequence
from pathlib import Path

import numpy as np
import pytest
from scripted_peer import ANSWER, CHUNKED, RUN_ID, TWO, Do, Script, chunk, scripted

from latprof.client.driver import Counters, Driven, Rules
from latprof.client.endpoint import resolve_endpoint
from latprof.client.stamps import ErrorClass
from latprof.client.targets import Targets
from latprof.client.workers import COMMAND, HandedOut, WorkerFaultError, Workers
from latprof.config import Target
from latprof.errors import UsageError
from latprof.observations.folder import Run, compact, load, write_meta
from latprof.schedule.plan import OnDemand, Phase, Planned
from latprof.units import NS_PER_MS, NS_PER_S
from latprof.workload.sessions import Session, Turn, chain

RULES = Rules(RUN_ID, seed=1, timeout_ns=20 * NS_PER_S, drain_ns=200 * NS_PER_MS)
HANGING: Script = [CHUNKED, chunk(TWO), Do.HANG]


def session(number: int, turns: int = 1) -> Session:
    return chain(number, tuple(Turn(f"prompt {number}.{index}", 8, 4, answer="four") for index in range(turns)))


def open_loop(sessions: int, every_ms: float = 5.0, turns: int = 1, name: str = "measured") -> Phase:
    planned = tuple(Planned(session(number, turns), round(number * every_ms * NS_PER_MS)) for number in range(sessions))
    return Phase(name, planned, "constant", rate_per_s=1000 / every_ms)


@contextlib.asynccontextmanager
async def working(
    count: int,
    folder: Path,
    url: str,
    *phases: Phase,
    rules: Rules = RULES,
    command: Sequence[str] = COMMAND,
    on_handed_out: HandedOut = lambda _: None,
) -> AsyncIterator[Workers]:
    """Workers with their phases loaded, gone at the end whatever happens."""
    write_meta(folder, {"status": "running"})
    workers = Workers(count, folder, command, on_handed_out)
    try:
        targets = Targets((resolve_endpoint(Target.model_validate({"model": "m"}), url, {}),))
        await workers.open(folder, targets, rules, include_usage=True)
        for phase in phases:
            await workers.load(phase, targets, include_usage=True)
        yield workers
    finally:
        await asyncio.to_thread(workers.kill)
        assert all(worker.popen.poll() is not None for worker in workers._workers)


async def driven(workers: Workers, stop: asyncio.Event | None = None) -> tuple[list[Driven | None], Counters]:
    counters = Counters()
    return await workers.drive(counters, stop or asyncio.Event()), counters


async def whole_run(count: int, folder: Path, *phases: Phase) -> tuple[Run, list[list[Driven | None]]]:
    await asyncio.to_thread(folder.mkdir)
    async with scripted(ANSWER) as peer, working(count, folder, peer.url, *phases) as workers:
        ends = [(await driven(workers))[0] for _ in phases]
        await workers.close()
        assert workers.deaths == []
    return load(folder), ends


async def test_the_same_load_on_one_worker_and_on_three(tmp_path: Path) -> None:
    phases = (open_loop(4, name="warmup"), open_loop(24, turns=2))
    one, [_, [alone]] = await whole_run(1, tmp_path / "one", *phases)
    three, [_, together] = await whole_run(3, tmp_path / "three", *phases)
    assert alone is not None
    for run, start_ns in ((one, alone.start_ns), (three, together[0].start_ns if together[0] is not None else 0)):
        requests = run.requests
        assert requests.success.all()
        assert sorted(requests.request.tolist()) == sorted(set(requests.request.tolist()))
        first = requests.select(requests.measured & (requests.turn == 0))
        order = np.argsort(first.session)
        assert (first.intended_ns[order] - start_ns).tolist() == [round(n * 5 * NS_PER_MS) for n in range(24)]
        assert sorted(zip(requests.session.tolist(), requests.turn.tolist(), requests.phase.tolist(), strict=True)) == sorted(
            [(n, 0, "warmup") for n in range(4)] + [(n, turn, "measured") for n in range(24) for turn in range(2)]
        )
    assert {end.start_ns for end in together if end is not None} == {together[0].start_ns if together[0] is not None else -1}
    ids = [
        {(s, t, p): i for s, t, p, i in zip(r.session, r.turn, r.phase, r.trace_id, strict=True)} for r in (one.requests, three.requests)
    ]
    assert ids[0] == ids[1]
    assert (three.requests.worker == three.requests.session % 3).all()
    assert set(three.requests.request % 3) == {0, 1, 2}
    assert (three.requests.request % 3 == three.requests.worker).all()


async def test_connections_that_died_are_counted_in_their_phase(tmp_path: Path) -> None:
    phases = (open_loop(2, every_ms=100.0, name="warmup"), open_loop(2, every_ms=100.0))
    async with scripted(ANSWER, [Do.CLOSE], ANSWER) as peer, working(1, tmp_path, peer.url, *phases) as workers:
        ends = [(await driven(workers))[0][0] for _ in phases]
        await workers.close()
    assert [end.stale_retries for end in ends if end is not None] == [1, 0]
    assert workers.stale_retries == 1


async def test_streams_of_several_workers_become_one_table_in_order_of_arrival(tmp_path: Path) -> None:
    run, _ = await whole_run(3, tmp_path / "run", open_loop(40, every_ms=2.0))
    folder = run.folder
    assert {path.name for path in folder.glob("*.w*")} >= {
        f"{kind}.w{number}.arrows" for kind in ("requests", "chunks") for number in range(3)
    }
    assert not run.chunks.at_ns[0] > run.chunks.at_ns[-1]
    assert (np.diff(run.chunks.at_ns) >= 0).all()
    assert run.requests.request.tolist() == sorted(run.requests.request.tolist())
    assert len(run.chunks) == 6 * 40
    before = run.chunks.to_arrow()
    compact(folder)
    again = load(folder)
    assert again.chunks.to_arrow().equals(before)
    assert again.requests.to_arrow().equals(run.requests.to_arrow())
    assert not list(folder.glob("*.arrows*"))


async def test_every_session_is_told_of_before_a_worker_sends_it(tmp_path: Path) -> None:
    fed = Phase("measured", OnDemand(lambda number: session(number, turns=2), 0, 700), "closed", concurrency=8)
    told: list[tuple[str, int]] = []
    async with (
        scripted(ANSWER) as peer,
        working(
            2,
            tmp_path,
            peer.url,
            open_loop(6, name="warmup"),
            fed,
            on_handed_out=lambda ready: told.extend((r.phase, r.session.session) for r in ready),
        ) as workers,
    ):
        assert [one for one in told if one[0] == "warmup"] == [("warmup", n) for n in (0, 2, 4, 1, 3, 5)]
        await driven(workers)
        await driven(workers)
        await workers.close()
    requests = load(tmp_path).requests
    assert len(told) == len(set(told)) == 6 + 700
    assert set(zip(requests.phase.tolist(), requests.session.tolist(), strict=True)) == set(told)


async def test_a_worker_holds_no_more_than_it_needs(tmp_path: Path) -> None:
    told = tmp_path / "modules.json"
    program = (
        "import atexit, json, pathlib, sys\n"
        f"atexit.register(lambda: pathlib.Path({str(told)!r}).write_text(json.dumps(sorted(sys.modules))))\n"
        "import latprof.worker\n"
        "latprof.worker.main()\n"
    )
    command = (sys.executable, "-c", program)
    async with scripted(ANSWER) as peer, working(1, tmp_path, peer.url, open_loop(50), command=command) as workers:
        await driven(workers)
        await workers.close()
        peak_bytes = workers.peak_bytes
    modules = json.loads(told.read_text())
    tops = {name.partition(".")[0] for name in modules}
    assert {"uvloop", "numpy", "pyarrow", "httptools", "orjson", "latprof"} <= tops
    heavy = {"pydantic", "tokenizers", "rich", "grpc", "opentelemetry", "aiohttp", "yaml", "typer", "hdrh"}
    assert not tops & heavy
    assert {"pyarrow.parquet", "pyarrow.compute", "latprof.config", "latprof.pipeline"} & set(modules) == set()
    print(f"peak of a worker: {peak_bytes / 2**20:.0f} MB")
    assert 0 < peak_bytes < 150 * 2**20


async def test_a_worker_that_dies_ends_the_load_and_its_rows_count(tmp_path: Path) -> None:
    phase = open_loop(4_000)  # 20 s
    async with scripted(ANSWER) as peer, working(2, tmp_path, peer.url, phase) as workers:
        going = asyncio.create_task(driven(workers))
        await asyncio.sleep(1.5)
        os.kill(workers.pids[1], signal.SIGKILL)
        killed_ns = time.monotonic_ns()
        ends, counters = await asyncio.wait_for(going, 10)
        await workers.close()
        (death,) = workers.deaths
    assert death.worker == 1
    assert "ended with code -9" in death.text
    assert ends[1] is None
    assert ends[0] is not None
    assert 0 < counters.done < 4_000
    run = load(tmp_path)
    rows = [run.requests.select(run.requests.worker == worker) for worker in range(2)]
    assert rows[0].success.sum() > 0
    assert rows[1].success.sum() > 0
    assert killed_ns - rows[1].end_ns.max() < NS_PER_S
    write_meta(tmp_path, {"status": "complete"})
    assert load(tmp_path).partial


async def test_a_worker_does_not_heed_ctrl_c_but_its_parent(tmp_path: Path) -> None:
    async with scripted(ANSWER) as peer, working(2, tmp_path, peer.url, open_loop(4_000)) as workers:
        stop = asyncio.Event()
        going = asyncio.create_task(driven(workers, stop))
        await asyncio.sleep(0.4)
        for pid in workers.pids:
            os.kill(pid, signal.SIGINT)
        await asyncio.sleep(0.4)
        assert not going.done()
        stop.set()
        ends, counters = await asyncio.wait_for(going, 10)
        await workers.close()
        assert workers.deaths == []
    assert [end is not None and end.interrupted for end in ends] == [True, True]
    assert 0 < counters.done < 4_000
    assert len(load(tmp_path).requests) == counters.done + counters.failed


async def test_workers_end_with_their_parent_and_write_what_they_have(tmp_path: Path) -> None:
    async with scripted(ANSWER, HANGING) as peer, working(2, tmp_path, peer.url, open_loop(4_000)) as workers:
        going = asyncio.create_task(driven(workers))
        await asyncio.sleep(0.4)
        began_s = time.monotonic()
        await asyncio.to_thread(workers.kill)
        assert time.monotonic() - began_s < 5
        going.cancel()
        await asyncio.wait([going])
    run = load(tmp_path)
    assert len(run.requests) > 10
    assert set(run.requests.error_class) <= {"", ErrorClass.INTERRUPTED}
    assert not {"worker.w0.log", "worker.w1.log"} & set(os.listdir(tmp_path)), "nothing to complain of"  # noqa: PTH208 - a coroutine


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
async def test_a_run_that_cannot_be_written_stops_early_and_says_so(tmp_path: Path) -> None:
    (tmp_path / "chunks.w1.arrows").symlink_to("/dev/full")
    async with scripted(ANSWER) as peer, working(2, tmp_path, peer.url, open_loop(4_000)) as workers:
        ends, _ = await asyncio.wait_for(driven(workers), 10)
        assert all(end is not None and end.end_ns - end.start_ns < 10 * NS_PER_S for end in ends)
        with pytest.raises(UsageError, match=r"cannot be written.*free some space"):
            await workers.close()


async def test_files_that_cannot_be_made_are_said_before_the_first_request(tmp_path: Path) -> None:
    (tmp_path / "requests.w0.arrows").mkdir()
    async with scripted(ANSWER) as peer:
        with pytest.raises(UsageError, match=r"requests\.w0\.arrows: cannot be created"):
            async with working(1, tmp_path, peer.url, open_loop(1)):
                pass
        assert peer.requests == []


async def test_a_worker_that_does_not_come_up_says_why(tmp_path: Path) -> None:
    command = (sys.executable, "-c", "raise SystemExit('no such thing as luck')")
    with pytest.raises(WorkerFaultError, match="ended with code 1: no such thing as luck"):
        async with working(1, tmp_path, "http://127.0.0.1:9", open_loop(1), command=command):
            pass
    assert (tmp_path / "worker.w0.log").exists()


async def test_an_endless_closed_loop_is_fed_as_it_goes(tmp_path: Path) -> None:
    made: list[int] = []

    def noted(number: int) -> Session:
        made.append(number)
        return session(number)

    phase = Phase("measured", OnDemand(noted, 7, None), "closed", concurrency=5, duration_ns=1_500 * NS_PER_MS)
    async with scripted(ANSWER) as peer, working(2, tmp_path, peer.url, phase) as workers:
        ends, counters = await driven(workers)
        await workers.close()
        most = peer.most_in_flight
    requests = load(tmp_path).requests
    assert most <= 5
    assert counters.done == len(requests) > 20
    for worker in range(2):
        sessions = sorted(requests.session[requests.worker == worker].tolist())
        assert sessions == list(range(sessions[0], sessions[0] + 2 * len(sessions), 2)), "every second one, in order, none twice"
    assert all(end is not None and not end.interrupted for end in ends)
    assert len(made) <= len(requests) + 4 * 512 + 8


async def test_a_fed_loop_ends_with_its_last_session(tmp_path: Path) -> None:
    phase = Phase("measured", OnDemand(session, 0, 30), "closed", concurrency=4, duration_ns=60 * NS_PER_S)
    async with scripted(ANSWER) as peer, working(2, tmp_path, peer.url, phase) as workers:
        _, counters = await asyncio.wait_for(driven(workers), 30)
        await workers.close()
    assert counters.done == 30
    assert sorted(load(tmp_path).requests.session.tolist()) == list(range(30))
