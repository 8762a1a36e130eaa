"""``latprof simulate`` as a user starts it."""

from __future__ import annotations

from pathlib import Path

from command import contents, latprof

SMALL = ("--num-prompts", "300", "--warmup", "5", "--request-rate", "20")


async def test_a_simulation_prints_the_report_of_a_run(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    ended = await latprof("simulate", *SMALL, "--out", folder, "--json", folder.with_suffix(".json"), tmp_path=tmp_path)
    assert ended.code == 0, ended.said
    assert ended.err == f"page: {folder / 'report.html'}\n"
    assert "simulated (virtual time): nothing was measured" in ended.out
    assert "TTFT budget in ms" in ended.out
    assert "stations  prefill" in ended.out
    assert "instrument" not in ended.out
    assert {path.name for path in contents(folder)} == {
        "run.json", "requests.parquet", "layers.parquet", "segments.parquet", "streamed.parquet", "report.html", "config.yaml",
    }  # fmt: skip
    again = await latprof("report", folder, "--json", tmp_path / "again.json", tmp_path=tmp_path)
    assert (again.code, again.out) == (0, ended.out)
    assert (tmp_path / "again.json").read_bytes() == folder.with_suffix(".json").read_bytes()


async def test_flags_override_the_file_as_they_do_for_run(tmp_path: Path) -> None:
    file = tmp_path / "load.yaml"
    file.write_text("load: {rate_per_s: 5, num_requests: 10}\nworkload: {prompt_tokens: 64}\n")
    flags = ("--concurrency", "3", "--num-prompts", "60", "--isl", "100", "--osl", "4", "--seed", "9", "--warmup", "0")
    ended = await latprof("simulate", file, *flags, "--json", "-", tmp_path=tmp_path)
    assert ended.code == 0, ended.said
    assert '"arrival_model": "closed loop, 3 in flight"' in ended.out
    assert '"simulated": true' in ended.out
    assert '"seed": 9' in ended.out
    assert '"ok": 60' in ended.out


async def test_a_load_that_no_layer_can_carry_is_refused_with_what_to_do(tmp_path: Path) -> None:
    ended = await latprof("simulate", "--request-rate", "400", "--out", tmp_path / "run", tmp_path=tmp_path)
    assert ended.code == 2
    assert "what prefill can do" in ended.err
    assert "--allow-unstable" in ended.err
    assert not (tmp_path / "run").exists()
    played = await latprof("simulate", "--request-rate", "400", "--duration", "1s", "--warmup", "0", "--allow-unstable", tmp_path=tmp_path)
    assert played.code == 0, played.said


async def test_what_cannot_be_played_is_named(tmp_path: Path) -> None:
    for flags, said in (
        (("--set", "target.url=http://127.0.0.1:1"), "target.url (--set) must be left out of a simulation"),
        (("--set", "stub.faults=[{kind: freeze, for: 1s}]"), "stub.faults.0 (--set): freeze cannot be simulated"),
        (("--set", "stub.speedup.gateways=2"), "stub.speedup.gateways (--set): 'gateways' is not a layer"),
        (("--set", "stub.engine.hardware=H1000", "--set", "stub.engine.model=llama-3-8b"), "H1000"),
    ):
        ended = await latprof("simulate", *flags, tmp_path=tmp_path)
        assert (ended.code, said in ended.err) == (2, True), ended.said
