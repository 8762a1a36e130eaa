from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from observed_attempts import begun, ended, streamed

from latprof.client.stamps import ChunkLog, ErrorClass
from latprof.config import Config
from latprof.errors import ConfigError, UsageError
from latprof.observations import streams
from latprof.observations.columns import CHUNKS_SCHEMA, REQUESTS_SCHEMA, Requests
from latprof.observations.folder import SCHEMA, Run, compact, create, host_facts, load, scrub, write_meta
from latprof.observations.names import stream_name
from latprof.observations.recorder import Recorder

PARQUETS = {"requests.parquet", "chunks.parquet"}


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


def equal(one: Requests, other: Requests) -> bool:
    return bool(one.to_arrow().equals(other.to_arrow()))


@pytest.fixture
def recorded(tmp_path: Path) -> Path:
    """A closed run in several batches: 60 requests of 10 chunks, two of them never ended."""
    folder = create(tmp_path / "run")
    write_meta(folder, {"status": "running"})
    chunks = ChunkLog()
    recorder = Recorder(folder, chunks, 3600)
    for begin in range(0, 60, 12):
        for request in range(begin, begin + 12):
            recorder.begin(begun(request) if request >= 58 else ended(request))
            if request < 58:
                recorder.end(ended(request))
        streamed(chunks, 12, 10, seed=begin)
        recorder._write()  # the thread sleeps: these batches are made here
    recorder.close()
    return folder


# --- create, run.json ---------------------------------------------------------------------------------------------------------------------


def test_a_run_gets_a_folder_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    first, second = (create(None, lambda: 1_769_860_800_999_999_999) for _ in range(2))
    assert first.is_dir()
    assert re.fullmatch(r"runs/20260131T120000Z-[0-9a-f]{4}", str(first))
    assert first != second
    assert create(tmp_path / "a" / "b") == tmp_path / "a" / "b"
    assert create(tmp_path / "a" / "b").is_dir()  # there, but empty


def test_a_run_is_never_overwritten(tmp_path: Path) -> None:
    write_meta(tmp_path, {"status": "complete"})
    with pytest.raises(UsageError, match="holds a run already, and a run is never overwritten; name a new folder with --out"):
        create(tmp_path)
    (tmp_path / "run.json").rename(tmp_path / "notes.txt")
    with pytest.raises(UsageError, match=r"is not empty \(there is notes\.txt\)"):
        create(tmp_path)
    with pytest.raises(UsageError, match=r"cannot be made a run folder \(.*with --out"):
        create(tmp_path / "notes.txt")


def test_run_json_is_replaced_as_a_whole(tmp_path: Path) -> None:
    write_meta(tmp_path, {"status": "running", "out": tmp_path})
    write_meta(tmp_path, {"status": "complete", "seed": 10**30})
    assert json.loads((tmp_path / "run.json").read_text()) == {"schema": SCHEMA, "status": "complete", "seed": 10**30}
    assert names(tmp_path) == {"run.json"}
    with pytest.raises(ValueError, match="status must be one of running, complete"):
        write_meta(tmp_path, {"status": "done"})
    with pytest.raises(UsageError, match=r"run\.json: cannot be written"):
        write_meta(tmp_path / "absent", {"status": "running"})


# --- what a kill leaves -------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["requests.w0.arrows", "chunks.w0.arrows"])
def test_a_stream_cut_anywhere_loads_up_to_its_last_whole_batch(recorded: Path, name: str) -> None:
    whole = load(recorded)
    content = (recorded / name).read_bytes()
    (recorded / stream_name("requests.inflight", 0)).unlink()
    lengths = []
    for length in [*range(0, len(content), 97), len(content) - 8]:  # the end mark has 8 bytes
        (recorded / name).write_bytes(content[:length])
        run = load(recorded)
        assert run.partial
        assert not streams.is_whole(recorded / name)
        lengths.append(len(run.requests) if name.startswith("requests") else len(run.chunks))
        np.testing.assert_array_equal(run.requests.end_ns, whole.requests.end_ns[: len(run.requests)])
        np.testing.assert_array_equal(run.chunks.at_ns, whole.chunks.at_ns[: len(run.chunks)])
    assert lengths == sorted(lengths)
    batch = 12 if name.startswith("requests") else 120
    assert set(lengths) == {0, *range(batch, 5 * batch, batch), 58 if batch == 12 else 600}


def test_a_cut_stream_stays_partial_after_compaction(recorded: Path) -> None:
    content = (recorded / "chunks.w0.arrows").read_bytes()
    (recorded / "chunks.w0.arrows").write_bytes(content[: len(content) // 2])
    write_meta(recorded, {"status": "complete"})
    before = load(recorded)
    compact(recorded)
    after = load(recorded)
    assert before.partial
    assert after.partial
    assert "its files end before its load did" in after.partial_reason
    assert len(before.chunks) == len(after.chunks) == 240


def test_a_run_killed_before_its_first_write_loads_empty(tmp_path: Path) -> None:
    write_meta(tmp_path, {"status": "running"})
    assert load(tmp_path).partial
    for name in ("requests.w0.arrows", "chunks.w0.arrows"):
        (tmp_path / name).touch()
    run = load(tmp_path)
    assert run.partial
    assert (len(run.requests), len(run.chunks)) == (0, 0)
    assert run.requests.success.tolist() == []


def test_a_run_that_failed_is_partial(recorded: Path) -> None:
    write_meta(recorded, {"status": "failed"})
    assert load(recorded).partial_reason == "it ended in an error before its load was over"


def test_an_interrupted_run_is_not_partial(recorded: Path) -> None:
    write_meta(recorded, {"status": "interrupted"})
    assert not load(recorded).partial


# --- compaction ---------------------------------------------------------------------------------------------------------------------------


def test_compaction_keeps_every_value_and_can_be_repeated(recorded: Path) -> None:
    write_meta(recorded, {"status": "complete"})
    assert streams.is_whole(recorded / "requests.w0.arrows")
    before = load(recorded)
    compact(recorded)
    once = load(recorded)
    compact(recorded)
    twice = load(recorded)
    assert names(recorded) == {"run.json", *PARQUETS}
    for run in (before, once, twice):
        assert not run.partial
        assert run.requests.request.tolist() == list(range(60))
        assert run.requests.error_class.tolist() == [""] * 58 + [ErrorClass.UNFINISHED] * 2
        assert equal(run.requests, before.requests)
        assert run.chunks.to_arrow().equals(before.chunks.to_arrow())


def test_compaction_cut_off_anywhere_leaves_a_folder_that_reads(recorded: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = load(recorded)

    def dies_at(step: int) -> Callable[[Any], None]:
        """Each renaming and each removal is a step; the process dies just before the given one."""
        steps = iter(range(100))

        def check(_: Any) -> None:
            if next(steps) == step:
                raise KeyboardInterrupt

        return check

    kept = {name: getattr(Path, name) for name in ("replace", "unlink")}
    for step in range(9):
        folder = tmp_path / f"cut{step}"
        shutil.copytree(recorded, folder)
        check = dies_at(step)
        for name, really in kept.items():
            monkeypatch.setattr(Path, name, lambda self, *a, _really=really, _check=check, **k: (_check(self), _really(self, *a, **k))[1])
        died = False
        try:
            compact(folder)
        except KeyboardInterrupt:
            died = True
        monkeypatch.undo()
        assert died == (step < 5)  # two files renamed, three streams removed
        for _ in range(2):
            run = load(folder)
            assert equal(run.requests, whole.requests), step
            assert run.chunks.to_arrow().equals(whole.chunks.to_arrow()), step
            compact(folder)
        assert names(folder) == {"run.json", *PARQUETS}


def test_chunks_are_compacted_in_bounded_row_groups(recorded: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = load(recorded).chunks.to_arrow()
    monkeypatch.setattr(streams, "_ROWS_PER_GROUP", 200)
    compact(recorded)
    file = pq.ParquetFile(recorded / "chunks.parquet")
    groups = [file.metadata.row_group(i).num_rows for i in range(file.num_row_groups)]
    assert sum(groups) == 600
    assert max(groups) <= 240  # at most one batch too many
    assert load(recorded).chunks.to_arrow().equals(before)


def test_a_chunk_takes_few_bytes_on_disk(tmp_path: Path) -> None:
    write_meta(tmp_path, {"status": "running"})
    chunks = ChunkLog()
    streamed(chunks, requests=1000, chunks=64)
    with Recorder(tmp_path, chunks) as recorder:
        for request in range(1000):
            recorder.end(ended(request))
    compact(tmp_path)
    per_chunk = (tmp_path / "chunks.parquet").stat().st_size / 64_000
    per_request = (tmp_path / "requests.parquet").stat().st_size / 1000
    print(f"{per_chunk:.1f} bytes a chunk, {per_request:.0f} bytes a request")
    assert per_chunk < 40
    encodings = pq.ParquetFile(tmp_path / "chunks.parquet").metadata.row_group(0).column(1).encodings
    assert "DELTA_BINARY_PACKED" in encodings


def test_compaction_says_when_the_disk_is_full(recorded: Path) -> None:
    (recorded / "requests.parquet.draft").symlink_to("/dev/full")
    with pytest.raises(UsageError, match=r"cannot be compacted.*nothing is lost"):
        compact(recorded)
    assert len(load(recorded).requests) == 60


# --- several writers ----------------------------------------------------------------------------------------------------------------------


@given(st.lists(st.lists(st.tuples(st.integers(0, 60), st.integers(1, 4)), max_size=30), min_size=2, max_size=4))
@settings(max_examples=100, deadline=None)
def test_streams_are_merged_exactly_whatever_their_batches(streams_of_rows: list[list[tuple[int, int]]]) -> None:
    """Every row once, in order of arrival; rows of one stream that share a stamp in their order."""
    batches: list[Iterator[pa.RecordBatch]] = []
    expected: list[tuple[int, int]] = []
    for worker, rows in enumerate(streams_of_rows):
        stamps = sorted(at for at, _ in rows)
        parts: list[list[int]] = [[]]
        for (_, cut), at in zip(rows, stamps, strict=True):
            parts[-1].append(at)
            if cut == 1:
                parts.append([])
        sizes = iter(range(len(rows)))
        batches.append(iter([_batch(worker, part, [next(sizes) for _ in part]) for part in parts]))
        expected += [(at, worker) for at in stamps]
    table = pa.Table.from_batches(streams.merged(batches), CHUNKS_SCHEMA)
    merged = list(zip(table["at_ns"].to_pylist(), table["request"].to_pylist(), strict=True))
    assert [at for at, _ in merged] == sorted(at for at, _ in expected)
    assert sorted(merged) == sorted(expected)
    for worker in range(len(streams_of_rows)):
        own = table.filter(pc.equal(table["request"], worker))["size"].to_pylist()
        assert own == sorted(own)


def _batch(worker: int, stamps: list[int], sizes: list[int]) -> pa.RecordBatch:
    columns = {"request": [worker] * len(stamps), "at_ns": stamps, "size": sizes, "channel": [1] * len(stamps)}
    return pa.RecordBatch.from_arrays([pa.array(columns[field.name], field.type) for field in CHUNKS_SCHEMA], schema=CHUNKS_SCHEMA)


def test_workers_write_side_by_side(tmp_path: Path) -> None:
    write_meta(tmp_path, {"status": "running"})
    for worker in range(3):
        log = ChunkLog()
        with Recorder(tmp_path, log, worker=worker) as recorder:
            for number in range(worker, 30, 3):
                recorder.end(ended(number))
                log.append(number, 1_000 - number, 9, 1)
    run = load(tmp_path)
    assert run.requests.request.tolist() == list(range(30))
    assert sorted(run.chunks.request.tolist()) == list(range(30))
    (tmp_path / "chunks.w1.arrows").write_bytes((tmp_path / "chunks.w1.arrows").read_bytes()[:-8])  # it died
    write_meta(tmp_path, {"status": "complete"})
    assert load(tmp_path).partial
    compact(tmp_path)
    assert names(tmp_path) == {"run.json", *PARQUETS}
    assert load(tmp_path).partial, "what one of them lost is not hidden by compaction"
    assert len(load(tmp_path).chunks) == 30


def test_a_folder_from_when_there_was_one_writer_is_read(recorded: Path) -> None:
    whole = load(recorded)
    for path in list(recorded.glob("*.w0.*")):
        path.rename(recorded / path.name.replace(".w0", ""))
    assert names(recorded) == {"run.json", "requests.arrows", "requests.inflight.arrows", "chunks.arrows"}
    old = load(recorded)
    assert equal(old.requests, whole.requests)
    compact(recorded)
    assert equal(load(recorded).requests, whole.requests)
    assert load(recorded).chunks.to_arrow().equals(whole.chunks.to_arrow())
    assert names(recorded) == {"run.json", *PARQUETS}


# --- errors of `load` ---------------------------------------------------------------------------------------------------------------------


def test_what_is_not_a_run_folder_is_said_with_what_is_wanted(tmp_path: Path, recorded: Path) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "empty").mkdir()
    for name, text in (("absent", "does not exist"), ("file", "is not a folder"), ("empty", "has no run.json")):
        with pytest.raises(ConfigError, match=f"{name}: {text}; wanted a run folder such as runs/"):
            load(tmp_path / name)
    with pytest.raises(ConfigError, match=rf"has 1 of them in it; did you mean {recorded}\?"):
        load(tmp_path)


@pytest.mark.parametrize(
    ("content", "text"),
    [
        (b'{"schema": "latprof.run/2", "status": "complete"}', "schema is latprof.run/2, this latprof reads up to latprof.run/1; install"),
        (b'{"schema": "other/1", "status": "complete"}', "schema must be latprof.run/1, got 'other/1'"),
        (b'{"schema": "latprof.run/1"}', "has no status"),
        (b'{"schema": "latprof.run/1", "status": ["complete"]}', "has no status"),
        (b"[]", "has no status"),
        (b'{"schema": ', "is damaged"),
        (b"\xff\xfe", "is damaged"),
    ],
)
def test_a_run_json_that_cannot_be_meant_is_named(tmp_path: Path, content: bytes, text: str) -> None:
    (tmp_path / "run.json").write_bytes(content)
    with pytest.raises(ConfigError, match=re.escape(text)) as caught:
        load(tmp_path)
    assert str(tmp_path / "run.json") in str(caught.value)


def test_a_missing_or_damaged_file_is_named(recorded: Path) -> None:
    write_meta(recorded, {"status": "complete"})
    compact(recorded)
    path = recorded / "chunks.parquet"
    content = path.read_bytes()
    for damaged in (b"", content[:100], content[:-20], b"x" * 100):
        path.write_bytes(damaged)
        with pytest.raises(ConfigError, match=r"chunks\.parquet: is damaged .* copy the run folder again"):
            load(recorded)
    path.unlink()
    with pytest.raises(ConfigError, match=r"chunks\.parquet is missing"):
        load(recorded)


def test_a_stream_damaged_after_it_was_closed_never_passes_for_whole(recorded: Path) -> None:
    write_meta(recorded, {"status": "complete"})
    path = recorded / "requests.w0.arrows"
    content = path.read_bytes()
    seen: set[str] = set()
    for at in range(0, len(content), 211):
        path.write_bytes(content[:at] + bytes(64) + content[at + 64 :])
        try:
            run = load(recorded)
        except ConfigError as error:
            assert "requests.w0.arrows: is damaged" in str(error)  # noqa: PT017 - one outcome of two
            seen.add("damaged")
        else:
            seen.add("partial" if run.partial else "whole")
            assert run.partial or len(run.requests) >= 59, "rows were dropped in silence"
    assert {"damaged", "partial"} <= seen


def test_an_end_mark_in_the_middle_does_not_end_a_stream_in_silence(recorded: Path) -> None:
    write_meta(recorded, {"status": "complete"})
    path = recorded / "chunks.w0.arrows"
    content = bytearray(path.read_bytes())
    schema_ends = 8 + int.from_bytes(content[4:8], "little")
    content[schema_ends : schema_ends + 8] = b"\xff\xff\xff\xff" + bytes(4)
    path.write_bytes(content)
    run = load(recorded)
    assert len(run.chunks) == 0
    assert run.partial


def test_columns_of_other_versions_are_read_as_missing_or_left_aside(recorded: Path) -> None:
    compact(recorded)
    path = recorded / "requests.parquet"
    table = pq.read_table(path)
    older = table.drop_columns(["first_answer_ns", "response_id", "timing_headers"])
    pq.write_table(older.append_column("from_tomorrow", pa.nulls(60, pa.string())), path)
    requests = load(recorded).requests
    assert (requests.first_answer_ns == -(2**63)).all()
    assert set(requests.response_id) == {""}
    assert set(requests.timing_headers) == {()}
    index = table.schema.get_field_index("end_ns")
    pq.write_table(table.set_column(index, "end_ns", pa.array(["soon"] * 60)), path)
    with pytest.raises(ConfigError, match=r"requests\.parquet: has a column of another type"):
        load(recorded)


def test_schemas_are_what_the_documents_promise() -> None:
    assert REQUESTS_SCHEMA.field("intended_ns").type == pa.int64()
    assert REQUESTS_SCHEMA.field("timing_headers").type.value_type == pa.struct([("name", pa.string()), ("value", pa.string())])
    assert CHUNKS_SCHEMA.names == ["request", "at_ns", "size", "channel"]
    assert {field.name for field in Run.__dataclass_fields__.values()} == {
        "folder",
        "meta",
        "requests",
        "chunks",
        "partial",
        "partial_reason",
        "segments",
    }


# --- what goes into run.json --------------------------------------------------------------------------------------------------------------

SECRET = "hunter2hunter2"


def test_no_secret_of_the_configuration_reaches_the_folder(tmp_path: Path) -> None:
    config = Config.model_validate(
        {
            "target": {
                "url": f"https://me:{SECRET}@host:8443/v1?api-version=2024&api-key={SECRET}&%61uth={SECRET}x",
                "headers": {"Authorization": f"Bearer {SECRET}", "x-tenant": SECRET},
                "extra_body": {
                    "temperature": 0.5,
                    "max_tokens": 16,
                    "stop_token_ids": [1, 2],
                    "api_key": SECRET,
                    "deep": [{"auth": {"any": SECRET}, "note": "use Bearer " + SECRET}],
                },
            }
        }
    ).model_dump(mode="json", by_alias=True)
    write_meta(tmp_path, {"status": "running", "config": config})
    text = (tmp_path / "run.json").read_text()
    assert SECRET not in text
    target = json.loads(text)["config"]["target"]
    assert target["url"] == "https://[redacted]@host:8443/v1?api-version=2024&api-key=[redacted]&%61uth=[redacted]"
    assert target["headers"] == {"Authorization": "[redacted]", "x-tenant": "[redacted]"}
    assert target["extra_body"]["temperature"] == 0.5
    assert target["extra_body"]["max_tokens"] == 16
    assert target["extra_body"]["stop_token_ids"] == [1, 2]
    assert SECRET in json.dumps(config), "the caller's own configuration must not be changed"
    assert scrub(scrub(config)) == scrub(config)
    assert {key: value for key, value in scrub(config).items() if key != "target"} == {k: v for k, v in config.items() if k != "target"}


def test_scrubbing_never_fails_on_what_validation_would_refuse() -> None:
    assert scrub({"target": {"url": f"http://[bad?key={SECRET}"}})["target"]["url"].endswith("[redacted]")
    assert scrub({"target": {"url": None, "headers": None}}) == {"target": {"url": None, "headers": None}}
    assert scrub({}) == {}


def test_host_facts_say_what_was_measured_with_and_name_nobody() -> None:
    facts = host_facts()
    assert facts["cpus"] >= 1
    assert {"numpy", "pyarrow", "uvloop"} <= facts["libraries"].keys()
    assert facts["python"].startswith("CPython 3.")
    assert json.loads(json.dumps(facts)) == facts
    import getpass
    import socket

    for name in (socket.gethostname(), getpass.getuser()):
        assert name not in {str(value) for value in facts.values()}
