"""What a page says to make a run, a sweep or a comparison again does make it again, and sends no placeholder for a secret."""

from __future__ import annotations

import json
import shlex
from pathlib import Path

import yaml
from command import latprof

from latprof.config import Config, load_config
from latprof.observations.scrub import scrub
from latprof.pages.again import CONFIG, config_text, run_again

SMALL = ("--num-prompts", "40", "--warmup", "0")


def kept(config: Config) -> Config:
    """The configuration as a run folder holds it."""
    return Config.model_validate(scrub(config.model_dump(mode="json", by_alias=True)))


def test_a_configuration_comes_back_as_it_was(tmp_path: Path) -> None:
    config = load_config("configs/quickstart.yaml", {"load": {"rate_per_s": 7}, "stub": {"gateway": {"auth": "5ms"}}, "out": tmp_path})
    (tmp_path / CONFIG).write_text(config_text(kept(config)))
    assert load_config(tmp_path / CONFIG, {}).hash() == config.hash()


def test_no_placeholder_is_left_to_be_sent_and_what_is_missing_is_named() -> None:
    target = {
        "url": "https://me:geheim1@example.org/v1?api_key=sk-abcdefgh&x=1",
        "model": "m",
        "headers": {"X-Api-Key": "sk-abcdefgh"},
        "extra_body": {"password": "geheim2", "n": 1},
    }
    text = config_text(kept(load_config(None, {"target": target})))
    told = yaml.safe_load(text)["target"]
    assert told["url"] == "https://example.org/v1?x=1"
    assert (told.get("headers", {}), told["extra_body"]) == ({}, {"n": 1})
    assert "redacted" not in yaml.safe_dump(told)
    for path in ("target.url", "target.headers.X-Api-Key", "target.extra_body.password"):
        assert f"# left out, for it may be a secret; give it again: {path}\n" in text


def test_where_there_is_no_file_the_page_says_to_save_it(tmp_path: Path) -> None:
    assert run_again(tmp_path, {}).startswith("latprof run config.yaml   # the configuration below")
    (tmp_path / CONFIG).write_text("{}\n")
    assert run_again(tmp_path, {"is_simulated": True, "allow_unstable": True}) == f"latprof simulate {tmp_path / CONFIG} --allow-unstable"


async def test_an_unstable_simulation_can_be_made_again(tmp_path: Path) -> None:
    made = await latprof("simulate", *SMALL, "--rate", "5000", "--allow-unstable", "--out", tmp_path / "run", tmp_path=tmp_path)
    assert (tmp_path / "run" / "report.html").exists(), made.said
    command = run_again(tmp_path / "run", json.loads((tmp_path / "run" / "run.json").read_text()))
    again = await latprof(*shlex.split(command)[1:], "--out", tmp_path / "again", tmp_path=tmp_path)
    assert again.code == made.code, again.said


async def test_a_sweep_is_made_again_with_the_flags_it_was_asked_with(tmp_path: Path) -> None:
    flags = ("--speedup", "decode=1,2", "--simulate", "--refine", "0", "--worthwhile", "5", *SMALL)
    made = await latprof("sweep", *flags, "--out", tmp_path / "sweep", "--json", tmp_path / "a.json", tmp_path=tmp_path)
    assert made.code == 0, made.said
    page = (tmp_path / "sweep" / "report.html").read_text()
    command = page.split("<h3>To repeat it</h3>\n<pre>")[1].split("</pre>")[0]
    again = await latprof(*shlex.split(command)[1:], "--out", tmp_path / "again", "--json", tmp_path / "b.json", tmp_path=tmp_path)
    assert again.code == 0, again.said
    first, second = (json.loads((tmp_path / name).read_text()) for name in ("a.json", "b.json"))
    assert [point["metrics"] for point in first["points"]] == [point["metrics"] for point in second["points"]]
    assert first["lines"] == second["lines"]


async def test_a_budget_has_no_place_on_the_page_of_a_sweep(tmp_path: Path) -> None:
    await latprof("sweep", "--speedup", "decode=1,2", "--simulate", *SMALL, "--out", tmp_path / "sweep", tmp_path=tmp_path)
    (tmp_path / "budget.yaml").write_text("budgets: [ttft p50 < 130ms]\n")
    told = await latprof(
        "report", tmp_path / "sweep", "--html", tmp_path / "x.html", "--budget", tmp_path / "budget.yaml", tmp_path=tmp_path
    )
    assert told.code == 2
    assert "--budget marks what is promised on the page of one run" in told.err
